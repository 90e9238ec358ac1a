//! Replicas of Litestream 0.3, read only.
//!
//! Such a replica has the SQLite database file and its WAL, cut into pieces that are compressed
//! with LZ4. It has no header, index, checksum or metadata of its own.
//!
//! ```text
//! PATH/generations/GENERATION/snapshots/IIIIIIII.snapshot.lz4
//! PATH/generations/GENERATION/wal/IIIIIIII_OOOOOOOO.wal.lz4
//! ```
//!
//! - GENERATION: 16 hex digits, random, without order. A new generation begins where 0.3 could not
//!   prove that it saw every frame.
//! - IIIIIIII: number of the WAL. A new one begins each time the WAL started over.
//! - OOOOOOOO: offset in that WAL at which the segment begins. It ends after a commit frame, where
//!   the next segment begins.
//!
//! A *snapshot* is the database file as it was when WAL I was current. It may have pages of WAL I
//! and may lack others, so a restore applies WAL I from its beginning.
//!
//! [`plan()`] chooses the files of a restore, and [`Apply`] builds a database from them.

mod apply;
mod names;
mod plan;
mod unpack;

pub use apply::{Applied, Apply, ApplyError};
pub use names::{Generation, LegacyName, WalIndex};
pub use plan::{LegacyError, LegacyFile, LegacyPlan, LegacyState, Want, plan, states, warn_of_lost_times};
pub use unpack::Unpacked;
