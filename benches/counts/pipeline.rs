//! The real pipeline in this process: what it allocates and asks of the store for each commit, and
//! what a restore asks.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use lsfast::base::clock::Millis;
use lsfast::base::limits;
use lsfast::config::{Env, Location, Overrides};
use lsfast::io::{Engine, IoChoice};
use lsfast::replicate::history::Timeline;
use lsfast::replicate::{
    DatabaseOptions, Event, HistoryOptions, Observer, Options, ReplicaOptions, Stopper, {self},
};
use lsfast::restore::{
    RestoreOptions, Silent, {self},
};
use lsfast::store::{
    ClientOptions, Store, {self},
};

use crate::allocator::{
    Asked, {self},
};
use crate::bounds::Measured;
use crate::server::{Requests, Server};
use crate::writer::{
    Writer, {self},
};

/// Sparse commits of a window, and windows. The least of them counts: what disturbs only ever adds.
const COMMITS: u32 = 20;
const WINDOWS: usize = 5;
/// Pages of the larger commits.
const LARGE: u32 = 200;
/// Commits while one PUT is under way.
const BURST: u32 = 100;
/// After this long nothing of a commit is still going on: the looks after a hint end after some
/// milliseconds.
const SETTLED: Duration = Duration::from_millis(40);
const IDLE: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(60);

/// The time of the history stands still, so that nothing is compacted.
#[derive(Debug)]
struct Still(Millis);

impl Timeline for Still {
    fn now(&self) -> Millis {
        self.0
    }

    fn until(&self, _then: Millis) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(std::future::pending())
    }
}

/// SQLite's count of commits that are stored, once anything is.
#[derive(Debug, Default)]
struct Stored {
    change: Mutex<Option<u32>>,
    changed: Condvar,
}

/// A running pipeline with its application.
struct Run {
    db: PathBuf,
    stored: Arc<Stored>,
    writer: Writer,
    store: Arc<dyn Store>,
    stopper: Stopper,
    thread: std::thread::JoinHandle<anyhow::Result<()>>,
}

fn store_at(url: &str) -> anyhow::Result<Arc<dyn Store>> {
    let env = Env::new([("AWS_ACCESS_KEY_ID", "AKIACOUNTS"), ("AWS_SECRET_ACCESS_KEY", "counts")]);
    let location = Location::resolve(url, &Overrides::default(), &env)?;
    Ok(store::open(&location, &ClientOptions::default())?)
}

fn replicated(
    path: PathBuf,
    replica: ReplicaOptions,
    observer: Observer,
    stop: replicate::Stop,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let options = Options {
        databases: vec![DatabaseOptions::new(path, vec![replica])],
        directories: Vec::new(),
        once: None,
        safety_tick: limits::SAFETY_TICK,
        engine: Engine::new(IoChoice::Plain)?,
        shutdown_timeout: PATIENCE,
        once_timeout: None,
        observer,
        vitals: Arc::default(),
    };
    Ok(tokio::task::LocalSet::new().block_on(&runtime, replicate::run(options, stop))?)
}

impl Run {
    /// Waits until the first image is stored.
    fn start(dir: &Path, url: &str) -> anyhow::Result<Run> {
        let db = dir.join("app.db");
        writer::create(&db)?;
        let store = store_at(url)?;
        let stored = Arc::new(Stored::default());
        let seen = Arc::clone(&stored);
        let observer: Observer = Arc::new(move |event: &Event<'_>| {
            if let Event::Durable { change, .. } = event {
                *seen.change.lock().unwrap_or_else(PoisonError::into_inner) = Some(*change);
                seen.changed.notify_all();
            }
        });
        let clock = Arc::new(Still(Millis::now()));
        let replica = ReplicaOptions {
            store: Arc::clone(&store),
            sync_interval: Duration::ZERO,
            history: HistoryOptions { clock, ..HistoryOptions::default() },
            verification: None,
        };
        let (stopper, stop) = replicate::stop();
        let path = db.clone();
        let thread = std::thread::spawn(move || {
            replicated(path, replica, observer, stop)
                .inspect_err(|e| eprintln!("the pipeline has ended: {e:#}"))
        });
        let writer = Writer::start(&db)?;
        let run = Run { db, stored, writer, store, stopper, thread };
        run.wait_for(|_| true)?;
        Ok(run)
    }

    fn wait_for(&self, done: impl Fn(u32) -> bool) -> anyhow::Result<u32> {
        let end = Instant::now() + PATIENCE;
        let mut change = self.stored.change.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(change) = change.filter(|c| done(*c)) {
                return Ok(change);
            }
            let left = end.saturating_duration_since(Instant::now());
            anyhow::ensure!(!left.is_zero() && !self.thread.is_finished(), "the commits are not stored");
            change = self.stored.changed.wait_timeout(change, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn change(&self) -> u32 {
        self.stored.change.lock().unwrap_or_else(PoisonError::into_inner).unwrap_or(0)
    }

    /// Commits, each when the one before is stored and everything about it is over.
    fn sparse(&mut self, commits: u32, rows: u32) -> anyhow::Result<()> {
        for _ in 0..commits {
            let before = self.change();
            self.writer.commit(1, rows)?;
            self.wait_for(|change| change != before)?;
            std::thread::sleep(SETTLED);
        }
        Ok(())
    }

    /// What the least of some windows asked for, per commit.
    fn allocations(&mut self, commits: u32, rows: u32) -> anyhow::Result<(f64, f64)> {
        let mut least = (f64::MAX, f64::MAX);
        for _ in 0..WINDOWS {
            let before = allocator::asked();
            self.sparse(commits, rows)?;
            let (calls, bytes) = per(before, allocator::asked(), f64::from(commits));
            least = (least.0.min(calls), least.1.min(bytes));
        }
        Ok(least)
    }

    fn stop(self) -> anyhow::Result<(PathBuf, Arc<dyn Store>)> {
        self.stopper.ask();
        self.thread.join().map_err(|_| anyhow::anyhow!("the pipeline panicked"))??;
        Ok((self.db, self.store))
    }
}

fn per(before: Asked, after: Asked, units: f64) -> (f64, f64) {
    ((after.calls - before.calls) as f64 / units, (after.bytes - before.bytes) as f64 / units)
}

/// What the pipeline to a directory allocates.
pub fn to_directory(scratch: &Path) -> anyhow::Result<Vec<Measured>> {
    allocator::ignore_this_thread();
    let dir = scratch.join("directory");
    std::fs::create_dir(&dir)?;
    let mut run = Run::start(&dir, &format!("file://{}", dir.join("replica").display()))?;
    run.sparse(COMMITS, 1)?;
    let (calls, bytes) = run.allocations(COMMITS, 1)?;
    run.stop()?;
    let row = |name, value| Measured { part: "allocations", name, value };
    Ok(vec![
        row("directory: allocations per commit of 1 page", calls),
        row("directory: bytes allocated per commit of 1 page", bytes),
    ])
}

/// What the pipeline to S3 allocates and asks for: what a restore asks for comes last.
pub fn to_s3(scratch: &Path) -> anyhow::Result<Vec<Measured>> {
    allocator::ignore_this_thread();
    let dir = scratch.join("s3");
    std::fs::create_dir(&dir)?;
    let server = Server::start()?;
    let mut run = Run::start(&dir, &server.url("db"))?;
    // It is copied to the level of images, after which nothing is left to do.
    server.wait("the copy of the first image", |r| r.copies > 0)?;
    std::thread::sleep(SETTLED);
    let first = server.requests();
    let image_bytes = server.stored_bytes("/0000/");
    anyhow::ensure!(image_bytes > 1_000_000, "the image has {image_bytes} bytes only");

    run.sparse(COMMITS, 1)?;
    let before = server.requests();
    let (calls, bytes) = run.allocations(COMMITS, 1)?;
    let sparse = server.requests().since(&before);
    run.sparse(2, LARGE)?;
    let (large_calls, large_bytes) = run.allocations(1, LARGE)?;

    let (idle_allocations, idle) = idle(&server)?;
    let burst = burst(&mut run, &server)?;
    let (db, store) = run.stop()?;
    let (restored, files) = restored(&db, store, &server)?;

    let per_page = |one: f64, large: f64| (large - one) / f64::from(LARGE - 1);
    let row = |name, value| Measured { part: "allocations", name, value };
    let mut measured = vec![
        row("S3: allocations per commit of 1 page", calls),
        row("S3: bytes allocated per commit of 1 page", bytes),
        row("S3: allocations per further page of a commit", per_page(calls, large_calls)),
        row("S3: bytes allocated per further page of a commit", per_page(bytes, large_bytes)),
        row("S3: allocations per idle second", idle_allocations),
    ];
    let commits = f64::from(COMMITS) * WINDOWS as f64;
    let row = |name, value| Measured { part: "requests", name, value };
    measured.extend([
        row("first image: requests until nothing is left to do", first.all() as f64),
        row(
            "first image: uploaded bytes, share of the stored file",
            first.put_bytes as f64 / image_bytes as f64,
        ),
        row("sparse commits of 1 page: requests per commit", sparse.all() as f64 / commits),
        row("sparse commits of 1 page: body bytes per commit", sparse.put_bytes as f64 / commits),
        row(
            "sparse commits of 1 page: head bytes per request",
            sparse.head_bytes as f64 / sparse.all() as f64,
        ),
        row("100 commits while one PUT is under way: requests with it", burst.all() as f64),
        row("idle: requests in 2 s", idle.all() as f64),
        row("restore: LISTs", restored.lists as f64),
        row("restore: GETs beyond one for each file of its plan", restored.gets as f64 - files as f64),
        row("restore: other requests", (restored.all() - restored.lists - restored.gets) as f64),
    ]);
    Ok(measured)
}

fn idle(server: &Server) -> anyhow::Result<(f64, Requests)> {
    let (before, asked) = (server.requests(), allocator::asked());
    std::thread::sleep(IDLE);
    let (calls, _) = per(asked, allocator::asked(), IDLE.as_secs_f64());
    Ok((calls, server.requests().since(&before)))
}

/// One PUT is held until everything is committed and captured. The least of three: capture may be
/// late on a busy machine.
fn burst(run: &mut Run, server: &Server) -> anyhow::Result<Requests> {
    let mut least: Option<Requests> = None;
    for _ in 0..3 {
        let (before, change) = (server.requests(), run.change());
        server.hold(true);
        run.writer.commit(1, 1)?;
        server.wait("the PUT that is held", |r| r.puts > before.puts)?;
        run.writer.commit(BURST, 1)?;
        std::thread::sleep(10 * SETTLED);
        server.hold(false);
        run.wait_for(|now| now.wrapping_sub(change) > BURST)?;
        let asked = server.requests().since(&before);
        least = least.filter(|l| l.all() <= asked.all()).or(Some(asked));
        std::thread::sleep(SETTLED);
    }
    least.context("three rounds")
}

/// The requests of a restore, and the files that it read.
fn restored(db: &Path, store: Arc<dyn Store>, server: &Server) -> anyhow::Result<(Requests, usize)> {
    let before = server.requests();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let engine = Engine::new(IoChoice::Plain)?;
    let options = RestoreOptions::new(db.with_extension("restored"));
    let report =
        tokio::task::LocalSet::new().block_on(&runtime, restore::run(store, &engine, options, &Silent))?;
    Ok((server.requests().since(&before), report.files))
}
