//! Why replication ends without a request to stop.

use std::path::PathBuf;
use std::time::Duration;

use super::database::FollowError;

/// Why replication ended without a request to stop.
#[derive(Debug, thiserror::Error)]
pub enum ReplicateError {
    /// The timer or inotify is not available.
    #[error("cannot watch for changes: {0}")]
    Watch(#[from] std::io::Error),
    /// A database cannot be followed.
    #[error(transparent)]
    Follow(#[from] FollowError),
    /// A watched directory cannot be used.
    #[error("{0}")]
    Directory(String),
    /// A failed assertion ended the replication of one database.
    #[error("{}: a defect of lsfast ended its replication", .0.display())]
    Panicked(PathBuf),
    /// The shutdown took longer than it may.
    #[error(
        "not everything is stored: after {limit:?} (--shutdown-timeout) {waits}. Nothing is lost: the next start of lsfast stores what is \
         missing"
    )]
    Timeout {
        /// The time that it may take.
        limit: Duration,
        /// What it still waits for, in words.
        waits: String,
    },
    /// No store made progress for this time, with `--once`.
    #[error(
        "not everything is stored: no store has answered or taken a byte for {0:?}. Nothing is lost: the next start of lsfast stores what \
         is missing (--shutdown-timeout sets the time that --once may take)"
    )]
    Stalled(Duration),
}
