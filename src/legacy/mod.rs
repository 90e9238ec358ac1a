//! Replicas of Litestream 0.3, read only.
//!
//! The SQLite database file and its log, cut into pieces, each put through LZ4; no header, index,
//! checksum or metadata of its own.
//!
//! ```text
//! PATH/generations/GENERATION/snapshots/IIIIIIII.snapshot.lz4
//! PATH/generations/GENERATION/wal/IIIIIIII_OOOOOOOO.wal.lz4
//! ```
//!
//! - GENERATION: 16 hex digits, random, without order. A new one begins where 0.3 could not prove
//!   that it saw every frame.
//! - IIIIIIII: number of the log. A new one begins each time the log was restarted.
//! - OOOOOOOO: where in that log the segment begins; it ends after a commit frame, where the next
//!   one begins.
//!
//! A *snapshot* is the database file as it was when log I was the present one. It may have pages of
//! log I and may lack pages of it, so a restore applies log I from its beginning.
//!
//! [`plan()`] says which files a restore takes, [`Apply`] makes a database of them.

mod apply;
mod names;
mod plan;
mod unpack;

pub use apply::{Applied, Apply, ApplyError};
pub use names::{Generation, LegacyName, WalIndex};
pub use plan::{
    LegacyError, LegacyFile, LegacyPlan, LegacyState, Want, plan, states, times_are_lost, warn_of_lost_times,
};
pub use unpack::Unpacked;
