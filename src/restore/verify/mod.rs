//! Verifies a replica by reading it end to end: reports damage, and what can be restored
//! nevertheless.
//!
//! # What is proven
//!
//! - For each LTX file that is read: its header against its name, the order of its pages, every
//!   page by the file's CRC, its length, and its page index.
//! - For the newest state: each page of the database is in one of the files of its plan. A restore
//!   takes the same images by the same rules, so it succeeds.
//! - For Litestream 0.3: the checksum of each file, the chain of frames in each WAL, and that the
//!   pieces join.
//!
//! *Not* proven is what SQLite would say about the pages: that takes the database itself (`restore
//! --integrity-check full`).
//!
//! # Memory
//!
//! A verification holds [`VERIFY_FILES`](crate::base::limits::VERIFY_FILES) files at the same
//! time, each with two parts of
//! [`RESTORE_PART_BYTES`](crate::base::limits::RESTORE_PART_BYTES), and one bit per page of the
//! database.

mod chain;
mod coverage;
mod database;
mod file;
mod forks;
mod histories;
mod old;
mod report;
mod run;
mod stream;

pub use coverage::lost_states;
pub use database::Compared;
pub(crate) use forks::odd_files;
pub use report::{Health, VerifyOptions, VerifyReport};
pub use run::{one, verify_replica};
pub use stream::Meter;
