//! `lsfast bench [URL]`: measures what a commit costs here, and checks that it can be restored.
//!
//! # Overview
//!
//! ```text
//! writer (a process)    commits in turns, at random times or as fast as possible, and notes when
//!                       COMMIT returned
//! replicate::run        the real pipeline, to a store that notes when it responded
//! measure               reads from each stored object which commits it holds; puts the same bytes
//!                       again next to the replica, as the floor for an upload of that size
//! restore, compare      page by page
//! outcome               table, histogram, JSON, plot
//! ```
//!
//! To compare the writer with itself alone, the bench has a second database that lsfast does not
//! replicate. lsfast is idle in those turns: everything of the previous turn is stored by then.

mod child;
mod compare;
mod histogram;
mod load;
mod measure;
mod outcome;
mod place;
mod plot;
mod run;
mod stats;
mod timed;
mod watch;
mod writer;

pub use run::BenchArgs;
pub(crate) use run::run;
