//! The history of a live database, by a clock that runs ahead of the real one.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lsfast::base::clock::Millis;
use lsfast::base::{Level, Txid};
use lsfast::io::{Engine, IoChoice};
use lsfast::ltx::{LtxReader, Merge};
use lsfast::replicate::history::Timeline;
use lsfast::replicate::{
    DatabaseOptions, Event, HistoryOptions, HistoryStatus, Options, ReplicaOptions, Stopper, {self},
};
use lsfast::restore::plan::{Goal, plan};
use lsfast::store::{Entry, FileStore, Scope, Store};

use super::{HOUR, MINUTE};
use crate::support::fault::FaultServer;
use crate::support::place::Place;
use crate::support::s3::{
    S3Server, {self},
};
use crate::support::sqlite::{
    Workload, {self},
};
use crate::support::{litestream, lsfast as program, process};

/// Runs so many times as fast as the real clock, from the present on.
struct Ahead {
    from: (Instant, Millis),
    speed: u32,
}

impl Ahead {
    fn new(speed: u32) -> Arc<Ahead> {
        Arc::new(Ahead { from: (Instant::now(), Millis::now()), speed })
    }
}

impl Timeline for Ahead {
    fn now(&self) -> Millis {
        let (begin, at) = self.from;
        Millis(at.0 + (begin.elapsed() * self.speed).as_millis() as i64)
    }

    fn until(&self, then: Millis) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        let ms = (then.0 - self.now().0).max(1) as u64;
        Box::pin(tokio::time::sleep(Duration::from_millis(ms) / self.speed))
    }
}

type Seen = Arc<Mutex<Option<HistoryStatus>>>;

/// A replicator on a thread of this process.
struct Replicator {
    stopper: Option<Stopper>,
    thread: Option<std::thread::JoinHandle<()>>,
    seen: Seen,
    /// The TXID that is durable.
    stored: Arc<AtomicU64>,
}

impl Replicator {
    fn start(db: &Path, store: Arc<dyn Store>, history: HistoryOptions) -> Replicator {
        let (stopper, stop) = replicate::stop();
        let (db, seen) = (db.to_owned(), Seen::default());
        let noted = Arc::clone(&seen);
        let stored = Arc::new(AtomicU64::new(0));
        let durable = Arc::clone(&stored);
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let sync_interval = Duration::from_millis(20);
            let replica = ReplicaOptions { store, sync_interval, history, verification: None };
            let options = Options {
                databases: vec![DatabaseOptions::new(db, vec![replica])],
                directories: Vec::new(),
                once: None,
                safety_tick: Duration::from_secs(1),
                engine: Engine::new(IoChoice::Plain).expect("an engine"),
                shutdown_timeout: Duration::from_secs(30),
                once_timeout: None,
                vitals: Arc::default(),
                observer: Arc::new(move |event| match event {
                    Event::History { status, .. } => {
                        *noted.lock().expect("a status") = Some((*status).clone());
                    }
                    Event::Durable { txid, .. } => durable.store(txid.0, Relaxed),
                    _ => {}
                }),
            };
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime, replicate::run(options, stop)).expect("replication ends as asked");
            runtime.shutdown_background();
        });
        Replicator { stopper: Some(stopper), thread: Some(thread), seen, stored }
    }

    fn status(&self) -> Option<HistoryStatus> {
        self.seen.lock().expect("a status").clone()
    }

    fn until(&self, what: &str, holds: impl Fn(&HistoryStatus) -> bool) {
        process::until(what, || self.status().filter(|s| holds(s)).map(|_| ()));
    }

    fn stop(mut self) {
        drop(self.stopper.take());
        self.thread.take().expect("a thread").join().expect("no panic");
    }
}

fn level(n: u32) -> Level {
    Level::new(n).expect("a level")
}

fn newest(status: &HistoryStatus, level: usize) -> u64 {
    status.levels[level].newest.0
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(work)
}

/// The database that files make.
fn rebuild(root: &Path, files: &[Entry]) -> Vec<u8> {
    let path = |e: &Entry| root.join("ltx").join(e.id.level.to_string()).join(e.id.file_name());
    let open = |e| std::io::BufReader::new(std::fs::File::open(path(e)).expect("a file"));
    let readers = files.iter().map(|e| LtxReader::new(open(e)).expect("a header"));
    let mut merge = Merge::new(readers.collect()).expect("files in order");
    let page_size = merge.header().page_size.bytes();
    let mut pages = BTreeMap::new();
    while let Some((pgno, page)) = merge.next_page().expect("sound files") {
        pages.insert(pgno, page.to_vec());
    }
    assert!(pages.values().all(|p| p.len() == page_size));
    pages.into_values().flatten().collect()
}

#[test]
fn images_of_a_database_that_is_written_to_are_states_of_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let (db, root): (PathBuf, PathBuf) = (dir.path().join("app.db"), dir.path().join("replica/db"));
    let app = sqlite::create(&db, 4096);
    // Too large to be kept in memory, so that images are read from the database.
    app.execute("INSERT INTO items VALUES (9999, 'large', randomblob(3000000))", []).expect("a row");
    let store: Arc<dyn Store> = Arc::new(FileStore::new(&root));
    let history = HistoryOptions {
        snapshot_interval: Some(20 * MINUTE),
        snapshot_retention: 24 * 30 * HOUR,
        clock: Ahead::new(1800),
        ..HistoryOptions::default()
    };
    let replicator = Replicator::start(&db, Arc::clone(&store), history);
    let workload = RefCell::new(Workload::new(11));
    replicator.until("the first image", |s| newest(s, 9) == 1);
    replicator.until("all levels", |s| {
        // As fast as it is stored: the replicator has work all the time, and is not left behind.
        let before = replicator.stored.load(Relaxed);
        workload.borrow_mut().run(&app, 2);
        app.execute("INSERT INTO log VALUES (1, 'one that is no rollback')", []).expect("a row");
        process::until("a batch to be stored", || (replicator.stored.load(Relaxed) > before).then_some(()));
        s.levels[9].objects >= 6 && newest(s, 3) > 1 && s.last_error.is_none()
    });
    replicator.stop();
    let entries = block_on(store.list(Scope::All)).expect("a listing");
    let images: Vec<Entry> = entries.iter().filter(|e| e.id.level == Level::SNAPSHOT).copied().collect();
    assert!(images.len() >= 6);
    for image in &images[1..] {
        // The same state without this image and those after it.
        let others: Vec<Entry> =
            entries.iter().filter(|e| e.id.level != Level::SNAPSHOT || e.id < image.id).copied().collect();
        let files = plan(&others, Goal::Txid(image.id.max)).expect("the raw files are all there");
        let (a, b) = (rebuild(&root, &[*image]), rebuild(&root, &files));
        sqlite::assert_same_pages(&image.id.to_string(), &a, &b);
    }
    let place = Place::Dir(dir.path().join("replica"));
    let (ours, theirs) = (dir.path().join("ours"), dir.path().join("theirs"));
    program::restore(&ours, &place.url("db"), &[], &[]);
    litestream::restore(dir.path(), &db, &theirs, &place, "db", None);
    let image = sqlite::image(&db);
    for restored in [&ours, &theirs] {
        sqlite::assert_same_pages("newest", &std::fs::read(restored).expect("a file"), &image);
    }
    // And one in the middle, by Litestream.
    let middle = images[images.len() / 2];
    _ = std::fs::remove_file(&theirs);
    litestream::restore(dir.path(), &db, &theirs, &place, "db", Some(middle.id.max.0));
    sqlite::assert_same_pages("middle", &std::fs::read(&theirs).expect("a file"), &rebuild(&root, &[middle]));
}

#[test]
fn a_database_at_rest_makes_no_request_and_its_image_was_uploaded_once() {
    let dir = tempfile::tempdir().expect("a folder");
    let db = dir.path().join("app.db");
    let app = sqlite::create(&db, 4096);
    app.execute("INSERT INTO items VALUES (9999, 'large', randomblob(3000000))", []).expect("a row");
    let server = S3Server::start();
    let proxy = FaultServer::start(Some(server.addr));
    let url = s3::url(proxy.addr, "db");
    let store: Arc<dyn Store> = Arc::new(s3::open(&url, &s3::options()));
    // More than a year in a second.
    let history = HistoryOptions { clock: Ahead::new(50_000_000), ..HistoryOptions::default() };
    let replicator = Replicator::start(&db, store, history);
    replicator.until("the copy of the image", |s| newest(s, 9) == 1);
    let uploaded: u64 = proxy.seen().iter().filter(|s| s.method == "PUT").map(|s| s.body.len() as u64).sum();
    assert!((3_000_000..3_100_000).contains(&uploaded), "{uploaded} bytes");
    let before: Vec<String> = proxy.seen().iter().map(|s| format!("{} {}", s.method, s.path)).collect();
    let lists = before.iter().filter(|s| s.contains("list-type=2")).count();
    // At the start, and of the first object alone, to see that it is stored under its name.
    assert_eq!(lists, 2, "{before:#?}");
    // One commit is stored and compacted; then nothing is left to do but what the retention of it
    // needs.
    app.execute("DELETE FROM items WHERE id < 0", []).expect("a statement");
    app.execute("INSERT INTO log VALUES (1, 'x')", []).expect("a row");
    replicator.until("compaction", |s| newest(s, 3) == 2 && newest(s, 9) == 2 && s.levels[0].objects == 1);
    // Nothing is left to do, whatever time passes: it waits for a commit alone.
    replicator.until("old images gone", |s| s.levels[9].objects == 1 && s.next_step.is_none());
    let before = proxy.seen().len();
    replicator.stop();
    let after: Vec<String> =
        proxy.seen()[before..].iter().map(|s| format!("{} {}", s.method, s.path)).collect();
    // The stop looks at the newest object, and lists what lies beyond it: the levels. Nothing came
    // before it.
    let newest = "0000000000000002-0000000000000002.ltx";
    let at_stop = [("GET ", newest), ("GET ", "list-type=2")];
    let is = |s: &String, (method, file): (&str, &str)| s.starts_with(method) && s.contains(file);
    assert!(after.len() == 2 && after.iter().zip(at_stop).all(|(s, e)| is(s, e)), "at rest: {after:#?}");
    let store = s3::open(&url, &s3::options());
    let entries = block_on(store.list(Scope::All)).expect("a listing");
    assert!(plan(&entries, Goal::Newest).is_ok_and(|f| f.last().is_some_and(|e| e.id.max == Txid(2))));
    assert!(entries.iter().any(|e| e.id.level == level(0) && e.id.max == Txid(2)));
}
