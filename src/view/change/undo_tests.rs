//! What an undo takes back, and what stops it.

use std::path::Path;

use rusqlite::Connection;

use super::tests::{Image, labels, run_script, show};
use super::{Direction, Sides, diff, script};
use crate::view::btree::{Schema, State};

/// Two states of one database, with the script that takes the change back.
fn undo_of(dir: &Path, schema: &str, change: &str) -> String {
    let path = dir.join("db");
    let db = Connection::open(&path).unwrap();
    db.execute_batch(schema).unwrap();
    let before = Image::read(&path);
    db.execute_batch(change).unwrap();
    let after = Image::read(&path);
    let (old, new) = (State::open(&before).unwrap(), State::open(&after).unwrap());
    let (old_schema, new_schema) = (Schema::read(&old, None).unwrap(), Schema::read(&new, None).unwrap());
    let sides = Sides { old, old_schema: &old_schema, new, new_schema: &new_schema };
    let difference = diff(&sides, &before.changed(&after), None).unwrap();
    script(&difference, Direction::Undo, &labels()).unwrap()
}

fn one(path: &Path, sql: &str) -> String {
    let db = Connection::open(path).unwrap();
    db.query_row(sql, [], |r| Ok(show(r.get_ref(0)?))).unwrap()
}

const ORDERS: &str = "
    CREATE TABLE orders(id INTEGER PRIMARY KEY, state TEXT, email TEXT UNIQUE);
    CREATE TABLE items(n INTEGER PRIMARY KEY, o INTEGER REFERENCES orders(id) ON DELETE CASCADE);
    CREATE TABLE seen(what);
    CREATE TRIGGER gone AFTER DELETE ON orders BEGIN INSERT INTO seen VALUES(old.id); END;
    CREATE TRIGGER came AFTER INSERT ON orders BEGIN INSERT INTO seen VALUES(new.id); END;
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300)
        INSERT INTO orders SELECT i, 'open', i || '@x' FROM n;
    INSERT INTO items SELECT id, id FROM orders;";

#[test]
fn an_undo_stops_if_a_row_was_changed_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let sql = undo_of(dir.path(), ORDERS, "UPDATE orders SET state = 'lost' WHERE id > 290");
    for again in ["UPDATE orders SET state = 'LOST' WHERE id = 295", "DELETE FROM orders WHERE id = 296"] {
        let db = Connection::open(&path).unwrap();
        db.execute_batch(again).unwrap();
        let e = run_script(&path, &sql).unwrap_err().to_string();
        assert!(e.contains("rows were changed again; nothing was changed"), "{e}");
        assert_eq!(one(&path, "SELECT count(*) FROM orders WHERE state = 'lost' AND id = 300"), "Integer(1)");
        db.execute_batch(
            "INSERT OR REPLACE INTO orders VALUES (295, 'lost', '295@x'), (296, 'lost', '296@x')",
        )
        .unwrap();
    }
    run_script(&path, &sql).unwrap();
    assert_eq!(one(&path, "SELECT count(*) FROM orders WHERE state = 'open'"), "Integer(300)");
}

#[test]
fn an_undo_runs_no_trigger_and_no_cascade() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let sql = undo_of(dir.path(), ORDERS, "PRAGMA foreign_keys = ON; DELETE FROM orders WHERE id <= 100");
    // Triggers that run are noticed, and nothing is changed.
    let e = run_script(&path, &sql.replace(".dbconfig enable_trigger off", "")).unwrap_err().to_string();
    assert!(e.contains("a trigger ran; nothing was changed"), "{e}");
    assert_eq!(one(&path, "SELECT count(*) FROM orders"), "Integer(200)");
    run_script(&path, &sql).unwrap();
    assert_eq!(one(&path, "SELECT count(*) FROM orders"), "Integer(300)");
    assert_eq!(one(&path, "SELECT count(*) FROM items"), "Integer(300)");
    assert_eq!(one(&path, "SELECT count(*) FROM seen"), "Integer(300)");
}

#[test]
fn an_undo_leaves_no_row_without_its_parent() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let change = "INSERT INTO orders VALUES (1000, 'new', 'new@x')";
    let sql = undo_of(dir.path(), ORDERS, change);
    let db = Connection::open(&path).unwrap();
    db.execute_batch("INSERT INTO items VALUES (5000, 1000)").unwrap();
    let e = run_script(&path, &sql).unwrap_err().to_string();
    assert!(e.contains("foreign keys would be violated; nothing was changed"), "{e}");
    assert_eq!(one(&path, "SELECT count(*) FROM orders"), "Integer(301)");
    db.execute_batch("DELETE FROM items WHERE n = 5000").unwrap();
    run_script(&path, &sql).unwrap();
    assert_eq!(one(&path, "SELECT count(*) FROM orders"), "Integer(300)");
}

#[test]
fn unique_values_may_change_places() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let change = "
        UPDATE orders SET email = 'x' WHERE id = 1; UPDATE orders SET email = '1@x' WHERE id = 2;
        UPDATE orders SET email = '2@x' WHERE id = 1; DELETE FROM orders WHERE id = 3;
        UPDATE orders SET email = '3@x' WHERE id = 4;";
    let sql = undo_of(dir.path(), ORDERS, change);
    run_script(&path, &sql).unwrap();
    assert_eq!(one(&path, "SELECT count(*) FROM orders WHERE email = id || '@x'"), "Integer(300)");
}

/// A row without a primary key is told from others by its rowid alone, which it may lose.
#[test]
fn a_second_run_brings_no_row_back_twice() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let schema = "CREATE TABLE n(x); INSERT INTO n VALUES ('one'), ('two'), (NULL), (3.0)";
    let sql = undo_of(dir.path(), schema, "DELETE FROM n WHERE rowid > 1");
    run_script(&path, &sql).unwrap();
    assert_eq!(one(&path, "SELECT count(*) FROM n"), "Integer(4)");
    let e = run_script(&path, &sql).unwrap_err().to_string();
    assert!(e.contains("rows were changed again; nothing was changed"), "{e}");
    assert_eq!(one(&path, "SELECT count(*) FROM n"), "Integer(4)");

    // Another row has the rowid: what was deleted gets a new one.
    let other = tempfile::tempdir().unwrap();
    let sql = undo_of(other.path(), schema, "DELETE FROM n WHERE rowid > 1; INSERT INTO n VALUES ('new')");
    run_script(&other.path().join("db"), &sql).unwrap();
    assert_eq!(one(&other.path().join("db"), "SELECT count(*) FROM n"), "Integer(4)");
}
