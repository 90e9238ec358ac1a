//! A wal-index that another program damaged or cut, files that are exchanged under lsfast, and
//! files that arrive one after the other. The application must see what it would see without
//! lsfast, as soon, and the replica must end as the database.

use std::fs::{
    File, {self},
};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tempfile::TempDir;

use crate::support::place::Place;
use crate::support::process::{Process, until};
use crate::support::{canned, lsfast, s3, sqlite};

/// SQLite gives up with "locking protocol" after 10 s. Less than half of it: repaired soon, on a
/// loaded machine too.
const SOON: Duration = Duration::from_secs(4);

struct Scene {
    dir: TempDir,
    place: Place,
}

impl Scene {
    fn new() -> Scene {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let place = Place::Dir(dir.path().join("replica"));
        Scene { dir, place }
    }

    fn path(&self, suffix: &str) -> PathBuf {
        self.dir.path().join(format!("app.db{suffix}"))
    }

    fn url(&self) -> String {
        self.place.url("db")
    }

    fn start(&self) -> Process {
        lsfast::replicate(&self.path(""), &[self.url()], &[])
    }

    fn assert_restores(&self) {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let out = dir.path().join("out.db");
        lsfast::restore(&out, &self.url(), &[], &["--integrity-check", "full"]);
        assert_eq!(
            sqlite::dump_hash(&out),
            sqlite::dump_hash(&self.path("")),
            "the replica is not the database"
        );
    }

    fn wait_until_stored(&self) {
        let db = sqlite::dump_hash(&self.path(""));
        until("the replica to be the database", || {
            let out = self.dir.path().join("seen.db");
            let force = ["-o".as_ref(), out.as_os_str(), "--force".as_ref()];
            let mut command =
                lsfast::command([&["restore".as_ref()], &force[..], &[self.url().as_ref()]].concat());
            command.env("LSFAST_LOG", "error");
            let done = lsfast::run(command);
            (done.status.success() && sqlite::dump_hash(&out) == db).then_some(())
        });
    }
}

fn application(path: &Path) -> Connection {
    let app = sqlite::create(path, 4096);
    app.execute_batch("CREATE TABLE t(x, y)").expect("a table");
    app
}

/// What one application does from its opening to its end.
fn session(path: &Path, generation: i64) -> rusqlite::Result<Vec<(i64, i64)>> {
    let app = Connection::open(path)?;
    app.query_row("PRAGMA journal_mode=WAL", [], |r| r.get::<_, String>(0))?;
    app.execute_batch("CREATE TABLE IF NOT EXISTS t(x, y)")?;
    for _ in 0..20 {
        app.execute("INSERT INTO t VALUES(?, randomblob(900))", [generation])?;
    }
    let mut counts = app.prepare("SELECT x, count(*) FROM t GROUP BY x ORDER BY x")?;
    counts.query_map([], |r| Ok((r.get(0)?, r.get(1)?)))?.collect()
}

/// One way to damage a wal-index.
struct Harm {
    what: String,
    at: usize,
    bytes: Vec<u8>,
}

fn harms(before: &[u8]) -> Vec<Harm> {
    let fields = [(0, "version"), (8, "change"), (12, "initialised"), (13, "byte order"), (14, "page size")];
    let more = [(16, "mxFrame"), (20, "size"), (24, "frame checksum"), (32, "salt"), (44, "checksum")];
    let mut harms = Vec::new();
    for (offset, name) in fields.into_iter().chain(more) {
        for copy in 0..2 {
            let at = 48 * copy + offset;
            harms.push(Harm {
                what: format!("{name} of copy {}", copy + 1),
                at,
                bytes: vec![before[at] ^ 1],
            });
        }
    }
    for slot in 0..5 {
        for mark in [0, 1, 5, u32::MAX - 1] {
            let what = format!("read mark {slot} is {mark}");
            harms.push(Harm { what, at: 100 + 4 * slot, bytes: mark.to_ne_bytes().to_vec() });
        }
    }
    for n in [0, u32::MAX] {
        harms.push(Harm { what: format!("nBackfill is {n}"), at: 96, bytes: n.to_ne_bytes().to_vec() });
    }
    let mut garbage = vec![0; 32768];
    fastrand::Rng::with_seed(1).fill(&mut garbage);
    garbage[120..128].fill(0);
    harms.push(Harm { what: "both headers zero".into(), at: 0, bytes: vec![0; 96] });
    harms.push(Harm { what: "the lead is garbage".into(), at: 0, bytes: garbage[..136].to_vec() });
    harms.push(Harm { what: "all zero".into(), at: 0, bytes: vec![0; 32768] });
    harms.push(Harm { what: "all garbage".into(), at: 0, bytes: garbage });
    harms
}

#[test]
fn whatever_is_damaged_in_a_wal_index_the_next_commit_succeeds() {
    let scene = Scene::new();
    let app = application(&scene.path(""));
    let process = scene.start();
    process.wait_for_line("image stored");
    // Kept open: closing it would drop the locks of the connection.
    let shm = File::options().read(true).write(true).open(scene.path("-shm")).expect("the wal-index");
    let mut before = vec![0; 32768];
    shm.read_exact_at(&mut before, 0).expect("a wal-index");
    let mapped = Mapped::of(&shm);
    for (i, harm) in harms(&before).into_iter().enumerate() {
        // By a write, which gives a hint, and through shared memory, as a writer does that dies,
        // which does not.
        if i % 4 == 3 {
            mapped.write(harm.at, &harm.bytes);
        } else {
            shm.write_all_at(&harm.bytes, harm.at as u64).expect("a write");
        }
        let begun = Instant::now();
        app.execute("INSERT INTO t VALUES(?, randomblob(2000))", [i64::try_from(i).unwrap()]).unwrap_or_else(
            |e| {
                panic!("{}: {e}\n{}", harm.what, process.output());
            },
        );
        assert!(begun.elapsed() < SOON, "{}: a commit took {:?}", harm.what, begun.elapsed());
    }
    // The log still starts over: no mark is taken for a reader.
    for i in 0..4000 {
        app.execute("INSERT INTO t VALUES(?, randomblob(2000))", [i]).expect("a row");
    }
    until("the log to start over", || {
        app.execute("UPDATE t SET y = randomblob(8) WHERE rowid = 1", []).expect("a row");
        let mut word = [0; 4];
        shm.read_exact_at(&mut word, 16).expect("mxFrame");
        (u32::from_ne_bytes(word) < 1000).then_some(())
    });
    let log = process.stop();
    // Usually SQLite has rebuilt it before lsfast has to do anything.
    assert!(log.matches("the wal-index is damaged").count() <= 1, "{log}");
    // A rebuild restarts SQLite's count of commits. Where that is not noticed at once, page hashes
    // are compared, which costs time and loses nothing.
    let answers =
        ["the damaged wal-index was rebuilt; nothing was missed", "continuity of the WAL is not proven"];
    assert!(answers.iter().any(|text| log.contains(text)), "{log}");
    assert!(log.matches(answers[1]).count() <= 5, "{log}");
    std::mem::forget(shm);
    scene.assert_restores();
}

/// Stores into shared memory.
struct Mapped(memmap2::MmapRaw);

#[allow(unsafe_code, reason = "SQLite stores into shared memory, and so does what dies while it does")]
impl Mapped {
    fn of(shm: &File) -> Mapped {
        Mapped(memmap2::MmapOptions::new().len(32768).map_raw(shm).expect("a mapping"))
    }

    fn write(&self, at: usize, bytes: &[u8]) {
        assert!(at + bytes.len() <= self.0.len());
        // SAFETY: inside the mapping, and no reference to it exists.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.0.as_mut_ptr().add(at), bytes.len()) };
    }
}

/// A way in which another program damages a wal-index so that its header stays valid.
type QuietHarm = (String, Box<dyn Fn(&File)>);

fn quiet_harms() -> Vec<QuietHarm> {
    let mut harms: Vec<QuietHarm> = Vec::new();
    for len in [100, 136, 1000, 4096, 20_000] {
        harms.push((format!("cut to {len}"), Box::new(move |shm| shm.set_len(len).expect("a length"))));
    }
    harms.push((
        "cut and made as long as before".into(),
        Box::new(|shm| [1000, 32768].into_iter().for_each(|len| shm.set_len(len).expect("a length"))),
    ));
    for (what, from, to) in [("tables", 136, 32768), ("page numbers", 136, 600), ("slots", 16384, 32768)] {
        let write = move |shm: &File| shm.write_all_at(&vec![0; to - from], from as u64).expect("a write");
        harms.push((format!("the {what} are zero"), Box::new(write)));
    }
    harms
}

/// The next application relied on a wal-index that no longer had the frames: it found fewer rows,
/// and its first commit damaged the database.
#[test]
fn a_wal_index_that_hides_frames_is_rebuilt_before_the_next_application_comes() {
    let scene = Scene::new();
    let mut rows = 0;
    let work = |rows: &mut i64, context: &dyn Fn() -> String| {
        let app = sqlite::open(&scene.path(""));
        let count: i64 = app.query_row("SELECT count(*) FROM t", [], |r| r.get(0)).expect("a count");
        assert_eq!(count, *rows, "{}", context());
        for i in 0..100 {
            app.execute("INSERT INTO t VALUES(?, randomblob(900))", [i]).expect("a row");
        }
        *rows += 100;
    };
    application(&scene.path(""));
    let process = scene.start();
    process.wait_for_line("image stored");
    work(&mut rows, &|| process.output());
    let old = fs::read(scene.path("-shm")).expect("the wal-index");
    let mut harms = quiet_harms();
    harms.push(("an old one".into(), Box::new(move |shm| shm.write_all_at(&old, 0).expect("a write"))));
    for (what, harm) in harms {
        work(&mut rows, &|| format!("before: {what}\n{}", process.output()));
        let shm = File::options().read(true).write(true).open(scene.path("-shm")).expect("the wal-index");
        let change = || {
            let mut lead = [0; 16];
            shm.read_exact_at(&mut lead, 0).ok()?;
            (lead[12] == 1).then(|| u32::from_ne_bytes(lead[8..12].try_into().expect("a word")))
        };
        let before = change();
        harm(&shm);
        // A recovery begins a new count.
        until("the wal-index to be rebuilt", || {
            (shm.metadata().expect("its length").len() >= 32768
                && change().is_some_and(|c| Some(c) != before && c <= 1))
            .then_some(())
        });
        drop(shm);
        work(&mut rows, &|| format!("{what}\n{}", process.output()));
        sqlite::assert_sound(&scene.path(""));
    }
    scene.wait_until_stored();
    let log = process.stop();
    assert_eq!(log.matches("another program damaged the wal-index").count(), 1, "{log}");
    assert!(!log.contains("continuity of the WAL is not proven"), "{log}");
}

#[test]
fn a_wal_index_that_is_cut_ends_nothing() {
    let scene = Scene::new();
    session(&scene.path(""), 0).expect("a session");
    let mut process = scene.start();
    process.wait_for_line("image stored");
    for (i, len) in [0, 3, 60, 100, 4096, 0, 0].into_iter().enumerate() {
        let shm = File::options().write(true).open(scene.path("-shm")).expect("the wal-index");
        shm.set_len(len).expect("a length");
        drop(shm);
        let begun = Instant::now();
        session(&scene.path(""), i as i64 + 1)
            .unwrap_or_else(|e| panic!("cut to {len}: {e}\n{}", process.output()));
        assert!(begun.elapsed() < SOON, "cut to {len}: {:?}", begun.elapsed());
        assert!(process.runs(), "cut to {len}: {}", process.output());
    }
    scene.wait_until_stored();
    process.stop();
}

#[test]
fn a_database_that_is_removed_and_begun_again_raises_no_error() {
    let away = [s3::url(canned::nobody(), "db")];
    let keys = [
        ("AWS_ACCESS_KEY_ID".to_owned(), "x".to_owned()),
        ("AWS_SECRET_ACCESS_KEY".to_owned(), "y".to_owned()),
    ];
    for store_is_up in [true, false] {
        let scene = Scene::new();
        let (path, fresh, aside) =
            (scene.path(""), scene.dir.path().join("fresh.db"), scene.dir.path().join("aside.db"));
        session(&path, 0).expect("a session");
        let urls = if store_is_up { [scene.url()] } else { away.clone() };
        let mut process = lsfast::replicate(&path, &urls, &keys);
        process.wait_for_line("replicating");
        for round in 1..=20 {
            let end =
                session(&path, round).unwrap_or_else(|e| panic!("round {round}: {e}\n{}", process.output()));
            assert_eq!(end.last(), Some(&(round, 20)));
            let expected = match round % 4 {
                0 => {
                    for suffix in ["", "-wal", "-shm"] {
                        _ = fs::remove_file(scene.path(suffix));
                    }
                    vec![(100, 20)]
                }
                1 => {
                    fs::remove_file(&path).expect("a database");
                    vec![(100, 20)]
                }
                2 => {
                    session(&fresh, 50).expect("a session");
                    fs::rename(&fresh, &path).expect("a rename");
                    vec![(50, 20), (100, 20)]
                }
                _ => {
                    fs::rename(&path, &aside).expect("a rename");
                    fs::rename(&aside, &path).expect("a rename");
                    [end, vec![(100, 20)]].concat()
                }
            };
            if matches!(round % 4, 1 | 2) {
                // What lsfast does once it has seen it. Before that the new
                // database would find the old one's
                // files.
                until("lsfast to leave the old database", || {
                    let left = fs::read(scene.path("-wal"));
                    left.map_or(true, |wal| wal.iter().take(32).all(|b| *b == 0)).then_some(())
                });
            }
            let after = session(&path, 100);
            assert_eq!(after, Ok(expected), "round {round}, store up: {store_is_up}\n{}", process.output());
            let app = sqlite::open(&path);
            app.execute("DELETE FROM t WHERE x >= 50", []).expect("rows deleted");
        }
        assert!(process.runs(), "{}", process.output());
        if store_is_up {
            scene.wait_until_stored();
            process.stop();
        }
    }
}

#[test]
fn a_database_that_is_moved_elsewhere_is_whole() {
    let scene = Scene::new();
    session(&scene.path(""), 1).expect("a session");
    let process = scene.start();
    process.wait_for_line("image stored");
    let rows = session(&scene.path(""), 2).expect("a session");
    let moved = scene.dir.path().join("moved.db");
    fs::rename(scene.path(""), &moved).expect("a rename");
    process.wait_for_line("replaced or removed");
    let app = sqlite::open(&moved);
    let count: i64 = app.query_row("SELECT count(*) FROM t", [], |r| r.get(0)).expect("a count");
    assert_eq!(count, rows.iter().map(|(_, n)| n).sum::<i64>());
    process.stop();
    sqlite::assert_sound(&moved);
}

#[test]
fn a_wal_that_arrives_after_its_database_is_seen() {
    let source = tempfile::tempdir().expect("a temporary folder");
    let live = source.path().join("live.db");
    let app = application(&live);
    app.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |r| r.get::<_, i64>(0)).expect("a checkpoint");
    for i in 0..100 {
        app.execute("INSERT INTO t VALUES(?, 'in the WAL')", [i]).expect("a row");
    }
    let copied = |suffix: &str| {
        let to = source.path().join(format!("backup.db{suffix}"));
        let from = format!("{}{suffix}", live.display());
        assert!(std::process::Command::new("cp").arg(from).arg(&to).status().expect("cp").success());
        to
    };
    let backup = [copied(""), copied("-wal")];
    // The WAL comes at once, when the database is followed already, or by a rename.
    for (late, by_rename) in [(false, false), (true, false), (true, true)] {
        let scene = Scene::new();
        let mut process = scene.start();
        process.wait_for_line("waiting for the database");
        fs::copy(&backup[0], scene.path("")).expect("a copy");
        if late {
            process.wait_for_line("image stored");
        }
        if by_rename {
            fs::copy(&backup[1], scene.path("-arriving")).expect("a copy");
            fs::rename(scene.path("-arriving"), scene.path("-wal")).expect("a rename");
        } else {
            fs::copy(&backup[1], scene.path("-wal")).expect("a copy");
        }
        if late {
            process.wait_for_line(if by_rename { "replaced" } else { "another program put a WAL" });
        }
        let app = sqlite::open(&scene.path(""));
        let count: i64 = app.query_row("SELECT count(*) FROM t", [], |r| r.get(0)).expect("a count");
        assert_eq!(count, 100, "late: {late}, by rename: {by_rename}\n{}", process.output());
        app.execute("INSERT INTO t VALUES(0, 'after it')", []).expect("a row");
        scene.wait_until_stored();
        assert!(process.runs());
        process.stop();
    }
}

#[test]
fn a_database_that_is_copied_slowly_is_opened_when_it_is_complete() {
    let source = tempfile::tempdir().expect("a temporary folder");
    let from = source.path().join("from.db");
    session(&from, 1).expect("a session");
    let bytes = fs::read(&from).expect("a database");
    let scene = Scene::new();
    let process = scene.start();
    process.wait_for_line("waiting for the database");
    let to = File::create(scene.path("")).expect("a file");
    for (i, piece) in bytes.chunks(bytes.len() / 4).enumerate() {
        to.write_all_at(piece, (i * (bytes.len() / 4)) as u64).expect("a write");
        // Longer than a file has to be quiet. Nothing is waited for: lsfast must do
        // nothing meanwhile.
        std::thread::sleep(Duration::from_millis(1200));
        if i < 3 {
            assert!(!scene.path("-shm").exists(), "opened after {} of 4 pieces", i + 1);
        }
    }
    process.wait_for_line("image stored");
    scene.wait_until_stored();
    process.stop();
}
