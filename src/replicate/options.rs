//! What to replicate, and how.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::event::Observer;
use super::history::{HistoryOptions, Once};
use super::verify::Verification;
use super::vitals::Vitals;
use crate::io::Engine;
use crate::store::Store;

/// One replica of a database.
#[derive(Debug, Clone)]
pub struct ReplicaOptions {
    /// Where the replica is stored.
    pub store: Arc<dyn Store>,
    /// Average time between two uploads of a busy database; 0 does not space them.
    pub sync_interval: Duration,
    /// How its history is kept: levels, full images, retention.
    pub history: HistoryOptions,
    /// How the replica is verified in the background; `None` for not at all.
    pub verification: Option<Verification>,
}

/// One database.
#[derive(Debug, Clone)]
pub struct DatabaseOptions {
    /// The database file; it need not exist yet.
    pub path: PathBuf,
    /// Its replicas, at least one.
    pub replicas: Vec<ReplicaOptions>,
    /// Do not wait for a removed database to reappear.
    pub leave_when_gone: bool,
    /// Directory that must contain the file, with all links followed. Set to the watched directory
    /// in which the file was found, if the process has the rights of root.
    pub inside: Option<PathBuf>,
    /// Directory of its local state; `None` for the folder next to the database file.
    pub home: Option<PathBuf>,
    /// How long opening the database may wait for locks of other processes; after that, nothing
    /// waits for any. `None` for the default.
    pub busy_timeout: Option<Duration>,
    /// For each replica, what to write on a command line to reach it. Noted next to the database,
    /// so that commands need only be given its path. May be empty.
    pub addresses: Vec<String>,
    /// Equal for equal settings. A reload leaves a database alone whose settings have not changed.
    pub fingerprint: u64,
}

impl DatabaseOptions {
    /// A database with its replicas. lsfast waits for the file if it does not exist.
    pub fn new(path: impl Into<PathBuf>, replicas: Vec<ReplicaOptions>) -> DatabaseOptions {
        DatabaseOptions {
            path: path.into(),
            replicas,
            leave_when_gone: false,
            inside: None,
            home: None,
            busy_timeout: None,
            addresses: Vec::new(),
            fingerprint: 0,
        }
    }
}

/// Decides about a file: `None` if it is not to be replicated, otherwise how, or why it cannot be.
pub type Choose = Arc<dyn Fn(&Path) -> Option<Result<DatabaseOptions, String>> + Send + Sync>;

/// A directory whose databases are replicated.
#[derive(Clone)]
pub struct DirectoryOptions {
    /// Path of the directory.
    pub path: PathBuf,
    /// Whether its subdirectories are searched, too.
    pub recursive: bool,
    /// Whether databases that appear later are followed.
    pub watch: bool,
    /// Selects the files, and says how to replicate each.
    pub choose: Choose,
    /// Equal for equal settings, those of its databases included.
    pub fingerprint: u64,
}

impl fmt::Debug for DirectoryOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DirectoryOptions")
            .field("path", &self.path)
            .field("recursive", &self.recursive)
            .field("watch", &self.watch)
            .finish_non_exhaustive()
    }
}

/// What to replicate, and how.
#[derive(Clone)]
pub struct Options {
    /// The databases that are named one by one.
    pub databases: Vec<DatabaseOptions>,
    /// Watched directories, whose databases are followed.
    pub directories: Vec<DirectoryOptions>,
    /// Set for `--once`: store what is there, and end.
    pub once: Option<Once>,
    /// How often all wal-indexes are checked, whether or not hints come.
    pub safety_tick: Duration,
    /// Does the file I/O.
    pub engine: Engine,
    /// How long the last uploads may take once the stop is requested.
    pub shutdown_timeout: Duration,
    /// With `once`: how long everything may take; `None` for as long as the stores make progress.
    pub once_timeout: Option<Duration>,
    /// Receives the events.
    pub observer: Observer,
    /// Where the pipelines publish their numbers.
    pub vitals: Arc<Vitals>,
}
