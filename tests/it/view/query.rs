//! `lsfast query` and `lsfast shell`: SQL on states of a replica.

use std::io::Write as _;
use std::path::Path;
use std::process::{Output, Stdio};

use crate::support::case::Case;
use crate::support::lsfast::{command, run, stderr};
use crate::support::vectors::{list, manifest, path, text};

fn query(args: &[&str]) -> Output {
    let mut all = vec!["query"];
    all.extend(args);
    run(command(all))
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", stderr(output));
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

fn url(dir: &Path) -> String {
    format!("file://{}", dir.display())
}

/// A replica with three states: TXIDs 1 to 3 have one to three rows.
pub fn replica() -> (Case, String) {
    let case = Case::new();
    let db = case.path("app.db");
    let connection = rusqlite::Connection::open(&db).expect("a database");
    connection
        .execute_batch(
            "PRAGMA journal_mode=WAL; CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, body BLOB, n REAL);",
        )
        .expect("a table");
    for n in 1..=3 {
        connection
            .execute("INSERT INTO t VALUES (?1, 'name, \"' || ?1, x'00ff', ?1 + 0.5)", [n])
            .expect("a row");
        let mut once = command(["replicate", "--once"]);
        once.arg(&db).arg(case.place.url("replica"));
        let done = run(once);
        assert!(done.status.success(), "{}", stderr(&done));
    }
    let url = case.place.url("replica");
    (case, url)
}

#[test]
fn rows_of_any_state_in_each_form() {
    let (_case, url) = replica();
    let sql = "SELECT id, name, body, n FROM t ORDER BY id";
    assert_eq!(
        stdout(&query(&[&url, "--txid", "2", "--json", sql])),
        "{\"id\":1,\"name\":\"name, \\\"1\",\"body\":\"00ff\",\"n\":1.5}\n\
         {\"id\":2,\"name\":\"name, \\\"2\",\"body\":\"00ff\",\"n\":2.5}\n"
    );
    assert_eq!(
        stdout(&query(&[&url, "--csv", &format!("{sql} DESC LIMIT 1")])),
        "id,name,body,n\n3,\"name, \"\"3\",X'00ff',3.5\n"
    );
    assert_eq!(
        stdout(&query(&[&url, "SELECT count(*) AS rows FROM t; SELECT NULL AS none;"])),
        "rows\n   3\nnone\n\n"
    );
    let mut piped = command(["query", &url, "--csv"]);
    let mut child = piped.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("lsfast starts");
    child.stdin.take().expect("a pipe").write_all(b"SELECT max(id) FROM t").expect("written");
    let output = child.wait_with_output().expect("an end");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "max(id)\n3\n");
}

#[test]
fn a_state_can_only_be_read_and_errors_say_why() {
    let (case, url) = replica();
    let fails = |args: &[&str], code: i32, text: &str| {
        let output = query(args);
        let error = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{error}");
        let errors = error.lines().filter(|line| line.starts_with("error: ")).count();
        assert!(error.contains(text) && errors == 1, "{args:?}: {error}");
        assert!(error.matches("level=warn").count() <= 1, "a warning is repeated: {error}");
    };
    fails(&[&url, "DELETE FROM t"], 1, "readonly");
    fails(&[&url, "PRAGMA user_version = 3; CREATE TABLE x(y)"], 1, "readonly");
    fails(&[&url, "SELECT * FROM nowhere"], 1, "no such table: nowhere");
    fails(&[&url, "VACUUM INTO 'copy.db'"], 1, "unable to open");
    fails(&[&url, "--txid", "9", "SELECT 1"], 1, "TXID 0000000000000009 is not available");
    fails(&[&case.place.url("elsewhere"), "SELECT 1"], 1, "no replica at");
    fails(&[&url, "--timestamp", "2001-01-01T00:00:00Z", "SELECT 1"], 1, "the earliest that");
    // The newest file is needed, and damaged.
    let newest = case.path("replica/ltx/0/0000000000000003-0000000000000003.ltx");
    let mut bytes = std::fs::read(&newest).expect("the newest file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&newest, bytes).expect("written");
    fails(&[&url, "SELECT 1"], 4, "is damaged");
    let old = manifest();
    let old = text(&list(&old, "v03")[0], "dir");
    let old = path(old);
    fails(&[&self::url(&old), "SELECT 1"], 1, "Litestream 0.3");
}

#[test]
fn the_shell_travels_and_ends_at_an_error() {
    let (_case, url) = replica();
    let shell = |input: &str| {
        let mut command = command(["shell", &url]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("lsfast starts");
        // After an error it does not read on.
        _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
        child.wait_with_output().expect("an end")
    };
    let output = shell(
        ".mode csv\n.tables\n.schema t\nSELECT count(*)\nFROM t;\n.at \"0000000000000001\"\nSELECT count(*) FROM t;\n\
         .at newest\nSELECT count(*) FROM t",
    );
    let printed = stdout(&output);
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(
        &lines[..4],
        ["t", "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, body BLOB, n REAL);", "count(*)", "3"]
    );
    assert!(lines[4].starts_with("TXID 0000000000000001 of "), "{printed}");
    assert_eq!((lines[6], lines[9]), ("1", "3"), "{printed}");
    let output = shell("SELECT nonsense;\nSELECT 1;\n");
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty() && stderr(&output).contains("no such column"), "{}", stderr(&output));
    let output = shell("SELECT 7;\n.at sometime\nSELECT 8;\n");
    let why = stderr(&output);
    assert!(why.contains("line 2, after which nothing is run: ") && why.contains("is not a time"), "{why}");
    assert!(!String::from_utf8_lossy(&output.stdout).contains('8'), "not of another state");
    assert_eq!(output.status.code(), Some(1));
}

/// `integrity_check` reads all pages, and SQLite sees a whole database at each state.
#[test]
fn sqlite_finds_no_fault_in_the_states_of_the_real_binary() {
    let mut checked = 0;
    for of in list(&manifest(), "v05") {
        let url = url(&path(text(of, "dir")));
        for restore in list(of, "restores").iter().filter(|r| r["txid"].is_u64()).take(4) {
            let txid = format!("{:x}", restore["txid"].as_u64().expect("a number"));
            let output =
                query(&[&url, "--txid", &txid, "--csv", "PRAGMA integrity_check; PRAGMA lsfast_txid"]);
            let printed = stdout(&output);
            assert!(
                printed.starts_with("integrity_check\nok\n") && printed.contains(&txid),
                "{url}: {printed}"
            );
            checked += 1;
        }
    }
    assert!(checked > 10, "{checked}");
}
