//! Loads that give the WAL no moment in which to start over. It must not grow without end, and the
//! application must not get an error that it would not get without lsfast.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rusqlite::Connection;

use crate::support::place::Place;
use crate::support::{lsfast, sqlite};

/// Commits by the end of which the WAL has started over twice: some five times as many as it takes.
const COMMITS_MAX: u32 = 40_000;

/// The salts of the present generation, from the WAL itself: closing the wal-index would drop the
/// locks of the connections in this process.
fn salts(wal: &Path) -> [u8; 8] {
    let mut salts = [0; 8];
    File::open(wal).expect("a WAL").read_exact_at(&mut salts, 16).expect("a header");
    salts
}

/// The writer leaves checkpoints to lsfast, never waits for a lock, and commits faster than two
/// flushes of a disk. A checkpoint always left a rest, and the WAL grew with each commit.
#[test]
fn the_wal_of_a_steady_writer_starts_over() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("app.db");
    let place = Place::Dir(dir.path().join("replica"));
    let app = sqlite::create(&path, 4096);
    app.busy_timeout(Duration::ZERO).expect("a timeout");
    app.pragma_update(None, "wal_autocheckpoint", 0).expect("a pragma");
    let process = lsfast::replicate(&path, &[place.url("db")], &[]);
    process.wait_for_line("image stored");
    let wal = dir.path().join("app.db-wal");
    let ended = AtomicBool::new(false);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            let reader = Connection::open(&path).expect("a connection");
            reader.busy_timeout(Duration::ZERO).expect("a timeout");
            while !ended.load(Ordering::Relaxed) {
                let count = reader.query_row("SELECT count(*) FROM log", [], |r| r.get::<_, i64>(0));
                count.unwrap_or_else(|e| panic!("a reader: {e}\n{}", process.output()));
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let (mut seen, mut resets) = (salts(&wal), 0);
        for i in 0..COMMITS_MAX {
            app.execute("INSERT INTO log VALUES(?, hex(randomblob(400)))", [i])
                .unwrap_or_else(|e| panic!("commit {i}: {e}\n{}", process.output()));
            if i % 50 == 0 && salts(&wal) != seen {
                (seen, resets) = (salts(&wal), resets + 1);
            }
            if resets == 2 {
                break;
            }
            std::thread::sleep(Duration::from_micros(300));
        }
        ended.store(true, Ordering::Relaxed);
        assert_eq!(
            resets,
            2,
            "the WAL has {} bytes\n{}",
            wal.metadata().map_or(0, |m| m.len()),
            process.output()
        );
    });
    let log = process.stop();
    assert!(!log.contains("continuity of the WAL is not proven"), "{log}");
    let out = dir.path().join("out.db");
    lsfast::restore(&out, &place.url("db"), &[], &["--integrity-check", "full"]);
    assert_eq!(sqlite::dump_hash(&out), sqlite::dump_hash(&path));
}

/// A turn of the application came only at 1,000 frames: before that its checkpoints failed, and a
/// smaller `wal_autocheckpoint` was no use.
#[test]
fn an_application_that_checkpoints_early_gets_its_turn_early() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("app.db");
    let place = Place::Dir(dir.path().join("replica"));
    let app = sqlite::create(&path, 4096);
    app.busy_timeout(Duration::from_secs(60)).expect("a timeout");
    let process = lsfast::replicate(&path, &[place.url("db")], &[]);
    process.wait_for_line("image stored");
    let commits = |count: i64| {
        for i in 0..count {
            app.execute("INSERT INTO log VALUES(?, hex(randomblob(400)))", [i]).expect("a commit");
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    app.pragma_update(None, "wal_autocheckpoint", 100).expect("a pragma");
    commits(3000);
    let frames = dir.path().join("app.db-wal").metadata().expect("a WAL").len() / (4096 + 24);
    assert!(frames < 900, "{frames} frames\n{}", process.output());
    app.pragma_update(None, "wal_autocheckpoint", 0).expect("a pragma");
    let mut done = 0;
    for _ in 0..20 {
        commits(150);
        let busy: i64 =
            app.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |r| r.get(0)).expect("a checkpoint");
        done += 1 - busy;
    }
    assert!(done >= 15, "{done} of 20 checkpoints succeeded\n{}", process.output());
    let log = process.stop();
    // A late turn may lead to a comparison of page hashes, which loses nothing but is no rule.
    assert!(log.matches("continuity of the WAL is not proven").count() <= 3, "{log}");
    let out = dir.path().join("out.db");
    lsfast::restore(&out, &place.url("db"), &[], &["--integrity-check", "full"]);
    assert_eq!(sqlite::dump_hash(&out), sqlite::dump_hash(&path));
}

/// CKPT was held while few frames came, and nearly all explicit checkpoints failed.
#[test]
fn explicit_checkpoints_succeed_while_few_frames_come() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("app.db");
    let place = Place::Dir(dir.path().join("replica"));
    let app = sqlite::create(&path, 4096);
    app.pragma_update(None, "wal_autocheckpoint", 0).expect("a pragma");
    let process = lsfast::replicate(&path, &[place.url("db")], &[]);
    process.wait_for_line("image stored");
    let other = sqlite::open(&path);
    other.busy_timeout(Duration::from_secs(60)).expect("a timeout");
    for mode in ["PASSIVE", "FULL", "RESTART", "TRUNCATE"] {
        let mut done = 0;
        for i in 0..20 {
            app.execute("INSERT INTO log VALUES(?, hex(randomblob(400)))", [i]).expect("a commit");
            std::thread::sleep(Duration::from_millis(10));
            let checkpoint = format!("PRAGMA wal_checkpoint({mode})");
            // The second finds nothing to copy.
            for _ in 0..2 {
                done += 1 - other.query_row(&checkpoint, [], |r| r.get::<_, i64>(0)).expect("a checkpoint");
            }
        }
        assert!(done >= 36, "{mode}: {done} of 40 checkpoints succeeded\n{}", process.output());
    }
    let frames = dir.path().join("app.db-wal").metadata().expect("a WAL").len() / (4096 + 24);
    assert!(frames < 100, "{frames} frames\n{}", process.output());
    let log = process.stop();
    // A late turn may lead to a comparison of page hashes, which loses nothing but is no rule.
    assert!(log.matches("continuity of the WAL is not proven").count() <= 3, "{log}");
    let out = dir.path().join("out.db");
    lsfast::restore(&out, &place.url("db"), &[], &["--integrity-check", "full"]);
    assert_eq!(sqlite::dump_hash(&out), sqlite::dump_hash(&path));
}
