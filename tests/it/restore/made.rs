//! Replicas made here: histories at random against a plain model, and files of several parts.

use std::collections::BTreeMap;

use bytes::Bytes;
use lsfast::base::{DatabaseChecksum, Level, LtxId, PageSize, Pgno};
use lsfast::ltx::{Header, WalRange, encode_file};
use lsfast::store::PutOptions;
use proptest::prelude::*;

use super::*;

/// The file checksum of an LTX file that has all but that, by the rules as they are written down,
/// for files of the current layout. Shares no code with the library.
pub fn checksum_of(bytes: &[u8]) -> u64 {
    let crc = crc::Crc::<u64, crc::Table<16>>::new(&crc::CRC_64_GO_ISO);
    let mut digest = crc.digest();
    digest.update(&bytes[..100]);
    let page_size = u32::from_be_bytes(bytes[8..12].try_into().expect("4 bytes")) as usize;
    let mut at = 100;
    while bytes[at..at + 4] != [0; 4] {
        let len = u32::from_be_bytes(bytes[at + 6..at + 10].try_into().expect("4 bytes")) as usize;
        digest.update(&bytes[at..at + 10]);
        digest.update(&lz4_flex::block::decompress(&bytes[at + 10..][..len], page_size).expect("a page"));
        at += 10 + len;
    }
    digest.update(&bytes[at..]);
    digest.finalize() | 1 << 63
}

/// One file of a history: the size afterwards and the pages that it has.
#[derive(Debug, Clone)]
pub struct Step {
    pub commit: u32,
    pub pages: BTreeMap<u32, u8>,
}

pub fn page(size: PageSize, fill: u8, pgno: u32) -> Vec<u8> {
    let mut state = u64::from(fill) << 32 | u64::from(pgno);
    let noisy = fill % 2 == 1;
    (0..size.bytes())
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            if noisy { (state >> 56) as u8 } else { fill }
        })
        .collect()
}

pub fn file_of(size: PageSize, id: LtxId, step: &Step) -> Vec<u8> {
    file_with(size, id, step, None)
}

/// With the checksum of the database after the file.
pub fn file_with(size: PageSize, id: LtxId, step: &Step, checksum: Option<DatabaseChecksum>) -> Vec<u8> {
    let range = (id.min, id.max);
    let mut header =
        Header::new(size, step.commit, range, Millis(1_000 * id.max.0 as i64), WalRange::default());
    header.checksum = checksum;
    let pages: Vec<(Pgno, Vec<u8>)> =
        step.pages.iter().map(|(&n, &fill)| (Pgno::new(n).expect("a page"), page(size, fill, n))).collect();
    encode_file(&header, pages.iter().map(|(n, p)| (*n, &p[..]))).expect("a file")
}

/// Puts a history into a directory, one level-0 file for each step.
pub fn put(store: &FileStore, size: PageSize, steps: &[Step]) {
    runtime().block_on(async {
        for (n, step) in steps.iter().enumerate() {
            let id = LtxId::raw(Txid(n as u64 + 1));
            let options = PutOptions { created: Millis(1_000 * id.max.0 as i64), create_only: true };
            store.put(id, vec![Bytes::from(file_of(size, id, step))], options).await.expect("put");
        }
    });
}

/// What the database is after these steps.
pub fn image(size: PageSize, steps: &[Step]) -> Vec<u8> {
    let mut pages: BTreeMap<u32, u8> = BTreeMap::new();
    for step in steps {
        pages.extend(&step.pages);
        pages.retain(|&n, _| n <= step.commit);
    }
    pages.iter().flat_map(|(&n, &fill)| page(size, fill, n)).collect()
}

/// From numbers, a history that a database could have: each new page is in the file that adds it.
fn history(commits: Vec<(u32, Vec<(u32, u8)>)>) -> Vec<Step> {
    let mut before = 0;
    let mut steps = Vec::new();
    for (commit, changes) in commits {
        let added = (before + 1..=commit).map(|n| (n, (n % 251) as u8));
        let changed = changes.into_iter().map(|(n, fill)| (n % commit + 1, fill));
        steps.push(Step { commit, pages: added.chain(changed).collect() });
        before = commit;
    }
    steps
}

fn without_check(out: PathBuf) -> RestoreOptions {
    RestoreOptions { integrity: Integrity::None, force: true, ..RestoreOptions::new(out) }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn any_history_gives_its_last_state(
        commits in proptest::collection::vec(
            (1u32..60, proptest::collection::vec((any::<u32>(), any::<u8>()), 0..20)), 1..12),
        size in prop::sample::select(vec![512u32, 4096, 65536]),
        plain in any::<bool>(),
    ) {
        let (size, steps) = (PageSize::new(size).expect("a size"), history(commits));
        let dir = tempfile::tempdir().expect("a directory");
        let store = FileStore::new(dir.path().join("replica"));
        put(&store, size, &steps);
        let engine = Engine::new(if plain { IoChoice::Plain } else { IoChoice::Auto }).expect("an engine");
        for upto in [1, steps.len()] {
            let mut options = without_check(dir.path().join("out.db"));
            options.state = Until::Txid(Txid(upto as u64)).into();
            let report = restore(store.clone(), &engine, options).expect("a restore");
            let found = fs::read(&report.output).expect("the output");
            prop_assert!(found == image(size, &steps[..upto]), "state {upto} of {steps:?}");
        }
    }
}

/// Frames are cut by the borders of parts, at each file of this size in another place.
#[test]
fn files_of_several_parts_are_put_together() {
    for (size, pages) in [(65536, 300u32), (4096, 6000), (512, 50_000)] {
        let size = PageSize::new(size).expect("a size");
        let all: BTreeMap<u32, u8> = (1..=pages).map(|n| (n, 1)).collect();
        let some: BTreeMap<u32, u8> = (1..=pages).filter(|n| n % 7 == 0).map(|n| (n, 3)).collect();
        let steps = [Step { commit: pages, pages: all }, Step { commit: pages, pages: some }];
        let dir = tempfile::tempdir().expect("a directory");
        let store = FileStore::new(dir.path().join("replica"));
        put(&store, size, &steps);
        let expected = sha256(&image(size, &steps));
        for engine in engines() {
            for parallel in [1, 4, 100] {
                let mut options = without_check(dir.path().join("out.db"));
                options.parallel = parallel;
                let report = restore(store.clone(), &engine, options).expect("a restore");
                assert!(report.fetched_bytes > 2 * limits::RESTORE_PART_BYTES, "several parts");
                assert_eq!(sha256(&fs::read(&report.output).expect("the output")), expected);
            }
        }
    }
}

#[test]
fn a_page_that_no_file_has_is_an_error() {
    let size = PageSize::new(4096).expect("a size");
    let all = |n: u32| (1..=n).map(|n| (n, 4)).collect::<BTreeMap<_, _>>();
    let mut grown: BTreeMap<u32, u8> = BTreeMap::new();
    grown.extend([(5, 1), (6, 1), (8, 1)]);
    // Shrunk to 4 pages and grown to 8 without page 7, of which the first file has an image from
    // before.
    let steps = [
        Step { commit: 10, pages: all(10) },
        Step { commit: 4, pages: [(1, 9)].into() },
        Step { commit: 8, pages: grown },
    ];
    let dir = tempfile::tempdir().expect("a directory");
    let store = FileStore::new(dir.path().join("replica"));
    put(&store, size, &steps);
    let out = dir.path().join("out.db");
    let e = restore(store, &engines()[0], without_check(out.clone())).expect_err("no page 7");
    assert!(matches!(&e, RestoreError::MissingPage { missing, commit: 8, .. } if missing.get() == 7), "{e}");
    assert!(e.to_string().starts_with("page 7 of 8 is in none of the files at file://"), "{e}");
    assert!(!out.exists());
}

#[test]
fn a_file_with_another_name_or_page_size_is_an_error() {
    let (size, other) = (PageSize::new(4096).expect("a size"), PageSize::new(512).expect("a size"));
    let step = Step { commit: 2, pages: [(1, 2), (2, 2)].into() };
    // With all pages it would do without the other file.
    let next = Step { commit: 2, pages: [(1, 2)].into() };
    for (bytes, words) in [
        (file_of(size, LtxId::raw(Txid(3)), &next), "level 0 0000000000000002-0000000000000002"),
        (file_of(other, LtxId::raw(Txid(2)), &next), "has pages of 4096 bytes, newer files have 512"),
    ] {
        let dir = tempfile::tempdir().expect("a directory");
        let store = FileStore::new(dir.path().join("replica"));
        put(&store, size, std::slice::from_ref(&step));
        let id = LtxId::raw(Txid(2));
        let options = PutOptions { created: Millis(5), create_only: false };
        runtime().block_on(store.put(id, vec![bytes.into()], options)).expect("put");
        let e = restore(store, &engines()[0], without_check(dir.path().join("out.db"))).expect_err("wrong");
        assert!(e.to_string().contains(words), "{e}");
    }
}

/// Byte 1 GiB of a database holds SQLite's locks and never data. Writes more than 1 GiB.
#[test]
#[ignore = "writes more than 1 GiB"]
fn the_lock_page_stays_zero() {
    let size = PageSize::MAX;
    let lock = size.lock_page().get();
    assert_eq!(lock, 16385);
    let pages: BTreeMap<u32, u8> = (1..=lock + 2).filter(|n| *n != lock).map(|n| (n, 2)).collect();
    let dir = tempfile::tempdir().expect("a directory");
    let store = FileStore::new(dir.path().join("replica"));
    put(&store, size, &[Step { commit: lock + 2, pages }]);
    let report = restore(store, &engines()[1], without_check(dir.path().join("out.db"))).expect("a restore");
    let file = fs::File::open(&report.output).expect("the output");
    assert_eq!(file.metadata().expect("metadata").len(), u64::from(lock + 2) * 65536);
    let mut buf = vec![9; 65536];
    for (pgno, fill) in [(1, 2), (lock - 1, 2), (lock, 0), (lock + 1, 2), (lock + 2, 2)] {
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut buf, u64::from(pgno - 1) * 65536)
            .expect("read");
        assert!(buf.iter().all(|&b| b == fill), "page {pgno}");
    }
}

#[test]
fn a_level_9_file_and_an_overlapping_merge_are_used() {
    let size = PageSize::new(512).expect("a size");
    let steps = history(vec![(5, vec![]), (9, vec![(1, 7)]), (3, vec![]), (6, vec![(0, 8)])]);
    let dir = tempfile::tempdir().expect("a directory");
    let store = FileStore::new(dir.path().join("replica"));
    put(&store, size, &steps);
    let merged = |from: usize, to: usize| {
        let mut pages = BTreeMap::new();
        for step in &steps[from - 1..to] {
            pages.extend(step.pages.clone());
            pages.retain(|&n, _| n <= step.commit);
        }
        Step { commit: steps[to - 1].commit, pages }
    };
    for (level, min, max) in [(9, 1, 2), (2, 2, 4)] {
        let level = Level::new(level).expect("a level");
        let id = LtxId::new(level, Txid(min), Txid(max)).expect("an id");
        let bytes = file_of(size, id, &merged(min as usize, max as usize));
        let options = PutOptions { created: Millis(1), create_only: true };
        runtime().block_on(store.put(id, vec![bytes.into()], options)).expect("put");
    }
    let report = restore(store, &engines()[0], without_check(dir.path().join("out.db"))).expect("a restore");
    assert_eq!(report.files, 2);
    assert!(fs::read(&report.output).expect("the output") == image(size, &steps));
}
