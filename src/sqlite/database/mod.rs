//! A live database, held open so that the application does not notice.
//!
//! # Overview
//!
//! [`Database`] owns everything that touches the database file and its wal-index. SQLite itself
//! opens the database first; later a connection is opened only for a single operation, such as a
//! checkpoint.
//!
//! # Locks
//!
//! Two shared locks, which every connection in WAL mode also has, keep the WAL alive:
//!
//! - SHARED on the database file, so that no other connection is the last one to close it.
//! - DMS on the wal-index, so that no other connection considers it left over and empties it.
//!
//! Both are open file description locks. They belong to our descriptors, so closing another
//! descriptor of the same file does not drop them.

mod connect;
mod file_id;
mod handle;
mod open_error;
mod stamp;

pub use file_id::FileId;
pub use handle::{CheckpointMode, Database, is_in_use, may_have_wal, says_it_is_longer, sibling};
pub use open_error::OpenError;
pub use stamp::Stamp;
