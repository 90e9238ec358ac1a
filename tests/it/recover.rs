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
use crate::support::proxy::{ForwardProxy, Speaks};
use crate::support::s3::{BUCKET, S3Server};
use crate::support::weed::Weed;
use crate::support::{litestream, lsfast, process, sqlite, vectors};

/// Orders, and every which of them is deleted.
#[derive(Clone, Copy)]
struct Size {
    orders: u32,
    every: u32,
}

impl Size {
    fn deleted(self) -> usize {
        (self.orders / self.every) as usize
    }
}

const SMALL: Size = Size { orders: 20_000, every: 10 };

fn make(path: &Path, size: Size) -> Connection {
    let Size { orders, every } = size;
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
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {orders})
             INSERT INTO orders SELECT i, 'customer ' || i % 900, iif(i % {every}, 'paid', 'open'), i / 3.0,
                 iif(i % 1000, NULL, randomblob(9000)) FROM n;
         INSERT INTO parts SELECT id, id FROM orders WHERE id % 2 = 0;
         COMMIT;"
    ))
    .expect("tables");
    db
}

/// What must be as before: all orders and their parts, in the columns that nothing else writes.
fn orders(db: &Connection, size: Size) -> (String, i64) {
    let sql = "SELECT group_concat(hex(customer) || hex(total) || coalesce(hex(sign), '')), count(*) FROM
               (SELECT * FROM orders WHERE id <= ?1 ORDER BY id)";
    db.query_row(sql, [size.orders], |r| Ok((r.get(0)?, r.get(1)?))).expect("orders")
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
    assert!(sql.contains("\n.bail on\n"));
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
    let plain: Vec<&str> = sql.lines().filter(|line| !line.starts_with('.')).collect();
    db.execute_batch(&plain.join("\n"))
}

fn story(case: &Case, size: Size) {
    let deleted = size.deleted();
    let path = case.path("app.db");
    let db = make(&path, size);
    let before = orders(&db, size);
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
        tables.iter().any(|t| t["table"] == "orders" && t["deleted"] == deleted)
    };
    let step = process::until("the DELETE to be stored", || stored("orders")?.into_iter().find(lost));
    let (txid, min) = (step["txid"].as_str().expect("a TXID"), step["min_txid"].as_str().expect("a TXID"));
    let from = format!("{:016x}", u64::from_str_radix(min, 16).expect("hex") - 1);
    let states = ["--from", &from, "--to", txid, "--only", "deleted"];
    let table = run(case, "log", &["-n", "500"]);
    assert!(table.contains(&format!("{deleted}")), "{table}");

    // Shown.
    let lines = json_lines(&run(case, "diff", &[&states[..], &["--json"]].concat()));
    let of = |name: &str| lines.iter().filter(|l| l["table"] == name && l["change"] == "delete").count();
    assert_eq!((of("orders"), of("parts"), of("visits")), (deleted, deleted, 0));
    let text = run(case, "diff", &[&states[..], &["-n", "1"]].concat());
    assert!(text.contains(&format!("orders: 0 inserted, 0 updated, {deleted} deleted")), "{text}");

    // Taken back, while the application goes on.
    let sql = run(case, "diff", &[&states[..], &["--undo"]].concat());
    assert!(sql.contains("\n.dbconfig enable_trigger off\n"));
    run_script(&path, &sql).expect("the script");
    let visits = number(&db, "SELECT count(*) FROM visits");
    process::until("the application to go on", || {
        (number(&db, "SELECT count(*) FROM visits") > visits).then_some(())
    });
    let again = run_script(&path, &sql).expect_err("the rows are there again").to_string();
    assert!(again.contains("rows were changed again"), "{again}");
    stop.store(true, Ordering::Relaxed);
    let written = app.join().expect("the application");

    assert!(orders(&db, size) == before, "the orders are not as they were");
    assert_eq!(number(&db, "SELECT count(*) FROM parts"), i64::from(size.orders / 2));
    assert_eq!(number(&db, "SELECT count(*) FROM gone"), i64::try_from(deleted).expect("small"));
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

/// A folder for the database, and the place of its replica.
fn at(place: Place) -> Case {
    Case { dir: tempfile::tempdir().expect("a temporary folder"), place }
}

#[test]
fn a_wrong_delete_is_found_shown_and_taken_back() {
    let case = Case::new();
    assert!(matches!(case.place, Place::Dir(_)));
    story(&case, SMALL);
}

#[test]
fn a_wrong_delete_is_taken_back_from_seaweedfs() {
    story(&at(Place::Weed(Weed::start())), Size { orders: 50_000, every: 20 });
}

/// How many requests `log` and `diff` take is counted by a proxy in front of the store.
#[test]
fn a_wrong_delete_is_taken_back_from_an_s3_server() {
    let case = at(Place::S3s(S3Server::start()));
    story(&case, SMALL);
    let (path, Place::S3s(server)) = (case.path("app.db"), &case.place) else { unreachable!("as made") };
    sqlite::open(&path).execute("UPDATE orders SET total = 0 WHERE id = 7", []).expect("a change");
    let mut command = lsfast::command(["replicate", "--once"]);
    command.arg(&path).arg(case.place.url("replica")).envs(case.place.env());
    output(command);
    let newest = case.place.last_txid("replica", 0);
    let from = format!("{:x}", newest - 1);
    // Each state takes the files that lead to it. A row takes the way to it.
    let most = usize::try_from(newest).expect("small") + 16;
    for args in [&["log", "-n", "1"][..], &["diff", "--from", &from]] {
        let proxy = ForwardProxy::start(Speaks::Http, server.addr);
        let mut command = lsfast::command([args[0]]);
        command.arg(format!("s3://{BUCKET}/replica?endpoint=http://store.internal:9000")).args(&args[1..]);
        command.envs(case.place.env()).env("http_proxy", format!("http://user:hush@{}", proxy.addr));
        let text = output(command);
        assert!(text.contains("orders"), "{text}");
        let seen = proxy.seen();
        assert!((1..=most).contains(&seen.len()), "{args:?} took {} of {most}: {seen:#?}", seen.len());
    }
}

/// The size of the promise: a million rows, of which 10,000 are deleted.
const MILLION: Size = Size { orders: 1_000_000, every: 100 };

#[test]
#[ignore = "takes minutes"]
fn a_wrong_delete_among_a_million_rows_is_taken_back_from_seaweedfs() {
    story(&at(Place::Weed(Weed::start())), MILLION);
}

#[test]
#[ignore = "takes minutes"]
fn a_wrong_delete_among_a_million_rows_is_taken_back_from_an_s3_server() {
    story(&at(Place::S3s(S3Server::start())), MILLION);
}

/// Litestream keeps no lists of times, and its headers have no checksum of the database.
#[test]
fn what_litestream_stored_is_looked_into_too() {
    let case = Case::new();
    let path = case.path("app.db");
    let db = sqlite::create(&path, 4096);
    sqlite::leave_checkpoints_to_litestream(&db);
    db.execute_batch("INSERT INTO items VALUES (1, 'a', x'01'), (2, 'b', x'02'), (3, 'c', NULL)")
        .expect("rows");
    let process = litestream::replicate(case.dir.path(), &path, &case.place, "replica");
    case.place.wait_for_txid("replica", 0, 1);
    let before = case.place.last_txid("replica", 0);
    db.execute_batch("DELETE FROM items WHERE id > 1; INSERT INTO items VALUES (4, 'd', NULL)")
        .expect("rows");
    case.place.wait_for_txid("replica", 0, before + 1);
    let deleted = |step: &Value| {
        let tables = step["tables"].as_array().expect("tables");
        tables.iter().any(|t| t["table"] == "items" && t["deleted"] == 2)
    };
    let step = process::until("the DELETE to be stored", || {
        json_lines(&run(&case, "log", &["--json", "--table", "items"])).into_iter().find(deleted)
    });
    process.stop();
    let (txid, min) = (step["txid"].as_str().expect("a TXID"), step["min_txid"].as_str().expect("a TXID"));
    let from = format!("{:x}", u64::from_str_radix(min, 16).expect("hex") - 1);
    let diff =
        json_lines(&run(&case, "diff", &["--from", &from, "--to", txid, "--table", "items", "--json"]));
    let changes: Vec<&str> = diff.iter().filter_map(|line| line["change"].as_str()).collect();
    assert_eq!(changes.iter().filter(|c| **c == "delete").count(), 2, "{diff:?}");
    for (txid, rows) in [(&from[..], "1,2,3"), (txid, "1,4")] {
        let sql = "SELECT group_concat(id) FROM (SELECT id FROM items ORDER BY id)";
        let answer = run(&case, "query", &["--txid", txid, "--csv", sql]);
        assert!(answer.contains(rows), "{txid}: {answer}");
    }
    let undo = run(&case, "diff", &["--from", &from, "--to", txid, "--only", "deleted", "--undo"]);
    run_script(&path, &undo).expect("the script");
    assert_eq!(number(&db, "SELECT count(*) FROM items"), 4);
}

/// A state that only an image has was left out, so that the list began with the second one.
#[test]
fn a_first_state_of_an_image_alone_is_listed() {
    let case = Case::new();
    let db = make(&case.path("app.db"), Size { orders: 10, every: 2 });
    let store = || {
        let mut command = lsfast::command(["replicate", "--once"]);
        command.arg(case.path("app.db")).arg(case.place.url("replica"));
        output(command);
    };
    store();
    db.execute("INSERT INTO visits VALUES (1, 'x')", []).expect("a row");
    store();
    let txid = |n: u64| format!("{n:016x}");
    let raw = |n: u64| case.path(&format!("replica/ltx/0/{0}-{0}.ltx", txid(n)));
    assert!(case.path(&format!("replica/ltx/9/{0}-{0}.ltx", txid(1))).is_file());
    let _ = std::fs::remove_file(raw(1));
    let mark = "first state: nothing earlier is known";
    let steps = json_lines(&run(&case, "log", &["--json"]));
    let of = |key: &str| steps.iter().map(|s| s[key].clone()).collect::<Vec<_>>();
    assert_eq!(of("txid"), [txid(1), txid(2)]);
    assert_eq!(of("beginning"), [Value::from(mark), Value::Null]);
    let time = |step: &Value| vectors::text(step, "time").parse::<jiff::Timestamp>().expect("a time");
    assert!(time(&steps[0]) <= time(&steps[1]), "{steps:?}");
    // Only where it belongs.
    let since = vectors::text(&steps[1], "time");
    for args in [&["-n", "1"][..], &["--table", "visits"], &["--since", since]] {
        let log = run(&case, "log", args);
        assert!(log.contains("visits") && !log.contains(mark), "{args:?}: {log}");
    }
    // With nothing after it.
    std::fs::remove_file(raw(2)).expect("removed");
    let log = run(&case, "log", &[]);
    assert!(log.contains(&txid(1)) && log.contains(mark), "{log}");
}

#[test]
fn what_litestream_0_3_stored_is_one_clear_error() {
    let manifest = vectors::manifest();
    let dir = vectors::path(vectors::text(&vectors::list(&manifest, "v03")[0], "dir"));
    for args in [&["log"][..], &["diff", "--from", "1"], &["diff", "--from", "now"], &["query", "SELECT 1"]] {
        let mut command = lsfast::command([args[0], &format!("file://{}", dir.display())]);
        command.args(&args[1..]);
        let output = lsfast::run(command);
        let error = lsfast::stderr(&output);
        let error = error.lines().last().unwrap_or_default();
        assert!(!output.status.success() && error.contains("Litestream 0.3"), "{args:?}: {error}");
    }
}

#[test]
fn what_cannot_be_compared_is_one_clear_error() {
    let case = Case::new();
    drop(make(&case.path("app.db"), SMALL));
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
    assert!(log.contains("parts") && log.contains("10000"), "{log}");
}
