//! `lsfast restore --into FILE`: an existing database becomes a state of the replica by the pages
//! that differ.

use std::process::Stdio;

use super::*;
use crate::support::case::Case;
use crate::support::{lsfast, process, sqlite};

/// Stores the database, to the end.
fn store(case: &Case) {
    let mut command = lsfast::command(["replicate", "--once"]);
    command.arg(case.path("app.db")).arg(case.place.url("replica"));
    let output = lsfast::run(command);
    assert!(output.status.success(), "{}", lsfast::stderr(&output));
}

/// A replica of three states, and the hash of what each has. No program has the database open.
fn three_states(case: &Case) -> Vec<String> {
    let path = case.path("app.db");
    let db = sqlite::create(&path, 4096);
    db.execute_batch(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
             INSERT INTO items SELECT i, 'name ' || i, randomblob(1000) FROM n",
    )
    .expect("rows");
    drop(db);
    let mut hashes = Vec::new();
    for sql in [
        "SELECT 1",
        "UPDATE items SET body = 'x' WHERE id < 30",
        "DELETE FROM items WHERE id > 2000; INSERT INTO log VALUES (1, 'deleted')",
    ] {
        sqlite::open(&path).execute_batch(sql).expect("a change");
        store(case);
        hashes.push(sqlite::dump_hash(&path));
    }
    hashes
}

fn into(case: &Case, file: &str, more: &[&str]) -> std::process::Output {
    let mut command = lsfast::command(["restore", "--json", "--into"]);
    command.arg(case.path(file)).arg(case.place.url("replica")).args(more);
    lsfast::run(command)
}

fn done(case: &Case, file: &str, more: &[&str]) -> Value {
    let output = into(case, file, more);
    assert!(output.status.success(), "{}", lsfast::stderr(&output));
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

#[test]
fn a_database_goes_back_and_forth_by_its_pages() {
    let case = Case::new();
    let hashes = three_states(&case);
    let path = case.path("app.db");
    let plan = done(&case, "app.db", &["--txid", "2", "--dry-run"]);
    assert_eq!((text(&plan["into"], "how"), text(&plan, "txid")), ("pages", "0000000000000002"));
    assert_eq!(sqlite::dump_hash(&path), hashes[2], "a dry run changes nothing");
    for (txid, base) in [("2", 3), ("1", 2), ("3", 1), ("1", 3)] {
        let line = done(&case, "app.db", &["--txid", txid]);
        let said = &line["into"];
        assert_eq!((text(said, "how"), number(said, "own_pages")), ("pages", 0), "{line}");
        assert_eq!(text(said, "base_txid"), format!("{base:016x}"), "{line}");
        assert_eq!((text(&line, "proof"), text(&line, "output")), ("checksum", path.to_str().expect("text")));
        assert_eq!(sqlite::dump_hash(&path), hashes[txid.parse::<usize>().expect("a TXID") - 1]);
    }

    // The process that replicates it stores the older state as the next one.
    store(&case);
    case.is_restored_as(&path);
    let line = done(&case, "app.db", &["--txid", "3"]);
    assert_eq!(text(&line["into"], "how"), "pages", "{line}");

    // Transactions that were never stored are found by the page hashes in the state folder.
    done(&case, "app.db", &[]);
    sqlite::open(&path).execute_batch("UPDATE items SET name = 'own' WHERE id = 7").expect("a change");
    let copy = case.path("copy.db");
    fs::copy(&path, &copy).expect("a copy");
    let line = done(&case, "app.db", &["--txid", "3"]);
    assert!(text(&line["into"], "how") == "pages" && number(&line["into"], "own_pages") > 0, "{line}");
    assert_eq!(sqlite::dump_hash(&path), hashes[2]);

    // Without them, and where there is nothing, the whole database is restored.
    let output = into(&case, "copy.db", &["--txid", "3"]);
    assert!(lsfast::stderr(&output).contains("it is not one of the states of the replica"));
    assert_eq!(sqlite::dump_hash(&copy), hashes[2]);
    let line = done(&case, "new.db", &["--txid", "1", "--dry-run"]);
    assert_eq!((text(&line["into"], "how"), case.path("new.db").exists()), ("whole", false));
    let line = done(&case, "new.db", &["--txid", "1"]);
    assert_eq!(text(&line["into"], "reason"), "it was not there");
    assert_eq!(sqlite::dump_hash(&case.path("new.db")), hashes[0]);

    // A link means the file at its end.
    std::os::unix::fs::symlink(&copy, case.path("link.db")).expect("a link");
    let line = done(&case, "link.db", &["--txid", "1"]);
    assert_eq!((text(&line["into"], "how"), text(&line, "output")), ("pages", copy.to_str().expect("text")));
    assert!(case.path("link.db").is_symlink());
}

#[test]
fn a_database_in_use_is_refused() {
    let case = Case::new();
    let hashes = three_states(&case);
    let path = case.path("app.db");
    let db = sqlite::open(&path);
    db.execute_batch("INSERT INTO log VALUES (2, 'live')").expect("a row");
    let error = lsfast::stderr(&into(&case, "app.db", &["--txid", "1"]));
    assert!(error.contains("is in use by process") && error.lines().count() == 1, "{error}");
    drop(db);
    let other = case.path("other.db");
    fs::write(&other, "no database").expect("written");
    let error = lsfast::stderr(&into(&case, "other.db", &[]));
    assert!(
        error.contains("is not a SQLite database") && fs::read(&other).expect("a file") == b"no database"
    );
    done(&case, "app.db", &["--txid", "1"]);
    assert_eq!(sqlite::dump_hash(&path), hashes[0]);
}

/// The process is killed while the journal is there. `delta::tests` has all steps in between.
#[test]
fn a_kill_leaves_what_sqlite_rolls_back() {
    let case = Case::new();
    let hashes = three_states(&case);
    let (path, journal) = (case.path("app.db"), case.path("app.db-journal"));
    let mut killed = 0;
    for _ in 0..8 {
        let mut command = lsfast::command(["restore", "--into"]);
        command.arg(&path).arg(case.place.url("replica")).args(["--txid", "1"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("lsfast starts");
        process::until("the journal, or the end", || {
            (journal.exists() || child.try_wait().expect("a child").is_some()).then_some(())
        });
        let _ = child.kill();
        child.wait().expect("a child");
        killed += usize::from(journal.exists());
        sqlite::open(&path).execute_batch("SELECT count(*) FROM items").expect("a read");
        let now = sqlite::dump_hash(&path);
        assert!(now == hashes[2] || now == hashes[0], "neither the old nor the new state");
        assert!(!journal.exists());
        done(&case, "app.db", &["--txid", "3"]);
    }
    println!("{killed} kills left a journal");
}

/// A limit of the length of files fails a write as a full disk does: of the pages that are fetched,
/// of the journal, or of the database. Where the rollback fails as well, SQLite has the journal.
#[test]
fn a_disk_that_is_full_leaves_the_old_state() {
    let case = Case::new();
    let hashes = three_states(&case);
    let path = case.path("app.db");
    let plan = done(&case, "app.db", &["--txid", "2", "--dry-run"]);
    let fetched = 4096 * number(&plan["into"], "pages");
    let length = fs::metadata(&path).expect("the database").len();
    let mut failed = std::collections::BTreeSet::new();
    // Of the fetched pages, of the journal, which has 8 bytes more for each, and of the database.
    for bytes in [512, fetched / 2, fetched + 512, fetched + 3_584, 2 * fetched, length / 2, length - 4096] {
        let limited = format!("ulimit -f {}; exec \"$@\"", bytes / 512);
        let mut command = std::process::Command::new("sh");
        command.args(["-c", &limited, "sh", env!("CARGO_BIN_EXE_lsfast"), "restore", "--into"]);
        command.arg(&path).arg(case.place.url("replica")).args(["--txid", "2"]);
        let output = lsfast::run(command);
        let error = lsfast::stderr(&output);
        let error = error.lines().last().unwrap_or_default();
        println!("{bytes} bytes: {error}");
        assert!(!output.status.success(), "{bytes} bytes: it has room");
        assert!(error.contains("File too large") && !error.contains(" 0 bytes"), "{error}");
        let kind = match error {
            e if e.contains("roll back") => "rollback",
            e if e.contains("-journal") => "journal",
            e if e.contains("fetched pages next to") => "fetched pages",
            e => panic!("{bytes} bytes: {e}"),
        };
        failed.insert(kind);
        assert_eq!(case.path("app.db-journal").exists(), kind == "rollback", "{bytes} bytes: {error}");
        assert!(sqlite::dump_hash(&path) == hashes[2], "{bytes} bytes: it is not the old state");
        assert!(!case.path("app.db-journal").exists(), "{bytes} bytes: SQLite has rolled it back");
    }
    assert_eq!(failed.len(), 3, "{failed:?}");
    done(&case, "app.db", &["--txid", "2"]);
    assert_eq!(sqlite::dump_hash(&path), hashes[1]);
}

/// Files that a killed run left next to the database were never removed.
#[test]
fn the_next_run_removes_what_a_killed_one_left() {
    let case = Case::new();
    let hashes = three_states(&case);
    let names = || {
        let entries = fs::read_dir(case.dir.path()).expect("a folder");
        let mut names: Vec<_> =
            entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.retain(|n| n.starts_with(".app.db.") || n.starts_with("app.db-"));
        names
    };
    let left = case.path(".app.db.4194304-1234.tmp");
    // Of other programs, or of a run that goes on.
    let (other, held) = (case.path(".app.db.old.tmp"), case.path(".app.db.1-1.tmp"));
    for path in [&left, &other, &held] {
        fs::write(path, "part of a database").expect("written");
    }
    let lock = fs::File::open(&held).expect("a file");
    lock.try_lock().expect("a lock");
    done(&case, "app.db", &["--txid", "1"]);
    assert!(!left.exists() && other.exists() && held.exists(), "{:?}", names());
    drop(lock);

    // After a kill in the middle the next run says who rolls the journal back.
    fs::remove_file(&other).expect("removed");
    let journal = case.path("app.db-journal");
    let mut command = lsfast::command(["restore", "--into"]);
    command.arg(case.path("app.db")).arg(case.place.url("replica")).args(["--txid", "3"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("lsfast starts");
    process::until("the journal, or the end", || {
        (journal.exists() || child.try_wait().expect("a child").is_some()).then_some(())
    });
    let _ = child.kill();
    child.wait().expect("a child");
    if journal.exists() {
        let before = fs::read(&journal).expect("a journal");
        let output = into(&case, "app.db", &["--txid", "2"]);
        let error = lsfast::stderr(&output);
        assert!(!output.status.success() && error.contains("which rolls it back"), "{error}");
        assert!(fs::read(&journal).expect("a journal") == before, "it is as it was");
        sqlite::open(&case.path("app.db")).execute_batch("SELECT count(*) FROM items").expect("a read");
    }
    done(&case, "app.db", &["--txid", "2"]);
    assert_eq!(sqlite::dump_hash(&case.path("app.db")), hashes[1]);
    assert_eq!(names(), Vec::<String>::new());
}

/// SIGXFSZ ended the restore without a message.
#[test]
fn a_limit_of_the_file_size_is_one_clear_error() {
    let case = Case::new();
    three_states(&case);
    let before = fs::read(case.path("app.db")).expect("a file");
    let names = || fs::read_dir(case.dir.path()).expect("a folder").count();
    let count = names();
    // Blocks of 512 or 1,024 bytes; the database has some 3 MB.
    let args = ["--force", "--txid", "1", "-o"];
    let mut command = std::process::Command::new("sh");
    command
        .args(["-c", "ulimit -f 64 && exec \"$@\"", "sh", env!("CARGO_BIN_EXE_lsfast"), "restore"])
        .args(args)
        .arg(case.path("app.db"))
        .arg(case.place.url("replica"));
    let output = lsfast::run(command);
    let error = lsfast::stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{}: {error}", output.status);
    let errors: Vec<_> = error.lines().filter(|l| !l.contains("level=")).collect();
    assert!(errors.len() == 1 && errors[0].contains("File too large"), "{error}");
    assert!(errors[0].contains("app.db"), "{error}");
    assert!(fs::read(case.path("app.db")).expect("a file") == before, "the database is as it was");
    assert_eq!(names(), count, "nothing is left");
}
