//! The loop of one database: waits for hints, looks at the WAL, lets the guard move, and watches
//! over the pipelines of its replicas.
//!
//! # Failure and crash
//!
//! If the path names another file, or none, the loop releases all locks and stores what was
//! captured ([`End::Replaced`]); [`follow`] then waits for the database again. A replica that fails
//! does not stop the others, and the error of the last one ends the loop.
//!
//! # Cancellation
//!
//! After a stop one more look captures what was committed before it. The pipelines store that, and
//! the loop ends when all of them have.

use std::cell::Cell;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::attach::{self, Opened};
use super::error::FollowError;
use super::hold::Held;
use super::leave::Leaving;
use super::look_schedule::{GAPS, LookSchedule};
use super::notice::Notice;
use super::wait::{Waited, wait_for};
use crate::io::Engine;
use crate::io::link::target_of;
use crate::io::timer::Timers;
use crate::io::watch::{Hint, Watches};
use crate::replicate::capture::{Capture, Look};
use crate::replicate::event::Observer;
use crate::replicate::fleet::open_files::{Files, Places, Reservation};
use crate::replicate::fleet::sweep::Sweep;
use crate::replicate::handoff::Handoff;
use crate::replicate::options::DatabaseOptions;
use crate::replicate::outage::Outages;
use crate::replicate::replica::pace::Pace;
use crate::replicate::replica::{Landmarks, Replica, ReplicaError, Trouble, Vigil};
use crate::replicate::shutdown::Stop;
use crate::replicate::state::record::Local;
use crate::replicate::state::{HomeError, home_of};
use crate::replicate::verify::Turns;
use crate::replicate::vitals::{DatabasePhase, DatabaseVitals, Vitals};
use crate::replicate::{Once, history};
use crate::sqlite::database::{Database, FileId, Stamp};
use crate::wal::tail::TailError;

/// Delay between looks while all replicas are uploading: commits gather for the next upload anyway.
pub(super) const BUSY_GAP: Duration = Duration::from_millis(1);

/// Delay between looks in a turn: a checkpoint takes a millisecond at least.
const TURN_GAP: Duration = Duration::from_micros(200);

impl DatabaseOptions {
    /// Directory of the local state for `file`, to which the database's name leads: next to that
    /// file, where SQLite also keeps `-wal` and `-shm`, unless the options name another.
    #[must_use]
    pub fn home_dir(&self, file: &Path) -> PathBuf {
        self.home.clone().unwrap_or_else(|| home_of(file))
    }
}

/// What all databases of the process share.
#[derive(Clone)]
pub struct Shared {
    pub(crate) engine: Engine,
    pub(crate) observer: Observer,
    pub(crate) vitals: Arc<Vitals>,
    pub(crate) timers: Timers,
    pub(crate) watches: Watches,
    pub(crate) sweep: Sweep,
    /// Limits how many databases are opened at once.
    pub(crate) opening: Arc<Semaphore>,
    /// Which file is followed under which name.
    pub(crate) files: Files,
    /// Which store location is the replica of which database.
    pub(crate) places: Places,
    pub(crate) history: history::Common,
    pub(crate) outages: Outages,
    /// Whether it was logged that the limit of open files keeps databases from being followed.
    pub(crate) file_limit_said: Rc<Cell<bool>>,
    pub(crate) turns: Turns,
    pub(crate) leaving: Leaving,
    /// The process has only one replica: if its store refuses at the first contact, the process
    /// ends with that error.
    pub(crate) alone: bool,
    /// Set with `--once`: store what is there, and wait for nothing.
    pub(crate) once: Option<Once>,
}

/// How following a database ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// As requested, with everything stored.
    Stopped,
    /// The database was removed, and is not waited for.
    Gone,
}

/// How following one opening of a database ended.
pub(super) enum End {
    Stopped,
    /// The files were replaced or removed: wait for the database to come back.
    Replaced {
        /// Whether everything that was captured is stored.
        stored: bool,
    },
}

/// Follows a database until the stop is requested and everything is stored. Sets `followed` once
/// the database is followed.
///
/// # Errors
/// [`FollowError`], if the database cannot be followed or not everything could be stored.
pub async fn follow(
    options: &DatabaseOptions,
    shared: &Shared,
    stop: &Stop,
    followed: &Cell<bool>,
) -> Result<Ended, FollowError> {
    let path = &options.path;
    let urls: Vec<&str> = options.replicas.iter().map(|r| r.store.url()).collect();
    let mut before: Option<PathBuf> = None;
    // Whether all of the previous opening was stored; `None` before the first.
    let mut ended: Option<bool> = None;
    loop {
        let vitals_of = |file: &Path| shared.vitals.database(path, &options.home_dir(file), &urls);
        vitals_of(&target_of(path)).set_phase(DatabasePhase::Waiting);
        let (db, _file, held) = match wait_for(options, shared, stop).await? {
            Waited::Opened(db, file, held) => (db, file, held),
            Waited::Stopped => {
                return match ended {
                    Some(true) => Ok(Ended::Stopped),
                    Some(false) => Err(FollowError::LastCommits(path.clone())),
                    None => Err(FollowError::NeverCame(path.clone())),
                };
            }
            Waited::Gone => return Ok(Ended::Gone),
        };
        if let Some(before) = before.replace(db.path().to_owned()).filter(|b| b != db.path()) {
            tracing::warn!(
                db = %path.display(), from = %before.display(), to = %db.path().display(),
                "the link leads to another file than before, which is followed from now on"
            );
        } else if db.path() != path {
            tracing::info!(db = %path.display(), file = %db.path().display(), "the database is a link to this file");
        }
        if db.was_switched() {
            tracing::info!(db = %path.display(), "switched the database to WAL mode (journal_mode=WAL)");
        }
        let held = match held {
            Some(held) => held,
            None => match shared.hold_in_time(options, db.path(), stop).await {
                Err(HomeError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => continue,
                held => held?,
            },
        };
        let vitals = vitals_of(db.path());
        let end = match Follower::begin(options, shared, stop, db, held, &vitals).await {
            Ok(follower) => {
                followed.set(true);
                follower.run().await?
            }
            // The file was removed between its opening and the first watch.
            Err(FollowError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                End::Replaced { stored: ended.unwrap_or(true) }
            }
            Err(e) => return Err(e),
        };
        match end {
            End::Stopped => return Ok(Ended::Stopped),
            End::Replaced { .. } if options.leave_when_gone => {
                tracing::info!(db = %path.display(), "the database was replaced or removed");
            }
            End::Replaced { stored } => {
                ended = Some(stored);
                tracing::warn!(db = %path.display(), "the database was replaced or removed; waiting for it to come back");
            }
        }
    }
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

pub(super) fn io_error(path: &Path) -> impl Fn(io::Error) -> FollowError + use<> {
    let db = path.to_owned();
    move |source| FollowError::Io { db: db.clone(), source }
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
    // The fields from here are dropped last; `_held`, the lock, is the very last.
    _sweep: Rc<crate::replicate::fleet::sweep::Entry>,
    /// State folders of the replicas.
    pub(super) folders: Vec<PathBuf>,
    _places: Vec<Reservation>,
    _held: Held,
}

impl<'a> Follower<'a> {
    async fn begin(
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
        for replica in &options.replicas {
            places.push(shared.places.take(&*replica.store, path)?);
            let dir = held.home.replica(&replica.store.identity())?;
            locals.push(Local::open(dir, db.page_size(), id).map_err(io_error(path))?);
        }
        let folders = locals.iter().map(|l| l.dir().to_owned()).collect();
        let hint = Rc::new(Hint::default());
        // Watched before the first look, so that no commit falls between.
        let notice = Notice::hints(shared, path, &hint).map_err(io_error(path))?;
        let states: Vec<_> = locals.iter().map(|l| *l.state()).collect();
        let to_open = Arc::clone(&db);
        let opened = tokio::task::spawn_blocking(move || attach::open(&to_open, &states)).await;
        let opened = opened.map_err(io::Error::other).map_err(io_error(path))?;
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
                strict: shared.alone,
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

    async fn run(mut self) -> Result<End, FollowError> {
        let mut end = self.look_on().await;
        // Nothing can be read through this opening if pages of another size replaced the content.
        let readable = !self.capture.db().is_resized().unwrap_or(false);
        if let Ok(End::Replaced { stored }) = &mut end {
            *stored = readable && self.store_the_last().await;
        }
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
            if look.more {
                tokio::task::yield_now().await;
                continue;
            }
            if stopping && !self.handoff.is_closing() && self.capture.settles(now) {
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
                tracing::warn!(db = %self.path().display(), "another program put a WAL next to the database; opening both again");
                return Ok(self.abandon().await);
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
        self.handoff.all_busy() && !self.capture.in_turn()
    }

    /// Waits for a hint, a helper thread, the end of a replica, the stop, or `at`.
    async fn wait(
        &mut self,
        mut at: Option<Instant>,
        gaps: &mut LookSchedule,
    ) -> Result<Option<End>, FollowError> {
        let now = Instant::now();
        let pause = if self.capture.in_turn() { TURN_GAP } else { BUSY_GAP };
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
            () = self.stop.asked(), if !self.handoff.is_closing() => {}
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
