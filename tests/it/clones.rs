//! A copy of a database with the configuration of the original, and one database that two processes
//! follow: who may write to the replica.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rusqlite::Connection;

use crate::support::lsfast;
use crate::support::place::Place;
use crate::support::process::{
    Process, {self},
};
use crate::support::sqlite::{
    Workload, {self},
};
use crate::writers::{database, folder, replicate, write};

/// Copies a database and its WAL. By another program, because a descriptor that this process closes
/// takes the locks of its connections with it.
fn copy_with_wal(db: &Path, copy: &Path) {
    for suffix in ["", "-wal"] {
        let name = |path: &Path| format!("{}{suffix}", path.display());
        assert!(Command::new("cp").args([name(db), name(copy)]).status().expect("cp").success());
    }
}

/// A copy with the configuration of the original took its replica away from it, with a line that
/// looked like any other start.
#[test]
fn a_copy_that_takes_a_replica_over_says_so() {
    let dir = folder();
    let ((original, _connection), (copy, _other)) = (database(&dir, "a.db", 1), database(&dir, "b.db", 2));
    let url = Place::Dir(dir.path().to_path_buf()).url("replica");
    let mut first = replicate(&original, &url, &["--once"]);
    assert!(first.wait().success());
    let second = replicate(&copy, &url, &[]);
    let wait = second.wait_for_line("waiting for a sign of it");
    assert!(wait.contains("longest=6s"), "{wait}");
    let line = second.wait_for_line("takes over a replica");
    assert!(line.contains("level=warn") && line.contains("b.db") && line.contains("written="), "{line}");
    second.wait_for_line("image stored");
    let log = second.stop();
    assert_eq!(log.matches("msg=replicating").count(), 1, "{log}");
}

/// The copy went on in the WAL that both have, so it counted as the original and wrote at once, and
/// the original ended.
#[test]
fn a_copy_with_its_wal_leaves_a_living_original_alone() {
    let dir = folder();
    let (original, connection) = database(&dir, "a.db", 1);
    let place = Place::Dir(dir.path().to_path_buf());
    let first = replicate(&original, &place.url("replica"), &[]);
    first.wait_for_line("image stored");
    write(&connection);
    place.wait_for_txid("replica", 0, 2);
    let copy = dir.path().join("b.db");
    copy_with_wal(&original, &copy);
    let app = Connection::open(&copy).expect("the copy");
    for _ in 0..8 {
        write(&app);
    }
    let mut second = replicate(&copy, &place.url("replica"), &[]);
    let mut commits = 0;
    process::until("the copy to notice the original", || {
        write(&connection);
        commits += 1;
        std::thread::sleep(Duration::from_millis(50));
        (second.output().contains("waiting for it to end") || commits > 500).then_some(())
    });
    assert!(second.output().contains("waiting for it to end"), "{}", second.output());
    assert!(second.runs(), "{}", second.output());
    second.signal("KILL");
    second.wait();
    write(&connection);
    let log = first.stop();
    assert!(!log.contains("another program"), "{log}");
    let out = dir.path().join("out.db");
    lsfast::restore(&out, &place.url("replica"), &[], &[]);
    assert_eq!(sqlite::dump_hash(&out), sqlite::dump_hash(&original));
}

/// The next process of a deployment has the database in common with the last one, but no state.
#[test]
fn a_deployment_without_its_state_may_overlap() {
    let dir = folder();
    let (db, connection) = database(&dir, "app.db", 1);
    let place = Place::Dir(dir.path().to_path_buf());
    let start = |state: &str| {
        let config = dir.path().join(format!("{state}.yml"));
        let (state, url) = (dir.path().join(state), place.url("replica"));
        let text = format!(
            "sync-interval: 100ms\ndbs:\n- path: {}\n  meta-path: {}\n  replica:\n    url: {url}\n",
            db.display(),
            state.display()
        );
        std::fs::write(&config, text).expect("a file");
        let mut command = lsfast::command(["replicate", "--config"]);
        command.arg(&config);
        Process::start("lsfast replicate", command)
    };
    let old = start("old");
    old.wait_for_line("image stored");
    let new = start("new");
    process::until("the next process to notice the last one", || {
        write(&connection);
        std::thread::sleep(Duration::from_millis(50));
        new.output().contains("waiting for it to end").then_some(())
    });
    old.stop();
    new.wait_for_line("nothing has to be stored");
    Workload::new(3).run(&connection, 3);
    let log = new.stop();
    assert!(!log.contains("takes over a replica"), "{log}");
    let out = dir.path().join("out.db");
    lsfast::restore(&out, &place.url("replica"), &[], &[]);
    assert_eq!(sqlite::dump_hash(&out), sqlite::dump_hash(&db));
}
