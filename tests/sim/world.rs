//! One history: the application works, lsfast runs, is killed and starts again, and everything
//! around them fails.

use std::cell::RefCell;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use fastrand::Rng;
use lsfast::base::Level;
use lsfast::io::{Engine, IoChoice};
use lsfast::replicate::history::SystemTimeline;
use lsfast::replicate::{
    self, DatabaseOptions, Event, HistoryOptions, Observer, Once, Options, ReplicaOptions, Verification,
    Vitals,
};

use super::app::{Answer, App, Pause, State, ask_alone};
use super::bucket::Bucket;
use super::claims::Frozen;
use super::disk;
use super::manners::Manners;
use super::place::{Copy, Files, Place};
use super::plan::Plan;
use super::rival::Rival;
use super::{tells, threads};

/// How long, by the clock of the simulation, lsfast may take to store what is committed when
/// nothing fails any more.
pub const PATIENCE: Duration = Duration::from_secs(4 * 3600);

/// What a pipeline ends with.
type Ended = Result<(), String>;

/// The threads that read and write files, for all histories of this process.
pub fn engine() -> Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| Engine::new(IoChoice::Plain).expect("an engine")).clone()
}

/// What was counted in a history.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    pub lives: u64,
    pub kills: u64,
    pub commits: u64,
    pub accidents: u64,
    pub requests: u64,
    pub restores: u64,
    pub lines: u64,
    /// Seconds of the simulation.
    pub seconds: u64,
}

/// One run of lsfast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// With whatever the seed decides.
    Random,
    /// Nothing fails any more.
    Last,
    /// Stores what is there, and ends.
    Once,
    /// Against a store that answers what is read, and refuses what is written.
    Refused,
    /// With more changes than memory.
    Large,
}

/// How far lsfast is with a replica that was exchanged under it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missed {
    /// It may still upload without a look.
    Now,
    /// It has not uploaded for a while, with this many commits. It looks before it uploads more.
    Paused(u64),
}

/// A history under way.
pub struct World {
    pub plan: Plan,
    pub rng: Rng,
    pub dir: PathBuf,
    pub db: PathBuf,
    pub place: Place,
    /// Where the second replica is.
    pub second: Option<Place>,
    pub app: Option<App>,
    /// The database as the application sees it.
    pub present: State,
    /// All states that existed.
    pub existed: HashSet<State>,
    /// Commits that are known to be stored, unless something was done to the replica since.
    pub stored: Option<u64>,
    /// The last TXID that the store has answered for, since then.
    pub durable: Arc<AtomicU64>,
    /// Files were removed from the replica, so that what is left may be unreadable until lsfast
    /// has noticed.
    pub harmed: bool,
    /// The last run of lsfast in which that happened, or before which.
    pub harmed_in: Option<u64>,
    /// The replica was emptied or set back while lsfast ran, which it has to notice after a pause.
    pub missed: Option<Missed>,
    /// The store has failed in this run of lsfast.
    pub failed: bool,
    /// The same, at any time before.
    pub failed_once: bool,
    /// lsfast has opened the database in this run.
    pub follows: bool,
    /// Another database has taken its place in this run.
    pub exchanged: bool,
    /// A stored file was changed.
    pub spoiled: bool,
    /// The wall clock was set.
    pub clock_moved: bool,
    pub reader: bool,
    /// The WAL may have frames that SQLite would not find after a kill of the application.
    pub unproven: bool,
    /// Commits before the last run of lsfast.
    pub before_last: u64,
    /// The application has closed the database before lsfast was asked to stop.
    pub closed: bool,
    /// What was claimed at some moment, and the replica at that moment.
    pub frozen: Vec<Frozen>,
    pub vitals: Arc<Vitals>,
    /// The other host.
    pub rival: Option<Rival>,
    /// Files of the database and its state at an earlier moment.
    pub earlier: Option<(Files, Files)>,
    pub earlier_replica: Option<Copy>,
    pub counts: Counts,
    pub story: Vec<String>,
}

impl World {
    pub fn new(seed: u64, dir: PathBuf) -> World {
        let mut rng = Rng::with_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5eed);
        let plan = Plan::new(&mut rng);
        if plan.power {
            disk::start(&disk::notes_of(&dir));
        }
        let second = plan.second.then(|| {
            let faults = [0, 3, 10][rng.usize(..3)];
            let manners = Manners { page: 1000, faults, ..Manners::default() };
            Place::Bucket(Bucket::new("second", rng.u64(..), manners))
        });
        let place = match plan.directory {
            true => Place::Directory(dir.join("replica")),
            false => Place::Bucket(Bucket::new("bucket", rng.u64(..), plan.manners)),
        };
        World {
            plan,
            rng,
            db: dir.join("app.db"),
            dir,
            place,
            second,
            app: None,
            present: State::default(),
            existed: HashSet::new(),
            stored: None,
            durable: Arc::default(),
            harmed: false,
            harmed_in: None,
            missed: None,
            failed: false,
            failed_once: false,
            follows: false,
            exchanged: false,
            spoiled: false,
            clock_moved: false,
            reader: false,
            unproven: false,
            before_last: u64::MAX,
            closed: false,
            frozen: Vec::new(),
            vitals: Arc::default(),
            rival: None,
            earlier: None,
            earlier_replica: None,
            counts: Counts::default(),
            story: Vec::new(),
        }
    }

    pub fn run(&mut self) -> Result<(), String> {
        let begun = tokio::time::Instant::now();
        threads::interrupt(self.plan.interrupts);
        self.open()?;
        for life in 1..=self.plan.lives {
            let is_last = life == self.plan.lives;
            self.meanwhile(life == 1)?;
            let once = !is_last && self.rng.u8(..8) == 0;
            self.live(match is_last {
                true => Life::Last,
                false if once => Life::Once,
                false => Life::Random,
            })?;
            self.check_standby(is_last)?;
            self.check(is_last)?;
        }
        self.alone("close")?;
        self.counts.seconds = begun.elapsed().as_secs();
        self.counts.requests = self.place.requests();
        Ok(())
    }

    pub fn tell(&mut self, line: impl Into<String>) {
        let line = line.into();
        if tells() {
            eprintln!("  {line}");
        }
        self.story.push(line);
    }

    pub fn home(&self) -> PathBuf {
        self.db.with_file_name(".app.db-lsfast")
    }

    /// What the replica had is no longer promised.
    pub fn forget_stored(&mut self) {
        self.stored = None;
        self.durable.store(0, Relaxed);
    }

    pub fn note(&mut self, what: &str, answer: Result<Answer, String>) -> Result<(), String> {
        // One statement of an application with one connection: whatever fails or waits is lsfast's.
        let answer = answer.map_err(|e| format!("the application, on \"{what}\": {e}"))?;
        if let Some(last) = answer.states.last() {
            self.counts.commits += (answer.states.len() as u64).saturating_sub(1);
            self.present = *last;
        }
        self.existed.extend(answer.states);
        // I6: the WAL starts over about each thousand frames, unless a reader forbids it.
        let bound = (u64::from(self.plan.page_size) + 24) * 6_000;
        if answer.wal > bound && !self.reader {
            return Err(format!("the WAL has {} bytes after \"{what}\", more than {bound}", answer.wal));
        }
        if answer.slept > Duration::from_secs(5) {
            return Err(format!("the application waited {:?} in \"{what}\"", answer.slept));
        }
        Ok(())
    }

    /// Lets the application do something while nothing else runs.
    pub fn alone(&mut self, line: &str) -> Result<(), String> {
        self.tell(format!("app: {line}"));
        threads::come_to_rest();
        let app = self.app.get_or_insert_with(App::start);
        let answer = ask_alone(app, line);
        self.note(line, answer)
    }

    pub fn open(&mut self) -> Result<(), String> {
        self.reader = false;
        self.alone(&self.opening(&self.db))
    }

    /// The application opens the database that it had open before, and finds a state of it.
    pub fn reopen(&mut self, after: &str) -> Result<(), String> {
        self.reader = false;
        let line = self.opening(&self.db);
        self.tell(format!("app: {line}"));
        let app = self.app.get_or_insert_with(App::start);
        let answer = ask_alone(app, &line);
        if let Ok(answer) = &answer
            && let Some(state) = answer.states.last().filter(|s| s.commits > 0 && !self.existed.contains(s))
        {
            return Err(format!("after {after} the database has a state that never existed: {state:?}"));
        }
        self.note(&line, answer)
    }

    /// The application is killed, and another one finds all that was committed.
    pub fn kill_app(&mut self) -> Result<(), String> {
        self.tell("the application is killed");
        let before = self.present.commits;
        self.app.take().into_iter().for_each(App::kill);
        self.reopen("a kill of the application")?;
        match self.present.commits {
            n if n < before => {
                Err(format!("{before} commits before a kill of the application, {n} after it"))
            }
            _ => Ok(()),
        }
    }

    /// What an application does first.
    pub fn opening(&self, db: &Path) -> String {
        let Plan { page_size, autocheckpoint, synchronous, harms, .. } = self.plan;
        // No statement waits, unless damage is repaired meanwhile.
        let busy_ms = if harms { 5000 } else { 0 };
        format!("open {} {page_size} {autocheckpoint} {synchronous} {busy_ms}", db.display())
    }

    /// Lets the application do something, while lsfast runs or not.
    pub async fn work(&mut self, line: &str) -> Result<(), String> {
        if self.plan.concurrent { self.work_meanwhile(line).await } else { self.alone(line) }
    }

    /// Lets the application do something while lsfast runs.
    pub async fn work_meanwhile(&mut self, line: &str) -> Result<(), String> {
        self.tell(format!("app, meanwhile: {line}"));
        let mut app = self.app.take().unwrap_or_else(App::start);
        let (seed, chance) = (self.rng.u32(..), [3, 30, 300][self.rng.usize(..3)]);
        app.tell(&format!("@{seed},{chance} {line}"))?;
        let mut slept = Duration::ZERO;
        let answer = loop {
            match app.hear(slept) {
                Ok(Ok(answer)) => break Ok(answer),
                Err(e) => break Err(e),
                Ok(Err(Pause::Sleep(time))) => {
                    slept += time;
                    tokio::time::sleep(time).await;
                }
                Ok(Err(Pause::Point)) => self.let_lsfast_run().await,
            }
            app.tell("go")?;
        };
        self.app = Some(app);
        self.note(line, answer)
    }

    /// The application pauses, and lsfast goes on: some turns of its loop, or for a while.
    async fn let_lsfast_run(&mut self) {
        match self.rng.u8(..8) {
            0..5 => {
                for _ in 0..self.rng.u8(1..12) {
                    tokio::task::yield_now().await;
                }
            }
            5 | 6 => tokio::time::sleep(Duration::from_millis(self.rng.u64(1..50))).await,
            _ => tokio::time::sleep(Duration::from_millis(self.rng.u64(100..3000))).await,
        }
    }

    pub fn options(&self, db: &Path, observer: Observer, vitals: Arc<Vitals>, once: bool) -> Options {
        let mut history = HistoryOptions::default();
        if self.plan.short {
            let levels = [(1, 5), (2, 30)];
            let level = |n| Level::new(n).expect("a level");
            history.levels = levels.map(|(n, s)| (level(n), Duration::from_secs(s))).to_vec();
            history.snapshot_interval = Some(Duration::from_secs(180));
            history.snapshot_retention = Duration::from_secs(600);
            history.l0_retention = Some(Duration::from_secs(300));
        }
        let sync_interval = self.plan.sync_interval;
        let verification = self.plan.verifies.then(|| Verification {
            interval: Duration::from_secs(600),
            bytes_per_second: 1 << 30,
            clock: Arc::new(SystemTimeline),
        });
        let mut replicas = Vec::new();
        let of_both = self.second.iter().filter(|_| db == self.db);
        for place in std::iter::once(&self.place).chain(of_both) {
            replicas.push(ReplicaOptions {
                store: place.store(),
                sync_interval,
                history: history.clone(),
                verification: verification.clone(),
            });
        }
        Options {
            databases: vec![DatabaseOptions::new(db, replicas)],
            directories: Vec::new(),
            once: once.then_some(Once { snapshot: self.plan.short, retention: self.plan.short }),
            safety_tick: self.plan.safety_tick,
            engine: engine(),
            shutdown_timeout: Duration::from_secs(60),
            once_timeout: once.then_some(Duration::from_secs(900)),
            observer,
            vitals,
        }
    }

    /// Starts lsfast, and ends it by a kill or as asked.
    pub fn live(&mut self, life: Life) -> Result<(), String> {
        self.counts.lives += 1;
        (self.missed, self.failed) = (None, false);
        (self.follows, self.exchanged) = (false, false);
        let is_last = life == Life::Last;
        if is_last {
            self.heal();
        } else if let Place::Bucket(bucket) = &self.place
            && self.plan.manners.faults > 0
            && self.rng.u8(..4) == 0
        {
            bucket.swallow();
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            // A thread costs more than all that it does in a history.
            .thread_keep_alive(PATIENCE)
            .build()
            .map_err(|e| format!("a runtime: {e}"))?;
        let local = tokio::task::LocalSet::new();
        let (stopper, stop) = replicate::stop();
        let (control, requests) = replicate::control();
        let durable = Arc::clone(&self.durable);
        let observer: Observer = Arc::new(move |event| {
            if let Event::Durable { replica: 0, txid, .. } = event {
                durable.fetch_max(txid.0, Relaxed);
            }
        });
        self.vitals = Arc::default();
        let vitals = Arc::clone(&self.vitals);
        let options = self.options(&self.db, observer, vitals, life == Life::Once);
        self.tell("lsfast starts");
        let ended: Rc<RefCell<Option<Ended>>> = Rc::default();
        let result = local.block_on(&runtime, async {
            let noted = Rc::clone(&ended);
            let pipeline = tokio::task::spawn_local(async move {
                let result = replicate::run_with(options, Some(requests), stop).await;
                *noted.borrow_mut() = Some(result.map_err(|e| e.to_string()));
            });
            self.start_standby();
            match life {
                Life::Last => self.come_to_an_end(&control, &pipeline).await?,
                Life::Refused => self.refused(&control).await?,
                Life::Large => self.large(&control).await?,
                Life::Once => {
                    let ended = tokio::time::timeout(PATIENCE, pipeline).await;
                    return ended.map(drop).map_err(|_| "--once does not end".to_owned());
                }
                Life::Random if self.drive(&control, &pipeline).await? => {}
                Life::Random => return Ok(()),
            }
            self.tell("lsfast is asked to stop");
            stopper.ask();
            tokio::time::timeout(PATIENCE, pipeline)
                .await
                .map_err(|_| "lsfast does not stop".to_owned())?
                .map_err(|e| format!("lsfast panicked: {e}"))
        });
        threads::drain(true);
        drop(local);
        drop(runtime);
        threads::drain(false);
        self.rival.iter_mut().for_each(|r| r.stopper = None);
        self.tell(format!("lsfast has ended ({:?})", ended.borrow()));
        result?;
        let ended = ended.take();
        self.ended(life, ended.as_ref())?;
        match ended {
            Some(Err(e)) if is_last => Err(format!("lsfast ended although nothing fails: {e}")),
            _ => Ok(()),
        }
    }

    /// Nothing fails any more.
    fn heal(&mut self) {
        self.tell("all faults end");
        self.before_last = self.present.commits;
        for place in std::iter::once(&self.place).chain(&self.second) {
            if let Place::Bucket(bucket) = place {
                bucket.change_manners(|m| (m.faults, m.is_down, m.refuses) = (0, false, None));
            }
        }
    }
}
