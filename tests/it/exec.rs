//! `lsfast replicate` around a program, once, and onto an empty host.

use std::ffi::OsStr;
use std::path::Path;

use crate::support::case::Case;
use crate::support::process::Process;
use crate::support::sqlite::{
    Workload, {self},
};
use crate::support::{litestream, lsfast, process};

/// The database around which the program runs.
fn db(case: &Case) -> std::path::PathBuf {
    case.path("app.db")
}

fn url(case: &Case) -> String {
    case.place.url("replica")
}

fn replicate(case: &Case, more: &[&str]) -> std::process::Command {
    let mut command = lsfast::command([OsStr::new("replicate")]);
    command.args(more).arg(db(case)).arg(url(case));
    command
}

#[test]
fn the_status_of_the_program_is_that_of_lsfast_and_its_last_commit_is_stored() {
    let case = Case::new();
    let connection = sqlite::create(&db(&case), 4096);
    let script =
        format!("sh -c 'while [ ! -e {}/go ]; do sleep 0.01; done; exit 7'", case.dir.path().display());
    let mut process = Process::start("lsfast", replicate(&case, &["-exec", &script]));
    process.wait_for_line("replicating");
    Workload::new(1).run(&connection, 20);
    std::fs::write(case.dir.path().join("go"), b"").expect("a file");
    assert_eq!(process.wait().code(), Some(7));
    case.is_restored_as(&db(&case));
}

#[test]
fn a_signal_goes_to_the_program_which_may_still_commit() {
    let case = Case::new();
    let connection = sqlite::create(&db(&case), 4096);
    let script =
        r#"sh -c 'trap "echo asked" TERM; echo ready; while [ ! -e done ]; do sleep 0.01; done; kill -9 $$'"#;
    let mut command = replicate(&case, &["-exec", script]);
    command.current_dir(case.dir.path());
    let mut process = Process::start("lsfast", command);
    process.wait_for_line("ready");
    process.signal("TERM");
    process.wait_for_line("asked");
    assert!(process.runs());
    Workload::new(2).run(&connection, 20);
    std::fs::write(case.dir.path().join("done"), b"").expect("a file");
    // As a shell says it: 128 + SIGKILL.
    assert_eq!(process.wait().code(), Some(137));
    case.is_restored_as(&db(&case));
}

#[test]
fn a_program_does_not_go_on_without_replication() {
    let case = Case::new();
    std::fs::write(db(&case), vec![b'x'; 8192]).expect("a file");
    let mut process = Process::start("lsfast", replicate(&case, &["-exec", "sleep 1000"]));
    assert_eq!(process.wait().code(), Some(1));
    let output = process.output();
    assert!(output.contains("not a SQLite database") && output.contains("SIGTERM"), "{output}");
}

#[test]
fn a_program_that_cannot_be_started_is_named() {
    let case = Case::new();
    let output = lsfast::run(replicate(&case, &["-exec", "no-such-program x"]));
    assert_eq!(output.status.code(), Some(1));
    assert!(lsfast::stderr(&output).contains("error: --exec: no-such-program cannot be started"));
}

#[test]
fn once_stores_what_is_there_and_ends() {
    let case = Case::new();
    let output = lsfast::run(replicate(&case, &["-once"]));
    assert_eq!(output.status.code(), Some(1));
    let text = lsfast::stderr(&output);
    assert!(text.contains("app.db does not exist: there is nothing to replicate"), "{text}");

    let connection = sqlite::create(&db(&case), 4096);
    let mut work = Workload::new(3);
    for _ in 0..3 {
        work.run(&connection, 10);
        let output = lsfast::run(replicate(&case, &["-once"]));
        assert!(output.status.success(), "{}", lsfast::stderr(&output));
        case.is_restored_as(&db(&case));
    }
    assert_eq!(case.place.last_txid("replica", 0), 3);
}

#[test]
fn once_with_a_full_image_leaves_one_of_the_newest_state() {
    let case = Case::new();
    let connection = sqlite::create(&db(&case), 4096);
    let mut work = Workload::new(8);
    for n in 1..=3u64 {
        work.run(&connection, 10);
        let output = lsfast::run(replicate(&case, &["-once", "-force-snapshot", "-enforce-retention"]));
        assert!(output.status.success(), "{}", lsfast::stderr(&output));
        assert_eq!(case.place.last_txid("replica", 9), n, "a full image of the state that was stored");
    }
    // Of three only the newest level 0 is needed as the position; the image alone gives the state.
    case.is_restored_as(&db(&case));
    let out = case.dir.path().join("litestream.db");
    litestream::restore(case.dir.path(), &db(&case), &out, &case.place, "replica", None);
    assert_eq!(sqlite::dump_hash(&out), sqlite::dump_hash(&db(&case)));
    let output = lsfast::run(replicate(&case, &["-force-snapshot"]));
    assert_eq!(output.status.code(), Some(2), "only with --once");
}

#[test]
fn an_empty_host_gets_its_database_before_the_program_runs() {
    let case = Case::new();
    Workload::new(4).run(&sqlite::create(&db(&case), 4096), 20);
    let expected = sqlite::dump_hash(&db(&case));
    // Nothing is stored yet: nothing to restore, and no error.
    let mut process = Process::start("lsfast", replicate(&case, &["-restore-if-db-not-exists"]));
    case.place.wait_for_txid("replica", 0, 1);
    process.signal("TERM");
    assert!(process.wait().success());
    for name in ["app.db", "app.db-wal", "app.db-shm"] {
        // The last two are gone if lsfast was the last connection.
        _ = std::fs::remove_file(case.dir.path().join(name));
    }
    let script = format!("cp {} {}/seen.db", db(&case).display(), case.dir.path().display());
    let output = lsfast::run(replicate(&case, &["-restore-if-db-not-exists", "-exec", &script]));
    assert!(output.status.success(), "{}", lsfast::stderr(&output));
    assert_eq!(sqlite::dump_hash(&case.dir.path().join("seen.db")), expected);
}

#[test]
fn one_place_for_two_replicas_is_refused() {
    let case = Case::new();
    let mut command = replicate(&case, &[]);
    command.arg(format!("{}/", url(&case)));
    let output = lsfast::run(command);
    assert_eq!(output.status.code(), Some(1));
    assert!(lsfast::stderr(&output).contains("is named twice"), "{}", lsfast::stderr(&output));
}

#[test]
fn the_last_commits_of_a_removed_database_are_stored_and_a_new_one_is_followed() {
    let case = Case::new();
    let connection = sqlite::create(&db(&case), 4096);
    let process = Process::start("lsfast", replicate(&case, &["-log-level", "debug"]));
    case.place.wait_for_txid("replica", 0, 1);
    Workload::new(5).run(&connection, 50);
    let before = sqlite::dump_hash(&db(&case));
    for name in ["app.db", "app.db-wal", "app.db-shm"] {
        std::fs::remove_file(case.dir.path().join(name)).expect("a file");
    }
    process.wait_for_line("the database was replaced or removed; waiting");
    let out = case.dir.path().join("old.db");
    lsfast::restore(&out, &url(&case), &[], &[]);
    assert_eq!(sqlite::dump_hash(&out), before);
    drop(connection);
    let connection = sqlite::create(&db(&case), 4096);
    Workload::new(6).run(&connection, 20);
    process::until("the new database to be stored", || {
        let out = case.dir.path().join("new.db");
        lsfast::restore(&out, &url(&case), &[], &["--force"]);
        (sqlite::dump_hash(&out) == sqlite::dump_hash(&db(&case))).then_some(())
    });
    process.stop();
}

/// The keys of the replication are not the program's, and the limit that lsfast raises for itself
/// is not for it; without lsfast its commits would be stored nowhere.
#[test]
fn the_program_has_its_own_environment_and_limits_and_does_not_outlive_lsfast() {
    let case = Case::new();
    drop(sqlite::create(&db(&case), 4096));
    let child = "env > env.new; ulimit -Sn > files; ulimit -Sc > core; mv env.new env; exec sleep 1000";
    let mut command = std::process::Command::new("sh");
    // Limits that lsfast changes for itself.
    command
        .args(["-c", "ulimit -Sn 300 && ulimit -Sc \"$(ulimit -Hc)\" && exec \"$@\"", "sh"])
        .arg(env!("CARGO_BIN_EXE_lsfast"))
        .args(["replicate", "--exec", &format!("sh -c '{child}'")])
        .arg(db(&case))
        .arg(url(&case))
        .current_dir(case.dir.path())
        .env("LITESTREAM_ACCESS_KEY_ID", "AKIDHUSH")
        .env("LITESTREAM_SECRET_ACCESS_KEY", "hush")
        .env("LSFAST_TOKEN", "hush")
        .env("APP_TOKEN", "its own");
    let mut process = Process::start("lsfast", command);
    let env = process::until("the program to have begun", || {
        std::fs::read_to_string(case.dir.path().join("env")).ok()
    });
    assert!(!env.to_lowercase().contains("hush") && env.contains("APP_TOKEN=its own"), "{env}");
    let read = |name: &str| std::fs::read_to_string(case.dir.path().join(name)).expect("a file");
    assert_eq!(read("files").trim(), "300");
    let hard = std::process::Command::new("sh").args(["-c", "ulimit -Hc"]).output().expect("a shell");
    assert_eq!(read("core").trim(), String::from_utf8_lossy(&hard.stdout).trim());
    let line = process.wait_for_line("the program runs");
    let pid: u32 = line.split("pid=").nth(1).and_then(|l| l.split(' ').next()?.parse().ok()).expect("a pid");
    process.signal("KILL");
    process.wait();
    // Not as a zombie either, whether process 1 waits for orphans or not.
    process::until("the end of the program", || (!Path::new(&format!("/proc/{pid}")).exists()).then_some(()));
}

/// Whether a process runs. Where nothing waits for it, it stays as a zombie.
fn lives(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !(stat.is_empty() || stat.contains(") Z "))
}

/// A script that ignores SIGTERM, and starts another one. They write their process ids to `pids`.
const STUBBORN: &str = r#"sh -c 'trap "" TERM; (while :; do sleep 0.05; done) & echo $$ $! > pids.new; mv pids.new pids; while :; do sleep 0.05; done'"#;

fn stubborn(case: &Case, more: &[&str]) -> (Process, Vec<String>) {
    let mut command = replicate(case, &["-exec", STUBBORN]);
    command.args(more).current_dir(case.dir.path());
    let process = Process::start("lsfast", command);
    let pids = process::until("the program to have begun", || {
        std::fs::read_to_string(case.dir.path().join("pids")).ok()
    });
    (process, pids.split_whitespace().map(str::to_owned).collect())
}

/// `--shutdown-timeout` did not bound the wait for the program, so lsfast never ended.
#[test]
fn a_program_that_ignores_the_signal_is_killed_and_its_last_commit_is_stored() {
    let case = Case::new();
    let connection = sqlite::create(&db(&case), 4096);
    let (mut process, pids) = stubborn(&case, &["-shutdown-timeout", "3s"]);
    case.place.wait_for_txid("replica", 0, 1);
    process.signal("TERM");
    process.wait_for_line("handed on to the program");
    Workload::new(9).run(&connection, 20);
    assert_eq!(process.wait().code(), Some(137), "{}", process.output());
    assert_eq!(process.output().matches("does not end in time").count(), 1, "{}", process.output());
    assert!(process.output().contains("stopped: everything is stored"), "{}", process.output());
    process::until("the end of both", || (!pids.iter().any(|pid| lives(pid))).then_some(()));
    case.is_restored_as(&db(&case));
}

/// It went on for ever, without replication.
#[test]
fn a_program_that_ignores_the_signal_does_not_outlive_lsfast() {
    let case = Case::new();
    drop(sqlite::create(&db(&case), 4096));
    let (mut process, pids) = stubborn(&case, &["-shutdown-timeout", "500ms"]);
    process.signal("KILL");
    process.wait();
    process::until("the end of both", || (!pids.iter().any(|pid| lives(pid))).then_some(()));
}

/// The guardian of the program is killed: lsfast stores what is there and says so, and the program
/// ends.
#[test]
fn a_killed_guardian_is_noticed() {
    let case = Case::new();
    drop(sqlite::create(&db(&case), 4096));
    let mut process = Process::start("lsfast", replicate(&case, &["-exec", "sleep 1000"]));
    let line = process.wait_for_line("the program runs");
    let pid: u32 = line.split("pid=").nth(1).and_then(|l| l.split(' ').next()?.parse().ok()).expect("a pid");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the program runs");
    let parent = status.lines().find_map(|l| l.strip_prefix("PPid:")).expect("a parent").trim().to_owned();
    let killed = std::process::Command::new("kill").args(["-KILL", &parent]).status().expect("kill");
    assert!(killed.success());
    process.wait_for_line("the process that guards the program was killed");
    assert_eq!(process.wait().code(), Some(1), "{}", process.output());
    process::until("the end of the program", || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // Where nothing waits for it, it stays as a zombie.
        (stat.is_empty() || stat.contains(") Z ")).then_some(())
    });
    case.is_restored_as(&db(&case));
}

/// As process 1 of a container lsfast is the parent of all orphans; they stayed as zombies.
#[test]
fn orphans_are_waited_for_by_process_1_and_the_status_of_the_program_is_not_lost() {
    let case = Case::new();
    drop(sqlite::create(&db(&case), 4096));
    let wrapped = |program: &OsStr, args: &[&OsStr]| {
        let mut command = std::process::Command::new("unshare");
        command.args(["--pid", "--fork", "--map-root-user", "--mount-proc"]).arg(program).args(args);
        command
    };
    if !wrapped(OsStr::new("true"), &[]).output().is_ok_and(|o| o.status.success()) {
        eprintln!("no namespaces for processes here: not tested");
        return;
    }
    // Each `sleep` has no parent but process 1 when it ends. The loop ends when none is left, as a
    // zombie or otherwise.
    let script = "for i in 1 2 3; do (sleep 0.05 &); done; while grep -q '(sleep)' /proc/[0-9]*/stat; do sleep 0.01; done; exit 7";
    let exec = format!("sh -c \"{script}\"");
    let (db, url) = (db(&case), url(&case));
    let args = ["replicate", "--exec", &exec].map(OsStr::new);
    let args = [&args[..], &[db.as_os_str(), OsStr::new(&url)]].concat();
    let mut process = Process::start("lsfast", wrapped(OsStr::new(env!("CARGO_BIN_EXE_lsfast")), &args));
    assert_eq!(process.wait().code(), Some(7), "{}", process.output());
}

#[test]
fn what_needs_a_shell_is_refused_or_warned_of() {
    let case = Case::new();
    drop(sqlite::create(&db(&case), 4096));
    let output = lsfast::run(replicate(&case, &["-exec", "echo migrated && false"]));
    assert_eq!(output.status.code(), Some(1));
    let text = lsfast::stderr(&output);
    assert!(text.contains("&& needs a shell") && text.contains("sh -c"), "{text}");
    assert!(!case.dir.path().join("replica").exists(), "nothing is begun");
    let output = lsfast::run(replicate(&case, &["-exec", "echo $HOME > log"]));
    assert!(output.status.success(), "{}", lsfast::stderr(&output));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "$HOME\n");
    let warnings = lsfast::stderr(&output).matches("level=warn").count();
    assert_eq!(warnings, 2, "{}", lsfast::stderr(&output));
}
