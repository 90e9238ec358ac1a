//! What happens when something is wrong: the output is as it was, nothing else is left, and one
//! line says what to do.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use lsfast::base::{LtxId, PageSize};
use lsfast::store::{BoxFuture, Entry, ErrorKind, PutOptions, Scope, StoreError, Upload};
use proptest::prelude::*;

use super::*;

/// What goes wrong with one GET.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// It fails for good.
    Fails,
    /// The object is not there any more.
    Gone,
    /// The answer is short.
    Short,
    /// It never comes.
    Hangs,
}

/// A directory whose nth GET goes wrong, and which counts listings.
#[derive(Debug)]
struct Faulty {
    store: FileStore,
    fault: Fault,
    at: usize,
    gets: AtomicUsize,
    lists: Arc<AtomicUsize>,
}

impl Store for Faulty {
    fn url(&self) -> &str {
        self.store.url()
    }
    fn identity(&self) -> String {
        self.store.identity()
    }
    fn list(&self, scope: Scope) -> BoxFuture<'_, lsfast::store::Result<Vec<Entry>>> {
        self.lists.fetch_add(1, Ordering::Relaxed);
        self.store.list(scope)
    }
    fn get<'a>(&'a self, id: LtxId, range: Range<u64>) -> BoxFuture<'a, lsfast::store::Result<Bytes>> {
        let now = self.gets.fetch_add(1, Ordering::Relaxed) == self.at;
        Box::pin(async move {
            match self.fault {
                _ if !now => self.store.get(id, range).await,
                Fault::Fails => Err(StoreError::new(ErrorKind::Transient, "the network is down")),
                Fault::Gone => Err(StoreError::new(ErrorKind::NotFound, "no such object")),
                Fault::Short => self.store.get(id, range.start..range.end - 1).await,
                Fault::Hangs => std::future::pending().await,
            }
        })
    }
    fn put<'a>(&'a self, _: LtxId, _: Vec<Bytes>, _: PutOptions) -> BoxFuture<'a, lsfast::store::Result<()>> {
        unreachable!("a restore does not write")
    }
    fn upload<'a>(
        &'a self,
        _: LtxId,
        _: u64,
        _: PutOptions,
    ) -> BoxFuture<'a, lsfast::store::Result<Box<dyn Upload>>> {
        unreachable!("a restore does not write")
    }
    fn head<'a>(&'a self, _: LtxId) -> BoxFuture<'a, lsfast::store::Result<Option<Entry>>> {
        unreachable!("a restore of the newest state asks for no metadata")
    }
    fn delete<'a>(&'a self, _: &'a [LtxId]) -> BoxFuture<'a, lsfast::store::Result<()>> {
        unreachable!("a restore does not write")
    }
    fn copy<'a>(&'a self, _: LtxId, _: LtxId, _: PutOptions) -> BoxFuture<'a, lsfast::store::Result<()>> {
        unreachable!("a restore does not write")
    }
    fn prewarm(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

fn replica_with(words: &str) -> (tempfile::TempDir, Value) {
    let manifest = manifest();
    let replica = list(&manifest, "v05").iter().find(|r| text(r, "dir").ends_with(words)).expect("a replica");
    (copy_of(replica), replica.clone())
}

/// An output that is to be replaced, and what must be left of it.
fn old_output() -> (tempfile::TempDir, RestoreOptions) {
    let dir = tempfile::tempdir().expect("a directory");
    let out = dir.path().join("out.db");
    fs::write(&out, "the old database").expect("written");
    let options = RestoreOptions { force: true, ..RestoreOptions::new(out) };
    (dir, options)
}

fn assert_untouched(dir: &Path) {
    // I5: after whatever error.
    assert_eq!(fs::read(dir.join("out.db")).expect("the old output"), b"the old database");
    assert!(others(dir, "out.db").is_empty(), "{:?}", others(dir, "out.db"));
}

#[test]
fn a_store_that_fails_at_any_request_leaves_the_output_untouched() {
    let (replica, entry) = replica_with("p4096");
    let newest = &list(&entry, "restores")[0];
    let files = list(newest, "plan").len();
    for at in 0..files {
        for (fault, words) in [
            (Fault::Fails, "the network is down"),
            (Fault::Gone, "no other file covers it"),
            (Fault::Short, "no other file covers it"),
        ] {
            let (out, options) = old_output();
            let store = FileStore::new(replica.path());
            let lists = Arc::new(AtomicUsize::new(0));
            let store = Faulty { store, fault, at, gets: AtomicUsize::new(0), lists: Arc::clone(&lists) };
            let restored = restore(store, &engines()[at % 2], options);
            assert!(lists.load(Ordering::Relaxed) <= 2, "one listing, and one more after a file was gone");
            match restored {
                // Other files cover the one that is gone or short.
                Ok(report) => {
                    assert!(!matches!(fault, Fault::Fails), "a store that fails is no damage");
                    let found = fs::read(&report.output).expect("the output");
                    assert_eq!(sha256(&found), text(newest, "sha256"));
                }
                Err(e) => {
                    assert!(e.to_string().contains(words) && !e.to_string().contains('\n'), "{e}");
                    assert_untouched(out.path());
                }
            }
        }
    }
}

#[test]
fn a_restore_that_is_given_up_leaves_nothing() {
    let (replica, _) = replica_with("p4096");
    let (out, options) = old_output();
    let (store, lists) = (FileStore::new(replica.path()), Arc::new(AtomicUsize::new(0)));
    let store = Faulty { store, fault: Fault::Hangs, at: 1, gets: AtomicUsize::new(0), lists };
    let engine = engines().remove(0);
    let store = Arc::new(store);
    let watched = Arc::clone(&store);
    runtime().block_on(async move {
        let running = tokio::spawn(async move { run(store, &engine, options, &Silent).await });
        while watched.gets.load(Ordering::Relaxed) < 2 {
            tokio::task::yield_now().await;
        }
        running.abort();
        assert!(running.await.expect_err("given up").is_cancelled());
    });
    assert_untouched(out.path());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// One byte of one file of the plan is changed, or the file is cut there.
    #[test]
    fn damage_is_found_or_does_not_matter(pick in any::<u64>(), xor in 1u8..=255, cut in any::<bool>(), at in any::<prop::sample::Index>()) {
        let manifest = manifest();
        let replicas = list(&manifest, "v05");
        let entry = &replicas[pick as usize % replicas.len()];
        let replica = copy_of(entry);
        let newest = &list(entry, "restores")[0];
        let plan = list(newest, "plan");
        let name = plan[(pick >> 8) as usize % plan.len()].as_str().expect("a name");
        let file = replica.path().join(name);
        let mut bytes = fs::read(&file).expect("a file");
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] ^= xor }
        fs::write(&file, bytes).expect("written");
        let (out, mut options) = old_output();
        options.integrity = Integrity::None;
        match restore(FileStore::new(replica.path()), &engines()[0], options) {
            // Some bytes of an LZ4 block mean nothing, such as the offset of a match
            // of equal bytes. Other files may cover the one
            // that is damaged.
            Ok(report) => {
                let found = fs::read(&report.output).expect("the output");
                prop_assert_eq!(sha256(&found), text(newest, "sha256"));
            }
            Err(e) => {
                let id = Path::new(name).file_stem().expect("a stem").to_str().expect("text");
                prop_assert!(e.to_string().contains(id), "{} does not name {}", e, name);
                prop_assert!(matches!(e, RestoreError::Corrupt { .. } | RestoreError::Misnamed { .. } | RestoreError::PageSize { .. } | RestoreError::Plan { .. }), "{e}");
                assert_untouched(out.path());
            }
        }
    }
}

#[test]
fn each_error_is_one_line_that_says_what_to_do() {
    let engine = &engines()[0];
    let empty = tempfile::tempdir().expect("a directory");
    let options = || RestoreOptions::new(empty.path().join("out.db"));
    let e = restore(FileStore::new(empty.path().join("nothing")), engine, options()).expect_err("empty");
    assert!(matches!(e, RestoreError::Empty { .. }), "{e}");
    assert!(e.to_string().starts_with("no replica at file:///"), "{e}");

    let replica = tempfile::tempdir().expect("a directory");
    let store = FileStore::new(replica.path());
    let first = made::Step { commit: 2, pages: [(1, 2), (2, 2)].into() };
    let step = made::Step { commit: 2, pages: [(1, 2)].into() };
    made::put(&store, PageSize::MAX, &[first, step.clone(), step.clone(), step]);
    runtime().block_on(store.delete(&[LtxId::raw(Txid(3))])).expect("deleted");
    let e = restore(store, engine, options()).expect_err("a gap").to_string();
    assert!(
        e.contains("non-contiguous: they reach TXID 0000000000000002, and level 0 0000000000000004-"),
        "{e}"
    );
    let store = FileStore::new(replica.path());
    runtime().block_on(store.delete(&[LtxId::raw(Txid(1))])).expect("deleted");
    let e = restore(store, engine, options()).expect_err("no image").to_string();
    assert!(e.contains("the first image is missing: the oldest file is level 0 0000000000000002-"), "{e}");
    assert!(others(empty.path(), "nothing").is_empty());

    let plain_file = empty.path().join("file");
    fs::write(&plain_file, "").expect("written");
    let (replica, _) = replica_with("once");
    let below = RestoreOptions::new(plain_file.join("out.db"));
    let e = restore(FileStore::new(replica.path()), engine, below).expect_err("no directory").to_string();
    assert!(e.contains("file/out.db"), "{e}");
    let e = restore(FileStore::new(&plain_file), engine, options()).expect_err("no directory").to_string();
    assert!(e.contains("is not a directory"), "{e}");
}

/// The disk is full: the limit on the size of files gives the same errors as the end of the space,
/// without root. It cannot be set for one thread, so the test runs itself again below a shell that
/// sets it.
#[test]
fn a_full_disk_leaves_the_output_untouched() {
    const NAME: &str = "restore::faults::a_full_disk_leaves_the_output_untouched";
    let Ok(place) = std::env::var("LSFAST_TEST_FULL") else {
        let (replica, _) = replica_with("p4096");
        let script = "trap '' XFSZ; ulimit -f 16; exec \"$@\"";
        let status = std::process::Command::new("bash")
            .args(["-c", script, "limited"])
            .arg(std::env::current_exe().expect("this program"))
            .args([NAME, "--exact", "--nocapture"])
            .env("LSFAST_TEST_FULL", replica.path())
            .status()
            .expect("bash");
        assert!(status.success());
        return;
    };
    for engine in engines() {
        let (out, options) = old_output();
        let e = restore(FileStore::new(&place), &engine, options).expect_err("65536 bytes do not fit");
        assert!(matches!(e, RestoreError::Full { need: 65536, .. }), "{e}");
        assert!(e.to_string().contains("65536 bytes are needed"), "{e}");
        assert_untouched(out.path());
    }
}
