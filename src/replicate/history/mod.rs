//! The history of a replica: levels, full images, retention.
//!
//! A listing at the start, and what this process stores and removes afterwards, tell what the
//! store holds. Deciding what to do next costs no request, and an idle database makes none. The
//! modules, in the order of use:
//!
//! | part | what it does |
//! |---|---|
//! | `options` | what the user wants |
//! | `handover` | what the replica's pipeline and the executor share: news of batches, states of the live database |
//! | `inventory` | what the store holds |
//! | `ticks`, `clock` | when things happen: by the clock, each database at its own offset |
//! | `plan`, `retain` | what to do next, and what may be deleted: pure functions |
//! | `executor` | carries the plan out, one step at a time |
//! | `removed` | what retention removed, for the log |
//! | `lists` | its steps that list: older files, and times |
//! | `merge`, `inputs`, `cache` | read several files and write one, in bounded memory |
//! | `close` | ends all levels at one TXID, before pages of another size |
//! | `mend` | rewrites the damaged files of a replica that no process replicates to |
//! | `status` | counts what the history holds, for status and metrics |
//! | `error` | why a step failed |
//! | `task` | the loop of one replica; bounds the steps that run at once in the process |

mod cache;
mod clock;
mod close;
mod error;
mod executor;
mod handover;
mod inputs;
mod inventory;
mod lists;
mod mend;
mod merge;
mod options;
mod plan;
mod removed;
mod rests;
mod retain;
mod status;
mod task;
#[cfg(test)]
pub(super) mod tests;
mod ticks;

#[cfg(feature = "internals")]
pub use cache::Cache;
pub use clock::{SystemTimeline, Timeline};
pub use error::HistoryError;
pub use executor::Executor;
pub use handover::{Feed, Live, Point, Wish};
pub use inventory::Stored;
pub use mend::{mend, mendable};
pub use options::{HistoryOptions, Once};
pub use task::{Common, keep};
pub(super) use ticks::later;
