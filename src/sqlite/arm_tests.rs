use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::Connection;

use super::*;
use crate::wal::index::LOCK_CKPT;

/// An application without a busy timeout, whose WAL nothing copies.
fn application(path: &Path) -> Connection {
    let app = Connection::open(path).unwrap();
    app.busy_timeout(Duration::ZERO).unwrap();
    app.execute_batch("PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; CREATE TABLE t(x)").unwrap();
    app
}

fn insert(app: &Connection, rows: usize) {
    for _ in 0..rows {
        app.execute("INSERT INTO t VALUES(randomblob(2000))", []).unwrap();
    }
}

fn guarded(path: &Path) -> Database {
    let db = Database::open(path).unwrap();
    assert!(db.shm().try_lock(LOCK_CKPT, LockKind::Exclusive).unwrap());
    db
}

fn captured(db: &Database) -> FrameNo {
    db.shm().header().unwrap().mx_frame
}

/// The rows in the database file, without its WAL.
fn rows_in_file(db: &Database) -> i64 {
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("copy.db");
    let mut bytes = vec![0; usize::try_from(db.file().len().unwrap()).unwrap()];
    db.file().pread_exact(&mut bytes, 0).unwrap();
    std::fs::write(&copy, bytes).unwrap();
    let copy = Connection::open(&copy).unwrap();
    let sound: String = copy.query_row("PRAGMA integrity_check", [], |r| r.get(0)).unwrap();
    assert_eq!(sound, "ok");
    copy.query_row("SELECT count(*) FROM t", [], |r| r.get(0)).unwrap()
}

#[test]
fn the_next_commit_starts_an_armed_wal_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.db");
    let app = application(&path);
    insert(&app, 40);
    let db = guarded(&path);
    let (salts, seen) = (db.shm().header().unwrap().salts, captured(&db));
    // Committed after the last look of capture.
    insert(&app, 3);
    let ahead = arm(&db, seen).unwrap();
    assert!(ahead.is_some(), "what is not captured is returned");
    assert_eq!(db.shm().checkpoint_info().n_backfill, captured(&db));
    assert_eq!(rows_in_file(&db), 43);
    insert(&app, 1);
    assert_ne!(db.shm().header().unwrap().salts, salts);
    let count: i64 = app.query_row("SELECT count(*) FROM t", [], |r| r.get(0)).unwrap();
    assert_eq!(count, 44);
}

#[test]
fn a_database_that_shrank_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.db");
    let app = application(&path);
    insert(&app, 200);
    app.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |r| r.get::<_, i64>(0)).unwrap();
    let db = guarded(&path);
    app.execute_batch("DELETE FROM t WHERE rowid > 10; VACUUM").unwrap();
    arm(&db, captured(&db)).unwrap();
    let pages = u64::from(db.shm().header().unwrap().n_page);
    assert_eq!(db.file().len().unwrap(), pages * 4096);
    assert_eq!(rows_in_file(&db), 10);
}

/// Neither a reader nor a writer is disturbed, and nothing is published that they still need.
#[test]
fn nothing_happens_while_a_transaction_is_under_way() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.db");
    let (app, other) = (application(&path), Connection::open(&path).unwrap());
    insert(&app, 40);
    let db = guarded(&path);
    for begin in ["BEGIN; SELECT * FROM t", "BEGIN IMMEDIATE; INSERT INTO t VALUES(1)"] {
        other.execute_batch(begin).unwrap();
        assert!(arm(&db, captured(&db)).unwrap().is_none());
        assert_eq!(db.shm().checkpoint_info().n_backfill, FrameNo(0));
        other.execute_batch("COMMIT").unwrap();
        insert(&app, 1);
    }
    arm(&db, captured(&db)).unwrap();
    assert_eq!(rows_in_file(&db), 43);
}

/// A busy timeout of 0 makes SQLite return an error for any lock that it has to wait for, except
/// those on read marks.
#[test]
fn a_transaction_that_cannot_begin_waits_without_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.db");
    let app = application(&path);
    insert(&app, 40);
    let db = guarded(&path);
    let done = AtomicBool::new(false);
    std::thread::scope(|threads| {
        let held = Held::take(db.shm()).unwrap().expect("no transaction is under way");
        threads.spawn(|| {
            let app = app;
            insert(&app, 1);
            done.store(true, Ordering::SeqCst);
        });
        std::thread::sleep(HOLD_MAX);
        assert!(!done.load(Ordering::SeqCst), "the locks keep a transaction from beginning");
        assert!(held.release(|| Ok(())).unwrap());
        assert!(!held.release(|| panic!("nothing is published without the locks")).unwrap());
    });
    assert!(done.load(Ordering::SeqCst));
}
