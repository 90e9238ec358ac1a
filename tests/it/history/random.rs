//! Random histories with crashes: every state that is offered, by `points`, by TXID and by time,
//! comes back as it was, by lsfast and by the real Litestream.

use std::sync::Mutex;

use bytes::Bytes;
use lsfast::base::limits;
use lsfast::io::{Engine, IoChoice};
use lsfast::ltx::TimesId;
use lsfast::restore::{
    Integrity, PointState, RestoreOptions, Selection, Silent, Until, {self},
};
use lsfast::store::{BoxFuture, ErrorKind, Forward, Result, StoreError, Upload};

use super::*;

/// A directory that a process writes to until it dies.
#[derive(Debug, Clone)]
struct Mortal {
    inner: Arc<FileStore>,
    /// The seed, in place of a path that differs in each run: the moments of compactions depend on
    /// the identity of a replica.
    seed: u64,
    /// So many changes are left, and whether the last one is done.
    fuse: Arc<Mutex<Option<(u32, bool)>>>,
}

fn dead<T>() -> Result<T> {
    Err(StoreError::new(ErrorKind::Transient, "the process is dead"))
}

impl Mortal {
    fn is_dead(&self) -> bool {
        matches!(*self.fuse.lock().expect("no panic while held"), Some((0, _)))
    }

    fn set(&self, fuse: Option<(u32, bool)>) {
        *self.fuse.lock().expect("no panic while held") = fuse;
    }

    /// Whether a change is done, and whether its answer arrives.
    fn change(&self) -> (bool, bool) {
        match &mut *self.fuse.lock().expect("no panic while held") {
            None => (true, true),
            Some((0, _)) => (false, false),
            Some((left, done)) => {
                *left -= 1;
                (*left > 0 || *done, *left > 0)
            }
        }
    }

    async fn changed(&self, change: impl Future<Output = Result<()>>) -> Result<()> {
        let (done, answered) = self.change();
        if done {
            change.await?;
        }
        if answered { Ok(()) } else { dead() }
    }
}

/// Its end is the change.
struct MortalUpload(Mortal, Box<dyn Upload>);

impl Upload for MortalUpload {
    fn hold_start(&mut self) {
        self.1.hold_start();
    }

    fn replace_start<'a>(&'a mut self, start: Bytes) -> BoxFuture<'a, Result<()>> {
        self.1.replace_start(start)
    }

    fn write<'a>(&'a mut self, bytes: Bytes) -> BoxFuture<'a, Result<()>> {
        self.1.write(bytes)
    }

    fn finish(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        let MortalUpload(store, inner) = *self;
        Box::pin(async move {
            let (done, answered) = store.change();
            if done {
                inner.finish().await?;
            } else {
                inner.abort().await;
            }
            if answered { Ok(()) } else { dead() }
        })
    }

    fn abort(self: Box<Self>) -> BoxFuture<'static, ()> {
        self.1.abort()
    }
}

impl Forward for Mortal {
    fn inner(&self) -> &dyn Store {
        &*self.inner
    }

    fn identity(&self) -> String {
        format!("file:///history/{}", self.seed)
    }

    fn put<'a>(&'a self, id: LtxId, body: Vec<Bytes>, options: PutOptions) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.changed(async move { self.inner.put(id, body, options).await }))
    }

    fn upload<'a>(
        &'a self,
        id: LtxId,
        size_max: u64,
        options: PutOptions,
    ) -> BoxFuture<'a, Result<Box<dyn Upload>>> {
        Box::pin(async move {
            let inner = self.inner.upload(id, size_max, options).await?;
            Ok(Box::new(MortalUpload(self.clone(), inner)) as Box<dyn Upload>)
        })
    }

    fn delete<'a>(&'a self, ids: &'a [LtxId]) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            for id in ids {
                self.changed(self.inner.delete(std::slice::from_ref(id))).await?;
            }
            Ok(())
        })
    }

    fn copy<'a>(&'a self, from: LtxId, to: LtxId, options: PutOptions) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.changed(self.inner.copy(from, to, options)))
    }

    fn put_times<'a>(&'a self, id: TimesId, body: Bytes) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.changed(self.inner.put_times(id, body)))
    }

    fn delete_times<'a>(&'a self, ids: &'a [TimesId]) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.changed(self.inner.delete_times(ids)))
    }
}

/// Options of a history that runs through its retention within hours.
fn options(random: &mut fastrand::Rng) -> HistoryOptions {
    let retention = random.u32(1..4);
    HistoryOptions {
        l0_retention: random.bool().then_some(5 * MINUTE),
        snapshot_interval: Some(random.u32(1..3) * HOUR),
        snapshot_retention: retention * HOUR,
        retention_enabled: random.u32(0..5) > 0,
        ..HistoryOptions::default()
    }
}

/// A history of some hours, from a seed.
async fn history(seed: u64) -> Scene {
    let mut random = fastrand::Rng::with_seed(seed);
    let fuse: Arc<Mutex<Option<(u32, bool)>>> = Arc::default();
    let (mortal, options) = (Arc::clone(&fuse), options(&mut random));
    let wrap =
        |inner: FileStore| Arc::new(Mortal { inner: Arc::new(inner), seed, fuse: mortal }) as Arc<dyn Store>;
    let mut scene = Scene::over(options, 7 * HOUR, random.bool(), wrap).await;
    let store = Mortal { inner: Arc::new(FileStore::new(scene.dir.path().join("replica/db"))), seed, fuse };
    let mut left = 5 * HOUR;
    while left > Duration::ZERO {
        match random.u32(0..10) {
            0 => scene.app.execute_batch("DELETE FROM items WHERE id % 3 = 0; VACUUM").expect("a shrink"),
            1 | 2 => store.set(Some((random.u32(1..8), random.bool()))),
            _ => {}
        }
        if random.u32(0..8) == 0 {
            scene.write_all().await;
        } else {
            scene.write(random.usize(1..6)).await;
        }
        let rest = match random.u32(0..3) {
            0 => random.u32(1..20) * SECOND,
            1 => random.u32(20..400) * SECOND,
            _ => random.u32(5..80) * MINUTE,
        };
        live(&mut scene, &store, rest.min(left)).await;
        left = left.saturating_sub(rest);
    }
    store.set(None);
    scene
}

/// Lets time pass; a process that dies is replaced at once.
async fn live(scene: &mut Scene, store: &Mortal, time: Duration) {
    let end = Millis(scene.now.0 + time.as_millis() as i64);
    loop {
        let next = scene.executor.catch_up(scene.now).await;
        if store.is_dead() {
            eprintln!("the process dies at {}", scene.now);
            store.set(None);
            scene.restart().await;
            continue;
        }
        match next {
            Some(at) if at <= end => scene.now = at,
            _ => break,
        }
    }
    scene.now = end;
}

struct Restorer {
    engine: Engine,
    scene: Scene,
    seed: u64,
}

impl Restorer {
    async fn restore(&self, until: Until) -> (Txid, Vec<u8>) {
        let out = self.scene.out("restored");
        let options = RestoreOptions {
            integrity: Integrity::None,
            state: Selection::from(until),
            ..RestoreOptions::new(&out)
        };
        let report = restore::run(Arc::clone(&self.scene.store), &self.engine, options, &Silent).await;
        let report = report.unwrap_or_else(|e| panic!("seed {}: {until:?}: {e}", self.seed));
        (report.txid, std::fs::read(&out).expect("the output"))
    }

    fn assert_is(&self, txid: Txid, image: &[u8], what: &str) {
        let (expected, _) = &self.scene.states[&txid.0];
        sqlite::assert_same_pages(&format!("seed {}: {what}", self.seed), image, expected);
    }

    /// Every offered point by lsfast; gives the TXIDs.
    async fn all(&self) -> Vec<(Txid, Millis)> {
        let (points, more) = restore::points(&self.scene.store, limits::POINTS_MAX).await.expect("points");
        assert!(!more);
        let mut offered = Vec::new();
        for point in points {
            let PointState::Ltx { txid, .. } = point.state else { panic!("only LTX files are there") };
            assert_eq!(point.created, self.scene.states[&txid.0].1, "seed {}: time of {txid}", self.seed);
            offered.push((txid, point.created));
        }
        for (i, (txid, created)) in offered.iter().enumerate() {
            let (found, image) = self.restore(Until::Txid(*txid)).await;
            assert_eq!(found, *txid, "seed {}", self.seed);
            self.assert_is(found, &image, "by TXID");
            // Several batches may have one time.
            let next = offered.get(i + 1).is_some_and(|(_, next)| next == created);
            let (found, image) = self.restore(Until::Before(Millis(created.0 + 1))).await;
            assert!(found == *txid || next, "seed {}: {created} gives {found}, not {txid}", self.seed);
            self.assert_is(found, &image, "by time");
        }
        offered
    }
}

fn play(seed: u64) -> (Restorer, Vec<(Txid, Millis)>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let engine = Engine::new(IoChoice::Plain).expect("an engine");
        let restorer = Restorer { engine, scene: history(seed).await, seed };
        let offered = restorer.all().await;
        let newest = restorer.scene.states.keys().last().copied();
        assert_eq!(offered.last().map(|(txid, _)| txid.0), newest, "seed {seed}: the newest state");
        (restorer, offered)
    })
}

/// `LSFAST_HISTORY_SEED=n` plays that one alone.
fn seeds(count: u64) -> Vec<u64> {
    match std::env::var("LSFAST_HISTORY_SEED") {
        Ok(seed) => vec![seed.parse().expect("a number")],
        Err(_) => (0..count).map(|_| fastrand::u64(..)).collect(),
    }
}

#[test]
fn every_offered_point_of_random_histories_restores() {
    let (mut points, mut batches) = (0, 0);
    for seed in seeds(10) {
        eprintln!("LSFAST_HISTORY_SEED={seed}");
        let (restorer, offered) = play(seed);
        points += offered.len();
        batches += restorer.scene.states.len();
    }
    eprintln!("{points} states of {batches} batches");
    assert!(points > 0 && batches >= points, "{points} of {batches}");
}

#[test]
fn litestream_restores_every_offered_point_of_random_histories() {
    for seed in seeds(3) {
        eprintln!("LSFAST_HISTORY_SEED={seed}");
        let (Restorer { scene, .. }, offered) = play(seed);
        for (txid, _) in &offered {
            let out = scene.out("by-litestream");
            litestream::restore(scene.dir.path(), &scene.db(), &out, &scene.place, "db", Some(txid.0));
            let (expected, _) = &scene.states[&txid.0];
            let found = std::fs::read(&out).expect("the output");
            sqlite::assert_same_pages(&format!("seed {seed}: TXID {txid}"), &found, expected);
        }
        // By time Litestream offers what was made before it, and no image that was made later.
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let entries = runtime.block_on(scene.store.list(Scope::All)).expect("a listing");
        for (_, created) in offered.iter().take(offered.len() - 1) {
            let wanted = Millis(created.0 + 1);
            let Ok(files) = before(&entries, wanted) else { continue };
            let reached = files.last().expect("a plan").id.max.0;
            let out = scene.out("by-litestream");
            scene.restore_by_time(&out, wanted);
            let (expected, _) = &scene.states[&reached];
            let found = std::fs::read(&out).expect("the output");
            sqlite::assert_same_pages(&format!("seed {seed}: {wanted}"), &found, expected);
        }
    }
}
