//! Databases that are named by links, and directories that are exchanged: what a path means may
//! change.

use std::os::unix::fs::symlink;

use crate::support::case::Case;
use crate::support::process::Process;
use crate::support::sqlite::{
    Workload, {self},
};
use crate::support::{lsfast, process};

fn database(case: &Case, name: &str, seed: u64) {
    std::fs::create_dir_all(case.path(name).parent().expect("a folder")).expect("a folder");
    Workload::new(seed).run(&sqlite::create(&case.path(name), 4096), 20);
}

/// lsfast looked for `-wal` and `-shm` next to the link, and waited for ever.
#[test]
fn a_link_is_followed_to_its_file_and_followed_again_when_it_leads_elsewhere() {
    let case = Case::new();
    database(&case, "releases/1/real.db", 1);
    database(&case, "releases/2/real.db", 2);
    symlink("releases/1", case.path("current")).expect("a link");
    symlink("current/real.db", case.path("app.db")).expect("a link");
    let process = case.replicate("app.db");
    case.place.wait_for_txid("replica", 0, 1);
    let connection = sqlite::open(&case.path("app.db"));
    Workload::new(3).run(&connection, 10);
    case.until_restored_as("replica", "app.db");
    assert!(case.path("releases/1/.real.db-lsfast/lock").exists());
    assert!(!case.path(".app.db-lsfast").exists());
    let mut command = lsfast::command(["status", "--json"]);
    command.arg(case.path("app.db"));
    let output = lsfast::run(command);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("\"state\":\"following\""), "{text}{}", lsfast::stderr(&output));
    drop(connection);

    // As deployments do it: nothing happens to any file that is watched.
    symlink("releases/2", case.path("next")).expect("a link");
    std::fs::rename(case.path("next"), case.path("current")).expect("a move");
    process.wait_for_line("was replaced or removed");
    case.until_restored_as("replica", "app.db");
    process.stop();
}

#[test]
fn a_directory_that_is_exchanged_is_noticed() {
    let case = Case::new();
    database(&case, "data/app.db", 1);
    database(&case, "new/app.db", 2);
    let process = case.replicate("data/app.db");
    case.place.wait_for_txid("replica", 0, 1);
    std::fs::rename(case.path("data"), case.path("old")).expect("a move");
    std::fs::rename(case.path("new"), case.path("data")).expect("a move");
    process.wait_for_line("was replaced or removed");
    Workload::new(3).run(&sqlite::open(&case.path("data/app.db")), 10);
    case.until_restored_as("replica", "data/app.db");
    process.stop();
}

/// A stop within a second of the exchange ended with success, and nothing of what the path named
/// then was stored.
#[test]
fn a_directory_that_is_exchanged_just_before_the_stop_is_stored() {
    let case = Case::new();
    database(&case, "data/app.db", 1);
    database(&case, "new/app.db", 2);
    let process = case.replicate("data/app.db");
    case.place.wait_for_txid("replica", 0, 1);
    std::fs::rename(case.path("data"), case.path("old")).expect("a move");
    std::fs::rename(case.path("new"), case.path("data")).expect("a move");
    Workload::new(3).run(&sqlite::open(&case.path("data/app.db")), 10);
    process.stop();
    case.until_restored_as("replica", "data/app.db");
}

/// The owner of a watched directory could have any file of the host read, and the files of SQLite
/// made next to it.
#[test]
fn in_a_watched_directory_root_follows_no_link_that_leads_out() {
    let case = Case::new();
    database(&case, "tenants/a.db", 1);
    database(&case, "secret/root.db", 2);
    symlink("../secret/root.db", case.path("tenants/out.db")).expect("a link");
    symlink("a.db", case.path("tenants/again.db")).expect("a link");
    let config = case.path("lsfast.yml");
    let text = "dbs:\n  - dir: DIR/tenants\n    pattern: '*.db'\n    watch: true\n    replica:\n      path: DIR/replicas\n";
    std::fs::write(&config, text.replace("DIR", &case.dir.path().display().to_string())).expect("a file");
    let mut command = lsfast::command(["replicate", "--config"]);
    command.arg(&config);
    let process = Process::start("lsfast replicate", command);
    case.place.wait_for_txid("replicas/a.db", 0, 1);
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0);
    if is_root {
        let line = process.wait_for_line("leads out of the watched directory");
        assert!(line.contains("out.db") && line.contains("level=warn"), "{line}");
        // One that comes later, too.
        symlink("../secret/root.db", case.path("tenants/late.db")).expect("a link");
        process::until("a line for late.db", || process.output().contains("late.db").then_some(()));
    } else {
        case.place.wait_for_txid("replicas/out.db", 0, 1);
    }
    process.stop();
    assert_eq!(case.path("replicas/out.db").exists(), !is_root);
    assert_eq!(case.path("secret/.root.db-lsfast").exists(), !is_root);
    assert!(!case.path("replicas/again.db").exists(), "its target is replicated under its own name");
}
