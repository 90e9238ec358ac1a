//! One history: the application works, lsfast runs, is killed and starts again, and everything
//! around them fails.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use fastrand::Rng;
use lsfast::base::Level;
use lsfast::io::{Engine, IoChoice};
use lsfast::replicate::{
    self, Control, DatabaseOptions, Event, HistoryOptions, Observer, Options, ReplicaOptions,
};
use tokio::task::JoinHandle;

use super::app::{Answer, App, State, ask_alone};
use super::bucket::Bucket;
use super::clock;
use super::place::{Copy, Files, Place};
use super::plan::Plan;

/// How long, by the clock of the simulation, lsfast may take to store what is committed when
/// nothing fails any more.
const PATIENCE: Duration = Duration::from_secs(4 * 3600);

/// What a pipeline ends with.
type Ended = Result<(), String>;

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
    /// Against a store that answers what is read, and refuses what is written.
    Refused,
}

/// A history under way.
pub struct World {
    pub plan: Plan,
    pub rng: Rng,
    pub dir: PathBuf,
    pub db: PathBuf,
    pub place: Place,
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
    /// A stored file was changed.
    pub spoiled: bool,
    reader: bool,
    /// Files of the database and its state at an earlier moment.
    pub earlier: Option<(Files, Files)>,
    pub earlier_replica: Option<Copy>,
    pub counts: Counts,
    pub story: Vec<String>,
}

impl World {
    pub fn new(seed: u64, dir: PathBuf, app: App) -> World {
        let mut rng = Rng::with_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5eed);
        let plan = Plan::new(&mut rng);
        let place = match plan.directory {
            true => Place::Directory(dir.join("replica")),
            false => Place::Bucket(Bucket::new(rng.u64(..), plan.manners)),
        };
        World {
            plan,
            rng,
            db: dir.join("app.db"),
            dir,
            place,
            app: Some(app),
            present: State::default(),
            existed: HashSet::new(),
            stored: None,
            durable: Arc::default(),
            harmed: false,
            spoiled: false,
            reader: false,
            earlier: None,
            earlier_replica: None,
            counts: Counts::default(),
            story: Vec::new(),
        }
    }

    /// Gives the application back, for the next history.
    pub fn into_app(self) -> Option<App> {
        self.app
    }

    pub fn run(&mut self) -> Result<(), String> {
        let begun = tokio::time::Instant::now();
        self.open()?;
        for life in 1..=self.plan.lives {
            let is_last = life == self.plan.lives;
            self.meanwhile(life == 1)?;
            self.live(if is_last { Life::Last } else { Life::Random })?;
            self.check(is_last)?;
        }
        self.alone("close")?;
        self.counts.seconds = begun.elapsed().as_secs();
        if let Place::Bucket(bucket) = &self.place {
            self.counts.requests = bucket.requests();
        }
        Ok(())
    }

    pub fn tell(&mut self, line: impl Into<String>) {
        self.story.push(line.into());
    }

    pub fn home(&self) -> PathBuf {
        self.db.with_file_name(".app.db-lsfast")
    }

    /// What the replica had is no longer promised.
    pub fn forget_stored(&mut self) {
        self.stored = None;
        self.durable.store(0, Relaxed);
    }

    fn note(&mut self, what: &str, answer: Result<Answer, String>) -> Result<(), String> {
        // One statement of an application with one connection: whatever fails or waits is lsfast's.
        let answer = answer.map_err(|e| format!("the application, on \"{what}\": {e}"))?;
        if let Some(last) = answer.states.last() {
            self.counts.commits += answer.states.len() as u64 - 1;
            self.present = *last;
        }
        self.existed.extend(answer.states);
        // I6: the WAL starts over about each thousand frames, unless a reader forbids it.
        let bound = (u64::from(self.plan.page_size) + 24) * 6_000;
        if answer.wal > bound && !self.reader {
            return Err(format!("the WAL has {} bytes after \"{what}\", more than {bound}", answer.wal));
        }
        if answer.slowest > Duration::from_secs(5) {
            return Err(format!("a commit took {:?}", answer.slowest));
        }
        Ok(())
    }

    /// Lets the application do something while nothing else runs.
    pub fn alone(&mut self, line: &str) -> Result<(), String> {
        self.tell(format!("app: {line}"));
        let app = self.app.get_or_insert_with(App::start);
        let answer = ask_alone(app, line);
        self.note(line, answer)
    }

    pub fn open(&mut self) -> Result<(), String> {
        let Plan { page_size, autocheckpoint, synchronous, .. } = self.plan;
        self.reader = false;
        self.alone(&format!("open {} {page_size} {autocheckpoint} {synchronous}", self.db.display()))
    }

    /// Lets the application do something, while lsfast runs or not.
    pub async fn work(&mut self, line: &str) -> Result<(), String> {
        if !self.plan.concurrent {
            return self.alone(line);
        }
        self.tell(format!("app, beside: {line}"));
        let app = self.app.get_or_insert_with(App::start);
        let failed = |e: std::io::Error| format!("{line}: {e}");
        let stream = app.stream.try_clone().and_then(tokio::net::UnixStream::from_std).map_err(failed)?;
        let (text, mut answer) = (format!("{line}\n"), Vec::new());
        clock::outside(true);
        let mut sent = 0;
        while sent < text.len() {
            stream.writable().await.map_err(failed)?;
            sent += stream.try_write(&text.as_bytes()[sent..]).unwrap_or(0);
        }
        while answer.last() != Some(&b'\n') {
            stream.readable().await.map_err(failed)?;
            match stream.try_read_buf(&mut answer) {
                Ok(0) => return Err(format!("{line}: the application has ended")),
                Err(e) if e.kind() != std::io::ErrorKind::WouldBlock => return Err(failed(e)),
                _ => {}
            }
        }
        clock::outside(false);
        self.note(line, Answer::read(&String::from_utf8_lossy(&answer)))
    }

    pub fn statement(&mut self) -> String {
        let seed = self.rng.u32(..);
        match self.rng.u8(..100) {
            0..80 => format!("txn {seed}"),
            80..85 => format!("burst {seed} {}", self.rng.u8(2..60)),
            85..88 => "vacuum".to_owned(),
            88..95 => {
                let mode = ["PASSIVE", "FULL", "RESTART", "TRUNCATE"][self.rng.usize(..4)];
                format!("checkpoint {mode}")
            }
            _ => {
                // With autocheckpoints off, or an old snapshot, VACUUM and others still work.
                self.reader = self.rng.bool();
                format!("reader {}", u8::from(self.reader))
            }
        }
    }

    fn options(&self, stored: Observer) -> Options {
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
        let replica =
            ReplicaOptions { store: self.place.store(), sync_interval, history, verification: None };
        Options {
            databases: vec![DatabaseOptions::new(&self.db, vec![replica])],
            directories: Vec::new(),
            once: None,
            safety_tick: self.plan.safety_tick,
            engine: Engine::new(IoChoice::Plain).expect("an engine"),
            shutdown_timeout: Duration::from_secs(600),
            once_timeout: None,
            observer: stored,
            vitals: Arc::default(),
        }
    }

    /// Starts lsfast, and ends it by a kill or as asked.
    pub fn live(&mut self, life: Life) -> Result<(), String> {
        self.counts.lives += 1;
        let is_last = life == Life::Last;
        if is_last {
            self.heal();
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| format!("a runtime: {e}"))?;
        let local = tokio::task::LocalSet::new();
        let (stopper, stop) = replicate::stop();
        let (control, requests) = replicate::control();
        let durable = Arc::clone(&self.durable);
        let observer: Observer = Arc::new(move |event| {
            if let Event::Durable { txid, .. } = event {
                durable.fetch_max(txid.0, Relaxed);
            }
        });
        let options = self.options(observer);
        self.tell("lsfast starts");
        let ended: Rc<RefCell<Option<Ended>>> = Rc::default();
        let result = local.block_on(&runtime, async {
            let noted = Rc::clone(&ended);
            let pipeline = tokio::task::spawn_local(async move {
                let result = replicate::run_with(options, Some(requests), stop).await;
                *noted.borrow_mut() = Some(result.map_err(|e| e.to_string()));
            });
            match life {
                Life::Last => self.come_to_an_end(&control, &pipeline).await?,
                Life::Refused => self.refused(&control).await?,
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
        clock::outside(false);
        clock::drain(true);
        drop(local);
        drop(runtime);
        clock::drain(false);
        self.tell(format!("lsfast has ended ({:?})", ended.borrow()));
        result?;
        match ended.take() {
            Some(Err(e)) if is_last => Err(format!("lsfast ended although nothing fails: {e}")),
            _ => Ok(()),
        }
    }

    /// Nothing fails any more.
    fn heal(&mut self) {
        self.tell("all faults end");
        if let Place::Bucket(bucket) = &self.place {
            bucket.change_manners(|m| (m.faults, m.is_down, m.refuses) = (0, false, None));
        }
    }

    /// Steps of one life. Returns whether it ends as asked; otherwise it is killed.
    async fn drive(&mut self, control: &Control, pipeline: &JoinHandle<()>) -> Result<bool, String> {
        for _ in 0..self.plan.steps {
            if pipeline.is_finished() {
                return Ok(true);
            }
            self.step(control).await?;
        }
        match self.rng.u8(..10) {
            0..3 => Ok(true),
            3..5 => {
                self.synced(control, Duration::from_secs(300)).await?;
                self.killed(pipeline).await
            }
            _ => self.killed(pipeline).await,
        }
    }

    /// lsfast goes on for a random number of turns of its loop, and is dropped wherever it waits.
    async fn killed(&mut self, pipeline: &JoinHandle<()>) -> Result<bool, String> {
        if self.rng.bool() {
            let statement = self.statement();
            self.work(&statement).await?;
        }
        if let Place::Bucket(bucket) = &self.place
            && self.rng.bool()
        {
            // In the middle of a request, whose answer never comes.
            let (bucket, writes, carried_out) = (bucket.clone(), self.rng.u8(1..4), self.rng.bool());
            let statements: Vec<String> = (0..writes).map(|_| format!("txn {}", self.rng.u32(..))).collect();
            let trapped = bucket.trapped(writes, carried_out);
            tokio::pin!(trapped);
            for statement in statements {
                self.work(&statement).await?;
                if tokio::time::timeout(Duration::from_secs(2), &mut trapped).await.is_ok() {
                    break;
                }
            }
            self.counts.kills += u64::from(!pipeline.is_finished());
            self.tell(format!("lsfast is killed in write {writes} (carried out: {carried_out})"));
            return Ok(false);
        }
        let most = if self.rng.bool() { 12 } else { 400 };
        let turns = self.rng.u16(..most);
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
        self.counts.kills += u64::from(!pipeline.is_finished());
        self.tell(format!("lsfast is killed after {turns} turns"));
        Ok(false)
    }

    async fn step(&mut self, control: &Control) -> Result<(), String> {
        match self.rng.u8(..100) {
            0..52 => {
                let statement = self.statement();
                self.work(&statement).await
            }
            52..70 => self.sleep(1..100).await,
            70..80 => self.sleep(100..5_000).await,
            80..86 => self.sleep(5_000..3_600_000).await,
            86..92 => {
                self.change_manners();
                Ok(())
            }
            92..94 if self.rng.bool() => {
                self.counts.accidents += 1;
                self.change_replica();
                Ok(())
            }
            _ => self.synced(control, Duration::from_secs(30)).await,
        }
    }

    async fn sleep(&mut self, ms: std::ops::Range<u64>) -> Result<(), String> {
        let time = Duration::from_millis(self.rng.u64(ms));
        self.tell(format!("{time:?} pass"));
        tokio::time::sleep(time).await;
        Ok(())
    }

    fn change_manners(&mut self) {
        let Place::Bucket(bucket) = &self.place else { return };
        let (n, down, status) =
            (self.rng.u8(..4), self.rng.bool(), [403, 429, 500, 503][self.rng.usize(..4)]);
        bucket.change_manners(|m| match n {
            0 => m.is_down = down,
            1 => m.refuses = Some(status),
            2 => m.faults = 40,
            _ => (m.is_down, m.refuses, m.faults) = (false, None, 5),
        });
        self.tell(format!("the store changes: {n} {down} {status}"));
    }

    /// What is committed now is stored, or not within this time.
    pub async fn synced(&mut self, control: &Control, limit: Duration) -> Result<(), String> {
        let commits = self.present.commits;
        match tokio::time::timeout(limit, control.sync(self.db.clone(), true)).await {
            Ok(Ok(synced)) => {
                self.stored = Some(commits);
                self.tell(format!("all is stored: {commits} commits, {synced:?}"));
            }
            Ok(Err(e)) => self.tell(format!("not stored: {e}")),
            Err(_) => self.tell("not stored in time"),
        }
        Ok(())
    }

    /// With nothing that fails, all that is committed is stored.
    async fn come_to_an_end(&mut self, control: &Control, pipeline: &JoinHandle<()>) -> Result<(), String> {
        let is_first = Cell::new(true);
        for _ in 0..2 {
            if !is_first.replace(false) {
                let statement = self.statement();
                self.work(&statement).await?;
            }
            let commits = self.present.commits;
            match tokio::time::timeout(PATIENCE, control.sync(self.db.clone(), true)).await {
                Ok(Ok(_)) => self.stored = Some(commits),
                Ok(Err(e)) if pipeline.is_finished() => return Err(format!("lsfast has ended: {e}")),
                Ok(Err(e)) => return Err(format!("nothing fails, and yet: {e}")),
                Err(_) => {
                    return Err(format!("nothing fails, and yet nothing is stored within {PATIENCE:?}"));
                }
            }
        }
        if self.plan.short {
            self.sleep(1_000..900_000).await?;
        }
        Ok(())
    }
}
