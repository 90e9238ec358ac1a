//! Frames of the WAL that SQLite has published and that can't be proven.
//!
//! SQLite 3.40 wrote frames without salts and checksums (a savepoint that spilled, `ROLLBACK TO`,
//! `COMMIT`). lsfast took them for frames that are still to come, and waited with CKPT in hand:
//! nothing was stored any more, nobody could checkpoint, and the WAL grew for ever.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rusqlite::Connection;
use serde_json::Value;

use crate::support::place::Place;
use crate::support::process::{Process, until};
use crate::support::{lsfast, sqlite};

const PAGE: u64 = 4096;
const FRAME: u64 = 24 + PAGE;

/// What is in the blobs, so that a page of nothing else is found in the WAL.
const FILLED: u8 = 0xab;

/// What happens to the frames of one transaction.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// None of them has salts or a checksum, as SQLite 3.40 writes them.
    Unsigned,
    /// A byte of the checksum of one in the middle.
    Checksum,
    /// A byte of the salts of the first.
    Salt,
    /// A byte of the page number of one in the middle: only the wal-index knows it then.
    PageNumber,
    /// A byte of a page.
    Content,
    /// A byte of the checksum of the last, which is the commit.
    Commit,
}

const FAULTS: [Fault; 6] =
    [Fault::Unsigned, Fault::Checksum, Fault::Salt, Fault::PageNumber, Fault::Content, Fault::Commit];

struct Scene {
    dir: tempfile::TempDir,
    place: Place,
    app: Connection,
}

impl Scene {
    fn new() -> Scene {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let app = sqlite::create(&dir.path().join("app.db"), PAGE as u32);
        let place = Place::Dir(dir.path().join("replicas"));
        let scene = Scene { dir, place, app };
        scene.commits(5);
        scene
    }

    fn db(&self) -> PathBuf {
        self.dir.path().join("app.db")
    }

    fn wal(&self) -> File {
        File::options().read(true).write(true).open(self.dir.path().join("app.db-wal")).expect("the WAL")
    }

    fn start(&self) -> Process {
        lsfast::replicate(&self.db(), &[self.place.url("db")], &[])
    }

    fn commits(&self, count: usize) {
        for i in 0..count {
            self.app.execute("INSERT INTO log VALUES(?1, hex(randomblob(300)))", [i as i64]).expect("a row");
        }
    }

    /// One transaction of some 30 frames, most of them filled pages.
    fn transaction(&self) {
        self.app.execute_batch("BEGIN").expect("begin");
        for _ in 0..5 {
            let body = vec![FILLED; 5 * PAGE as usize];
            self.app.execute("INSERT INTO items(name, body) VALUES('filled', ?1)", [body]).expect("a row");
        }
        self.app.execute_batch("COMMIT").expect("commit");
    }

    fn status(&self) -> Value {
        let output = lsfast::run(lsfast::command(["status", "--json", self.db().to_str().expect("UTF-8")]));
        let all: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        all["databases"][0].clone()
    }

    fn synced(&self) -> Value {
        until("everything to be stored", || {
            let status = self.status();
            let replica = &status["replicas"][0];
            let synced = replica["state"] == "following" && replica["lag"]["commits"] == 0;
            synced.then_some(status)
        })
    }

    /// A transaction whose frames are damaged before lsfast has seen one of them.
    fn damaged_transaction(&self, process: &Process, fault: Fault) {
        self.damaged_while_halted(process, fault);
        process.signal("CONT");
    }

    /// A transaction whose frames are damaged while lsfast is halted. It stays halted.
    fn damaged_while_halted(&self, process: &Process, fault: Fault) {
        process.signal("STOP");
        let bytes = || std::fs::read(self.dir.path().join("app.db-wal")).expect("the WAL");
        let before = bytes();
        self.transaction();
        let changed = bytes().iter().zip(&before).position(|(new, old)| new != old).unwrap_or(before.len());
        // In the header if the WAL has started over.
        spoil(&self.wal(), (changed as u64).saturating_sub(32) / FRAME + 1, fault);
    }

    fn restored(&self) -> Option<String> {
        let out = self.dir.path().join("out.db");
        _ = std::fs::remove_file(&out);
        let url = self.place.url("db");
        lsfast::run(lsfast::command(["restore", "-o", out.to_str()?, &url]))
            .status
            .success()
            .then(|| sqlite::dump_hash(&out))
    }

    /// Waits until a restore is what the application sees.
    fn comes_up(&self, what: &str) {
        let now = sqlite::dump_hash(&self.db());
        until(what, || self.restored().filter(|restored| *restored == now));
    }

    /// Commits until the WAL has started over: nothing keeps checkpoints from coming through.
    fn starts_over(&self) {
        let salts = || {
            let mut salts = [0; 8];
            self.wal().read_exact_at(&mut salts, 16).map(|()| salts).unwrap_or_default()
        };
        let before = salts();
        until("the WAL to start over", || {
            self.commits(100);
            (salts() != before).then_some(())
        });
    }

    fn sounds(&self) {
        until("the WAL to be sound", || self.status()["wal_damage"].is_null().then_some(()));
    }
}

fn frame_at(frame: u64) -> u64 {
    32 + (frame - 1) * FRAME
}

/// Damages the transaction that begins with frame `first`.
fn spoil(wal: &File, first: u64, fault: Fault) {
    let read = |frame: u64, at: u64, len: usize| {
        let mut bytes = vec![0; len];
        wal.read_exact_at(&mut bytes, frame_at(frame) + at).expect("a frame");
        bytes
    };
    let last = (first..).find(|f| read(*f, 4, 4) != [0; 4]).expect("a commit");
    assert!(last > first + 10, "frames {first} to {last} are no long transaction");
    let change = |frame: u64, at: u64| {
        let byte = read(frame, at, 1)[0];
        wal.write_all_at(&[byte ^ 0x10], frame_at(frame) + at).expect("a byte");
    };
    match fault {
        Fault::Unsigned => {
            for frame in first..=last {
                wal.write_all_at(&[0; 16], frame_at(frame) + 8).expect("a frame");
            }
        }
        Fault::Checksum => change((first + last) / 2, 17),
        Fault::Salt => change(first, 9),
        Fault::PageNumber => change((first + last) / 2, 2),
        Fault::Content => {
            let filled = |f: &u64| read(*f, 24 + 1000, 2000).iter().all(|b| *b == FILLED);
            change((first..=last).find(filled).expect("a page of a blob"), 24 + 2000);
        }
        Fault::Commit => change(last, 18),
    }
}

#[test]
fn what_cant_be_proven_is_checkpointed_and_compared_however_often_it_comes() {
    let scene = Scene::new();
    let process = scene.start();
    process.wait_for_line("image stored");
    for fault in FAULTS {
        scene.damaged_transaction(&process, fault);
        scene.comes_up(&format!("the transaction to be stored ({fault:?})"));
        scene.commits(2);
        scene.comes_up(&format!("what came after it to be stored ({fault:?})"));
    }
    scene.starts_over();
    scene.sounds();
    scene.comes_up("the rest");
    let log = process.stop();
    assert_eq!(log.matches("be proven: SQLite").count(), 1, "logged once in a minute:\n{log}");
    assert!(log.contains("the WAL is sound again"), "{log}");
}

#[test]
fn a_reader_with_an_old_snapshot_does_not_hold_up_the_replica() {
    let scene = Scene::new();
    let process = scene.start();
    process.wait_for_line("image stored");
    let reader = sqlite::open(&scene.db());
    reader.execute_batch("BEGIN; SELECT count(*) FROM items").expect("a snapshot");
    for fault in [Fault::Unsigned, Fault::PageNumber] {
        scene.damaged_transaction(&process, fault);
        scene.commits(2);
        scene.comes_up("what was committed beside the reader");
    }
    let damage = scene.status()["wal_damage"].clone();
    assert!(
        damage["time"].is_string() && damage["message"].as_str().is_some_and(|m| m.contains("frame")),
        "{damage}"
    );
    let output = lsfast::run(lsfast::command(["status", "-v", scene.db().to_str().expect("UTF-8")]));
    assert!(String::from_utf8_lossy(&output.stdout).contains("can't be proven"), "{output:?}");
    reader.execute_batch("COMMIT").expect("its end");
    // No commit follows that would start the WAL over.
    scene.sounds();
    process.stop();
    scene.comes_up("the end");
}

#[test]
fn a_store_that_is_unreachable_does_not_make_the_log_grow() {
    // I6: the WAL starts over while nothing can be stored.
    let scene = Scene::new();
    let process = scene.start();
    process.wait_for_line("image stored");
    scene.synced();
    let Place::Dir(root) = &scene.place else { panic!("a directory") };
    std::fs::rename(root.join("db"), root.join("aside")).expect("a rename");
    std::fs::write(root.join("db"), b"in the way").expect("a file");
    scene.damaged_transaction(&process, Fault::Unsigned);
    scene.starts_over();
    scene.damaged_transaction(&process, Fault::Content);
    scene.starts_over();
    std::fs::remove_file(root.join("db")).expect("the file");
    std::fs::rename(root.join("aside"), root.join("db")).expect("a rename");
    scene.comes_up("all of it");
    process.stop();
}

#[test]
fn damage_that_is_there_at_the_start_is_no_obstacle() {
    for fault in [Fault::Unsigned, Fault::Checksum, Fault::PageNumber, Fault::Commit] {
        let scene = Scene::new();
        // Once before there is a replica, once with one.
        for answer in ["image stored", "compared page hashes"] {
            let before = (scene.wal().metadata().expect("the WAL").len() - 32) / FRAME;
            scene.transaction();
            spoil(&scene.wal(), before + 1, fault);
            let process = scene.start();
            process.wait_for_line(answer);
            scene.commits(2);
            scene.comes_up(&format!("what was committed ({fault:?}, {answer})"));
            process.stop();
            // A WAL of this generation alone.
            scene.app.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).expect("a checkpoint");
            scene.commits(3);
        }
    }
}

/// With the SQLite that did it first, where the machine has it.
/// The last checkpoint left the WAL as it was, and the next opening recovered it up to the damage:
/// older frames hid newer pages of the database file.
#[test]
fn frames_that_change_after_they_were_read_lose_nothing_at_a_clean_stop() {
    for (fault, copied) in [(Fault::Unsigned, false), (Fault::Checksum, false), (Fault::Checksum, true)] {
        let scene = Scene::new();
        let process = scene.start();
        scene.commits(20);
        let mut first = 0;
        for _ in 0..2 {
            scene.synced();
            first =
                std::fs::metadata(scene.dir.path().join("app.db-wal")).expect("the WAL").len() / FRAME + 1;
            scene.transaction();
        }
        scene.commits(20);
        if copied {
            scene.app.execute_batch("PRAGMA wal_checkpoint(PASSIVE)").expect("a checkpoint");
        }
        scene.synced();
        let expected = sqlite::dump_hash(&scene.db());
        spoil(&scene.wal(), first, fault);
        let Scene { dir, place, app } = scene;
        drop(app);
        let log = process.stop();
        let db = dir.path().join("app.db");
        assert_eq!(sqlite::dump_hash(&db), expected, "{fault:?}, {copied}: {log}");
        let process = lsfast::replicate(&db, &[place.url("db")], &[]);
        process.wait_for_line("replicating");
        process.stop();
        let out = dir.path().join("out.db");
        lsfast::restore(&out, &place.url("db"), &[], &[]);
        assert_eq!(sqlite::dump_hash(&out), expected, "{fault:?}, {copied}");
    }
}

/// A stop that came before damaged frames were read often enough to count as damaged left them out.
#[test]
fn a_stop_before_the_first_look_at_damage_loses_nothing() {
    for fault in [Fault::Unsigned, Fault::Checksum, Fault::PageNumber, Fault::Commit] {
        let scene = Scene::new();
        let mut process = scene.start();
        scene.synced();
        scene.damaged_while_halted(&process, fault);
        process.signal("TERM");
        process.signal("CONT");
        assert!(process.wait().success(), "{fault:?}: {}", process.output());
        let log = process.output();
        assert_eq!(scene.restored(), Some(sqlite::dump_hash(&scene.db())), "{fault:?}: {log}");
    }
}

#[test]
fn a_savepoint_that_spilled_and_was_rolled_back() {
    let scene = Scene::new();
    let process = scene.start();
    process.wait_for_line("image stored");
    let script = "PRAGMA cache_size=10; BEGIN IMMEDIATE; SAVEPOINT s; \
        INSERT INTO items(name, body) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n LIMIT 300) SELECT 'x', randomblob(4000) FROM n; \
        UPDATE items SET name = name || 'y'; ROLLBACK TO s; COMMIT;";
    for round in 0..3 {
        scene.synced();
        if !shell(&scene.db(), script) {
            eprintln!("there is no sqlite3 here: nothing was tried");
            return;
        }
        scene.commits(5);
        scene.comes_up(&format!("what was committed after the savepoint, round {round}"));
    }
    scene.starts_over();
    scene.comes_up("the rest");
    let log = process.stop();
    eprintln!("frames without checksums were met: {}", log.contains("be proven: SQLite"));
}

/// Runs SQL by the `sqlite3` of this machine; `false` if it has none.
fn shell(db: &Path, script: &str) -> bool {
    let started = Command::new("sqlite3").arg(db).stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
    let Ok(mut child) = started else { return false };
    child.stdin.take().expect("a pipe").write_all(script.as_bytes()).expect("its input");
    assert!(child.wait().expect("its end").success());
    true
}
