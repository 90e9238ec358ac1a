//! Levels, full images and retention as Litestream 0.5.17 sees them: hours of history, kept by a
//! clock that the test moves, restored and taken over by the real program.

mod live;
mod random;
mod times;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use lsfast::base::clock::Millis;
use lsfast::base::{Level, LtxId, PageSize, Pgno, Txid};
use lsfast::ltx::{HEADER_LEN, Header, WalRange, encode_file};
use lsfast::replicate::HistoryOptions;
use lsfast::replicate::history::{Cache, Executor, Feed};
use lsfast::restore::plan::{Goal, PlanError, plan};
use lsfast::store::{Entry, FileStore, PutOptions, Scope, Store};
use rusqlite::Connection;
use tempfile::TempDir;

use crate::support::place::Place;
use crate::support::sqlite::{
    Workload, {self},
};
use crate::support::{litestream, lsfast as program};

const PAGE: usize = 4096;

/// A database whose states become batches of a directory replica, at times that the test chooses.
struct Scene {
    dir: TempDir,
    place: Place,
    store: Arc<dyn Store>,
    executor: Executor,
    feed: Rc<Feed>,
    cache: Cache,
    options: HistoryOptions,
    app: Connection,
    workload: Workload,
    now: Millis,
    /// Image and time of each batch.
    states: BTreeMap<u64, (Vec<u8>, Millis)>,
}

impl Scene {
    /// `ago` before now, so that the real program finds nothing of the future, and then the last
    /// minute and a third past a full hour: late enough for all ticks of that hour, however
    /// late this database is, and more than three minutes before the next of level 2.
    async fn new(options: HistoryOptions, ago: Duration) -> Scene {
        Scene::over(options, ago, true, |store| Arc::new(store)).await
    }

    /// The same with another store in front of the directory, and a large row or none.
    async fn over(
        options: HistoryOptions,
        ago: Duration,
        large: bool,
        wrap: impl FnOnce(FileStore) -> Arc<dyn Store>,
    ) -> Scene {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let app = sqlite::create(&dir.path().join("app.db"), PAGE as u32);
        // Large enough that the store copies images instead of having them written again.
        if large {
            app.execute("INSERT INTO items VALUES (9999, 'large', randomblob(600000))", [])
                .expect("a large row");
        }
        let place = Place::Dir(dir.path().join("replica"));
        let store = wrap(FileStore::new(dir.path().join("replica/db")));
        let cache = Cache::default();
        let (executor, feed) = start(&store, &options, &cache);
        let hour = HOUR.as_millis() as i64;
        let now = Millis((Millis::now().0 - ago.as_millis() as i64).div_euclid(hour) * hour + 80_000 - hour);
        let (states, workload) = (BTreeMap::new(), Workload::new(7));
        let mut scene =
            Scene { dir, place, store, executor, feed, cache, options, app, workload, now, states };
        scene.list().await;
        scene.write(3).await;
        scene
    }

    /// The process dies, and another one takes over.
    async fn restart(&mut self) {
        (self.executor, self.feed) = start(&self.store, &self.options, &self.cache);
        self.list().await;
    }

    async fn list(&self) {
        let listing = self.store.list_all().await.expect("a listing");
        self.feed.listed(&listing, self.now);
    }

    fn db(&self) -> PathBuf {
        self.dir.path().join("app.db")
    }

    fn out(&self, name: &str) -> PathBuf {
        let out = self.dir.path().join(name);
        _ = std::fs::remove_file(&out);
        out
    }

    /// Some transactions of the application, stored as one batch.
    async fn write(&mut self, transactions: usize) {
        self.workload.run(&self.app, transactions);
        let image = sqlite::image(&self.db());
        let before = self.states.last_key_value().map(|(_, (image, _))| image.clone()).unwrap_or_default();
        let pages = image.chunks(PAGE).enumerate();
        let changed: Vec<(Pgno, &[u8])> = pages
            .filter(|(i, page)| before.chunks(PAGE).nth(*i) != Some(page))
            .map(|(i, page)| (Pgno::new(i as u32 + 1).expect("a page number"), page))
            .collect();
        self.store_batch(&image, &changed).await;
    }

    /// A batch with every page, as after a repair that failed.
    async fn write_all(&mut self) {
        let image = sqlite::image(&self.db());
        let numbers = (1..).filter_map(Pgno::new);
        let all: Vec<(Pgno, &[u8])> = numbers.zip(image.chunks(PAGE)).collect();
        self.store_batch(&image, &all).await;
    }

    async fn store_batch(&mut self, image: &[u8], pages: &[(Pgno, &[u8])]) {
        let txid = Txid(self.states.len() as u64 + 1);
        let page_size = PageSize::new(PAGE as u32).expect("a page size");
        let wal = WalRange { offset: 32, size: 4120, salts: lsfast::base::Salts { one: 1, two: 2 } };
        let commit = (image.len() / PAGE) as u32;
        let header = Header::new(page_size, commit, (txid, txid), self.now, wal);
        let file = bytes::Bytes::from(encode_file(&header, pages.iter().copied()).expect("a file"));
        let options = PutOptions { created: self.now, create_only: true };
        let id = LtxId::raw(txid);
        // The pipeline puts until it is answered.
        let pipeline = FileStore::new(self.dir.path().join("replica/db"));
        pipeline.put(id, vec![file.clone()], options).await.expect("stored");
        self.feed.stored(id, file.len() as u64, self.now, self.now, Some(&file));
        self.states.insert(txid.0, (image.to_vec(), self.now));
    }

    /// Lets time pass, and does all that falls due.
    async fn pass(&mut self, time: Duration) {
        let end = Millis(self.now.0 + time.as_millis() as i64);
        while let Some(at) = self.executor.catch_up(self.now).await
            && at <= end
        {
            self.now = at;
        }
        self.now = end;
        let status = self.executor.status(self.now);
        assert_eq!(status.last_error, None);
    }

    /// Files of a level that are copies of raw ones, byte for byte: their headers still name a
    /// place in the log.
    async fn copies(&self, level: u32) -> usize {
        let level = Level::new(level).expect("a level");
        let mut copies = 0;
        for entry in self.store.list(Scope::Level(level)).await.expect("a listing") {
            let head = self.store.get(entry.id, 0..HEADER_LEN as u64).await.expect("a header");
            let header = Header::parse(head.first_chunk().expect("a header")).expect("a header");
            copies += usize::from(header.wal.offset > 0);
        }
        copies
    }

    fn count(&self, level: u8) -> usize {
        self.place.names("db", level).len()
    }

    /// Every state that the replica offers, by both programs.
    async fn assert_all_states(&self) -> usize {
        let entries = self.store.list(Scope::All).await.expect("a listing");
        let mut offered = 0;
        for (txid, (image, created)) in &self.states {
            let available = plan(&entries, Goal::Txid(Txid(*txid))).is_ok();
            if available {
                offered += 1;
                let out = self.out("by-txid");
                litestream::restore(self.dir.path(), &self.db(), &out, &self.place, "db", Some(*txid));
                sqlite::assert_same_pages(&format!("TXID {txid}"), &std::fs::read(&out).unwrap(), image);
            }
            // Strictly after it, and before the next: batches are seconds apart here.
            let wanted = Millis(created.0 + 1);
            let newest = entries.iter().map(|e| e.modified).max().expect("files");
            if let (true, Ok(files)) = (wanted <= newest, before(&entries, wanted)) {
                let reached = files.last().expect("a plan").id.max.0;
                let out = self.out("by-time");
                self.restore_by_time(&out, wanted);
                let expected = &self.states[&reached].0;
                sqlite::assert_same_pages(&format!("{wanted}"), &std::fs::read(&out).unwrap(), expected);
            }
        }
        let out = self.out("newest");
        program::restore(&out, &self.place.url("db"), &[], &[]);
        let (_, (image, _)) = self.states.last_key_value().expect("a state");
        sqlite::assert_same_pages("newest", &std::fs::read(&out).unwrap(), image);
        offered
    }

    fn restore_by_time(&self, out: &Path, wanted: Millis) {
        litestream::restore_with(
            self.dir.path(),
            &self.db(),
            out,
            &self.place,
            "db",
            &["-timestamp", &wanted.to_rfc3339()],
        );
    }
}

/// The files of a restore by time as Litestream chooses them: those that were made before it.
fn before(entries: &[Entry], wanted: Millis) -> Result<Vec<Entry>, PlanError> {
    let earlier: Vec<Entry> = entries.iter().filter(|e| e.modified < wanted).copied().collect();
    plan(&earlier, Goal::UpTo(Txid(u64::MAX)))
}

fn start(store: &Arc<dyn Store>, options: &HistoryOptions, cache: &Cache) -> (Executor, Rc<Feed>) {
    let feed = Rc::new(Feed::new(cache.inventory()));
    (Executor::new(Arc::clone(store), options.clone(), Rc::clone(&feed), "app.db".to_owned()), feed)
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(test);
}

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn litestream_restores_every_state_after_hours_of_compaction_and_retention() {
    run(async {
        let options = HistoryOptions {
            l0_retention: Some(5 * MINUTE),
            snapshot_interval: Some(2 * HOUR),
            snapshot_retention: 3 * HOUR,
            ..HistoryOptions::default()
        };
        let mut scene = Scene::new(options, 9 * HOUR).await;
        for hour in 0..8 {
            for _ in 0..3 {
                scene.write(4).await;
                scene.pass(7 * SECOND).await;
            }
            if hour % 3 == 1 {
                // Copied to level 1 and 2 with the fields of level 0.
                scene.write_all().await;
            }
            scene.write(2).await;
            scene.pass(11 * MINUTE).await;
            scene.write(2).await;
            scene.pass(48 * MINUTE).await;
            if hour == 5 {
                scene.restart().await;
            }
        }
        scene.write(1).await;
        scene.pass(10 * SECOND).await;
        let offered = scene.assert_all_states().await;
        assert!(offered >= 10, "{offered} states by TXID");
        assert!(scene.count(9) >= 2 && scene.count(3) >= 3, "{} images", scene.count(9));
        assert!(
            scene.copies(1).await >= 1 && scene.copies(2).await >= 1,
            "images are copied, not written again"
        );
        assert!(scene.states.len() > 35 && scene.count(0) < 5, "{} raw files", scene.count(0));
    });
}

#[test]
fn with_precision_litestream_restores_every_second() {
    run(async {
        let mut scene = Scene::new(HistoryOptions::default(), 3 * HOUR).await;
        for _ in 0..12 {
            scene.pass(SECOND).await;
            scene.write(2).await;
        }
        scene.pass(2 * HOUR).await;
        assert_eq!(scene.assert_all_states().await, 13, "every batch can still be restored by its TXID");
        for (txid, (image, created)) in &scene.states {
            if *txid < 13 {
                let out = scene.out("second");
                scene.restore_by_time(&out, Millis(created.0 + 1));
                sqlite::assert_same_pages(&format!("second {txid}"), &std::fs::read(&out).unwrap(), image);
            }
        }
    });
}

#[test]
fn litestream_takes_over_in_the_middle_of_compaction() {
    run(async {
        let mut scene = Scene::new(HistoryOptions::default(), HOUR).await;
        for _ in 0..4 {
            scene.write(3).await;
            scene.pass(20 * SECOND).await;
        }
        scene.write_all().await;
        scene.pass(40 * SECOND).await;
        scene.write(3).await;
        // Some of level 1 is there, the raw files but the first image are, too, and one is not
        // compacted.
        assert!(scene.count(1) >= 2 && scene.count(0) == 6 && scene.count(9) == 1, "{}", scene.count(1));
        let txid = scene.place.last_txid("db", 0);
        let levels = (scene.place.last_txid("db", 1), scene.place.last_txid("db", 2));
        sqlite::leave_checkpoints_to_litestream(&scene.app);
        let process = litestream::replicate(scene.dir.path(), &scene.db(), &scene.place, "db");
        for level in [0, 1, 2] {
            scene.workload.run(&scene.app, 10);
            scene.place.wait_for_txid("db", level, txid + 1);
        }
        process.stop();
        assert!(levels.0 > 0 && levels.1 == 0 && scene.copies(1).await == 1);
        let by_litestream = scene.out("by-litestream");
        litestream::restore(scene.dir.path(), &scene.db(), &by_litestream, &scene.place, "db", None);
        let by_lsfast = scene.out("by-lsfast");
        program::restore(&by_lsfast, &scene.place.url("db"), &[], &[]);
        let images = [by_litestream, by_lsfast].map(|p| std::fs::read(p).unwrap());
        sqlite::assert_same_pages("both", &images[0], &images[1]);
        assert_eq!(
            sqlite::dump_hash(&scene.out("by-lsfast-none").with_file_name("by-lsfast")),
            sqlite::dump_hash(&scene.db())
        );
        // And lsfast takes the levels up again where Litestream left them.
        scene.now = Millis(Millis::now().0 + 2 * 60_000);
        let before = scene.place.last_txid("db", 1);
        scene.restart().await;
        scene.pass(10 * MINUTE).await;
        assert!(scene.place.last_txid("db", 1) >= before);
        assert_eq!(scene.place.last_txid("db", 1), scene.place.last_txid("db", 0), "everything is compacted");
        let again = scene.out("again");
        litestream::restore(scene.dir.path(), &scene.db(), &again, &scene.place, "db", None);
        sqlite::assert_same_pages("again", &images[0], &std::fs::read(again).unwrap());
    });
}
