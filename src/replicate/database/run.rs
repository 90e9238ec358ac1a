//! The loop of one database: waits for hints, looks at the WAL, lets the guard move, and watches
//! over the pipelines of its replicas.
//!
//! # Failure and crash
//!
//! If the path names another file, or none, the loop releases all locks and stores what was
//! captured ([`End::Replaced`]); `follow` then waits for the database again. A replica that fails
//! does not stop the others, and the error of the last one ends the loop.
//!
//! # Cancellation
//!
//! After a stop one more look captures what was committed before it. The pipelines store that, and
//! the loop ends when all of them have.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::attach::{self, Opened};
use super::desk::Desk;
use super::error::{FollowError, io_error};
use super::hold::Held;
use super::look_schedule::{GAPS, LookSchedule};
use super::notice::{BUSY_GAP, Notice};
use super::open_files::Reservation;
use super::shared::Shared;
use crate::base::clock::Millis;
use crate::io::timer::Timers;
use crate::io::watch::Hint;
use crate::replicate::capture::{Capture, Look};
use crate::replicate::handoff::Handoff;
use crate::replicate::history;
use crate::replicate::options::DatabaseOptions;
use crate::replicate::replica::pace::Pace;
use crate::replicate::replica::{Landmarks, Replica, ReplicaError, Trouble, Vigil};
use crate::replicate::shutdown::Stop;
use crate::replicate::state::note_url;
use crate::replicate::state::record::Local;
use crate::replicate::sweep::Entry;
use crate::replicate::vitals::DatabaseVitals;
use crate::sqlite::database::{Database, FileId, Stamp, sibling};
use crate::wal::tail::TailError;

/// Delay between looks in a turn: a checkpoint takes a millisecond at least.
const TURN_GAP: Duration = Duration::from_micros(200);

/// How following one opening of a database ended.
pub(super) enum End {
    Stopped,
    /// The files were replaced or removed: wait for the database to come back.
    Replaced {
        /// Whether everything that was captured is stored.
        stored: bool,
    },
}

/// Warns of hard links. SQLite names the files next to a database by the name it is opened by: two
/// programs that use two names corrupt the database.
fn say_other_names(db: &Database) {
    if let Ok(links @ 2..) = db.file().std().metadata().map(|m| m.nlink()) {
        tracing::warn!(
            db = %db.path().display(), links,
            "the database file has other names (hard links): commits of a program that opens it by another name can't be followed, and corrupt it"
        );
    }
}

/// How long ago the last commit was, at least as long as the file system tells, and no longer than
/// the stored state is old. Nothing tells the time of the oldest commit that is not stored.
fn age_of_changes(db: &Database, stored: Millis) -> Duration {
    let modified = |path: &Path| std::fs::metadata(path).and_then(|m| m.modified()).ok();
    let last = [db.path().to_owned(), sibling(db.path(), "-wal")].iter().filter_map(|p| modified(p)).max();
    let age = last.and_then(|at| at.elapsed().ok()).unwrap_or_default();
    let since_stored = u64::try_from(Millis::now().0 - stored.0).unwrap_or(0);
    if stored.0 == 0 { Duration::ZERO } else { age.min(Duration::from_millis(since_stored)) }
}

/// One opening of a database.
pub(super) struct Follower<'a> {
    pub(super) shared: &'a Shared,
    /// The name of the database; a link may lead from it to the path that was opened.
    pub(super) named: &'a Path,
    /// Device and inode of the opened file.
    pub(super) id: FileId,
    stop: &'a Stop,
    pub(super) capture: Capture,
    pub(super) handoff: Rc<Handoff>,
    pub(super) hint: Rc<Hint>,
    pub(super) replicas: JoinSet<Result<(), ReplicaError>>,
    last_error: Option<ReplicaError>,
    pub(super) wal_reported: bool,
    pub(super) last_captured: Instant,
    /// No commit has been found since the last hint.
    pub(super) unexplained: bool,
    /// Earliest time of the next attempt to truncate an idle WAL.
    pub(super) idle_not_before: Instant,
    /// When to truncate the idle WAL, if that is known.
    pub(super) idle_due: Option<Instant>,
    /// Whether the WAL is large enough for that, and the change for which this was read.
    pub(super) log_is_large: Option<(bool, Instant)>,
    pub(super) notice: Notice,
    /// Requests that wait for what is stored.
    desk: Rc<Desk>,
    // The fields from here are dropped last; `_held`, the lock, is the very last.
    _sweep: Rc<Entry>,
    /// State folders of the replicas.
    pub(super) folders: Vec<PathBuf>,
    _places: Vec<Reservation>,
    _held: Held,
}

impl<'a> Follower<'a> {
    /// Opens what the pipelines need, and starts them.
    pub(super) async fn begin(
        options: &'a DatabaseOptions,
        shared: &'a Shared,
        stop: &'a Stop,
        db: Arc<Database>,
        held: Held,
        vitals: &Arc<DatabaseVitals>,
    ) -> Result<Follower<'a>, FollowError> {
        let path = db.path();
        vitals.opened(db.page_size());
        let id = FileId::of(db.file().std()).map_err(io_error(path))?;
        say_other_names(&db);
        let (mut locals, mut places) = (Vec::new(), Vec::new());
        for (index, replica) in options.replicas.iter().enumerate() {
            places.push(shared.places.take(&*replica.store, path)?);
            let dir = held.home.replica(&replica.store.identity())?;
            if let Some(address) = options.addresses.get(index) {
                note_url(&dir, address);
            }
            locals.push(Local::open(dir, db.page_size(), id).map_err(io_error(path))?);
        }
        let folders = locals.iter().map(|l| l.dir().to_owned()).collect();
        let hint = Rc::new(Hint::default());
        // Watched before the first look, so that no commit falls between.
        let notice = Notice::hints(shared, path, &hint).map_err(io_error(path))?;
        let to_open = Arc::clone(&db);
        let opened = tokio::task::spawn_blocking(move || {
            locals.iter_mut().for_each(Local::prove_checksum);
            let states: Vec<_> = locals.iter().map(|l| *l.state()).collect();
            (attach::open(&to_open, &states), locals)
        });
        let (opened, locals) = opened.await.map_err(io::Error::other).map_err(io_error(path))?;
        let Opened { guard, tail, mark, since, damage } =
            opened.map_err(|source| FollowError::Tail { db: path.to_owned(), source })?;
        // CKPT is held, so no checkpoint of SQLite changes the file after this.
        let stamp = Stamp::of(db.file().std()).map_err(io_error(path))?;
        let edited = locals.iter().map(|l| attach::edited(&l.state().stamp, &stamp));
        let since: Vec<_> = since
            .into_iter()
            .zip(edited)
            .map(|(since, edited)| since.and_then(|p| edited.map_or(Ok(p), |why| Err(why.to_owned()))))
            .collect();
        for ((local, since), vitals) in locals.iter().zip(&since).zip(&vitals.replicas) {
            let behind = since.as_ref().map_or(true, |pending| !pending.is_empty());
            let (durable, time) = (local.state().durable, local.state().timestamp);
            vitals.remembered(&durable, time, behind.then(|| age_of_changes(&db, time)));
        }
        let handoff = Rc::new(Handoff::seen(Arc::clone(vitals), Rc::clone(&hint)));
        let mut capture =
            Capture::new(Arc::clone(&db), tail, guard, Rc::clone(&handoff), mark, Instant::now());
        if let Some((reason, header)) = damage {
            capture.opened_damaged(&reason, &header, Instant::now());
        }
        let mut replicas = JoinSet::new();
        for (index, ((replica, local), since)) in options.replicas.iter().zip(locals).zip(since).enumerate() {
            let first_level = replica.history.levels.first().map(|(_, interval)| *interval);
            let continuity = since.map(|pending| handoff.seed(index, pending));
            tracing::debug!(db = %path.display(), replica = replica.store.url(), "the database is open");
            let replica = Replica {
                index,
                store: Arc::clone(&replica.store),
                engine: shared.engine.clone(),
                handoff: Rc::clone(&handoff),
                db: Arc::clone(&db),
                local,
                continuity,
                pace: Pace::new(replica.sync_interval, tokio::time::Instant::now()),
                observer: Arc::clone(&shared.observer),
                strict: shared.alone.get(),
                prepared: None,
                local_failed: false,
                history: Rc::new(history::Feed::new(shared.history.cache.inventory())),
                history_options: replica.history.clone().by_store(&replica.store),
                once: shared.once,
                common: shared.history.clone(),
                outages: shared.outages.clone(),
                proof_due: None,
                trouble: Trouble::default(),
                verification: options.replicas[index].verification.clone(),
                turns: shared.turns.clone(),
                vigil: Vigil::new(shared.sweep.pauses().clone(), first_level),
                landmarks: Landmarks::default(),
                deadline: shared.leaving.deadline(),
            };
            replicas.spawn_local(replica.run());
        }
        Ok(Follower {
            named: &options.path,
            id,
            shared,
            stop,
            capture,
            handoff,
            replicas,
            last_error: None,
            wal_reported: false,
            last_captured: Instant::now(),
            unexplained: true,
            idle_not_before: Instant::now(),
            idle_due: None,
            log_is_large: None,
            notice,
            desk: shared.desks.open(&options.path, &hint),
            _sweep: shared.sweep.add(&db, &options.path, id, &hint),
            hint,
            folders,
            _places: places,
            _held: held,
        })
    }

    pub(super) fn path(&self) -> &Path {
        self.capture.db().path()
    }

    /// Runs until the stop, or until the path names another file or none.
    pub(super) async fn run(mut self) -> Result<End, FollowError> {
        let stop = self.stop;
        let mut end = tokio::select! {
            biased;
            end = self.look_on() => end,
            () = stop.given_up() => Err(FollowError::OutOfTime(self.named.to_owned())),
        };
        // Nothing can be read through this opening if pages of another size replaced the content.
        let readable = !self.capture.db().is_resized().unwrap_or(false);
        if let Ok(End::Replaced { stored }) = &mut end {
            *stored = readable && self.store_the_last().await;
        }
        let stored = match &end {
            Ok(End::Stopped) => Some(true),
            Ok(End::Replaced { stored }) => Some(*stored),
            Err(_) => None,
        };
        self.desk.close(&self.handoff, stored);
        // No pipeline may wait for a pin that can no longer come.
        self.handoff.refuse_pins();
        self.replicas.shutdown().await;
        if !matches!(end, Ok(End::Replaced { .. })) {
            self.leave().await;
        }
        end
    }

    async fn look_on(&mut self) -> Result<End, FollowError> {
        let mut gaps = LookSchedule::default();
        loop {
            // Comes first: while our locks are on its wal-index, the application cannot begin a new
            // database under this name.
            if self.hint.take_moved() && !self.is_same() {
                return Ok(self.abandon().await);
            }
            // Read before the look, so that this look captures what was committed before the stop.
            let stopping = self.stop.is_asked();
            let now = Instant::now();
            self.capture.is_last_chance(stopping);
            let look = self.capture.look(now).map_err(|source| self.tail_error(source))?;
            if self.desk.is_busy() {
                self.desk.serve(&self.handoff, look.all);
            }
            if look.more {
                tokio::task::yield_now().await;
                continue;
            }
            // Frames that are published may be commits, even if they could not be read yet.
            if stopping && !self.handoff.is_closing() && self.capture.settles(now) && look.all {
                // A directory above may have been exchanged without a hint. What the path names now
                // has to be stored as well.
                if !self.is_same() {
                    return Ok(self.abandon().await);
                }
                self.handoff.close();
            }
            if look.captured {
                gaps.restart();
                self.report_large_log();
            }
            if self.adapt(look, now)? {
                continue;
            }
            let at = self.next_look(&mut gaps, look, now);
            self.unexplained &= !look.captured;
            let odd = self.unexplained && gaps.are_used_up();
            self.unexplained &= !odd || look.near;
            if self.capture.mend_index(odd, now).map_err(|e| self.tail_error(e))? {
                self.unexplained = true;
                continue;
            }
            if odd && self.capture.is_overtaken().map_err(|e| self.tail_error(e))? {
                // Until our locks are gone, an application does not see what is in that WAL.
                let end = self.abandon().await;
                tracing::warn!(db = %self.path().display(), "another program put a WAL next to the database; opening both again");
                return Ok(end);
            }
            if let Some(end) = self.wait(at, &mut gaps).await? {
                return Ok(end);
            }
        }
    }

    pub(super) fn tail_error(&self, source: TailError) -> FollowError {
        FollowError::Tail { db: self.path().to_owned(), source }
    }

    /// When to look again without a hint.
    fn next_look(&mut self, gaps: &mut LookSchedule, look: Look, now: Instant) -> Option<Instant> {
        let by_gaps = gaps.next(look, now);
        let by_guard = self.capture.deadline();
        let by_turn = (self.capture.awaits_checkpoint() && by_gaps.is_none_or(|t| t > now + TURN_GAP))
            .then(|| now + TURN_GAP * 5);
        // The size of the WAL is not read while there is something to look at.
        self.idle_due = if by_gaps.is_none() { self.idle_at(look) } else { None };
        [by_gaps, by_guard, by_turn, self.idle_due].into_iter().flatten().min().map(|t| t.max(now + GAPS[0]))
    }

    /// All replicas are uploading, and the guard waits for nothing: what comes now joins the next
    /// upload.
    fn no_hurry(&self) -> bool {
        self.handoff.all_busy() && !self.capture.awaits_checkpoint()
    }

    /// Waits for a hint, a helper thread, the end of a replica, the stop, or `at`.
    async fn wait(
        &mut self,
        mut at: Option<Instant>,
        gaps: &mut LookSchedule,
    ) -> Result<Option<End>, FollowError> {
        let now = Instant::now();
        let pause = if self.capture.awaits_checkpoint() { TURN_GAP } else { BUSY_GAP };
        let by_clock = matches!(self.notice, Notice::Clock);
        if by_clock && self.capture.is_waiting() {
            at = Some(now + BUSY_GAP);
        } else if by_clock {
            at = Some(now + pause);
            nap_until(&self.shared.timers, at).await;
        }
        if self.no_hurry() {
            at = at.map(|t| t.max(now + pause));
        }
        // A stop that was asked for wakes the loop only once, and what it waits for may end without
        // a hint. So the loop looks again by the clock.
        let settling = self.stop.is_asked() && !self.handoff.is_closing();
        if settling {
            at = Some(at.map_or(now + BUSY_GAP, |t| t.min(now + BUSY_GAP)));
        }
        self.give_back_idle_log(now)?;
        tokio::select! {
            result = self.capture.phase().ended() => {
                self.capture.locked(result).map_err(|e| FollowError::Tail { db: self.capture.db().path().to_owned(), source: e })?;
            }
            () = self.hint.wait() => {
                if !by_clock && self.no_hurry() {
                    self.shared.timers.until(now + pause).await;
                }
                gaps.restart();
                self.unexplained = true;
            }
            () = nap_until(&self.shared.timers, at), if at.is_some() => {}
            joined = self.replicas.join_next() => return self.replica_ended(joined),
            () = self.stop.asked(), if !settling && !self.handoff.is_closing() => {}
        }
        Ok(None)
    }

    /// A pipeline has ended. The others continue; when none is left, the database is done.
    fn replica_ended(
        &mut self,
        joined: Option<Result<Result<(), ReplicaError>, tokio::task::JoinError>>,
    ) -> Result<Option<End>, FollowError> {
        match joined {
            Some(Ok(Ok(()))) => {}
            Some(Ok(Err(e))) => {
                if !self.replicas.is_empty() {
                    tracing::error!(db = %self.path().display(), error = %e, "this replica has stopped; the others go on");
                }
                self.last_error = Some(e);
            }
            Some(Err(e)) => std::panic::resume_unwind(e.into_panic()),
            None => {}
        }
        if !self.replicas.is_empty() {
            return Ok(None);
        }
        match self.last_error.take() {
            Some(source) => Err(FollowError::Replica { db: self.path().to_owned(), source }),
            None => Ok(Some(End::Stopped)),
        }
    }
}

async fn nap_until(timers: &Timers, at: Option<Instant>) {
    if let Some(at) = at {
        timers.until(at).await;
    }
}
