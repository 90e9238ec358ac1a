//! Files that retention or a merge removes while a state is read.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use lsfast::base::clock::Millis;
use lsfast::base::{Level, LtxId, PageSize, Pgno, Txid};
use lsfast::ltx::{Header, WalRange, encode_file};
use lsfast::store::{BoxFuture, FileStore, Forward, Result, Store};
use lsfast::view::{self, At, Pages, Replica};

const PAGE: u32 = 4096;
/// Enough for images that are not read whole when they are opened.
const PAGES: u32 = 400;

/// A store whose files change with the first read.
struct Changing {
    inner: FileStore,
    change: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl fmt::Debug for Changing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changing").finish_non_exhaustive()
    }
}

impl Forward for Changing {
    fn inner(&self) -> &dyn Store {
        &self.inner
    }

    fn get<'a>(&'a self, id: LtxId, range: Range<u64>) -> BoxFuture<'a, Result<Bytes>> {
        if let Some(change) = self.change.lock().expect("no panic").take() {
            change();
        }
        self.inner.get(id, range)
    }
}

/// The content of a page after a TXID: batches change two pages each.
fn page(number: u32, txid: u64) -> Vec<u8> {
    let of_txid = (1..=txid).rev().find(|n| *n == 1 || is_in(number, *n)).expect("an image");
    let mut random = fastrand::Rng::with_seed(u64::from(number) << 8 | of_txid);
    (0..PAGE).map(|_| random.u8(..)).collect()
}

fn is_in(number: u32, txid: u64) -> bool {
    number == 1 || u64::from(number) == 100 * txid
}

fn path_of(root: &Path, level: u32, min: u64, max: u64) -> PathBuf {
    root.join(format!("ltx/{level}/{min:016x}-{max:016x}.ltx"))
}

fn put(root: &Path, level: u32, min: u64, max: u64) {
    let size = PageSize::new(PAGE).expect("a page size");
    let txids = (Txid(min), Txid(max));
    let header = Header::new(size, PAGES, txids, Millis(1_000 * max as i64), WalRange::default());
    let wanted = (1..=PAGES).filter(|n| min == 1 || (min..=max).any(|txid| is_in(*n, txid)));
    let pages: Vec<(Pgno, Vec<u8>)> = wanted.map(|n| (Pgno::new(n).expect("a page"), page(n, max))).collect();
    let file = encode_file(&header, pages.iter().map(|(n, page)| (*n, &page[..]))).expect("a file");
    let path = path_of(root, level, min, max);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    std::fs::write(path, file).expect("written");
}

fn remove(root: &Path, level: u32, min: u64, max: u64) {
    std::fs::remove_file(path_of(root, level, min, max)).expect("removed");
}

/// An image and the batches up to `newest`.
fn replica(newest: u64) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    put(dir.path(), 9, 1, 1);
    (2..=newest).for_each(|n| put(dir.path(), 0, n, n));
    dir
}

fn is_state(state: &mut impl Pages, txid: u64) {
    for n in 1..=PAGES {
        let found = state.page(n).unwrap_or_else(|e| panic!("page {n}: {e}"));
        assert!(found[..] == page(n, txid)[..], "page {n} of TXID {txid}");
    }
}

/// The plan changes between the listing and the first read, and again between two pages.
#[test]
fn a_file_that_vanishes_leads_to_another_plan() {
    let dir = replica(3);
    let root = dir.path().to_owned();
    let merge = move || {
        put(&root, 1, 2, 3);
        remove(&root, 0, 2, 2);
    };
    let change: Mutex<Option<Box<dyn FnOnce() + Send>>> = Mutex::new(Some(Box::new(merge)));
    let store = Changing { inner: FileStore::new(dir.path()), change };
    let replica = Replica::new(Arc::new(store)).expect("threads");
    let mut state = view::open(&replica, At::Newest).expect("a state");
    assert_eq!(state.txid(), Txid(3));
    assert!(!path_of(dir.path(), 0, 2, 2).exists(), "it vanished while the state was opened");
    put(dir.path(), 9, 1, 3);
    remove(dir.path(), 9, 1, 1);
    remove(dir.path(), 1, 2, 3);
    is_state(&mut state, 3);
    let files: Vec<LtxId> = state.files().iter().map(|entry| entry.id).collect();
    let image = LtxId::new(Level::SNAPSHOT, Txid(1), Txid(3)).expect("an id");
    assert_eq!(files, [image]);
}

/// More merges than one listing may be followed by, in the time that a state is open.
#[test]
fn a_state_that_is_open_for_long_sees_any_number_of_merges() {
    let dir = replica(3);
    put(dir.path(), 0, 4, 4);
    let replica = Replica::new(Arc::new(FileStore::new(dir.path()))).expect("threads");
    let mut state = view::open(&replica, At::Txid(Txid(3))).expect("a state");
    for round in 0..20 {
        // Its image moves from level to level.
        let (from, to) = if round % 2 == 0 { (9, 8) } else { (8, 9) };
        let max = if round < 1 { 1 } else { 3 };
        put(dir.path(), to, 1, 3);
        remove(dir.path(), from, 1, max);
        let n = 20 + 18 * round;
        assert!(state.page(n).expect("a page")[..] == page(n, 3)[..], "page {n}");
    }
    is_state(&mut state, 3);
}

/// A state whose files are all gone is an error, and no other state takes its place.
#[test]
fn a_state_that_is_gone_is_never_another_one() {
    let dir = replica(4);
    let replica = Replica::new(Arc::new(FileStore::new(dir.path()))).expect("threads");
    let mut state = view::open(&replica, At::Txid(Txid(3))).expect("a state");
    put(dir.path(), 9, 1, 4);
    remove(dir.path(), 9, 1, 1);
    (2..4).for_each(|n| remove(dir.path(), 0, n, n));
    let mut refused = 0;
    for n in 1..=PAGES {
        match state.page(n) {
            Ok(found) => assert!(found[..] == page(n, 3)[..], "page {n}"),
            Err(e) => {
                assert!(e.to_string().contains("0000000000000003"), "{e}");
                refused += 1;
            }
        }
    }
    assert!(refused > PAGES / 2, "{refused}");
}
