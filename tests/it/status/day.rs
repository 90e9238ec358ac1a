//! A day of an operator with a hundred databases: start, an outage of an hour, a full store, a
//! wrong key, recovery, verification, a disk that is full, stop. The log has 40 lines at most.
//!
//! The clock of the process is moved by libfaketime; without it the test is skipped.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use rusqlite::Connection;

use super::metrics::{get, parse};
use crate::support::fault::{Fault, FaultServer, s3_error};
use crate::support::process::{Process, until};
use crate::support::s3::{self, S3Server, SECRET_KEY};
use crate::support::{canned, lsfast, sqlite};

const DATABASES: usize = 100;

/// Most lines of the log of a day.
const LINES: usize = 40;

/// How the store behaves.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Mood {
    Well,
    Down,
    Full,
    WrongKey,
}

fn libfaketime() -> Option<PathBuf> {
    let usual =
        ["x86_64", "aarch64"].map(|arch| format!("/usr/lib/{arch}-linux-gnu/faketime/libfaketimeMT.so.1"));
    let named = std::env::var_os("LIBFAKETIME").map(PathBuf::from);
    let found = named.into_iter().chain(usual.map(PathBuf::from)).find(|p| p.is_file());
    if found.is_none() {
        eprintln!(
            "SKIPPED: there is no libfaketime, and LIBFAKETIME does not name it (apt install libfaketime)"
        );
    }
    found
}

/// Lets a program read its clock by this file.
fn fake_clock(command: &mut Command, library: &Path, clock: &Path) {
    command
        .env("LD_PRELOAD", library)
        .env("FAKETIME_TIMESTAMP_FILE", clock)
        .env("FAKETIME_CACHE_DURATION", "1")
        .env("NO_FAKE_STAT", "1");
}

/// A process with a clock that the test sets ahead.
struct Day {
    dir: tempfile::TempDir,
    apps: Vec<Connection>,
    mood: Arc<Mutex<Mood>>,
    addr: std::net::SocketAddr,
    ahead: u64,
    process: Process,
    _faults: FaultServer,
    _store: S3Server,
}

impl Day {
    fn start(library: &Path) -> Day {
        let (dir, store) = (tempfile::tempdir().expect("a temporary folder"), S3Server::start());
        let faults = FaultServer::start(Some(store.addr));
        let mood = Arc::new(Mutex::new(Mood::Well));
        let now = Arc::clone(&mood);
        faults.always(move |_| match *now.lock().expect("no panic") {
            Mood::Well => None,
            Mood::Down => Some(Fault::ResetBefore),
            Mood::Full => Some(s3_error(507, "XMinioStorageFull")),
            Mood::WrongKey => Some(s3_error(403, "InvalidAccessKeyId")),
        });
        let apps = (0..DATABASES)
            .map(|n| sqlite::create(&dir.path().join(format!("{n:03}.db")), 4096))
            .collect::<Vec<_>>();
        let (path, addr) = (dir.path().display(), canned::nobody());
        let text = format!(
            "addr: {addr}\nverify-interval: 1h\nverify-rate: 100MiB\ndbs:\n- dir: {path}\n  pattern: '*.db'\n  replica:\n    url: {}\n    \
             access-key-id: {}\n    secret-access-key: {SECRET_KEY}\n",
            s3::url(faults.addr, "tenants"),
            s3::ACCESS_KEY,
        );
        let config = dir.path().join("lsfast.yml");
        std::fs::write(&config, text).expect("a config file");
        std::fs::set_permissions(&config, std::fs::Permissions::from_mode(0o600)).expect("its mode");
        std::fs::write(dir.path().join("clock"), "+0").expect("a clock");
        let mut command = lsfast::command(["replicate", "--config"]);
        fake_clock(command.arg(&config), library, &dir.path().join("clock"));
        let process = Process::start("lsfast replicate", command);
        Day { dir, apps, mood, addr, ahead: 0, process, _faults: faults, _store: store }
    }

    fn set(&self, mood: Mood) {
        *self.mood.lock().expect("no panic") = mood;
    }

    fn commit(&self) {
        self.commit_to(DATABASES);
    }

    /// Wakes the process.
    fn touch(&self) {
        self.commit_to(5);
    }

    fn commit_to(&self, databases: usize) {
        for app in &self.apps[..databases] {
            app.execute("INSERT INTO log VALUES(1, hex(randomblob(300)))", []).expect("a row");
        }
    }

    /// Sets the clock ahead. The process notices when a commit wakes it.
    fn later(&mut self, seconds: u64) {
        self.ahead += seconds;
        std::fs::write(self.dir.path().join("clock"), format!("+{}", self.ahead)).expect("a clock");
    }

    /// Waits until a metric has a value in all databases.
    fn until_all(&self, what: &str, name: &str, value: impl Fn(f64) -> bool) {
        until(what, || {
            let values = parse(&get(self.addr, "/metrics").1);
            let of = values.iter().filter(|(k, v)| k.starts_with(&format!("{name}{{")) && value(**v)).count();
            (of == DATABASES).then_some(())
        });
    }

    fn stored(&self) {
        self.until_all("a state of each", "lsfast_replica_state_timestamp_seconds", |v| v > 0.0);
        self.until_all("all to be stored", "lsfast_replica_lag_seconds", |v| v == 0.0);
        self.until_all("no failure", "lsfast_replica_failing", |v| v == 0.0);
    }
}

#[test]
fn a_day_of_a_hundred_databases_is_forty_lines() {
    let Some(library) = libfaketime() else { return };
    let mut day = Day::start(&library);
    day.process.wait_for_line("serving metrics");
    day.stored();
    day.commit();
    day.stored();

    // An outage of an hour: its begin, three reminders and its end, for the store.
    day.set(Mood::Down);
    day.commit();
    day.process.wait_for_line("the store is not working");
    day.until_all("all to wait", "lsfast_replica_failing", |v| v == 1.0);
    for (seconds, down) in [(70, "down=1m"), (600, "down=11m"), (3_000, "down=1h")] {
        day.later(seconds);
        until("the reminder", || {
            day.touch();
            let reminded = |l: &str| l.contains("the store is still not working") && l.contains(down);
            day.process.output().lines().any(reminded).then_some(())
        });
    }
    day.set(Mood::Well);
    day.later(600);
    until("the end of the outage", || {
        day.commit();
        day.process.output().contains("the store works again").then_some(())
    });
    day.stored();
    let outage = day.process.output();
    for (message, times) in
        [("the store is not working", 1), ("the store is still not working", 3), ("the store works again", 1)]
    {
        assert_eq!(outage.matches(message).count(), times, "{message}:\n{outage}");
    }

    // A full store, then a wrong key: each is an error, and heals without a restart.
    for (mood, words) in [(Mood::Full, "is full"), (Mood::WrongKey, "does not know the")] {
        let ends = day.process.output().matches("the store works again").count();
        day.set(mood);
        day.commit();
        until("the refusal", || {
            day.process.output().lines().any(|l| l.contains("level=error") && l.contains(words)).then_some(())
        });
        day.set(Mood::Well);
        day.later(600);
        until("its end", || {
            day.touch();
            (day.process.output().matches("the store works again").count() > ends).then_some(())
        });
        day.stored();
    }

    // Retention and verification take their turns within the next hours.
    day.later(3 * 3_600);
    until("verifications", || {
        day.touch();
        let values = parse(&get(day.addr, "/metrics").1);
        let now = jiff::Timestamp::now().as_second() as f64 + day.ahead as f64;
        let proven = |(k, v): (&String, &f64)| {
            k.starts_with("lsfast_verify_success_timestamp_seconds{") && *v > now - 3_000.0
        };
        values.iter().any(proven).then_some(())
    });
    day.stored();
    let Day { process, dir, .. } = day;
    let log = process.stop();
    let lines: Vec<&str> = log.lines().collect();
    if let Some(keep) = std::env::var_os("LSFAST_DAY_LOG") {
        std::fs::write(keep, &log).expect("a file");
    }
    assert!(lines.last().is_some_and(|l| l.contains("stopped: everything is stored")), "{log}");
    assert!(lines.len() <= LINES, "{} lines:\n{log}", lines.len());
    drop(dir);
}

/// A mistyped path is not an error at once, because the application may make the database later.
#[test]
fn a_path_without_a_database_is_a_warning_after_a_minute_and_an_error_at_the_end() {
    let Some(library) = libfaketime() else { return };
    let dir = tempfile::tempdir().expect("a temporary folder");
    let clock = dir.path().join("clock");
    let set = |ahead: &str| std::fs::write(&clock, ahead).expect("a clock");
    set("+0");
    let mut command = lsfast::command(["replicate"]);
    command.arg(dir.path().join("typo.db")).arg(format!("file://{}/replica", dir.path().display()));
    fake_clock(&mut command, &library, &clock);
    let mut process = Process::start("lsfast replicate", command);
    process.wait_for_line("waiting for the database");
    set("+70");
    let line = process.wait_for_line("still waiting for the database");
    assert!(line.contains("level=warn") && line.contains("typo.db"), "{line}");
    process.signal("TERM");
    assert_eq!(process.wait().code(), Some(1));
    assert!(process.output().contains("nothing of it is stored"), "{}", process.output());
}
