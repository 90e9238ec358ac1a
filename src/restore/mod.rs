//! Restore: from the files of a replica to one database file.
//!
//! # Overview
//!
//! A restore lists what it needs of the replica (`survey`), makes a [`plan`], and reads each file
//! of the plan once, in parts, with several requests in flight. It reads files from the newest to
//! the oldest, for three reasons:
//!
//! - The newest header says how long the database is.
//! - The first image of a page that arrives is the one to keep, so one bit per page is all that has
//!   to be remembered.
//! - The replicator merges and removes the young, small files first, so they are downloaded first.
//!
//! Every byte of every file has to be downloaded anyway: the file checksum covers all pages, also
//! those that a newer file replaces. So a restore does not use the page index. [`walk`] finds the
//! frames in the bytes as they arrive, and a file with a wrong index needs no special case.
//!
//! ```text
//!  fetch (async)          walk (1 thread)             decode (1 thread per core)
//!  ranged GETs, in order  frames, newest image wins   LZ4, CRC, one write at the final offset
//! ```
//!
//! Written pages go to the disk while other files are still being downloaded, most of them without
//! the page cache (`write`). So the flush at the end has little left to do.
//!
//! Replicas of Litestream 0.3 take the same way except for the pages: one thread (`legacy`) applies
//! a snapshot and pieces of WALs in order. It uses a second temporary file that is as long as the
//! longest WAL.
//!
//! # Memory
//!
//! A restore holds at most [`RESTORE_BYTES`](crate::base::limits::RESTORE_BYTES) of files in
//! flight, [`RESTORE_WRITES`](crate::base::limits::RESTORE_WRITES) writes of
//! [`RESTORE_DIRECT_BYTES`](crate::base::limits::RESTORE_DIRECT_BYTES), and one bit per page of the
//! database.
//!
//! # Failure and crash
//!
//! No file has the name of the output before it is complete. The pages go to a temporary file next
//! to the output. That file is renamed only after each source file is proven by its checksum, each
//! page is written, the file is flushed and SQLite found no damage (I5). See `target` for what
//! happens to a database that is replaced.

mod bases;
mod blocking;
mod choose;
mod claims;
pub mod damage;
mod decode;
mod doubt;
mod error;
mod fetch;
mod integrity;
mod legacy;
mod levels;
mod object;
mod options;
mod place;
pub mod plan;
mod points;
mod progress;
mod proof;
mod report;
mod run;
mod search;
mod spans;
pub mod standby;
mod survey;
mod target;
mod times;
mod verify;
mod walk;
mod write;

pub(crate) use blocking::blocking;
pub(crate) use choose::survey_for;
pub use choose::{Choice, Files, choose};
pub use error::{CompareError, RestoreError};
pub use fetch::requests;
pub(crate) use integrity::check as check_integrity;
pub use integrity::{Integrity, Verdict};
pub use object::Object;
pub use options::{RestoreOptions, Selection};
pub use place::{is_there, resolve};
pub use plan::Until;
pub use points::{Point, PointState, object_name, points};
pub use progress::{Progress, Silent, Stage};
pub use report::{ProvenBy, Report};
pub use run::run;
pub(crate) use search::choose_sound;
pub use survey::Survey;
pub(crate) use target::{LOCKS as LOCK_BYTES, Target, remove_leftovers, take_over};
pub(crate) use times::header as read_header;
pub use verify::{
    Compared, Health, Meter, VerifyOptions, VerifyReport, lost_states, one as prove_file, verify_replica,
};
