//! Following live databases and storing what they commit.
//!
//! In the order of the data: `capture` takes committed pages from the log under the locks of `guard`, `board` keeps them as `pending` for each
//! replica, `replica` makes batches and stores them one at a time, `local` remembers how far that went. `stream` sends what is too large to hold,
//! read through `source`; `remote` decides at the start how to go on; `history` compacts and removes what is stored, `verify` reads it back. `follow` is the loop of one database, [`run`] that of all.

mod abandon;
pub mod board;
pub mod capture;
mod directories;
mod files;
mod fleet;
mod follow;
#[cfg(fuzzing)]
pub mod fuzzing;
mod gaps;
pub mod guard;
pub mod hashes;
pub mod history;
mod local;
mod open;
mod outage;
mod own;
pub mod pace;
pub mod pending;
mod remote;
mod replica;
pub mod source;
pub mod state;
mod stream;
mod sweep;
pub mod verify;
pub mod vitals;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};

pub use directories::{Choose, DirectoryOptions, files_in};
pub use follow::FollowError;
pub use history::{HistoryOptions, HistoryStatus, Once};
pub use replica::ReplicaError;
pub use verify::{Verification, VerificationStatus};
pub use vitals::Vitals;
use vitals::{DatabasePhase, DatabaseVitals, ReplicaPhase};

use crate::base::{Txid, limits};
use crate::io::Engine;
use crate::io::nap::Naps;
use crate::io::watch::Watches;
use crate::store::{Store, progress};

/// Something that happened, for whoever measures or shows it.
#[derive(Debug)]
pub enum Event<'a> {
    /// The folder of a database is this process's own.
    Held {
        /// The database.
        db: &'a Path,
        /// Its folder.
        home: &'a Path,
    },
    /// It is so no longer, in a moment.
    Released {
        /// The folder.
        home: &'a Path,
    },
    /// A database is being followed.
    Following {
        /// The database.
        db: &'a Path,
    },
    /// The store has answered: a position is durable.
    Durable {
        /// The database.
        db: &'a Path,
        /// Number of the replica, from 0.
        replica: usize,
        /// The batch.
        txid: Txid,
        /// SQLite's count of commits (of the wal-index) up to which everything is stored.
        change: u32,
        /// Bytes of the object; 0 if nothing had to be stored.
        bytes: u64,
        /// Pages in it.
        pages: usize,
    },
    /// Something was done about the history of a replica.
    History {
        /// The database.
        db: &'a Path,
        /// Number of the replica, from 0.
        replica: usize,
        /// Its present state.
        status: &'a HistoryStatus,
    },
}

/// Who is told of events. Called on the loop: must not wait.
pub type Observer = Arc<dyn Fn(&Event<'_>) + Send + Sync>;

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
    /// Where it must be, with all links followed: the watched directory that it was found in, for a process with the rights of root.
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
    /// With `once`: how long all of it may take; `None` for as long as the stores go on taking what they are given.
    pub once_timeout: Option<Duration>,
    /// Who is told of events.
    pub observer: Observer,
    /// Where the pipelines show what they do.
    pub vitals: Arc<Vitals>,
}

/// How [`run`] is told to end: everything committed by then is stored, within the timeout.
#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<bool>);

/// The other end of a [`Stop`]. Dropping it asks for the stop, too.
#[derive(Debug)]
pub struct Stopper(watch::Sender<bool>);

/// Makes a stop.
#[must_use]
pub fn stop() -> (Stopper, Stop) {
    let (send, receive) = watch::channel(false);
    (Stopper(send), Stop(receive))
}

impl Stopper {
    /// Asks for the stop.
    pub fn ask(&self) {
        self.0.send_replace(true);
    }
}

impl Stop {
    /// Waits until the stop is asked for.
    pub async fn asked(&self) {
        let _ = self.0.clone().wait_for(|asked| *asked).await;
    }

    /// Whether it has been.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }
}

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

/// Follows all databases until the stop is asked for and everything is stored. With one database, an error of its is the end; of several, those
/// that can be followed are.
///
/// Must run on one thread with a `LocalSet`.
///
/// # Errors
/// [`ReplicateError`], the first; everything else has been brought to a stop as if asked.
pub async fn run(options: Options, stop: Stop) -> Result<(), ReplicateError> {
    let naps = Naps::new()?;
    let watches = Watches::new(&naps)?;
    let directories = directories::Directories::new(options.directories, &watches, options.once.is_some());
    let shared = follow::Shared {
        engine: options.engine,
        observer: options.observer,
        vitals: options.vitals,
        watches,
        naps,
        sweep: sweep::Sweep::start(options.safety_tick),
        opening: Arc::new(Semaphore::new(limits::OPENING)),
        files: files::Files::default(),
        places: files::Places::default(),
        alone: directories.is_empty()
            && options.databases.iter().map(|d| d.replicas.len()).sum::<usize>() == 1,
        once: options.once,
        history: history::Common::default(),
        outages: outage::Outages::default(),
        file_limit_said: std::rc::Rc::default(),
        turns: verify::Turns::default(),
        leaving: follow::Leaving::default(),
    };
    let leaving = shared.leaving.clone();
    let (once, begun, mut stopping) = (options.once.is_some(), tokio::time::Instant::now(), false);
    let vitals = Arc::clone(&shared.vitals);
    let (ask_all, inner) = self::stop();
    let mut fleet = fleet::Fleet::new(options.databases, directories, shared, inner);
    if options.once.is_some() {
        // What is there when they are opened is stored, and then they end.
        fleet.look_once().await;
        ask_all.ask();
    }
    let mut deadline: Option<tokio::time::Instant> = None;
    let mut limit = options.shutdown_timeout;
    if let Some(timeout) = options.once_timeout.filter(|_| once) {
        (deadline, limit) = (Some(begun + timeout), timeout);
        leaving.ends_at(begun + timeout);
    }
    loop {
        tokio::select! {
            () = fleet.serve() => break,
            () = stall(&vitals), if once && deadline.is_none() => {
                return Err(ReplicateError::Stalled(limits::ONCE_STALL));
            }
            () = stop.asked(), if !stopping => {
                stopping = true;
                let end = tokio::time::Instant::now() + options.shutdown_timeout;
                // The end of `--once`, if that comes sooner.
                if deadline.is_none_or(|d| end < d) {
                    (deadline, limit) = (Some(end), options.shutdown_timeout);
                    leaving.ends_at(end);
                }
                ask_all.ask();
            }
            () = sleep_until(deadline), if deadline.is_some() => {
                // The last checkpoints end at the same time, and change nothing about what is stored.
                let ends = fleet.is_only_leaving() && tokio::time::timeout(follow::LEAVE_TIME, fleet.serve()).await.is_ok();
                if ends {
                    break;
                }
                return Err(ReplicateError::Timeout(limit));
            }
        }
    }
    fleet.into_error().map_or(Ok(()), Err)
}

/// Waits until no store has done anything for [`limits::ONCE_STALL`], while something is to be stored.
async fn stall(vitals: &Vitals) {
    let mut last = (progress::seen(), tokio::time::Instant::now());
    loop {
        tokio::time::sleep(limits::SAFETY_TICK).await;
        let now = (progress::seen(), tokio::time::Instant::now());
        // Comparing a large database takes its time without a request.
        let compares = |d: &Arc<DatabaseVitals>| {
            d.replicas.iter().any(|r| r.phase() == ReplicaPhase::Comparing)
                || d.phase() == DatabasePhase::Waiting
        };
        if now.0 != last.0 || vitals.databases().iter().any(compares) {
            last = now;
        } else if now.1 - last.1 >= limits::ONCE_STALL {
            return;
        }
    }
}

async fn sleep_until(deadline: Option<tokio::time::Instant>) {
    if let Some(deadline) = deadline {
        tokio::time::sleep_until(deadline).await;
    }
}
