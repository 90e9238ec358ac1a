//! The whole pipeline without a network: capture, batch, encode and a directory in memory; and the
//! hash of a page.
//!
//! `cargo bench --bench pipeline`. "alone" is the time that the writer takes for its commits on a
//! database that nobody replicates, "stored" the time until the store has answered for the last of
//! them; both with their number of rows, so that the differences say what a commit and what a row
//! cost. Only ratios of one run mean something.
//!
//! The writer is a process of its own (this program once more), as the locks of SQLite belong to
//! processes.
#![allow(clippy::disallowed_methods, missing_docs, reason = "a bench opens whatever it likes")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group};
use lsfast::base::{Pgno, limits};
use lsfast::io::{Engine, IoChoice};
use lsfast::replicate::state::page_hashes::hash_page;
use lsfast::replicate::{
    DatabaseOptions, Event, HistoryOptions, Options, ReplicaOptions, Stopper, {self},
};
use lsfast::store::FileStore;

/// Says that this process is the writer, and for which database.
const WRITER: &str = "LSFAST_BENCH_WRITER";

/// Answers that do not come in this time never will.
const PATIENCE: Duration = Duration::from_secs(60);

/// A line `COMMITS ROWS` makes so many commits of so many rows each, and is answered by a line.
fn write(database: &Path) {
    let mut db = rusqlite::Connection::open(database).expect("open");
    db.pragma_update(None, "synchronous", "normal").expect("pragma");
    for line in std::io::stdin().lines() {
        let line = line.expect("a line");
        let (commits, rows) = line.split_once(' ').expect("two numbers");
        let (commits, rows): (u32, u32) = (commits.parse().expect("commits"), rows.parse().expect("rows"));
        for _ in 0..commits {
            let tx = db.transaction().expect("begin");
            for _ in 0..rows {
                let mut insert = tx.prepare_cached("insert into t(x) values(?1)").expect("prepare");
                insert.execute(["y".repeat(200)]).expect("insert");
            }
            tx.commit().expect("commit");
        }
        println!();
    }
}

/// The process that writes.
struct Writer {
    process: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Writer {
    fn start(database: &Path) -> Writer {
        let db = rusqlite::Connection::open(database).expect("open");
        db.execute_batch("pragma journal_mode=wal; create table t(id integer primary key, x)")
            .expect("schema");
        drop(db);
        let mut command = Command::new("/proc/self/exe");
        let piped = command.env(WRITER, database).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = piped.spawn().expect("a writer");
        let orders = process.stdin.take();
        let answers = BufReader::new(process.stdout.take().expect("its output"));
        Writer { process, orders, answers }
    }

    fn write(&mut self, commits: u32, rows: u32) {
        writeln!(self.orders.as_ref().expect("its input"), "{commits} {rows}").expect("an order");
        let mut answer = String::new();
        assert_eq!(self.answers.read_line(&mut answer).expect("an answer"), 1, "the writer has ended");
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.orders.take());
        _ = self.process.wait();
    }
}

/// lsfast on a thread of its own, which tells up to which commit all is stored.
struct Pipeline {
    stopper: Stopper,
    thread: Option<JoinHandle<()>>,
    durable: Receiver<u32>,
}

impl Pipeline {
    fn start(database: &Path, replica: &Path) -> Pipeline {
        let (stopper, stop) = replicate::stop();
        let (tell, durable) = channel();
        let replica = ReplicaOptions {
            store: Arc::new(FileStore::new(replica)),
            sync_interval: Duration::ZERO,
            history: HistoryOptions::off(),
            verification: None,
        };
        let databases = vec![DatabaseOptions::new(database, vec![replica])];
        let thread = std::thread::spawn(move || {
            let options = Options {
                databases,
                directories: Vec::new(),
                once: None,
                safety_tick: limits::SAFETY_TICK,
                engine: Engine::new(IoChoice::Auto).expect("an engine"),
                shutdown_timeout: PATIENCE,
                once_timeout: None,
                observer: Arc::new(move |event: &Event<'_>| {
                    if let Event::Durable { change, .. } = event {
                        // Nobody listens any more at the end.
                        _ = tell.send(*change);
                    }
                }),
                vitals: Arc::default(),
            };
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime.expect("a runtime"), replicate::run(options, stop)).expect("replication");
        });
        Pipeline { stopper, thread: Some(thread), durable }
    }

    /// Waits until all up to a commit is stored.
    fn wait(&self, change: u32) {
        while self.durable.recv_timeout(PATIENCE).expect("an answer of the store") != change {}
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        self.stopper.ask();
        if let Some(thread) = self.thread.take() {
            _ = thread.join();
        }
    }
}

/// In memory where there is such a place.
fn folder() -> PathBuf {
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory.to_path_buf() } else { std::env::temp_dir() };
    let folder = parent.join(format!("lsfast-bench-pipeline-{}", std::process::id()));
    std::fs::create_dir(&folder).expect("a folder");
    folder
}

fn commits(c: &mut Criterion) {
    let folder = folder();
    {
        let mut alone = Writer::start(&folder.join("alone.db"));
        let database = folder.join("app.db");
        let mut writer = Writer::start(&database);
        let pipeline = Pipeline::start(&database, &folder.join("replica"));
        let mut change = pipeline.durable.recv_timeout(PATIENCE).expect("the first image");
        let mut group = c.benchmark_group("pipeline");
        for (commits, rows) in [(1, 1), (1, 100), (100, 1), (10, 100)] {
            let name = format!("{commits} commits of {rows} rows");
            group.throughput(Throughput::Elements(u64::from(commits * rows)));
            group.bench_function(BenchmarkId::new("alone", &name), |b| b.iter(|| alone.write(commits, rows)));
            group.bench_function(BenchmarkId::new("stored", &name), |b| {
                b.iter_custom(|rounds| {
                    let begun = Instant::now();
                    for _ in 0..rounds {
                        writer.write(commits, rows);
                        change = change.wrapping_add(commits);
                        pipeline.wait(change);
                    }
                    begun.elapsed()
                });
            });
        }
        group.finish();
    }
    std::fs::remove_dir_all(folder).expect("the folder");
}

fn page_hash(c: &mut Criterion) {
    let mut group = c.benchmark_group("page hash");
    for size in [512, 4096, 65536] {
        let mut page = vec![0; size];
        fastrand::Rng::with_seed(1).fill(&mut page);
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::from_parameter(size), |b| {
            b.iter(|| hash_page(7, Pgno::FIRST, &page));
        });
    }
    group.finish();
}

criterion_group!(benches, page_hash, commits);

fn main() {
    if let Some(database) = std::env::var_os(WRITER) {
        return write(Path::new(&database));
    }
    benches();
    Criterion::default().configure_from_args().final_summary();
}
