use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::Connection;

use super::apply::Step;
use super::*;
use crate::base::checksum::page_hash;
use crate::base::clock::Millis;
use crate::base::{DatabaseChecksum, PageSize, Pgno, Txid};
use crate::ltx::{Header, WalRange, encode_file};
use crate::restore::{Integrity, Report, RestoreError, Silent, Until};
use crate::store::Store;
use crate::store::file::FileStore;

/// A replica in a directory, and the bytes of the database in each of its states.
struct World {
    dir: tempfile::TempDir,
    page_size: PageSize,
    /// That of TXID 1 first.
    states: Vec<Vec<u8>>,
}

impl World {
    /// States that grow, shrink and grow again, as SQLite writes them.
    fn new(page_size: u32, pragmas: &str) -> World {
        let dir = tempfile::tempdir().unwrap();
        let page_size = PageSize::new(page_size).unwrap();
        let mut world = World { dir, page_size, states: Vec::new() };
        let path = world.path("source.db");
        let db = Connection::open(&path).unwrap();
        db.pragma_update(None, "page_size", page_size.get()).unwrap();
        db.pragma_update(None, "synchronous", "off").unwrap();
        db.execute_batch(pragmas).unwrap();
        for sql in [
            "CREATE TABLE t(a INTEGER PRIMARY KEY, b BLOB); CREATE INDEX i ON t(b);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200)
                 INSERT INTO t SELECT i, randomblob(300) FROM n",
            "UPDATE t SET b = randomblob(300) WHERE a % 50 = 0",
            "INSERT INTO t SELECT a + 1000, randomblob(3000) FROM t WHERE a < 30",
            "DELETE FROM t WHERE a > 100; VACUUM",
            "INSERT INTO t SELECT a + 2000, randomblob(1000) FROM t",
        ] {
            db.execute_batch(sql).unwrap();
            db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
            world.states.push(fs::read(&path).unwrap());
        }
        for n in 1..=world.states.len() {
            world.put(0, n, n, true);
        }
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn state(&self, txid: usize) -> &[u8] {
        txid.checked_sub(1).map_or(&[], |i| &self.states[i])
    }

    /// Stores the file from `min` to `max`.
    fn put(&self, level: u32, min: usize, max: usize, checksum: bool) {
        let sum = checksum.then(|| DatabaseChecksum::of(self.page_size, self.state(max)));
        self.put_as(level, min, max, sum);
    }

    fn put_as(&self, level: u32, min: usize, max: usize, checksum: Option<DatabaseChecksum>) {
        let (old, new, size) = (self.state(min - 1), self.state(max), self.page_size);
        let commit = (new.len() / size.bytes()) as u32;
        let txids = (Txid(min as u64), Txid(max as u64));
        let header = Header::new(size, commit, txids, Millis(1000 * max as i64), WalRange::default());
        let header = Header { checksum, ..header };
        // What was cut off in between comes back with the file.
        let shortest = (min..=max).map(|n| self.state(n).len()).min().unwrap_or(0) / size.bytes();
        let old: Vec<&[u8]> = old.chunks(size.bytes()).collect();
        let pages = new.chunks(size.bytes()).enumerate();
        let pages = pages.filter(|(n, page)| *n >= shortest || old.get(*n) != Some(page));
        let pages = pages.map(|(n, page)| (Pgno::new(n as u32 + 1).unwrap(), page));
        let pages = pages.filter(|(pgno, _)| *pgno != size.lock_page());
        let file = encode_file(&header, pages).unwrap();
        let folder = self.path(&format!("replica/ltx/{level}"));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("{min:016x}-{max:016x}.ltx")), file).unwrap();
    }

    fn remove(&self, level: u32, min: usize, max: usize) {
        fs::remove_file(self.path(&format!("replica/ltx/{level}/{min:016x}-{max:016x}.ltx"))).unwrap();
    }

    /// A database file in a folder of its own.
    fn database(&self, bytes: &[u8]) -> PathBuf {
        let path = self.path(&format!("db-{}", fastrand::u64(..))).join("app.db");
        fs::create_dir(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    fn store(&self) -> Arc<dyn Store> {
        Arc::new(FileStore::new(self.path("replica")))
    }

    fn options(&self, path: &Path, txid: usize, hint: Option<Hint>) -> DeltaOptions {
        let until = Until::Txid(Txid(txid as u64));
        DeltaOptions { path: path.to_owned(), until, integrity: Integrity::Full, parallel: 4, hint }
    }

    fn plan(&self, path: &Path, txid: usize, hint: Option<Hint>) -> Result<Planned, RestoreError> {
        wait(plan(self.store(), self.options(path, txid, hint)))
    }

    fn fetched(&self, path: &Path, txid: usize) -> Fetched {
        match self.plan(path, txid, None).unwrap() {
            Planned::Pages(plan) => wait(plan.fetch(&Silent)).unwrap(),
            Planned::Whole(why) => panic!("the whole database: {why}"),
        }
    }

    fn becomes(&self, path: &Path, txid: usize) -> Report {
        self.fetched(path, txid).apply().unwrap()
    }

    fn whole(&self, path: &Path, txid: usize) -> String {
        match self.plan(path, txid, None).unwrap() {
            Planned::Whole(why) => why,
            Planned::Pages(plan) => panic!("{} pages", plan.pages()),
        }
    }
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap().block_on(future)
}

fn names(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path.parent().unwrap()).unwrap();
    let mut all: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    all.sort();
    all
}

/// The bytes of a database after SQLite has opened it, which rolls a journal back.
fn opened(path: &Path) -> Vec<u8> {
    let db = Connection::open(path).unwrap();
    db.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())).unwrap();
    let check: String = db.query_row("PRAGMA integrity_check", [], |r| r.get(0)).unwrap();
    assert_eq!(check, "ok");
    drop(db);
    assert_eq!(names(path), ["app.db"]);
    fs::read(path).unwrap()
}

#[test]
fn each_state_becomes_each_other() {
    for (size, pragmas) in [
        (512, "PRAGMA auto_vacuum = FULL"),
        (4096, "PRAGMA journal_mode = WAL"),
        (65536, "PRAGMA encoding = 'UTF-16'; PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL"),
    ] {
        let world = World::new(size, pragmas);
        world.put(1, 2, 3, true);
        world.put(2, 2, 5, true);
        let last = world.states.len();
        for (from, to) in (1..=last).flat_map(|from| (1..=last).map(move |to| (from, to))) {
            let path = world.database(world.state(from));
            // What SQLite leaves behind, without content.
            fs::write(path.with_extension("db-wal"), "").unwrap();
            fs::write(path.with_extension("db-shm"), "old").unwrap();
            fs::write(path.with_extension("db-journal"), [0; 600]).unwrap();
            let report = world.becomes(&path, to);
            assert!(fs::read(&path).unwrap() == world.state(to), "{size}: {from} to {to}");
            assert_eq!((report.txid, report.checksum.is_some()), (Txid(to as u64), true));
            if from != to {
                assert_eq!(names(&path), ["app.db"]);
            }
        }
    }
}

/// Whatever has reached the disk when the process or the machine stops, SQLite finds the old state,
/// or the new one once the journal is gone.
#[test]
fn a_stop_at_any_step_leaves_one_of_the_two_states() {
    let world = World::new(1024, "PRAGMA journal_mode = WAL");
    let mut random = fastrand::Rng::with_seed(7);
    for (from, to) in [(1, 2), (3, 4), (4, 3)] {
        let path = world.database(world.state(from));
        let (old, new) = (world.state(from), world.state(to));
        let journal = path.with_extension("db-journal");
        // As a killed process leaves it, at each step.
        let mut stops: Vec<(Vec<u8>, Option<Vec<u8>>)> = Vec::new();
        let mut writes: Vec<(u64, Vec<u8>)> = Vec::new();
        let mut committed = None;
        let fetched = world.fetched(&path, to);
        fetched
            .apply_watched(&mut |step| {
                match step {
                    Step::Write(at, bytes) => writes.push((at, bytes.to_vec())),
                    Step::Commit => committed = Some(stops.len()),
                    _ => {}
                }
                stops.push((fs::read(&path)?, fs::read(&journal).ok()));
                Ok(())
            })
            .unwrap();
        stops.push((fs::read(&path).unwrap(), fs::read(&journal).ok()));
        assert!(writes.len() > 2 && committed.is_some());
        let kept = stops.iter().find_map(|(_, journal)| journal.clone()).expect("a journal");
        let has_new = stops.iter().position(|(_, journal)| journal.is_none() && stops[0].1.is_none());
        assert_eq!(has_new, Some(0), "the first step is that of the journal");
        for (at, (database, journal)) in stops.iter().enumerate() {
            let path = world.database(database);
            if let Some(journal) = journal {
                fs::write(path.with_extension("db-journal"), journal).unwrap();
            }
            let expected = if at > committed.unwrap_or(0) { new } else { old };
            assert!(opened(&path) == expected, "{from} to {to}, stopped at step {at}");
        }
        // As a power failure leaves it: any of the writes, and the new length or the old one.
        for _ in 0..10 {
            let mut database = old.to_vec();
            if random.bool() {
                database.resize(new.len(), 0);
            }
            for (at, bytes) in &writes {
                let (begin, end) = (*at as usize, *at as usize + bytes.len());
                if random.bool() {
                    database.resize(database.len().max(end), 0);
                    database[begin..end].copy_from_slice(bytes);
                }
            }
            let path = world.database(&database);
            fs::write(path.with_extension("db-journal"), &kept).unwrap();
            assert!(opened(&path) == old, "{from} to {to}");
        }
    }
}

#[test]
fn an_error_at_any_step_rolls_back() {
    let world = World::new(1024, "PRAGMA journal_mode = WAL");
    let (from, to) = (1, 2);
    let full = |_: Step<'_>| Err(io::Error::from(io::ErrorKind::StorageFull));
    for failing in 0.. {
        let path = world.database(world.state(from));
        let (mut steps, mut at_end) = (0, false);
        let fetched = world.fetched(&path, to);
        let done = fetched.apply_watched(&mut |step| {
            steps += 1;
            if steps != failing + 1 {
                return Ok(());
            }
            at_end = step == Step::Folder;
            full(step)
        });
        let Err(e) = done else {
            assert!(failing > 5, "{failing}");
            break;
        };
        if at_end {
            assert!(!matches!(e, RestoreError::HalfDone { .. }), "{e}");
            assert_eq!(names(&path), ["app.db"], "{e}");
            assert!(fs::read(&path).unwrap() == world.state(to), "the journal is gone: it is the new state");
            continue;
        }
        if let RestoreError::HalfDone { .. } = e {
            // Only the end of the work cannot be taken back.
            assert!(e.to_string().contains("app.db-journal") && steps + 2 > failing, "{e}");
            let now = opened(&path);
            assert!(now == world.state(from) || now == world.state(to));
            continue;
        }
        assert_eq!(names(&path), ["app.db"], "{e}");
        assert!(fs::read(&path).unwrap() == world.state(from), "step {failing}: {e}");
    }
    // The disk fails for good: the journal is kept, and SQLite rolls it back.
    let path = world.database(world.state(from));
    let mut steps = 0;
    let e = world.fetched(&path, to).apply_watched(&mut |step| {
        steps += 1;
        if steps > 3 { full(step) } else { Ok(()) }
    });
    let e = e.unwrap_err();
    assert!(matches!(e, RestoreError::HalfDone { .. }), "{e}");
    assert_eq!(names(&path), ["app.db", "app.db-journal"]);
    let e = world.plan(&path, to, None).unwrap_err().to_string();
    assert!(e.contains("app.db-journal is the journal of a transaction that was cut off"), "{e}");
    assert!(opened(&path) == world.state(from));
    world.becomes(&path, to);
}

/// A page that is not replaced was edited, and the time set back: the result was called equal.
#[test]
fn a_file_that_is_edited_meanwhile_is_left_alone() {
    let world = World::new(1024, "");
    let path = world.database(world.state(1));
    let fetched = world.fetched(&path, 2);
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    let mut edited = world.state(1).to_vec();
    let same =
        |n: &usize| edited.get(n * 1024..(n + 1) * 1024) == world.state(2).get(n * 1024..(n + 1) * 1024);
    let page = (1..edited.len() / 1024).find(same).expect("a page that is not replaced");
    edited[page * 1024 + 700] ^= 1;
    fs::write(&path, &edited).unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    let e = fetched.apply().unwrap_err();
    assert!(matches!(e, RestoreError::Changed { .. }), "{e}");
    assert!(fs::read(&path).unwrap() == edited && names(&path) == ["app.db"]);
}

#[test]
fn what_cannot_be_proven_is_restored_whole() {
    let world = World::new(1024, "");
    let mut other = world.state(2).to_vec();
    other[5000] ^= 1;
    let path = world.database(&other);
    assert_eq!(world.whole(&path, 4), "it is not one of the states of the replica");
    // With its page hashes as of a state, only one page more is needed.
    let hashes = |state: &[u8]| {
        (1..).filter_map(Pgno::new).zip(state.chunks(1024)).map(|(n, page)| page_hash(n, page)).collect()
    };
    for (state, fits) in [(2, true), (3, false)] {
        let hint = Hint { txid: Txid(2), hashes: hashes(world.state(state)) };
        match world.plan(&path, 3, Some(hint)).unwrap() {
            Planned::Pages(plan) => {
                assert_eq!((plan.base(), fits), ((Txid(2), 1), true));
                wait(plan.fetch(&Silent)).unwrap().apply().unwrap();
                assert!(fs::read(&path).unwrap() == world.state(3));
                fs::write(&path, &other).unwrap();
            }
            Planned::Whole(why) => assert!(!fits, "{why}"),
        }
    }
    let path = world.database(&world.state(2)[..5000]);
    assert!(world.whole(&path, 4).contains("not a number of pages of 1024 bytes"));
    let path = world.database(world.state(2));
    fs::hard_link(&path, path.with_extension("other")).unwrap();
    assert!(world.whole(&path, 4).contains("second name"));
    let path = world.database(World::new(2048, "").state(1));
    assert!(world.whole(&path, 4).contains("pages of 2048 bytes"));
    let path = world.database(world.state(2));
    world.put(0, 4, 4, false);
    assert!(world.whole(&path, 4).contains("no checksum"));
    world.put(0, 4, 4, true);
    world.remove(0, 3, 3);
    world.put(9, 1, 4, true);
    assert!(world.whole(&path, 4).contains("no longer has the files"));
    for bytes in [&b"some text that is no database"[..], &[7; 4096]] {
        let path = world.database(bytes);
        let e = world.plan(&path, 2, None).unwrap_err().to_string();
        assert!(e.contains("is not a SQLite database") && e.contains("--force"), "{e}");
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }
}

/// A file of another database, in whose header the checksum is the wanted one.
#[test]
fn pages_that_make_another_database_are_not_written() {
    let world = World::new(1024, "");
    let path = world.database(world.state(1));
    let mut other = World::new(1024, "");
    let wanted = DatabaseChecksum::of(world.page_size, world.state(2));
    other.states[0] = world.state(1).to_vec();
    other.states[1] = world.state(1).to_vec();
    for at in [3000, 9000] {
        other.states[1][at] ^= 1;
    }
    other.put_as(0, 2, 2, Some(wanted));
    let name = "replica/ltx/0/0000000000000002-0000000000000002.ltx";
    fs::copy(other.path(name), world.path(name)).unwrap();
    let e = match world.plan(&path, 2, None).unwrap() {
        Planned::Pages(plan) => wait(plan.fetch(&Silent)).unwrap_err(),
        Planned::Whole(why) => panic!("{why}"),
    };
    assert!(is_about_files(&e) && matches!(e, RestoreError::Checksum { .. }), "{e}");
    assert_eq!(names(&path), ["app.db"]);
    assert!(fs::read(&path).unwrap() == world.state(1));
}

/// The page with the lock bytes has no content: it is neither fetched nor kept in the journal, and
/// a file that becomes long enough for it has zeros there.
#[test]
#[ignore = "reads 20 GB of zeros"]
fn the_lock_page_has_no_content() {
    const SIZE: usize = 65536;
    let mut world = World::new(SIZE as u32, "");
    let lock = world.page_size.lock_page().index();
    let head = world.state(1)[..SIZE].to_vec();
    let state = |pages: usize, seed: u8| {
        let mut bytes = vec![0; pages * SIZE];
        bytes[..SIZE].copy_from_slice(&head);
        for n in [1, lock - 1, lock + 1, pages - 1].into_iter().filter(|n| *n < pages && *n != lock) {
            bytes[n * SIZE..(n + 1) * SIZE].fill(seed);
        }
        bytes
    };
    world.states = vec![state(lock + 4, 1), state(lock + 6, 2), state(lock - 3, 3), state(lock + 3, 4)];
    fs::remove_dir_all(world.path("replica")).unwrap();
    world.put(9, 1, 1, true);
    (2..=4).for_each(|n| world.put(0, n, n, true));
    let path = world.path("db/app.db");
    fs::create_dir(path.parent().unwrap()).unwrap();
    let file = fs::File::create(&path).unwrap();
    file.set_len(world.state(1).len() as u64).unwrap();
    for n in [0, 1, lock - 1, lock + 1, lock + 3] {
        std::os::unix::fs::FileExt::write_all_at(
            &file,
            &world.state(1)[n * SIZE..][..SIZE],
            (n * SIZE) as u64,
        )
        .unwrap();
    }
    drop(file);
    for to in [2, 1, 3, 4, 3, 2, 4] {
        let until = Until::Txid(Txid(to as u64));
        let options = DeltaOptions { until, integrity: Integrity::None, ..world.options(&path, to, None) };
        let Planned::Pages(plan) = wait(plan(world.store(), options)).unwrap() else { panic!("the whole") };
        assert!(plan.pages() < 16, "to {to}: {} pages", plan.pages());
        wait(plan.fetch(&Silent)).unwrap().apply().unwrap();
        assert_eq!(names(&path), ["app.db"]);
        assert!(fs::read(&path).unwrap() == world.state(to), "to {to}");
    }
}

/// Of a file of which 1% differs at most 3% are fetched, forwards and backwards in time.
#[test]
fn what_is_fetched_is_what_differs() {
    const PAGES: usize = 6000;
    let mut world = World::new(4096, "");
    let mut random = fastrand::Rng::with_seed(1);
    let mut bytes = world.state(1)[..4096].to_vec();
    bytes.resize(PAGES * 4096, 0);
    random.fill(&mut bytes[4096..]);
    let mut changed = bytes.clone();
    for n in (7..PAGES).step_by(PAGES / 60) {
        random.fill(&mut changed[n * 4096..][..4096]);
    }
    world.states = vec![bytes, changed];
    fs::remove_dir_all(world.path("replica")).unwrap();
    world.put(9, 1, 1, true);
    world.put(0, 2, 2, true);
    for (from, to) in [(1, 2), (2, 1)] {
        let path = world.database(world.state(from));
        let options = DeltaOptions { integrity: Integrity::None, ..world.options(&path, to, None) };
        let Planned::Pages(plan) = wait(plan(world.store(), options)).unwrap() else { panic!("the whole") };
        assert_eq!((plan.pages(), plan.base()), (60, (Txid(from as u64), 0)));
        let report = wait(plan.fetch(&Silent)).unwrap().apply().unwrap();
        assert!(fs::read(&path).unwrap() == world.state(to));
        let (fetched, of) = (report.fetched_bytes, report.output_bytes);
        assert!(fetched > of / 100 && fetched <= of * 3 / 100, "{from} to {to}: {fetched} of {of} bytes");
    }
}

#[test]
fn a_database_in_use_or_with_a_wal_is_not_touched() {
    let world = World::new(1024, "PRAGMA journal_mode = WAL");
    let path = world.database(world.state(2));
    let fetched = world.fetched(&path, 3);
    let db = Connection::open(&path).unwrap();
    let e = db.query_row("SELECT count(*) FROM t", [], |_| Ok(())).unwrap_err().to_string();
    assert!(e.contains("locked"), "another connection must not read meanwhile: {e}");
    drop(db);
    fetched.apply().unwrap();
    let path = world.database(world.state(2));
    let fetched = world.fetched(&path, 3);
    fs::write(&path, world.state(1)).unwrap();
    let e = fetched.apply().unwrap_err();
    assert!(matches!(e, RestoreError::Changed { .. }), "{e}");
    assert!(fs::read(&path).unwrap() == world.state(1));
    let wal = path.with_extension("db-wal");
    fs::write(&wal, "frames").unwrap();
    let e = world.plan(&path, 3, None).unwrap_err().to_string();
    assert!(e.contains("app.db-wal may hold transactions") && e.contains("wal_checkpoint(TRUNCATE)"), "{e}");
    assert_eq!(fs::read(&wal).unwrap(), b"frames");
}
