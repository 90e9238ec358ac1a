//! Signals to `lsfast replicate`: none ends it without a final sync but those that are meant to.

use std::process::Command;

use crate::support::lsfast;
use crate::support::place::Place;
use crate::support::process::Process;
use crate::support::sqlite::{
    Workload, {self},
};

/// A closed terminal, or logrotate, ended it at once.
#[test]
fn a_hang_up_ends_it_after_a_final_sync_and_user_signals_do_nothing() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (db, place) = (dir.path().join("app.db"), Place::Dir(dir.path().to_path_buf()));
    let connection = sqlite::create(&db, 4096);
    let mut process = lsfast::replicate(&db, &[place.url("replica")], &[]);
    place.wait_for_txid("replica", 0, 1);
    for signal in ["USR1", "USR2"] {
        process.signal(signal);
        process.wait_for_line(&format!("signal=SIG{signal}"));
    }
    assert!(process.runs());
    Workload::new(1).run(&connection, 20);
    process.signal("HUP");
    assert!(process.wait().success(), "{}", process.output());
    assert!(process.output().contains("everything is stored"), "{}", process.output());
    let out = dir.path().join("out.db");
    lsfast::restore(&out, &place.url("replica"), &[], &[]);
    assert_eq!(sqlite::dump_hash(&out), sqlite::dump_hash(&db));
}

#[test]
fn a_hang_up_that_nohup_ignores_stays_ignored() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (db, place) = (dir.path().join("app.db"), Place::Dir(dir.path().to_path_buf()));
    drop(sqlite::create(&db, 4096));
    let mut command = Command::new("sh");
    command
        .args(["-c", "trap '' HUP; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_lsfast"), "replicate"])
        .arg(&db)
        .arg(place.url("replica"));
    let mut process = Process::start("lsfast", command);
    place.wait_for_txid("replica", 0, 1);
    process.signal("HUP");
    process.signal("USR1");
    process.wait_for_line("signal=SIGUSR1");
    assert!(process.runs());
    assert!(!process.output().contains("SIGHUP"));
    process.stop();
}

/// A core file would hold keys, and pages of databases.
#[test]
fn a_crash_leaves_no_core_file_unless_it_is_wanted() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let place = Place::Dir(dir.path().to_path_buf());
    let db = dir.path().join("app.db");
    drop(sqlite::create(&db, 4096));
    for (flags, expected) in [(&[][..], "0"), (&["--core-dumps"][..], "unlimited")] {
        // `exec` keeps the number that the shell had.
        let mut command = Command::new("sh");
        command
            .args(["-c", "ulimit -Sc \"$(ulimit -Hc)\" && ulimit -Hc && echo pid=$$ && exec \"$@\"", "sh"])
            .args([env!("CARGO_BIN_EXE_lsfast"), "replicate"])
            .args(flags)
            .arg(&db)
            .arg(place.url("replica"));
        let process = Process::start("lsfast", command);
        let pid = process.wait_for_line("pid=").trim().replace("pid=", "");
        process.wait_for_line("replicating");
        let hard = process.output().lines().next().unwrap_or_default().trim().to_owned();
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).expect("limits");
        let line = limits.lines().find(|l| l.starts_with("Max core file size")).expect("a line");
        let soft = line["Max core file size".len()..].split_whitespace().next().expect("a limit");
        if expected == "0" {
            assert_eq!(soft, "0", "{line}");
        } else if hard == "unlimited" {
            assert_eq!(soft, expected, "{line}");
        }
        process.stop();
    }
}
