//! Delta: turns an existing database file into a state of a replica, by its pages that differ.
//!
//! # Overview
//!
//! ```text
//! file -> hash of each page, and their sum    local
//!   -> the state of the replica that it is    base     headers have the checksum of the database
//!   -> pages that differ from the wanted one  plan     page indexes of the files in between
//!   -> their frames, into a nameless file     fetch    ranged GETs; the sum is the wanted one
//!   -> old pages, into SQLite's journal       journal  flushed before a page is overwritten
//!   -> new pages, into the database           apply    flushed, read again, summed again
//!   -> the journal is removed
//! ```
//!
//! Two states differ at most in the pages that the files between them have, in whichever direction.
//! So no page has to be read from the replica to know that it is unchanged.
//!
//! # What is proven
//!
//! The checksum of the database in the header of the wanted state has to be that of the result.
//! That is proven before the first page is overwritten and, from what is read back, before the
//! journal is removed. A superset of the pages that differ does no harm, and a page that is missed
//! is found by the checksum.
//!
//! Where a state cannot be reached in this way, [`Planned::Whole`] has the reason, and the caller
//! restores the whole database.
//!
//! # Failure and crash
//!
//! Until the journal has its name the database is as it was. From then on SQLite rolls it back when
//! it is opened next, as it does after a crash of a program of its own. Removing the journal is the
//! commit. An error in between rolls back at once.
//!
//! # Order of writes
//!
//! 1. The journal under a temporary name, fsync, rename to `DB-journal`, fsync of the directory.
//! 2. The pages and the length of the database, fsync.
//! 3. `DB-journal` is removed, fsync of the directory.
//!
//! SQLite's exclusive lock is held from before the first read until the end, so no connection reads
//! pages of two states, and none takes the journal for a hot one.

mod apply;
mod base;
mod fetch;
mod journal;
mod local;
mod metered;
mod plan;
#[cfg(test)]
mod tests;

pub use base::Hint;
pub use fetch::Fetched;
pub use plan::{DeltaOptions, DeltaPlan, Planned, is_about_files, plan};
