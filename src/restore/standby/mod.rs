//! Standby: a restored database that follows its replica while readers have it open.
//!
//! # Overview
//!
//! ```text
//!  GET of level 0, TXID + 1     404: nothing yet; wait for the interval or a directory hint
//!    -> per page: the sum loses its old share and gains the new one   apply
//!    -> one transaction: pages, mark, length                          replica
//!    -> the next GET at once
//! ```
//!
//! While that works, nothing is listed. A LIST is made at the start, after the store did not
//! answer, after a file could not be applied, and at growing intervals while nothing comes
//! ([`FOLLOW_LIST_MIN`](crate::base::limits::FOLLOW_LIST_MIN)). Then the cheapest files that
//! lead on are applied ([`chain`]). If
//! no file leads on, because retention was faster or the replica started over, a whole image is
//! applied, in one transaction like everything else. Before any of that is used, it is proven to
//! belong to the history of the database ([`lineage`]).
//!
//! # State
//!
//! The position is in the database (`mark`), so it always matches the pages. `OUT-txid` repeats it
//! for Litestream; `OUT-follow` is the lock.
//!
//! # Failure and crash
//!
//! A file that could not be applied is left out as long as others lead past it. Each transaction is
//! one of SQLite, so a crash leaves the state before it or the state after it.
//!
//! # Cancellation
//!
//! A stop ends a download early; SQLite then rolls its transaction back.

mod apply;
mod chain;
mod checksum;
mod error;
mod files;
#[cfg(fuzzing)]
pub mod fuzzing;
mod lineage;
mod lock;
mod look;
mod mark;
mod options;
mod pace;
mod replica;
mod run;
mod seed;
mod status;
mod trouble;
mod work;

pub use error::FollowError;
pub use options::FollowOptions;
pub use replica::noted_position;
pub use run::{follow, promote, real_path};
pub use status::FollowStatus;
