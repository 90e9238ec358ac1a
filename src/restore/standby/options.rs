//! How a standby follows its replica.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::status::FollowStatus;
use crate::base::limits;
use crate::restore::Integrity;

/// Options of a standby.
#[derive(Clone)]
pub struct FollowOptions {
    /// Path of the database; created if it does not exist.
    pub output: PathBuf,
    /// Replace a database that cannot be followed.
    pub force: bool,
    /// How thoroughly SQLite checks the first restore.
    pub integrity: Integrity,
    /// How many requests may be in flight at the same time.
    pub parallel: usize,
    /// Interval between requests for the next file while nothing comes.
    pub interval: Duration,
    /// The directory of the replica, if it is one: then new files are noticed at once.
    pub directory: Option<PathBuf>,
    /// Called whenever the status changes. Must not block.
    pub observer: Arc<dyn Fn(&FollowStatus) + Send + Sync>,
}

impl std::fmt::Debug for FollowOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FollowOptions").field("output", &self.output).finish_non_exhaustive()
    }
}

impl FollowOptions {
    /// Options for a database, with the defaults of the command line.
    #[must_use]
    pub fn new(output: impl Into<PathBuf>) -> FollowOptions {
        FollowOptions {
            output: output.into(),
            force: false,
            integrity: Integrity::default(),
            parallel: limits::RESTORE_TRANSFERS,
            interval: Duration::from_secs(1),
            directory: None,
            observer: Arc::new(|_| {}),
        }
    }
}
