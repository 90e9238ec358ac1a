//! What to replicate, and how.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::event::Observer;
use super::fleet::directories::DirectoryOptions;
use super::history::{HistoryOptions, Once};
use super::verify::Verification;
use super::vitals::Vitals;
use crate::io::Engine;
use crate::store::Store;

/// One replica of a database.
#[derive(Debug, Clone)]
pub struct ReplicaOptions {
    /// Where to.
    pub store: Arc<dyn Store>,
    /// Average time between two uploads of a busy database; 0 does not space them.
    pub sync_interval: Duration,
    /// How its history is kept.
    pub history: HistoryOptions,
    /// How it is verified in the background; `None` for not at all.
    pub verification: Option<Verification>,
}

/// One database.
#[derive(Debug, Clone)]
pub struct DatabaseOptions {
    /// The database file; it need not exist yet.
    pub path: PathBuf,
    /// Its replicas, at least one.
    pub replicas: Vec<ReplicaOptions>,
    /// When it is removed, it is not waited for to come back.
    pub leave_when_gone: bool,
    /// Where it must be, with all links followed: the watched directory that it was found in, for a
    /// process with the rights of root.
    pub inside: Option<PathBuf>,
    /// Where its local state is kept; beside it if nobody says otherwise.
    pub home: Option<PathBuf>,
    /// How long its opening may wait for locks of others; after that, nothing waits for any.
    pub busy_timeout: Option<Duration>,
}

impl DatabaseOptions {
    /// A database with its replicas, which is waited for as long as it is not there.
    pub fn new(path: impl Into<PathBuf>, replicas: Vec<ReplicaOptions>) -> DatabaseOptions {
        DatabaseOptions {
            path: path.into(),
            replicas,
            leave_when_gone: false,
            inside: None,
            home: None,
            busy_timeout: None,
        }
    }
}

/// What to replicate, and how.
#[derive(Clone)]
pub struct Options {
    /// The databases.
    pub databases: Vec<DatabaseOptions>,
    /// Directories of databases.
    pub directories: Vec<DirectoryOptions>,
    /// Store what is there, and end.
    pub once: Option<Once>,
    /// How often all wal-indexes are looked at, whatever hints come.
    pub safety_tick: Duration,
    /// File work.
    pub engine: Engine,
    /// How long the last uploads may take once the stop is asked for.
    pub shutdown_timeout: Duration,
    /// With `once`: how long all of it may take; `None` for as long as the stores go on taking what
    /// they are given.
    pub once_timeout: Option<Duration>,
    /// Who is told of events.
    pub observer: Observer,
    /// Where the pipelines show what they do.
    pub vitals: Arc<Vitals>,
}
