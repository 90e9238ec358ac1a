//! `lsfast bench [URL]`: what a commit costs here, and whether it comes back.
//!
//! ```text
//! writer (a process)    commits in turns, at random times or as fast as it can, and notes when
//! COMMIT returned
//! replicate::run        the real pipeline, to a store that notes when it answered
//! measure               reads from each stored object which commits it holds; puts the same
//! bytes once more, beside
//!                       the replica: the floor for an upload of that size at that moment
//! restore, compare      page by page
//! outcome               table, histogram, JSON, plot
//! ```
//!
//! Where the writer is compared with itself alone, it has a second database that lsfast knows
//! nothing of. lsfast has nothing to do in these turns: all of the turn before is stored by then.

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
mod writer;

pub use run::BenchArgs;
pub(crate) use run::run;
