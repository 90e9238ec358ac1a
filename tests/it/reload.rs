//! SIGHUP: the config file is read again, and only what has changed in it changes.

use std::path::PathBuf;

use crate::support::case::Case;
use crate::support::process::{Process, until};
use crate::support::sqlite::{
    Workload, {self},
};
use crate::support::{canned, http, lsfast};

struct Reload {
    case: Case,
    config: PathBuf,
}

impl Reload {
    fn new(config: &str) -> Reload {
        let case = Case::new();
        let reload = Reload { config: case.path("lsfast.yml"), case };
        reload.write(config);
        reload
    }

    fn write(&self, config: &str) {
        let text = config.replace("DIR", &self.case.dir.path().display().to_string());
        std::fs::write(&self.config, text).expect("a file");
    }

    fn database(&self, name: &str) {
        std::fs::create_dir_all(self.case.path(name).parent().expect("a folder")).expect("a folder");
        Workload::new(1).run(&sqlite::create(&self.case.path(name), 4096), 5);
    }

    fn start(&self, more: &[&str]) -> Process {
        let mut command = lsfast::command(["replicate", "-log-level", "debug", "-config"]);
        command.arg(&self.config).args(more).current_dir(self.case.dir.path());
        Process::start("lsfast replicate", command)
    }

    /// Commits something, and waits until it can be restored.
    fn is_followed(&self, name: &str, replica: &str) {
        Workload::new(2).run(&sqlite::open(&self.case.path(name)), 5);
        self.is_stored(name, replica);
    }

    /// Waits until it can be restored.
    fn is_stored(&self, name: &str, replica: &str) {
        self.case.place.wait_for_txid(replica, 0, 1);
        self.case.until_restored_as(replica, name);
    }
}

fn entry(name: &str, replica: &str) -> String {
    format!("- path: DIR/{name}\n  replica:\n    path: DIR/{replica}\n")
}

/// A line of the log for each reload.
fn reloads(process: &Process) -> usize {
    process.output().matches("the config file was read again").count()
}

fn reload(process: &Process) {
    let before = reloads(process);
    process.signal("HUP");
    until("the reload", || (reloads(process) > before).then_some(()));
}

#[test]
fn databases_come_go_and_change_and_the_others_go_on() {
    let before = format!(
        "dbs:\n{}{}{}",
        entry("same.db", "same"),
        entry("goes.db", "goes"),
        entry("moves.db", "here")
    );
    let it = Reload::new(&before);
    for name in ["same.db", "goes.db", "moves.db", "comes.db"] {
        it.database(name);
    }
    let process = it.start(&[]);
    for replica in ["same", "goes", "here"] {
        it.case.place.wait_for_txid(replica, 0, 1);
    }
    // What was committed just before is stored by the former configuration.
    for name in ["goes.db", "moves.db"] {
        Workload::new(3).run(&sqlite::open(&it.case.path(name)), 5);
    }
    let after = format!(
        "# other lines\n\ndbs:\n{}{}{}",
        entry("comes.db", "comes"),
        entry("moves.db", "there"),
        entry("same.db", "same")
    );
    it.write(&after);
    reload(&process);
    let line = process.wait_for_line("the config file was read again");
    for count in ["added=1", "removed=1", "changed=1", "unchanged=1"] {
        assert!(line.contains(count), "{line}");
    }
    it.is_followed("comes.db", "comes");
    it.is_followed("moves.db", "there");
    it.is_followed("same.db", "same");
    it.case.until_restored_as("goes", "goes.db");
    // Another process may follow it now.
    let mut other = lsfast::command(["replicate", "-once"]);
    other.arg(it.case.path("goes.db")).arg(it.case.place.url("goes"));
    let output = lsfast::run(other);
    assert!(output.status.success(), "{}", lsfast::stderr(&output));
    let log = process.stop();
    // Its pipeline was begun once: no pause, no request.
    let begun =
        |name: &str| log.lines().filter(|l| l.contains("the database is open") && l.contains(name)).count();
    assert_eq!((begun("same.db"), begun("moves.db"), begun("comes.db")), (1, 2, 1), "{log}");
    assert!(!log.contains("level=error"), "{log}");
}

/// A wrong file ended nothing before, because it was not read. It must not end anything now.
#[test]
fn a_wrong_file_changes_nothing_and_is_one_error_with_its_reason() {
    let addr = canned::nobody();
    let before = format!("addr: {addr}\ndbs:\n{}", entry("app.db", "app"));
    let it = Reload::new(&before);
    it.database("app.db");
    let process = it.start(&[]);
    it.case.place.wait_for_txid("app", 0, 1);
    let metric = |name: &str| {
        let (_, body) = http::request(addr, "GET", "/metrics", b"").expect("metrics");
        let text = String::from_utf8(body).expect("text");
        let line =
            text.lines().find(|l| l.starts_with(name)).unwrap_or_else(|| panic!("{name}: {text}")).to_owned();
        line.rsplit(' ').next().and_then(|v| v.parse::<f64>().ok()).expect("a number")
    };
    process.wait_for_line("serving metrics");
    assert_eq!(metric("lsfast_config_last_reload_successful"), 1.0);
    let at = metric("lsfast_config_last_reload_success_timestamp_seconds");
    for (wrong, why) in [
        ("dbs:\n- path: [", ""),
        ("dbs:\n- path: DIR/app.db\n  replica:\n    no-such-key: 1\n", "no-such-key"),
        ("dbs: []\n", "names no databases"),
    ] {
        let errors = process.output().matches("level=error").count();
        it.write(wrong);
        process.signal("HUP");
        until("the error", || (process.output().matches("level=error").count() > errors).then_some(()));
        let log = process.output();
        let line = log.lines().rfind(|l| l.contains("level=error")).expect("an error");
        assert!(line.contains("the former configuration stays in force") && line.contains(why), "{line}");
        assert_eq!(metric("lsfast_config_last_reload_successful"), 0.0);
        assert_eq!(metric("lsfast_config_last_reload_success_timestamp_seconds"), at);
        it.is_followed("app.db", "app");
    }
    std::fs::remove_file(&it.config).expect("a file");
    process.signal("HUP");
    until("the fourth error", || (process.output().matches("level=error").count() == 4).then_some(()));
    it.write(&format!("{before}{}", entry("more.db", "more")));
    reload(&process);
    assert_eq!(metric("lsfast_config_last_reload_successful"), 1.0);
    it.database("more.db");
    it.is_followed("more.db", "more");
    process.stop();
}

#[test]
fn directories_come_go_and_change() {
    let directory = |name: &str, pattern: &str, replica: &str| {
        format!(
            "- dir: DIR/{name}\n  pattern: '{pattern}'\n  watch: true\n  replica:\n    path: DIR/{replica}\n"
        )
    };
    let it =
        Reload::new(&format!("dbs:\n{}{}", directory("a", "*.db", "to"), directory("b", "*.db", "gone")));
    for name in ["a/one.db", "a/two.sqlite", "b/three.db", "c/four.db"] {
        it.database(name);
    }
    let process = it.start(&[]);
    it.case.place.wait_for_txid("to/one.db", 0, 1);
    it.case.place.wait_for_txid("gone/three.db", 0, 1);
    // Another pattern, with the same replica for what matches both; one directory instead of
    // another.
    it.write(&format!("dbs:\n{}{}", directory("a", "*", "to"), directory("c", "*.db", "new")));
    reload(&process);
    it.is_followed("a/two.sqlite", "to/two.sqlite");
    it.is_followed("c/four.db", "new/four.db");
    it.is_followed("a/one.db", "to/one.db");
    it.database("a/five.db");
    it.is_stored("a/five.db", "to/five.db");
    // The same files with another replica.
    it.write(&format!("dbs:\n{}", directory("a", "*", "elsewhere")));
    reload(&process);
    it.is_followed("a/one.db", "elsewhere/one.db");
    it.is_followed("a/five.db", "elsewhere/five.db");
    let log = process.stop();
    assert!(!log.contains("level=error"), "{log}");
    let begun = log.lines().filter(|l| l.contains("the database is open") && l.contains("a/one.db")).count();
    assert_eq!(begun, 2, "the first reload did not stop it: {log}");
    assert!(!it.case.path("new/one.db").exists());
}

/// The process ended with "everything is stored", although a database that had left the config file
/// could not be stored.
#[test]
fn a_database_that_leaves_unstored_is_not_forgotten_at_the_end() {
    let nowhere = format!("s3://bucket/db?endpoint=http://{}&region=us-east-1", canned::nobody());
    let before = format!(
        "access-key-id: a\nsecret-access-key: b\nshutdown-sync-timeout: 1s\ndbs:\n{}- path: DIR/goes.db\n  replica:\n    url: {nowhere}\n",
        entry("app.db", "app")
    );
    let it = Reload::new(&before);
    it.database("app.db");
    it.database("goes.db");
    let mut process = it.start(&[]);
    it.is_followed("app.db", "app");
    it.write(&format!("shutdown-sync-timeout: 1s\ndbs:\n{}", entry("app.db", "app")));
    reload(&process);
    process.wait_for_line("not everything of it is stored");
    process.signal("TERM");
    assert_eq!(process.wait().code(), Some(1), "{}", process.output());
    let log = process.output();
    assert!(log.lines().last().is_some_and(|l| l.starts_with("error: ") && l.contains("goes.db")), "{log}");
}

/// The program does not get the signal, which would end most programs.
#[test]
fn a_program_goes_on_while_the_file_is_read_again() {
    let it = Reload::new(&format!("dbs:\n{}", entry("app.db", "app")));
    it.database("app.db");
    it.database("more.db");
    let script = "sh -c 'while [ ! -e done ]; do sleep 0.01; done; exit 7'";
    let mut process = it.start(&["-exec", script]);
    it.case.place.wait_for_txid("app", 0, 1);
    it.write(&format!("dbs:\n{}{}", entry("app.db", "app"), entry("more.db", "more")));
    reload(&process);
    it.is_followed("more.db", "more");
    std::fs::write(it.case.path("done"), b"").expect("a file");
    assert_eq!(process.wait().code(), Some(7), "{}", process.output());
}

#[test]
fn many_signals_at_once_and_one_at_the_end_are_survived() {
    let files = [
        format!("dbs:\n{}{}", entry("app.db", "app"), entry("other.db", "one")),
        format!("dbs:\n{}{}", entry("app.db", "app"), entry("other.db", "two")),
    ];
    let it = Reload::new(&files[0]);
    it.database("app.db");
    it.database("other.db");
    let mut process = it.start(&[]);
    it.case.place.wait_for_txid("one", 0, 1);
    for round in 0..6 {
        it.write(&files[round % 2]);
        for _ in 0..3 {
            process.signal("HUP");
        }
    }
    it.is_followed("other.db", "two");
    it.is_followed("app.db", "app");
    Workload::new(5).run(&sqlite::open(&it.case.path("app.db")), 5);
    process.signal("TERM");
    process.signal("HUP");
    assert!(process.wait().success(), "{}", process.output());
    it.case.until_restored_as("app", "app.db");
}
