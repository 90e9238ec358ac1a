//! What keeps a database from being opened is one more wait, for one that is alone as for many: no
//! folder, half a file, a lock, no watches.

use std::ffi::OsStr;
use std::process::Command;

use crate::support::case::Case;
use crate::support::lsfast;
use crate::support::process::Process;
use crate::support::sqlite::{
    Workload, {self},
};

/// It ended with "No such file or directory": a fresh volume, on which the application makes the
/// folder at its first start.
#[test]
fn a_folder_that_is_not_there_yet_is_waited_for_and_not_made() {
    let case = Case::new();
    let process = case.replicate("data/sub/app.db");
    process.wait_for_line("waiting for the database");
    std::fs::create_dir(case.path("data")).expect("lsfast has not made it");
    std::fs::create_dir(case.path("data/sub")).expect("lsfast has not made it");
    Workload::new(1).run(&sqlite::create(&case.path("data/sub/app.db"), 4096), 20);
    case.place.wait_for_txid("replica", 0, 1);
    process.stop();
    case.is_restored_as(&case.path("data/sub/app.db"));
}

/// "malformed", or "not a database", ended the process.
#[test]
fn a_file_that_is_being_copied_in_is_waited_for() {
    let case = Case::new();
    let connection = sqlite::create(&case.path("made.db"), 4096);
    Workload::new(2).run(&connection, 50);
    connection.query_row("PRAGMA journal_mode=DELETE", [], |_| Ok(())).expect("a mode");
    drop(connection);
    let whole = std::fs::read(case.path("made.db")).expect("a file");
    for (n, part) in [whole[..50].to_vec(), vec![0; whole.len()]].into_iter().enumerate() {
        let name = format!("app-{n}.db");
        std::fs::write(case.path(&name), part).expect("a file");
        let process = case.replicate(&name);
        process.wait_for_line("waiting for the database");
        std::fs::write(case.path(&name), &whole).expect("a file");
        case.place.wait_for_txid("replica", 0, 1);
        case.until_restored_as("replica", &name);
        process.stop();
        std::fs::remove_dir_all(case.path("replica")).expect("the replica");
    }
}

#[test]
fn a_database_that_is_locked_at_the_start_is_waited_for() {
    let case = Case::new();
    let connection = sqlite::create(&case.path("app.db"), 4096);
    Workload::new(3).run(&connection, 20);
    connection.query_row("PRAGMA journal_mode=DELETE", [], |_| Ok(())).expect("a mode");
    connection.execute_batch("BEGIN EXCLUSIVE").expect("a lock");
    let config = case.path("lsfast.yml");
    let text = "dbs:\n  - path: DIR/app.db\n    busy-timeout: 50ms\n    replica:\n      path: DIR/replica\n";
    std::fs::write(&config, text.replace("DIR", &case.dir.path().display().to_string())).expect("a file");
    let mut command = lsfast::command(["replicate", "--config"]);
    command.arg(&config);
    let process = Process::start("lsfast replicate", command);
    let line = process.wait_for_line("this database is not replicated for now");
    assert!(line.contains("stays locked") && !line.contains("others"), "{line}");
    connection.execute_batch("COMMIT").expect("the end of a transaction");
    drop(connection);
    case.place.wait_for_txid("replica", 0, 1);
    process.stop();
    case.is_restored_as(&case.path("app.db"));
}

/// What can't be a database at all is said at once: who has misspelt a name should not wait.
#[test]
fn what_is_no_database_is_refused() {
    let case = Case::new();
    std::fs::create_dir(case.path("folder.db")).expect("a folder");
    std::fs::write(case.path("text.db"), vec![b'x'; 8192]).expect("a file");
    for (name, words) in [("folder.db", "is a directory"), ("text.db", "not a SQLite database")] {
        let mut process = case.replicate(name);
        assert_eq!(process.wait().code(), Some(1));
        assert!(process.output().contains(words), "{}", process.output());
    }
}

/// Runs lsfast in a namespace in which a limit of inotify is `max`.
fn limited(limit: &str, max: u32, args: &[&OsStr]) -> Option<Command> {
    let script = format!("echo {max} > /proc/sys/user/{limit} && exec \"$@\"");
    let wrapped = |program: &OsStr, args: &[&OsStr]| {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "sh", "-c", &script, "sh"]).arg(program).args(args);
        command
    };
    let works = wrapped(OsStr::new("true"), &[]).output().is_ok_and(|o| o.status.success());
    works.then(|| wrapped(OsStr::new(env!("CARGO_BIN_EXE_lsfast")), args))
}

/// 128 instances are all that a user has by default, for all pods of a node together. lsfast did
/// not start.
#[test]
fn without_inotify_the_clock_finds_commits_removals_and_new_databases() {
    for (limit, max) in [("max_inotify_instances", 0), ("max_inotify_watches", 1)] {
        let case = Case::new();
        let config = case.path("lsfast.yml");
        let text = "dbs:\n  - path: DIR/app.db\n    replica:\n      path: DIR/replica\n  - dir: DIR/tenants\n    pattern: '*.db'\n    watch: true\n    replica:\n      path: DIR/tenant-replicas\n";
        std::fs::write(&config, text.replace("DIR", &case.dir.path().display().to_string())).expect("a file");
        std::fs::create_dir(case.path("tenants")).expect("a folder");
        let connection = sqlite::create(&case.path("app.db"), 4096);
        let args = [OsStr::new("replicate"), OsStr::new("--config"), config.as_os_str()];
        let Some(command) = limited(limit, max, &args) else {
            eprintln!("no namespaces for users here: not tested");
            return;
        };
        let process = Process::start("lsfast replicate", command);
        let line = process.wait_for_line("changes are noticed by the clock");
        assert!(line.contains("level=warn") && line.contains("fs.inotify.max_user_"), "{line}");
        case.place.wait_for_txid("replica", 0, 1);
        Workload::new(4).run(&connection, 10);
        case.until_restored_as("replica", "app.db");
        // One that comes, and one that is exchanged.
        Workload::new(5).run(&sqlite::create(&case.path("tenants/new.db"), 4096), 10);
        case.place.wait_for_txid("tenant-replicas/new.db", 0, 1);
        drop(connection);
        Workload::new(6).run(&sqlite::create(&case.path("other.db"), 4096), 20);
        for end in ["-wal", "-shm"] {
            _ = std::fs::remove_file(case.path(&format!("app.db{end}")));
        }
        std::fs::rename(case.path("other.db"), case.path("app.db")).expect("a move");
        process.wait_for_line("the database was replaced or removed");
        case.until_restored_as("replica", "app.db");
        let log = process.stop();
        assert_eq!(log.matches("by the clock").count(), 1, "{log}");
    }
}
