//! The history of a replica: levels, full images, retention.
//!
//! What is stored is known from the one listing at the start and from what this process does since
//! then; nothing is asked of the store to find out what to do, and a database at rest makes no
//! request at all. The parts, in the order of their use:
//!
//! | part | what it does |
//! |---|---|
//! | `options` | what the user wants |
//! | `point` | what pipeline and keeper share: news of batches, and states of the live database |
//! | `shelf` | what is stored |
//! | `ticks` | when things happen: by the clock, each database a little later |
//! | `plan`, `retain` | what to do next, and what may be deleted: pure functions |
//! | `keeper` | does it: one step at a time |
//! | `merge`, `inputs`, `cache` | reading several files and writing one, in bounded memory |
//! | `task` | the loop of one replica; few steps at once in the process |

mod cache;
mod clock;
mod error;
mod executor;
mod handover;
mod inputs;
mod inventory;
mod mend;
mod merge;
mod options;
mod plan;
mod retain;
mod status;
mod task;
#[cfg(test)]
pub(super) mod tests;
mod ticks;

pub use cache::Cache;
pub use clock::{SystemTimeline, Timeline};
pub use error::HistoryError;
pub use executor::Keeper;
pub use handover::{Feed, Live, Point, Wish};
pub use mend::{mend, mendable};
pub use options::{HistoryOptions, HistoryOptionsError, Once, Precision};
pub use status::{HistoryStatus, LevelStatus};
pub use task::{Common, Tell, keep};
pub(super) use ticks::later;
