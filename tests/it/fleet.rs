//! Many databases in one process, by config file: directories that fill and empty, and one that
//! fails beside others.

use std::path::PathBuf;

use crate::support::place::Place;
use crate::support::process::Process;
use crate::support::sqlite::{
    Workload, {self},
};
use crate::support::{lsfast, process};

struct Fleet {
    dir: tempfile::TempDir,
    place: Place,
    config: PathBuf,
}

impl Fleet {
    fn new(config: &str) -> Fleet {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("lsfast.yml");
        std::fs::write(&path, config.replace("DIR", &dir.path().display().to_string())).expect("a file");
        let place = Place::Dir(dir.path().to_path_buf());
        Fleet { dir, place, config: path }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn database(&self, name: &str, seed: u64) {
        std::fs::create_dir_all(self.path(name).parent().expect("a folder")).expect("a folder");
        Workload::new(seed).run(&sqlite::create(&self.path(name), 4096), 20);
    }

    fn start(&self) -> Process {
        let mut command = lsfast::command(["replicate", "-log-level", "debug", "-config"]);
        command.arg(&self.config);
        Process::start("lsfast replicate", command)
    }

    /// Restores by the config file, and compares.
    fn is_restored(&self, name: &str) {
        let out = self.path("out.db");
        let mut command = lsfast::command(["restore", "-force", "-config"]);
        command.arg(&self.config).arg("-o").arg(&out).arg(self.path(name));
        let output = lsfast::run(command);
        assert!(output.status.success(), "{}", lsfast::stderr(&output));
        assert_eq!(sqlite::dump_hash(&out), sqlite::dump_hash(&self.path(name)), "{name}");
    }
}

const DIRECTORY: &str = "dbs:
  - dir: DIR/tenants
    pattern: '*.db'
    recursive: true
    watch: true
    replica:
      path: DIR/replicas
";

#[test]
fn a_directory_is_followed_as_it_fills_and_empties() {
    let fleet = Fleet::new(DIRECTORY);
    fleet.database("tenants/a.db", 1);
    fleet.database("tenants/deep/er/b.db", 2);
    let process = fleet.start();
    fleet.place.wait_for_txid("replicas/a.db", 0, 1);
    fleet.place.wait_for_txid("replicas/deep/er/b.db", 0, 1);

    // One that is made here, in a folder that is made here, while its application writes on;
    // one that
    // is moved in; and what is none.
    fleet.database("tenants/new/c.db", 3);
    fleet.place.wait_for_txid("replicas/new/c.db", 0, 1);
    let connection = sqlite::open(&fleet.path("tenants/new/c.db"));
    Workload::new(4).run(&connection, 10);
    fleet.database("elsewhere/d.db", 5);
    std::fs::rename(fleet.path("elsewhere/d.db"), fleet.path("tenants/d.db")).expect("a move");
    fleet.place.wait_for_txid("replicas/d.db", 0, 1);
    std::fs::write(fleet.path("tenants/notes.db"), vec![b'n'; 4096]).expect("a file");
    process.wait_for_line("not a database: left alone");
    std::fs::write(fleet.path("tenants/readme.txt"), b"no match").expect("a file");

    // One that goes is let go of, and followed again when it comes back.
    for end in ["", "-wal", "-shm"] {
        _ = std::fs::remove_file(fleet.path(&format!("tenants/a.db{end}")));
    }
    process.wait_for_line("the database is gone: no longer followed");
    fleet.database("tenants/a.db", 6);
    let expected = sqlite::dump_hash(&fleet.path("tenants/a.db"));
    process::until("the new a.db to be stored", || {
        let out = fleet.path("again.db");
        lsfast::restore(&out, &fleet.place.url("replicas/a.db"), &[], &["--force"]);
        (sqlite::dump_hash(&out) == expected).then_some(())
    });
    let log = process.stop();
    assert!(!log.contains("level=error") && !log.contains("level=warn"), "{log}");
    for name in ["tenants/a.db", "tenants/deep/er/b.db", "tenants/new/c.db", "tenants/d.db"] {
        fleet.is_restored(name);
    }
    assert!(!fleet.path("replicas/notes.db").exists() && !fleet.path("replicas/readme.txt").exists());
}

/// A directory that was not there at the start was an error, and never looked for again.
#[test]
fn a_directory_that_comes_later_is_followed_and_so_is_one_that_comes_again() {
    let fleet = Fleet::new(&DIRECTORY.replace("DIR/tenants", "DIR/data/tenants"));
    let process = fleet.start();
    let line = process.wait_for_line("the directory does not exist; waiting for it");
    assert!(line.contains("level=warn") && line.contains("data/tenants"), "{line}");
    fleet.database("data/tenants/a.db", 1);
    fleet.place.wait_for_txid("replicas/a.db", 0, 1);
    process.wait_for_line("the directory is there");

    // Removed with what is in it, where lsfast may be writing its state, and made again at once.
    process::until("an empty folder", || std::fs::remove_dir_all(fleet.path("data/tenants")).ok());
    fleet.database("data/tenants/deep/b.db", 2);
    fleet.place.wait_for_txid("replicas/deep/b.db", 0, 1);
    process.wait_for_line("the database is gone: no longer followed");

    // Moved away, and another one moved in.
    fleet.database("other/c.db", 3);
    std::fs::rename(fleet.path("data/tenants"), fleet.path("away")).expect("a move");
    std::fs::rename(fleet.path("other"), fleet.path("data/tenants")).expect("a move");
    fleet.place.wait_for_txid("replicas/c.db", 0, 1);
    let log = process.stop();
    assert!(!log.contains("level=error"), "{log}");
    fleet.is_restored("data/tenants/c.db");
}

/// Without `watch` it would be read the moment it appears: empty.
#[test]
fn a_directory_that_comes_later_is_watched_in_any_case() {
    let fleet = Fleet::new(&DIRECTORY.replace("    watch: true\n", ""));
    let process = fleet.start();
    process.wait_for_line("the directory does not exist; waiting for it");
    std::fs::create_dir(fleet.path("tenants")).expect("a folder");
    process.wait_for_line("the directory is there");
    fleet.database("tenants/a.db", 1);
    fleet.place.wait_for_txid("replicas/a.db", 0, 1);
    process.stop();
    // Nothing is waited for by a run that ends.
    std::fs::remove_dir_all(fleet.path("tenants")).expect("a folder");
    let mut command = lsfast::command(["replicate", "--once", "--config"]);
    command.arg(&fleet.config);
    let output = lsfast::run(command);
    assert_eq!(output.status.code(), Some(1));
    assert!(lsfast::stderr(&output).contains("does not exist"), "{}", lsfast::stderr(&output));
}

#[test]
fn one_database_that_fails_leaves_the_others_alone_and_is_tried_again() {
    let fleet = Fleet::new(
        "dbs:\n  - path: DIR/good.db\n    replica:\n      path: DIR/good\n  - path: DIR/bad.db\n    replica:\n      path: DIR/bad\n",
    );
    fleet.database("good.db", 1);
    std::fs::write(fleet.path("bad.db"), vec![b'x'; 8192]).expect("a file");
    let process = fleet.start();
    let line = process.wait_for_line("this database is not replicated for now; the others go on");
    assert!(line.contains("bad.db") && line.contains("level=error"), "{line}");
    fleet.place.wait_for_txid("good", 0, 1);
    std::fs::remove_file(fleet.path("bad.db")).expect("a file");
    fleet.database("bad.db", 2);
    fleet.place.wait_for_txid("bad", 0, 1);
    process.stop();
    fleet.is_restored("good.db");
    fleet.is_restored("bad.db");
}

#[test]
fn two_names_of_one_file_are_refused_and_the_first_goes_on() {
    let fleet = Fleet::new(
        "dbs:\n  - path: DIR/app.db\n    replica:\n      path: DIR/one\n  - path: DIR/link.db\n    replica:\n      path: DIR/two\n",
    );
    fleet.database("app.db", 1);
    std::os::unix::fs::symlink(fleet.path("app.db"), fleet.path("link.db")).expect("a link");
    let mut process = fleet.start();
    let line = process.wait_for_line("this database is not replicated for now; the others go on");
    assert!(line.contains("is the same file as"), "{line}");
    process::until("one of them to be stored", || {
        (fleet.place.last_txid("one", 0) + fleet.place.last_txid("two", 0) >= 1).then_some(())
    });
    process.signal("TERM");
    // Not everything that was asked for was done.
    assert_eq!(process.wait().code(), Some(1));
}

#[test]
fn several_replicas_of_a_database_are_all_written_and_the_newest_state_is_restored() {
    let fleet = Fleet::new(
        "dbs:\n  - path: DIR/app.db\n    replicas:\n      - name: near\n        path: DIR/near\n      - name: far\n        path: DIR/far\n",
    );
    fleet.database("app.db", 1);
    let process = fleet.start();
    fleet.place.wait_for_txid("near", 0, 1);
    fleet.place.wait_for_txid("far", 0, 1);
    process.stop();
    // One goes on alone, and has more batches; then the other, which has fewer, but the
    // newest state.
    // Its own count is no measure.
    let connection = sqlite::open(&fleet.path("app.db"));
    let alone = |name: &str, seed: u64| {
        Workload::new(seed).run(&connection, 10);
        let mut command = lsfast::command(["replicate", "-once"]);
        command.arg(fleet.path("app.db")).arg(fleet.place.url(name));
        let output = lsfast::run(command);
        assert!(output.status.success(), "{}", lsfast::stderr(&output));
    };
    (2..6).for_each(|seed| alone("near", seed));
    alone("far", 6);
    assert!(fleet.place.last_txid("near", 0) > fleet.place.last_txid("far", 0));
    fleet.is_restored("app.db");
    // So for a host that has lost it.
    let expected = sqlite::dump_hash(&fleet.path("app.db"));
    drop(connection);
    for end in ["", "-wal", "-shm"] {
        _ = std::fs::remove_file(fleet.path(&format!("app.db{end}")));
    }
    let mut command = lsfast::command(["replicate", "-once", "-restore-if-db-not-exists", "-config"]);
    command.arg(&fleet.config);
    let output = lsfast::run(command);
    assert!(output.status.success(), "{}", lsfast::stderr(&output));
    assert_eq!(sqlite::dump_hash(&fleet.path("app.db")), expected);
    let mut command = lsfast::command(["restore", "-replica", "middle", "-config"]);
    command.arg(&fleet.config).arg("-o").arg(fleet.path("x.db")).arg(fleet.path("app.db"));
    let output = lsfast::run(command);
    assert!(lsfast::stderr(&output).contains("no replica called \"middle\"; it has near, far"));
}

/// The new name was taken for a second name of the file, and given up for good, as was a later file
/// of that name.
#[test]
fn a_database_that_is_renamed_is_followed_under_its_new_name_and_so_is_what_takes_the_old_one() {
    let fleet = Fleet::new(DIRECTORY);
    fleet.database("tenants/app.db", 1);
    let process = fleet.start();
    fleet.place.wait_for_txid("replicas/app.db", 0, 1);
    for (n, seed) in [(1, 2), (2, 3)] {
        for end in ["", "-wal", "-shm"] {
            _ = std::fs::rename(
                fleet.path(&format!("tenants/app.db{end}")),
                fleet.path(&format!("tenants/app-{n}.db{end}")),
            );
        }
        fleet.database("tenants/app.db", seed);
        fleet.place.wait_for_txid(&format!("replicas/app-{n}.db"), 0, 1);
        let connection = sqlite::open(&fleet.path(&format!("tenants/app-{n}.db")));
        Workload::new(seed + 10).run(&connection, 5);
        let expected = sqlite::dump_hash(&fleet.path("tenants/app.db"));
        process::until("the new app.db to be stored", || {
            let out = fleet.path("again.db");
            lsfast::restore(&out, &fleet.place.url("replicas/app.db"), &[], &["--force"]);
            (sqlite::dump_hash(&out) == expected).then_some(())
        });
    }
    let log = process.stop();
    assert!(!log.contains("level=error"), "{log}");
    for name in ["tenants/app-1.db", "tenants/app-2.db", "tenants/app.db"] {
        fleet.is_restored(name);
    }
}

/// Each database, its socket and its state said that the limit is reached.
#[test]
fn a_limit_of_open_files_is_logged_once_for_the_process() {
    let fleet = Fleet::new(DIRECTORY);
    for n in 0..30 {
        fleet.database(&format!("tenants/{n}.db"), n);
    }
    let mut command = std::process::Command::new("sh");
    command
        .args(["-c", "ulimit -n 60 && exec \"$@\"", "sh"])
        .arg(env!("CARGO_BIN_EXE_lsfast"))
        .args(["replicate", "-config"])
        .arg(&fleet.config)
        .env_clear();
    let mut process = Process::start("lsfast replicate", command);
    process.wait_for_line("Too many open files");
    // All databases have been tried, and some of them again.
    let begun = std::time::Instant::now();
    while begun.elapsed() < std::time::Duration::from_secs(5) {
        assert!(process.runs(), "{}", process.output());
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let log = process.output();
    let loud = log.lines().filter(|l| l.contains("level=warn") || l.contains("level=error")).count();
    // Before the start, when it is met, and for the stores.
    assert!(loud <= 3, "{loud} lines:\n{log}");
}
