//! Signals to `lsfast replicate`: none ends it without a final sync but those that are meant to.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::support::lsfast;
use crate::support::place::Place;
use crate::support::process::{Process, until};
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
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("limits");
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

/// SIGTERM in the first milliseconds ended it at once, with what was committed not stored.
#[test]
fn a_signal_before_the_config_file_is_read_is_an_orderly_end() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (db, place) = (dir.path().join("app.db"), Place::Dir(dir.path().to_path_buf()));
    let connection = sqlite::create(&db, 4096);
    Workload::new(1).run(&connection, 20);
    let mut child = Command::new(env!("CARGO_BIN_EXE_lsfast"))
        .args(["replicate", "--config", "/dev/stdin"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("lsfast starts");
    let is_caught = || {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
        let caught = status.lines().find_map(|l| l.strip_prefix("SigCgt:"))?;
        let caught = u64::from_str_radix(caught.trim(), 16).ok()?;
        (caught & 1 << (15 - 1) != 0).then_some(())
    };
    until("lsfast catches SIGTERM", is_caught);
    let killed = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
    assert!(killed.expect("kill runs").success());
    let config =
        format!("dbs:\n  - path: {}\n    replicas:\n      - url: {}\n", db.display(), place.url("replica"));
    child.stdin.take().expect("a pipe").write_all(config.as_bytes()).expect("it still reads");
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("everything is stored"), "{}: {said}", output.status);
    let out = dir.path().join("out.db");
    lsfast::restore(&out, &place.url("replica"), &[], &[]);
    assert_eq!(sqlite::dump_hash(&out), sqlite::dump_hash(&db));
}
