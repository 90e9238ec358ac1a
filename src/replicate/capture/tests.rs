use std::path::Path;

use rusqlite::Connection;

use super::*;
use crate::replicate::open::{Opened, open};

fn writer(path: &Path) -> Connection {
    let app = Connection::open(path).unwrap();
    // A cache so small that an open transaction is written to the log long before its commit.
    app.execute_batch(
        "PRAGMA journal_mode=wal; PRAGMA cache_size=2; PRAGMA wal_autocheckpoint=0; CREATE TABLE t(x)",
    )
    .unwrap();
    app
}

fn insert(app: &Connection, pages: usize) {
    for _ in 0..pages {
        app.execute("INSERT INTO t VALUES(randomblob(3500))", []).unwrap();
    }
}

fn captured(path: &Path) -> Capture {
    let db = Arc::new(Database::open(path).unwrap());
    let Opened { guard, tail, mark, .. } = open(&db, &[]).unwrap();
    Capture::new(db, tail, guard, Rc::new(Board::new(0, Rc::default())), mark, Instant::now())
}

/// Looks until there is nothing to take.
fn look(capture: &mut Capture) -> Look {
    loop {
        let look = capture.look(Instant::now()).unwrap();
        if !look.more {
            return look;
        }
    }
}

#[test]
fn a_transaction_that_is_being_written_is_near_however_long_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.db");
    let app = writer(&path);
    let mut capture = captured(&path);
    let nothing = Look { quiet: true, ..Look::default() };
    assert_eq!(look(&mut capture), nothing);
    for pages in [PEEK_FRAMES / 4, 4 * PEEK_FRAMES] {
        app.execute_batch("BEGIN").unwrap();
        insert(&app, pages);
        let under_way = Look { near: true, ..Look::default() };
        assert_eq!(look(&mut capture), under_way, "{pages} pages are under way");
        assert_eq!(look(&mut capture), under_way);
        app.execute_batch("COMMIT").unwrap();
        assert_eq!(look(&mut capture), Look { captured: true, quiet: true, ..Look::default() });
        assert_eq!(look(&mut capture), nothing);
    }
}

#[test]
fn the_first_transaction_of_a_generation_is_near_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.db");
    let app = writer(&path);
    insert(&app, 3);
    app.execute_batch("PRAGMA wal_checkpoint(RESTART)").unwrap();
    let mut capture = captured(&path);
    app.execute_batch("BEGIN").unwrap();
    insert(&app, PEEK_FRAMES / 4);
    assert_eq!(look(&mut capture), Look { near: true, ..Look::default() });
    app.execute_batch("COMMIT").unwrap();
    assert!(look(&mut capture).captured);
}

#[test]
fn what_was_taken_back_is_not_near_once_something_else_is_committed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.db");
    let app = writer(&path);
    let mut capture = captured(&path);
    app.execute_batch("BEGIN").unwrap();
    insert(&app, 4 * PEEK_FRAMES);
    app.execute_batch("ROLLBACK").unwrap();
    assert!(look(&mut capture).near, "nothing tells it from one that goes on");
    insert(&app, 1);
    let after = look(&mut capture);
    assert!(after.captured && !after.near, "{after:?}");
    let later = look(&mut capture);
    assert!(!later.near && !later.quiet, "frames of this generation follow, and continue nothing: {later:?}");
}
