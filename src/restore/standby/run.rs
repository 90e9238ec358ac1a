//! The loop of a standby: polls the replica and applies what is new.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch::Receiver;

use super::error::FollowError;
use super::lineage::Made;
use super::lock::Lock;
use super::options::FollowOptions;
use super::pace::Pace;
use super::replica;
use super::replica::Replica;
use super::status::FollowStatus;
use super::trouble::Trouble;
use crate::base::clock::Millis;
use crate::base::{LtxId, Txid, limits};
use crate::io::Engine;
use crate::io::timer::Timers;
use crate::io::watch::{Hint, Of, Watch, Watches};
use crate::ltx::WalRange;
use crate::restore::progress::Progress;
use crate::store::Store;

/// Creates the database if necessary, and follows the replica until `stop` is true or the standby
/// is promoted.
///
/// Needs a [`tokio::task::LocalSet`].
///
/// # Errors
/// [`FollowError`], for a failure that a retry cannot resolve. The database holds a complete state
/// nevertheless.
pub async fn follow(
    store: Arc<dyn Store>,
    engine: &Engine,
    options: FollowOptions,
    progress: &dyn Progress,
    mut stop: Receiver<bool>,
) -> Result<FollowStatus, FollowError> {
    let mut options = options;
    options.output = real_path(&options.output)?;
    let lock = Lock::take(&options.output)?;
    let status = FollowStatus::new(options.output.clone(), store.url().to_owned());
    let trouble = Trouble::default();
    let mut follower = Follower {
        store,
        options,
        lock,
        replica: None,
        made: None,
        log_end: None,
        bad: BTreeSet::new(),
        doubted: false,
        one_by_one: false,
        status,
        trouble,
        stale: Duration::ZERO,
    };
    follower.tell();
    let seeded = tokio::select! {
        seeded = follower.begin(engine, progress) => seeded?,
        () = stopped(&mut stop) => false,
    };
    if seeded {
        let ended = follower.run(stop.clone()).await;
        match ended {
            Err(reason @ FollowError::PageSize { .. }) if follower.options.force => {
                tracing::warn!(%reason, "restoring again, as --force says");
                tokio::select! {
                    begun = follower.begin_anew(engine, progress) => begun?,
                    () = stopped(&mut stop) => return Ok(follower.status),
                }
                follower.run(stop).await?;
            }
            ended => ended?,
        }
    }
    // Dropping the last connection checkpoints the WAL into the database, which takes time.
    let replica = follower.replica.take();
    blocking(move || drop(replica)).await?;
    Ok(follower.status)
}

/// Stops the process that follows a database, if there is one, checks the database, and turns it
/// into an ordinary database. Blocks.
///
/// # Errors
/// [`FollowError`]. The database is then still a standby.
pub fn promote(output: &Path, patience: Duration) -> Result<Txid, FollowError> {
    let output = real_path(output)?;
    if !replica::is_followed_file(&output)? {
        return Err(FollowError::NotFollowed { path: output });
    }
    let lock = Lock::take_over(&output, patience)?;
    let txid = Replica::open(&output, None, None)?.promote()?;
    lock.remove()?;
    Ok(txid)
}

/// The path of the database with all links resolved, whether or not it exists: one name for it and
/// for the files next to it.
///
/// # Errors
/// [`FollowError::Restore`], if this cannot be the path of a database file.
pub fn real_path(output: &Path) -> Result<PathBuf, FollowError> {
    let output = crate::restore::resolve(output)?;
    Ok(std::fs::canonicalize(&output).unwrap_or(output))
}

pub(super) struct Follower {
    pub(super) store: Arc<dyn Store>,
    pub(super) options: FollowOptions,
    pub(super) lock: Lock,
    /// `None` while another thread works on it.
    pub(super) replica: Option<Replica>,
    /// When the state of `replica` was made.
    pub(super) made: Option<Made>,
    /// The WAL range of the last applied file; `None` until a file is applied in this run.
    pub(super) log_end: Option<WalRange>,
    /// Files after the position that could not be applied.
    pub(super) bad: BTreeSet<LtxId>,
    /// A file did not fit the database, so one of the two is wrong.
    pub(super) doubted: bool,
    /// Files are applied alone, to find the one that does not fit.
    pub(super) one_by_one: bool,
    pub(super) status: FollowStatus,
    pub(super) trouble: Trouble,
    /// A warning is logged once the lag reaches this; doubles with each warning.
    stale: Duration,
}

impl Follower {
    async fn run(&mut self, mut stop: Receiver<bool>) -> Result<(), FollowError> {
        let wake = Wake::new(self.options.directory.as_deref());
        let mut pace = Pace::new(self.options.interval);
        let mut said = Instant::now();
        self.tell();
        loop {
            if *stop.borrow() || self.lock.stop_wanted() {
                return Ok(());
            }
            if let Some(replica) = &self.replica {
                replica.still_there()?;
            }
            let list = Instant::now() >= pace.list_at;
            let news = tokio::select! {
                news = self.look(list) => news,
                () = stopped(&mut stop) => return Ok(()),
            };
            let done = match news {
                Ok(news) => self.act(news, &stop).await,
                Err(e) => Err(e),
            };
            self.say_line(&mut said);
            self.watch();
            let pause = match done {
                Ok(true) => {
                    pace.something_came();
                    Duration::ZERO
                }
                Ok(false) => {
                    if list {
                        pace.nothing_listed();
                    }
                    pace.pause()
                }
                Err(FollowError::Interrupted) if *stop.borrow() => return Ok(()),
                Err(e) if e.is_final() => return Err(e),
                Err(e) => {
                    self.leave_out(&e);
                    let pause = self.trouble.says(&e, &mut self.status, self.store.url());
                    self.tell();
                    pace.list_at = Instant::now();
                    pause
                }
            };
            self.pause(pause, &wake, &mut stop).await;
        }
    }

    /// Logs the position at intervals, even if nothing happens.
    fn say_line(&self, said: &mut Instant) {
        if said.elapsed() < limits::FOLLOW_LINE {
            return;
        }
        *said = Instant::now();
        let FollowStatus { output, txid, created, files, .. } = &self.status;
        let made = created.map(Millis::to_rfc3339);
        let lag = self.status.lag.now().as_secs();
        tracing::info!(db = %output.display(), %txid, made, files, lag_seconds = lag, "still following");
    }

    /// Logs a warning if the database lags, whatever the reason.
    fn watch(&mut self) {
        let waited = self.status.lag.waited();
        if waited < limits::FOLLOW_STALE {
            self.stale = Duration::ZERO;
        } else if waited >= self.stale {
            self.stale = waited * 2;
            let FollowStatus { output, replica, txid, created, lag, .. } = &self.status;
            let made = created.map(Millis::to_rfc3339);
            let seconds = lag.now().as_secs();
            tracing::warn!(db = %output.display(), replica, %txid, seconds, made, "stale: the standby is not up to date");
        }
    }

    /// Reports the status to the observer.
    pub(super) fn tell(&self) {
        (self.options.observer)(&self.status);
    }

    /// Waits until `pause` has passed, a hint arrives, or a stop is requested.
    async fn pause(&self, pause: Duration, wake: &Wake, stop: &mut Receiver<bool>) {
        let until = Instant::now() + pause;
        while !*stop.borrow() && !self.lock.stop_wanted() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            tokio::select! {
                () = stopped(stop) => return,
                () = wake.hint.wait(), if self.status.trouble.is_none() => return,
                () = tokio::time::sleep(left.min(STOP_EVERY)) => {}
            }
        }
    }
}

/// Delay between two checks whether the standby is to be promoted.
const STOP_EVERY: Duration = Duration::from_millis(500);

/// Wakes a standby before its delay has passed.
struct Wake {
    hint: Rc<Hint>,
    _watch: Option<(Watches, Watch)>,
}

impl Wake {
    fn new(replica: Option<&Path>) -> Wake {
        let hint = Rc::new(Hint::default());
        let watch = replica.and_then(|replica| {
            let watches = Watches::new(&Timers::new().ok()?).ok()?;
            let watch = watches.add(&replica.join("ltx").join("0"), Of::Directory, &hint).ok()?;
            Some((watches, watch))
        });
        Wake { hint, _watch: watch }
    }
}

/// Waits until a stop is requested; forever if the sender is dropped.
pub(super) async fn stopped(stop: &mut Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Runs `work` on a blocking thread.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, FollowError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => Ok(result),
        Err(e) => match e.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(FollowError::Interrupted),
        },
    }
}
