//! Following live databases and storing what they commit.
//!
//! In the order of the data: `capture` takes committed pages from the log under the locks of `guard`, `board` keeps them as `pending` for each
//! replica, `replica` makes batches and stores them one at a time, `local` remembers how far that went. `stream` sends what is too large to hold,
//! read through `source`; `remote` decides at the start how to go on. `follow` is the loop of one database, [`run`] that of all.

pub mod board;
pub mod capture;
mod follow;
mod gaps;
pub mod guard;
pub mod hashes;
mod local;
mod open;
mod own;
pub mod pace;
pub mod pending;
mod remote;
mod replica;
pub mod source;
pub mod state;
mod stream;
mod sweep;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

pub use follow::FollowError;
pub use replica::ReplicaError;

use crate::base::Txid;
use crate::io::Engine;
use crate::io::nap::Naps;
use crate::io::watch::Watches;
use crate::store::Store;

/// Something that happened, for whoever measures or shows it.
#[derive(Debug)]
pub enum Event<'a> {
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
}

/// One database.
#[derive(Debug, Clone)]
pub struct DatabaseOptions {
    /// The database file; it need not exist yet.
    pub path: PathBuf,
    /// Its replicas, at least one.
    pub replicas: Vec<ReplicaOptions>,
}

/// What to replicate, and how.
#[derive(Clone)]
pub struct Options {
    /// The databases.
    pub databases: Vec<DatabaseOptions>,
    /// File work.
    pub engine: Engine,
    /// How long the last uploads may take once the stop is asked for.
    pub shutdown_timeout: Duration,
    /// Who is told of events.
    pub observer: Observer,
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
    /// The last uploads took too long.
    #[error(
        "not everything is stored: the last uploads took longer than {0:?} (--shutdown-timeout). Nothing is lost: the next start of lsfast \
         stores what is missing"
    )]
    Timeout(Duration),
}

/// Follows all databases until the stop is asked for and everything is stored, or until one can't be followed any more.
///
/// Must run on one thread with a `LocalSet`.
///
/// # Errors
/// [`ReplicateError`]; the other databases have been brought to a stop as if asked.
pub async fn run(options: Options, stop: Stop) -> Result<(), ReplicateError> {
    let naps = Naps::new()?;
    let shared = follow::Shared {
        engine: options.engine,
        observer: options.observer,
        watches: Watches::new(&naps)?,
        naps,
        sweep: sweep::Sweep::start(),
        alone: options.databases.iter().map(|d| d.replicas.len()).sum::<usize>() == 1,
    };
    // A database that ends with an error ends the others in order.
    let (failed, inner) = self::stop();
    let mut tasks = tokio::task::JoinSet::new();
    for database in options.databases {
        tasks.spawn_local(follow::follow(database, shared.clone(), inner.clone()));
    }
    let mut first_error = None;
    let mut deadline: Option<tokio::time::Instant> = None;
    loop {
        tokio::select! {
            joined = tasks.join_next() => match joined {
                None => break,
                Some(Ok(Ok(()))) => {}
                Some(Ok(Err(e))) => {
                    first_error.get_or_insert(e);
                    failed.ask();
                }
                Some(Err(e)) => std::panic::resume_unwind(e.into_panic()),
            },
            () = stop.asked(), if deadline.is_none() => {
                failed.ask();
                deadline = Some(tokio::time::Instant::now() + options.shutdown_timeout);
            }
            () = sleep_until(deadline), if deadline.is_some() => {
                return Err(ReplicateError::Timeout(options.shutdown_timeout));
            }
        }
    }
    first_error.map_or(Ok(()), |e| Err(e.into()))
}

async fn sleep_until(deadline: Option<tokio::time::Instant>) {
    if let Some(deadline) = deadline {
        tokio::time::sleep_until(deadline).await;
    }
}
