//! A wrong DELETE, from its discovery to its repair: an application goes on writing, `lsfast log`
//! finds the step, `lsfast diff` shows it, and `--undo` takes it back while the database is
//! replicated.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::config::DbConfig;
use serde_json::Value;

use crate::support::case::Case;
use crate::support::place::Place;
use crate::support::{lsfast, process, sqlite};

const ORDERS: u32 = 100_000;
const DELETED: usize = 10_000;

fn make(path: &Path) -> Connection {
    let db = sqlite::create(path, 4096);
    db.execute_batch(&format!(
        "CREATE TABLE orders(id INTEGER PRIMARY KEY, customer TEXT, state TEXT, total REAL, sign BLOB);
         CREATE INDEX orders_state ON orders(state);
         CREATE TABLE parts(id INTEGER PRIMARY KEY, o INTEGER REFERENCES orders(id) ON DELETE CASCADE);
         CREATE INDEX parts_o ON parts(o);
         CREATE TABLE gone(id INTEGER);
         CREATE TRIGGER orders_gone AFTER DELETE ON orders BEGIN INSERT INTO gone VALUES(old.id); END;
         CREATE TABLE visits(n INTEGER PRIMARY KEY, what TEXT);
         BEGIN;
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ORDERS})
             INSERT INTO orders SELECT i, 'customer ' || i % 900, iif(i % 10, 'paid', 'open'), i / 3.0,
                 iif(i % 1000, NULL, randomblob(9000)) FROM n;
         INSERT INTO parts SELECT id, id FROM orders WHERE id % 2 = 0;
         COMMIT;"
    ))
    .expect("tables");
    db
}

/// What must be as before: all orders and their parts, in the columns that nothing else writes.
fn orders(db: &Connection) -> (String, i64) {
    let sql = "SELECT group_concat(hex(customer) || hex(total) || coalesce(hex(sign), '')), count(*) FROM
               (SELECT * FROM orders WHERE id <= ?1 ORDER BY id)";
    db.query_row(sql, [ORDERS], |r| Ok((r.get(0)?, r.get(1)?))).expect("orders")
}

fn number(db: &Connection, sql: &str) -> i64 {
    db.query_row(sql, [], |r| r.get(0)).expect("a number")
}

/// An application that goes on: new visits, and other states of paid orders. Returns how many.
fn application(path: &Path, stop: &AtomicBool) -> i64 {
    let db = sqlite::open(path);
    let mut n = 0;
    while !stop.load(Ordering::Relaxed) {
        n += 1;
        db.execute("INSERT INTO visits VALUES (?1, 'visit ' || ?1)", [n]).expect("a visit");
        db.execute("UPDATE orders SET state = 'sent ' || ?1 WHERE id = 1", [n]).expect("a state");
        thread::sleep(Duration::from_millis(20));
    }
    n
}

fn run(case: &Case, command: &str, more: &[&str]) -> String {
    let url = case.place.url("replica");
    let mut command = lsfast::command([command, &url]);
    command.args(more).envs(case.place.env());
    output(command)
}

fn output(command: Command) -> String {
    let output = lsfast::run(command);
    assert!(output.status.success(), "{}", lsfast::stderr(&output));
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// Runs a script as the `sqlite3` program does: the lines with a dot are its own commands.
fn run_script(path: &Path, sql: &str) -> rusqlite::Result<()> {
    let db = sqlite::open(path);
    assert!(sql.contains("\n.bail on\n") && sql.contains("\n.dbconfig enable_trigger off\n"));
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
    let plain: Vec<&str> = sql.lines().filter(|line| !line.starts_with('.')).collect();
    db.execute_batch(&plain.join("\n"))
}

fn story(case: &Case) {
    let path = case.path("app.db");
    let db = make(&path);
    let before = orders(&db);
    let urls = [case.place.url("replica")];
    let mut replicating = lsfast::replicate(&path, &urls, &case.place.env());
    case.place.wait_for_txid("replica", 0, 1);
    let stop = Arc::new(AtomicBool::new(false));
    let app = {
        let (path, stop) = (path.clone(), Arc::clone(&stop));
        thread::spawn(move || application(&path, &stop))
    };
    let stored = |table: &str| {
        let steps = json_lines(&run(case, "log", &["--json", "--table", table, "-n", "500"]));
        (!steps.is_empty()).then_some(steps)
    };
    process::until("writes to be stored", || stored("visits").filter(|s| s.len() > 1));
    db.execute_batch("PRAGMA foreign_keys = ON; DELETE FROM orders WHERE state = 'open'").expect("a mistake");

    // Found by what it did.
    let lost = |step: &Value| {
        let tables = step["tables"].as_array().expect("tables");
        tables.iter().any(|t| t["table"] == "orders" && t["deleted"] == DELETED)
    };
    let step = process::until("the DELETE to be stored", || stored("orders")?.into_iter().find(lost));
    let (txid, min) = (step["txid"].as_str().expect("a TXID"), step["min_txid"].as_str().expect("a TXID"));
    let from = format!("{:016x}", u64::from_str_radix(min, 16).expect("hex") - 1);
    let states = ["--from", &from, "--to", txid, "--only", "deleted"];
    let table = run(case, "log", &["-n", "500"]);
    assert!(table.contains(&format!("{DELETED}")), "{table}");

    // Shown.
    let lines = json_lines(&run(case, "diff", &[&states[..], &["--json"]].concat()));
    let of = |name: &str| lines.iter().filter(|l| l["table"] == name && l["change"] == "delete").count();
    assert_eq!((of("orders"), of("parts"), of("visits")), (DELETED, DELETED, 0));
    let text = run(case, "diff", &[&states[..], &["-n", "1"]].concat());
    assert!(text.contains(&format!("orders: 0 inserted, 0 updated, {DELETED} deleted")), "{text}");

    // Taken back, while the application goes on.
    let sql = run(case, "diff", &[&states[..], &["--undo"]].concat());
    run_script(&path, &sql).expect("the script");
    let visits = number(&db, "SELECT count(*) FROM visits");
    process::until("the application to go on", || {
        (number(&db, "SELECT count(*) FROM visits") > visits).then_some(())
    });
    let again = run_script(&path, &sql).expect_err("the rows are there again").to_string();
    assert!(again.contains("rows were changed again"), "{again}");
    stop.store(true, Ordering::Relaxed);
    let written = app.join().expect("the application");

    assert!(orders(&db) == before, "the orders are not as they were");
    assert_eq!(number(&db, "SELECT count(*) FROM parts"), i64::from(ORDERS / 2));
    assert_eq!(number(&db, "SELECT count(*) FROM gone"), i64::try_from(DELETED).expect("small"));
    assert_eq!(number(&db, "SELECT count(*) FROM visits"), written);
    assert_eq!(number(&db, &format!("SELECT state = 'sent {written}' FROM orders WHERE id = 1")), 1);
    assert_eq!(number(&db, "SELECT count(*) FROM pragma_foreign_key_check"), 0);
    assert!(replicating.runs());
    drop(db);
    let out = case.path("out.db");
    process::until("the repair to be stored", || {
        lsfast::restore(&out, &urls[0], &case.place.env(), &["--force"]);
        (sqlite::dump_hash(&out) == sqlite::dump_hash(&path)).then_some(())
    });
}

#[test]
fn a_wrong_delete_is_found_shown_and_taken_back() {
    let case = Case::new();
    assert!(matches!(case.place, Place::Dir(_)));
    story(&case);
}

#[test]
fn what_cannot_be_compared_is_one_clear_error() {
    let case = Case::new();
    drop(make(&case.path("app.db")));
    let mut command = lsfast::command(["replicate", "--once"]);
    command.arg(case.path("app.db")).arg(case.place.url("replica"));
    output(command);
    let state = "0000000000000001";
    for (args, expected) in [
        (&["--from", "2001-01-01T00:00:00Z"][..], "no state of 2001-01-01T00:00:00Z is there"),
        (&["--from", state, "--table", "nothing"], "neither state has a table \"nothing\""),
        (&["--from", "00000000000000ff"], "00000000000000ff"),
    ] {
        let url = case.place.url("replica");
        let mut command = lsfast::command(["diff", &url]);
        command.args(args);
        let output = lsfast::run(command);
        let error = lsfast::stderr(&output);
        assert!(!output.status.success() && error.contains(expected), "{args:?}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    let none = run(&case, "diff", &["--from", state]);
    assert!(none.contains("no row differs"), "{none}");
    let log = run(&case, "log", &["-n", "1"]);
    assert!(log.contains("parts") && log.contains("50000"), "{log}");
}
