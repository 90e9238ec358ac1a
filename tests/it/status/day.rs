//! A day of an operator with a hundred databases: start, an outage of an hour, a full store, a
//! wrong key, a full disk of this host, recovery, retention, verification, stop. The log has 40
//! lines at most, without those that only the test's clock makes.
//!
//! The clock of the process is moved by libfaketime; without it the test is skipped.

use std::io::Write as _;
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
        // The first has its replica on the small disk, the others at the store.
        for folder in ["disk", "local"] {
            std::fs::create_dir(dir.path().join(folder)).expect("a folder");
        }
        let names = (1..DATABASES).map(|n| format!("{n:03}.db"));
        let apps = std::iter::once("local/000.db".to_owned())
            .chain(names)
            .map(|name| sqlite::create(&dir.path().join(name), 4096))
            .collect::<Vec<_>>();
        let (path, addr) = (dir.path().display(), canned::nobody());
        let text = format!(
            "addr: {addr}\nverify-interval: 2h\nverify-rate: 100MiB\nl0-retention: 2h\ndbs:\n- path: {path}/local/000.db\n  \
             replica:\n    url: file://{path}/disk/replica\n- dir: {path}\n  pattern: '*.db'\n  meta-path: {path}/disk/state\n  \
             replica:\n    url: {}\n    access-key-id: {}\n    secret-access-key: {SECRET_KEY}\n",
            s3::url(faults.addr, "tenants"),
            s3::ACCESS_KEY,
        );
        let config = dir.path().join("lsfast.yml");
        std::fs::write(&config, text).expect("a config file");
        std::fs::set_permissions(&config, std::fs::Permissions::from_mode(0o600)).expect("its mode");
        std::fs::write(dir.path().join("clock"), "+0").expect("a clock");
        // A disk of the test's own, in a mount namespace.
        let script = "mount -t tmpfs -o size=32m tmpfs \"$1\" && shift && exec \"$@\"";
        let mut command = Command::new("unshare");
        let kept = ["PATH", "HOME", "TMPDIR", "LLVM_PROFILE_FILE"];
        command.env_clear().envs(kept.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        command.args(["--mount", "--map-root-user", "sh", "-c", script, "sh"]).arg(dir.path().join("disk"));
        command.arg(env!("CARGO_BIN_EXE_lsfast")).args(["replicate", "--config"]).arg(&config);
        fake_clock(&mut command, library, &dir.path().join("clock"));
        let process = Process::start("lsfast replicate", command);
        Day { dir, apps, mood, addr, ahead: 0, process, _faults: faults, _store: store }
    }

    fn set(&self, mood: Mood) {
        *self.mood.lock().expect("no panic") = mood;
    }

    /// A file on the small disk, as the process sees it.
    fn filler(&self) -> PathBuf {
        let disk = self.dir.path().join("disk");
        Path::new("/proc")
            .join(self.process.id().to_string())
            .join("root")
            .join(disk.strip_prefix("/").expect("a path"))
            .join("filler")
    }

    /// Leaves no room on the small disk.
    fn fill_the_disk(&self) {
        let mut file = std::fs::File::create(self.filler()).expect("a file");
        for piece in [1 << 20, 512] {
            while file.write_all(&vec![1; piece]).is_ok() {}
        }
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
        self.until_of(DATABASES, what, name, value);
    }

    /// Waits until a metric has a value in this many databases.
    fn until_of(&self, databases: usize, what: &str, name: &str, value: impl Fn(f64) -> bool) {
        until(what, || {
            let values = parse(&get(self.addr, "/metrics").1);
            let of = values.iter().filter(|(k, v)| k.starts_with(&format!("{name}{{")) && value(**v)).count();
            self.keep_log();
            (of == databases).then_some(())
        });
    }

    /// Writes the log so far to the file that `LSFAST_DAY_LOG` names, if it is set.
    fn keep_log(&self) {
        if let Some(keep) = std::env::var_os("LSFAST_DAY_LOG") {
            std::fs::write(keep, self.process.output()).expect("a file");
        }
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
    let begin = day.process.wait_for_line("msg=replicating");
    assert!(begin.contains(" at=\"http://127.0.0.1:") && begin.contains(" region us-east-1\""), "{begin}");
    day.process.wait_for_line("serving metrics");
    day.stored();
    day.commit();
    day.stored();

    // An outage of an hour: its begin, three reminders and its end, for the store.
    day.set(Mood::Down);
    day.commit();
    day.process.wait_for_line("the store is not working");
    day.until_of(DATABASES - 1, "all to wait", "lsfast_replica_failing", |v| v == 1.0);
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
    // A request that was under way when the clock jumped may end in a short outage of its own.
    let outage = day.process.output();
    let outage = outage.split("the store works again").next().expect("the first part");
    for (message, times) in [("the store is not working", 1), ("the store is still not working", 3)] {
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

    // The disk of one replica, and of the state folders of the others, is full.
    let ends = day.process.output().matches("the store works again").count();
    day.fill_the_disk();
    day.commit();
    until("the full disk to be an error", || {
        let full =
            |l: &str| l.contains("level=error") && l.contains("the disk or the quota is full; make room");
        day.process.output().lines().any(full).then_some(())
    });
    // The others go on.
    day.until_of(DATABASES - 1, "all others to be stored", "lsfast_replica_lag_seconds", |v| v == 0.0);
    std::fs::remove_file(day.filler()).expect("the file");
    day.later(600);
    until("room again", || {
        day.touch();
        (day.process.output().matches("the store works again").count() > ends).then_some(())
    });
    day.stored();

    // Retention and verification take their turns within the next hours, each with a line
    // that says how much. (The store has a clock of its own. The first database sees the hours.)
    day.later(3 * 3_600);
    for message in ["old files removed", "verified: the replica is sound"] {
        until(message, || {
            day.touch();
            let done = |l: &str| {
                l.contains(message) && l.contains("bytes=") && l.contains("ms=") && l.contains("txid=")
            };
            day.process.output().lines().any(done).then_some(())
        });
    }
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
    // The store's clock stays where it is, and a request that is under way when the other one jumps
    // has waited for hours: that is of the test, not of the day.
    let of_the_test = |line: &str| {
        line.contains("and that of the store differ; requests are signed by the store")
            || line.contains("the store works again")
                && line.rsplit("down=").next().is_some_and(|down| !down.contains(['m', 'h']))
            || line.contains("the store is not working") && line.contains("did not answer within")
    };
    let lines: Vec<&str> = log.lines().filter(|line| !of_the_test(line)).collect();
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
