//! Signals to `lsfast replicate`: none ends it without a final sync but those that are meant to.

use std::process::Command;

use crate::support::place::Place;
use crate::support::process::Process;
use crate::support::sqlite::{self, Workload};
use crate::support::{lsfast, process};

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

/// With a config file it is read again: databases come, go and change; those that stay are left alone, and a bad file changes nothing.
#[test]
fn a_hang_up_has_the_config_file_read_again() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let place = Place::Dir(dir.path().to_path_buf());
    let (path, config) = (|name: &str| dir.path().join(name), dir.path().join("lsfast.yml"));
    let write = |databases: &[(&str, &str)], directory: Option<&str>| {
        let mut text = String::from("dbs:\n");
        for (db, replica) in databases {
            text += &format!("  - path: DIR/{db}.db\n    replica:\n      path: DIR/{replica}\n");
        }
        if let Some(replicas) = directory {
            text += &format!(
                "  - dir: DIR/tenants\n    pattern: '*.db'\n    watch: true\n    replica:\n      path: DIR/{replicas}\n"
            );
        }
        std::fs::write(&config, text.replace("DIR", &dir.path().display().to_string())).expect("a file");
    };
    std::fs::create_dir(path("tenants")).expect("a folder");
    for (name, seed) in [("stays", 1), ("moves", 2), ("goes", 3), ("comes", 4), ("tenants/t", 5)] {
        Workload::new(seed).run(&sqlite::create(&path(&format!("{name}.db")), 4096), 20);
    }
    write(&[("stays", "stays"), ("moves", "here"), ("goes", "goes")], Some("tenants-1"));
    let mut command = lsfast::command(["replicate", "--config"]);
    command.arg(&config);
    let mut process = Process::start("lsfast replicate", command);
    for name in ["stays", "here", "goes", "tenants-1/t.db"] {
        place.wait_for_txid(name, 0, 1);
    }

    std::fs::write(&config, "dbs:\n  - path: [\n").expect("a file");
    process.signal("HUP");
    let line = process.wait_for_line("the config file cannot be used");
    assert!(line.contains("level=error") && line.contains("lsfast.yml:"), "{line}");

    // What it has not stored when it goes is stored then.
    Workload::new(6).run(&sqlite::open(&path("goes.db")), 20);
    write(&[("comes", "comes"), ("moves", "there"), ("stays", "stays")], Some("tenants-2"));
    process.signal("HUP");
    let line = process.wait_for_line("the config file was read again");
    assert!(line.contains("kept=1 changed=1 added=1 removed=2"), "{line}");
    for name in ["comes", "there", "tenants-2/t.db"] {
        place.wait_for_txid(name, 0, 1);
    }
    process::until("goes.db to be let go of", || {
        let lines = process.output();
        lines
            .lines()
            .any(|l| l.contains("no longer replicated as before") && l.contains("goes.db"))
            .then_some(())
    });
    let before = place.last_txid("goes", 0);
    for (name, seed) in [("goes", 7), ("stays", 8), ("comes", 9), ("moves", 10), ("tenants/t", 11)] {
        Workload::new(seed).run(&sqlite::open(&path(&format!("{name}.db"))), 5);
    }
    let log = process.stop();
    assert_eq!(log.matches("stays.db replica").count(), 1, "it was left alone: {log}");
    assert_eq!(place.last_txid("goes", 0), before);
    for (name, replica) in
        [("stays", "stays"), ("comes", "comes"), ("moves", "there"), ("tenants/t", "tenants-2/t.db")]
    {
        let out = path("out.db");
        lsfast::restore(&out, &place.url(replica), &[], &["--force"]);
        assert_eq!(sqlite::dump_hash(&out), sqlite::dump_hash(&path(&format!("{name}.db"))), "{name}");
    }
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
