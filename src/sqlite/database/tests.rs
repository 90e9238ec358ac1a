use super::*;

/// Open file description locks conflict with SQLite's POSIX locks of the same process too. So the
/// test needs no second process.
#[test]
fn the_log_outlives_the_last_connection_of_the_application() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.db");
    let application = || {
        let app = Connection::open(&path).unwrap();
        app.query_row("PRAGMA journal_mode=WAL", [], |r| r.get::<_, String>(0)).unwrap();
        app.execute_batch("CREATE TABLE IF NOT EXISTS t(x); INSERT INTO t VALUES (1)").unwrap();
        app.close().unwrap();
    };
    application();
    assert!(!sibling(&path, "-wal").exists(), "without us the last one to close deletes it");

    let db = Database::open(&path).unwrap();
    let salts = || db.shm().header().unwrap().salts;
    application();
    let first = salts();
    assert!(db.wal().len().unwrap() > 0);
    // The next connection finds the same wal-index, with the committed frames in it.
    application();
    assert!(db.is_same().unwrap());
    assert_eq!(salts(), first);
    assert!(db.checkpoint(CheckpointMode::Passive).unwrap());
    assert!(db.is_same().unwrap(), "nor does a connection of our own delete it");
    drop(db);
    application();
    assert!(!sibling(&path, "-wal").exists());
}

/// SQLite itself does not wait for a writer when it switches the mode.
#[test]
fn a_writer_is_waited_for_when_the_mode_is_switched() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.db");
    let app = Connection::open(&path).unwrap();
    app.execute_batch("CREATE TABLE t(x); BEGIN IMMEDIATE").unwrap();
    let (begun, busy) = (Instant::now(), Duration::from_millis(200));
    assert!(matches!(Database::open_within(&path, busy), Err(OpenError::Locked(_))));
    assert!(begun.elapsed() >= busy, "given up after {:?}", begun.elapsed());
    app.execute_batch("COMMIT").unwrap();
    assert!(Database::open_within(&path, busy).unwrap().was_switched());
}

/// Which of the two locks the application's SQLite checks depends on its version. Before 3.51 it
/// deletes the WAL if it gets an exclusive lock on the database file. Later versions first ask
/// whether another process has the wal-index open.
#[test]
fn both_locks_are_held_as_long_as_the_database_is_open() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.db");
    let app = Connection::open(&path).unwrap();
    app.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x)").unwrap();
    let db = Database::open(&path).unwrap();
    app.close().unwrap();

    let other = File::open_rw(&path).unwrap();
    let wal_index = File::open_rw(&sibling(&path, "-shm")).unwrap();
    assert!(other.locked_by(SHARED_FIRST, SHARED_BYTES).unwrap().is_some());
    assert!(wal_index.locked_by(LOCK_DMS, 1).unwrap().is_some());
    assert!(other.held_alone_by(SHARED_FIRST, SHARED_BYTES).unwrap().is_none(), "readers may come");
    assert!(wal_index.held_alone_by(LOCK_DMS, 1).unwrap().is_none());
    drop(db);
    assert!(other.locked_by(SHARED_FIRST, SHARED_BYTES).unwrap().is_none());
    assert!(wal_index.locked_by(LOCK_DMS, 1).unwrap().is_none());
}

/// A checkpoint skips the frames that it does not find by the wal-index, and publishes all of them
/// as copied.
#[test]
fn a_checkpoint_copies_all_frames_although_the_tables_of_the_wal_index_were_damaged() {
    use std::os::unix::fs::FileExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.db");
    let app = Connection::open(&path).unwrap();
    app.execute_batch("PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; CREATE TABLE t(x)").unwrap();
    let db = Database::open(&path).unwrap();
    for i in 0..100 {
        app.execute("INSERT INTO t VALUES(?)", [i]).unwrap();
    }
    assert!(db.shm().is_sound().unwrap());
    db.shm().file().write_all_at(&[0; 4000], 136).unwrap();
    assert!(!db.shm().is_sound().unwrap());
    assert!(db.checkpoint(CheckpointMode::Passive).unwrap());
    let copy = dir.path().join("copy.db");
    let mut bytes = vec![0; usize::try_from(db.file().len().unwrap()).unwrap()];
    db.file().pread(&mut bytes, 0).unwrap();
    std::fs::write(&copy, bytes).unwrap();
    let count = |db: &Connection| db.query_row("SELECT count(*) FROM t", [], |r| r.get::<_, i64>(0)).unwrap();
    assert_eq!(count(&Connection::open(&copy).unwrap()), 100);
    assert_eq!(count(&app), 100);
}

/// Another program cuts the wal-index while lsfast empties the WAL. Reading zeros, SQLite might
/// skip frames and cut the WAL that has them. The process used to end with SIGBUS instead.
#[test]
fn a_wal_index_that_is_cut_ends_neither_the_process_nor_the_wal() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.db");
    let app = Connection::open(&path).unwrap();
    app.execute_batch("PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; CREATE TABLE t(x)").unwrap();
    app.execute_batch("INSERT INTO t VALUES (randomblob(100000))").unwrap();
    let db = Database::open(&path).unwrap();
    let len = db.wal().len().unwrap();
    let conn = db.connection().unwrap();
    // Not with a descriptor of this process: closing it would drop the locks of SQLite.
    let cut = std::process::Command::new("truncate").args(["-s", "0"]).arg(sibling(&path, "-shm")).status();
    assert!(cut.unwrap().success());
    let failed = run(&conn, CheckpointMode::Truncate).unwrap_err();
    assert!(!matches!(failed.sqlite_error_code(), None | Some(ErrorCode::DatabaseBusy)), "{failed}");
    assert_eq!(db.wal().len().unwrap(), len, "its frames may not be in the database file");
    drop((conn, app));
    let app = Connection::open(&path).unwrap();
    let rows: i64 = app.query_row("SELECT count(*) FROM t", [], |r| r.get(0)).unwrap();
    assert_eq!(rows, 1);
    drop(app);
    // Without the fault it is cut as before.
    assert!(Database::open(&path).unwrap().checkpoint(CheckpointMode::Truncate).unwrap());
    assert_eq!(sibling(&path, "-wal").metadata().unwrap().len(), 0);
}
