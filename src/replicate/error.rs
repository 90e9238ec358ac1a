//! Why replication ends without a request to stop.

use std::path::PathBuf;
use std::time::Duration;

use super::database::FollowError;

/// Why replication ended without being asked to.
#[derive(Debug, thiserror::Error)]
pub enum ReplicateError {
    /// Timers or watches can't be had.
    #[error("cannot watch for changes: {0}")]
    Watch(#[from] std::io::Error),
    /// A database can't be followed.
    #[error(transparent)]
    Follow(#[from] FollowError),
    /// A directory of databases.
    #[error("{0}")]
    Directory(String),
    /// The replication of one database ended by a failed assertion.
    #[error("{}: a defect of lsfast ended its replication", .0.display())]
    Panicked(PathBuf),
    /// The last uploads took too long.
    #[error(
        "not everything is stored: the last uploads took longer than {0:?} (--shutdown-timeout). Nothing is lost: the next start of lsfast \
         stores what is missing"
    )]
    Timeout(Duration),
    /// No store did anything.
    #[error(
        "not everything is stored: no store has answered or taken a byte for {0:?}. Nothing is lost: the next start of lsfast stores what \
         is missing (--shutdown-timeout sets the time that --once may take)"
    )]
    Stalled(Duration),
}
