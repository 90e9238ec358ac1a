//! A database that exists only as pages, its replica, and the clock.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::memory::MemoryStore;
use crate::base::clock::Millis;
use crate::base::{LtxId, PageSize, Pgno, Txid};
use crate::ltx::{Header, LtxReader, Merge, WalRange, encode_file};
use crate::replicate::history::cache::Cache;
use crate::replicate::history::executor::Executor;
use crate::replicate::history::plan::Next;
use crate::replicate::history::{Feed, HistoryOptions};
use crate::restore::Survey;
use crate::restore::plan::{Goal, PlanError, plan};
use crate::store::{Entry, PutOptions, Store};

/// Noon of some day, so that the start is not at the boundary of a day.
pub const START: Millis = Millis(1_795_262_400_000);

const PAGE: usize = 512;

/// The pages of a database: 1, 2, ...
pub type Image = Vec<Vec<u8>>;

/// A stored batch.
#[derive(Debug, Clone)]
pub struct Batch {
    pub created: Millis,
    pub image: Image,
}

/// Everything of one database.
pub struct World {
    pub store: MemoryStore,
    pub options: HistoryOptions,
    pub now: Millis,
    /// By TXID.
    pub batches: BTreeMap<u64, Batch>,
    pub executor: Executor,
    pub feed: Rc<Feed>,
    pub cache: Cache,
    image: Image,
    rng: fastrand::Rng,
}

fn page_size() -> PageSize {
    PageSize::new(PAGE as u32).unwrap()
}

impl World {
    /// A replica with its first image.
    pub async fn new(options: HistoryOptions, pages: usize, seed: u64) -> World {
        let store = MemoryStore::default();
        let cache = Cache::default();
        let (executor, feed) = World::start(&store, &options, &cache);
        let mut world = World {
            store,
            options,
            now: START,
            batches: BTreeMap::new(),
            executor,
            feed,
            cache,
            image: vec![vec![0; PAGE]; pages],
            rng: fastrand::Rng::with_seed(seed),
        };
        world.list().await;
        let all: Vec<usize> = (0..pages).collect();
        world.store_batch(&all).await;
        world
    }

    fn start(store: &MemoryStore, options: &HistoryOptions, cache: &Cache) -> (Executor, Rc<Feed>) {
        let feed = Rc::new(Feed::new(cache.inventory()));
        let shared: Arc<dyn Store> = Arc::new(store.clone());
        (Executor::new(shared, options.clone(), Rc::clone(&feed), "app.db".to_owned()).on_time(), feed)
    }

    async fn list(&mut self) {
        let survey = Survey::to_go_on(&self.store).await.unwrap();
        self.feed.surveyed(&survey, self.now);
    }

    /// The process dies, and another takes over.
    pub async fn restart(&mut self) {
        self.store.revive();
        (self.executor, self.feed) = World::start(&self.store, &self.options, &self.cache);
        self.list().await;
    }

    pub fn txid(&self) -> u64 {
        self.batches.keys().last().copied().unwrap_or(0)
    }

    /// Changes some pages, may grow or shrink the database, and stores the batch. `false` if the
    /// process died of it.
    pub async fn write(&mut self) -> bool {
        let before = self.image.len();
        match self.rng.u8(..10) {
            0..=2 => self.image.extend(vec![vec![0; PAGE]; self.rng.usize(1..6)]),
            3 => self.image.truncate(self.rng.usize(1..=before)),
            _ => {}
        }
        let len = self.image.len();
        let mut changed: Vec<usize> = (0..self.rng.usize(1..4)).map(|_| self.rng.usize(..len)).collect();
        changed.extend(before.min(len)..len);
        changed.sort_unstable();
        changed.dedup();
        self.store_batch(&changed).await
    }

    /// Stores a batch with every page, as after a repair that failed.
    pub async fn write_all(&mut self) -> bool {
        let all: Vec<usize> = (0..self.image.len()).collect();
        self.store_batch(&all).await
    }

    async fn store_batch(&mut self, pages: &[usize]) -> bool {
        let txid = Txid(self.txid() + 1);
        for p in pages {
            self.image[*p] = std::iter::repeat_with(|| self.rng.u8(..)).take(PAGE).collect();
        }
        let wal = WalRange { offset: 32, size: 4120, salts: crate::base::Salts { one: 1, two: 2 } };
        let commit = u32::try_from(self.image.len()).unwrap();
        let header = Header::new(page_size(), commit, (txid, txid), self.now, wal);
        let lent = pages.iter().map(|p| (Pgno::new(*p as u32 + 1).unwrap(), &self.image[*p][..]));
        let bytes = Bytes::from(encode_file(&header, lent).unwrap());
        let options = PutOptions { created: self.now, create_only: true };
        // The pipeline retries until it gets an answer; here it is never the one that dies.
        self.batches.insert(txid.0, Batch { created: self.now, image: self.image.clone() });
        let id = LtxId::raw(txid);
        loop {
            if self.store.put(id, vec![bytes.clone()], options).await.is_ok() {
                break;
            }
            self.restart().await;
        }
        self.feed.stored(id, bytes.len() as u64, self.now, self.now, Some(&bytes));
        true
    }

    /// Lets time pass, and does everything that falls due. Ends early if the process dies.
    pub async fn pass(&mut self, time: Duration) {
        let end = Millis(self.now.0 + i64::try_from(time.as_millis()).unwrap());
        loop {
            if self.store.is_dead() {
                break;
            }
            match self.executor.next(self.now) {
                Next::Job(job) => self.executor.run(job, self.now).await,
                Next::Wait(Some(at)) if at <= end => {
                    assert!(at > self.now, "a time to wait for lies ahead");
                    self.now = at;
                }
                Next::Wait(_) => break,
            }
        }
        self.now = end.max(self.now);
    }

    /// The state that these files make.
    pub fn rebuild(&self, files: &[Entry]) -> Image {
        let readers = files.iter().map(|e| {
            LtxReader::new(std::io::Cursor::new(self.store.file(e.id))).expect("a file with a header")
        });
        let mut merge = Merge::new(readers.collect()).expect("files that follow each other");
        let commit = merge.header().commit as usize;
        let mut image = vec![None; commit];
        while let Some((pgno, page)) = merge.next_page().expect("sound files") {
            image[pgno.index()] = Some(page.to_vec());
        }
        image.into_iter().map(|p| p.expect("every page is there")).collect()
    }

    /// Checks that every state on offer, by TXID, by time, and the newest, is what it claims to be.
    pub fn verify(&self) {
        let entries = self.store.entries();
        let newest = plan(&entries, Goal::Newest).expect("the newest state can be restored");
        assert_eq!(newest.last().map(|e| e.id.max.0), Some(self.txid()));
        let mut ends: Vec<u64> = entries.iter().map(|e| e.id.max.0).collect();
        ends.sort_unstable();
        ends.dedup();
        for txid in ends {
            match plan(&entries, Goal::Txid(Txid(txid))) {
                Ok(files) => assert!(self.rebuild(&files) == self.batches[&txid].image, "state of {txid}"),
                Err(PlanError::Txid { .. } | PlanError::NoImage { .. }) => {}
                Err(e) => panic!("state of {txid}: {e}"),
            }
        }
        for wanted in self.batches.values().map(|b| Millis(b.created.0 + 1)) {
            if let Ok(files) = before(&entries, wanted) {
                let txid = files.last().unwrap().id.max.0;
                assert!(self.rebuild(&files) == self.batches[&txid].image, "state of {wanted}");
            }
        }
    }

    /// Checks that a restore by time finds each batch that is younger than the retention of raw
    /// batches, and that no time within the retention of snapshots is unreachable.
    pub fn verify_promise(&self) {
        let entries = self.store.entries();
        let window = self.options.raw_retention().unwrap_or(Duration::MAX);
        let age = |b: &Batch| Duration::from_millis((self.now.0 - b.created.0) as u64);
        let first = self.batches.values().next().unwrap().created;
        for (txid, batch) in &self.batches {
            let wanted = Millis(batch.created.0 + 1);
            if age(batch) >= self.options.snapshot_retention || batch.created == first {
                continue;
            }
            let newest = entries.iter().map(|e| e.modified).max().unwrap();
            if wanted > newest {
                continue;
            }
            let files = before(&entries, wanted).unwrap_or_else(|e| panic!("{txid} at {}: {e}", self.now));
            let found = files.last().unwrap().id.max.0;
            let same_time = self.batches.values().filter(|b| b.created == batch.created).count() > 1;
            if age(batch) < window && !same_time {
                assert_eq!(found, *txid, "the state of {wanted}, {:?} ago", age(batch));
            }
        }
    }
}

/// The files of a restore by time as Litestream chooses them: those made before that time.
fn before(entries: &[Entry], wanted: Millis) -> Result<Vec<Entry>, PlanError> {
    let earlier: Vec<Entry> = entries.iter().filter(|e| e.modified < wanted).copied().collect();
    plan(&earlier, Goal::UpTo(Txid(u64::MAX)))
}

/// Checks what must hold whenever a reader lists the replica.
pub fn whole(entries: &[Entry], position: u64) {
    let raw = entries.iter().filter(|e| e.id.level == crate::base::Level::RAW).map(|e| e.id.max.0);
    // I4: at every moment, as another process would see it.
    assert_eq!(raw.max(), Some(position), "the newest level-0 file is always there");
    let newest = plan(entries, Goal::Newest).expect("the newest state can be restored at every moment");
    assert_eq!(newest.last().map(|e| e.id.max.0), Some(position));
    // At no time of the past does a reader get an old state because of a hole before newer ones.
    let mut times: Vec<Millis> = entries.iter().map(|e| e.modified).collect();
    times.sort_unstable();
    times.dedup();
    let step = times.len() / 16 + 1;
    for wanted in times.into_iter().step_by(step) {
        let Ok(files) = before(entries, wanted) else { continue };
        let reached = files.last().unwrap().id.max.0;
        let beyond = entries.iter().find(|e| e.modified < wanted && e.id.min.0 > reached + 1);
        assert_eq!(beyond, None, "a restore of {wanted} ends at {reached}");
    }
}
