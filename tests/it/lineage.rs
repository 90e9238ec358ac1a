//! A replica that is not what was stored there, and a database that is not what was followed:
//! found, logged, and made good or refused. Never is one history put on top of another.

use std::fs::Permissions;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;
use tempfile::TempDir;

use crate::support::process::{Process, until};
use crate::support::{lsfast, sqlite};

/// A database `NAME.db` and its replica `NAME`, in one folder.
pub struct Scene {
    dir: TempDir,
}

impl Scene {
    pub fn new() -> Scene {
        Scene { dir: tempfile::tempdir().expect("a temporary folder") }
    }

    pub fn db(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("{name}.db"))
    }

    pub fn replica(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn url(&self, name: &str) -> String {
        format!("file://{}", self.replica(name).display())
    }

    /// A database with rows of a text of its own.
    pub fn create(&self, name: &str, page_size: u32) -> Connection {
        let app = sqlite::create(&self.db(name), page_size);
        app.execute_batch("BEGIN").expect("begin");
        for i in 0..300 {
            insert(&app, &format!("{name} {i}"));
        }
        app.execute_batch("COMMIT").expect("commit");
        app
    }

    pub fn start(&self, db: &str, replica: &str) -> Process {
        let process = lsfast::replicate(&self.db(db), &[self.url(replica)], &[]);
        process.wait_for_line("replicating");
        process
    }

    pub fn once(&self, db: &str, replica: &str) -> (bool, String) {
        let mut command = lsfast::command(["replicate", "--once", "--log-level", "debug"]);
        command.arg(self.db(db)).arg(self.url(replica));
        let output = lsfast::run(command);
        (output.status.success(), lsfast::stderr(&output))
    }

    pub fn last_txid(&self, replica: &str) -> u64 {
        let names = std::fs::read_dir(self.replica(replica).join("ltx/0")).into_iter().flatten().flatten();
        let max = |name: String| name.get(17..33).and_then(|hex| u64::from_str_radix(hex, 16).ok());
        names.filter_map(|e| max(e.file_name().into_string().ok()?)).max().unwrap_or(0)
    }

    /// The content of the newest state of a replica; `None` if it can't be restored.
    pub fn restored(&self, replica: &str) -> Option<String> {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let out = dir.path().join("out.db");
        let mut command = lsfast::command(["restore", "-o"]);
        command.arg(&out).arg(self.url(replica));
        lsfast::run(command).status.success().then(|| sqlite::dump_hash(&out))
    }

    pub fn assert_restores(&self, replica: &str, db: &str) {
        assert_eq!(self.restored(replica), Some(sqlite::dump_hash(&self.db(db))), "{replica} is not {db}");
    }

    /// Writes on until the newest state of the replica is that of the database.
    pub fn write_until_restored(&self, app: &Connection, replica: &str, db: &str) {
        until("the replica to be healed", || {
            insert(app, "one more");
            let settled = self.last_txid(replica);
            std::thread::sleep(Duration::from_millis(100));
            let same = || self.restored(replica) == Some(sqlite::dump_hash(&self.db(db)));
            (settled > 0 && same()).then_some(())
        });
    }
}

pub fn insert(app: &Connection, text: &str) {
    app.execute("INSERT INTO log VALUES(1, ?1 || hex(zeroblob(200)))", [text]).expect("a row");
}

pub fn copy_tree(from: &Path, to: &Path) {
    let status = std::process::Command::new("cp").arg("-a").args([from, to]).status().expect("cp");
    assert!(status.success());
}

pub fn exchange(scene: &Scene, gone: &str, by: &str) {
    std::fs::remove_dir_all(scene.replica(gone)).expect("a replica");
    copy_tree(&scene.replica(by), &scene.replica(gone));
}

/// The wrong folder was restored into the bucket: it ends at the same TXID, or goes on further. The
/// next batch was put on top of it, and what was restored from there was a mix of two databases.
#[test]
fn another_history_at_the_place_is_not_gone_on_with() {
    let run = |more: u64| {
        let scene = Scene::new();
        let (a, b) = (scene.create("a", 4096), scene.create("b", 4096));
        assert!(scene.once("a", "repa").0 && scene.once("b", "repb").0);
        for _ in 0..more {
            insert(&b, "more of b");
            assert!(scene.once("b", "repb").0);
        }
        exchange(&scene, "repa", "repb");
        insert(&a, "after");
        let (ended, log) = scene.once("a", "repa");
        assert!(ended && log.contains("it holds another history"), "{log}");
        scene.assert_restores("repa", "a");
    };
    std::thread::scope(|s| {
        s.spawn(|| run(0));
        s.spawn(|| run(2));
    });
}

/// The same under a running process that was stopped meanwhile: its next batch must not continue
/// the other history.
#[test]
fn a_replica_exchanged_while_the_process_was_stopped_is_found() {
    let scene = Scene::new();
    let (a, _b) = (scene.create("a", 4096), scene.create("b", 4096));
    assert!(scene.once("b", "repb").0);
    let process = scene.start("a", "repa");
    process.wait_for_line("image stored");
    process.signal("STOP");
    exchange(&scene, "repa", "repb");
    insert(&a, "after");
    // Longer than a tick may be late.
    std::thread::sleep(Duration::from_secs(5));
    process.signal("CONT");
    process.wait_for_line("the replica is not what was stored there");
    until("the replica to be that of the database", || {
        (scene.restored("repa") == Some(sqlite::dump_hash(&scene.db("a")))).then_some(())
    });
    process.stop();
}

/// Files of a replica that are deleted, all or some, are needed by later ones: all went on as
/// before, and nothing could be restored.
#[test]
fn files_deleted_under_a_running_process_are_missed_and_replaced() {
    type Damage = fn(&Path);
    let all: Damage = |r| std::fs::remove_dir_all(r).expect("a replica");
    let moved: Damage = |r| {
        std::fs::rename(r, r.with_extension("aside")).expect("a rename");
        std::fs::create_dir(r).expect("an empty folder");
    };
    let newest: Damage = |r| {
        let mut names: Vec<_> =
            std::fs::read_dir(r.join("ltx/0")).expect("level 0").flatten().map(|e| e.path()).collect();
        names.sort();
        std::fs::remove_file(names.last().expect("a file")).expect("the newest file");
    };
    let image: Damage = |r| {
        for level in ["ltx/9", "ltx/0/0000000000000001-0000000000000001.ltx"] {
            let path = r.join(level);
            let _ = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
        }
    };
    let run = |name: &str, damage: Damage, loud: bool| {
        let scene = Scene::new();
        let app = scene.create("app", 4096);
        let config = scene.dir.path().join("c.yml");
        let text = format!(
            "levels: [{{interval: 1s}}]\ndbs: [{{path: '{}', replica: {{url: '{}'}}}}]\n",
            scene.db("app").display(),
            scene.url("replica")
        );
        std::fs::write(&config, text).expect("a config file");
        let mut command = lsfast::command(["replicate", "--log-level", "debug", "--config"]);
        command.arg(&config);
        let process = Process::start("lsfast replicate", command);
        process.wait_for_line("image stored");
        insert(&app, "second");
        until("the second batch", || (scene.last_txid("replica") >= 2).then_some(()));
        until("the first full image", || scene.replica("replica").join("ltx/9").is_dir().then_some(()));
        damage(&scene.replica("replica"));
        scene.write_until_restored(&app, "replica", "app");
        let log = process.stop();
        assert!(!loud || log.contains("level=warn"), "{name}: {log}");
        scene.assert_restores("replica", "app");
    };
    std::thread::scope(|s| {
        s.spawn(|| run("all", all, true));
        s.spawn(|| run("moved away", moved, true));
        // Its pages may still be in memory: then the next file of level 1 has them, and nothing is
        // missing.
        s.spawn(|| run("newest", newest, false));
        s.spawn(|| run("image", image, true));
    });
}

/// `cp` over a database that no application has open: the same file, an empty WAL, no event that
/// SQLite would give. The old pages were "in sync".
#[test]
fn a_database_overwritten_in_place_is_compared() {
    for (running, page_size) in [(true, 4096), (false, 4096), (true, 1024), (false, 1024)] {
        let scene = Scene::new();
        drop(scene.create("app", 4096));
        drop(scene.create("backup", page_size));
        let other = sqlite::open(&scene.db("backup"));
        other
            .execute_batch("CREATE TABLE came_from_backup(x); PRAGMA wal_checkpoint(TRUNCATE)")
            .expect("SQL");
        drop(other);
        let overwrite = || {
            let bytes = std::fs::read(scene.db("backup")).expect("the backup");
            std::fs::write(scene.db("app"), bytes).expect("a copy in place");
        };
        let process = scene.start("app", "replica");
        process.wait_for_line("image stored");
        let process = if running {
            overwrite();
            process.wait_for_line(if page_size == 4096 { "outside SQLite" } else { "another page size" });
            process
        } else {
            process.stop();
            overwrite();
            scene.start("app", "replica")
        };
        let app = sqlite::open(&scene.db("app"));
        insert(&app, "after");
        until("the new content to be stored", || {
            (scene.restored("replica") == Some(sqlite::dump_hash(&scene.db("app")))).then_some(())
        });
        let log = process.stop();
        scene.assert_restores("replica", "app");
        assert_eq!(log.contains("goes on with the new page size"), page_size != 4096, "{log}");
    }
}

/// A program that edits the file and sets its modification time back leaves its length and that
/// time as they were. The pages counted as stored, and later ones were put on top of them.
#[test]
fn an_edit_with_the_time_set_back_is_found() {
    for running in [true, false] {
        let scene = Scene::new();
        let app = scene.create("app", 4096);
        insert(&app, "EDITME");
        app.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").expect("a checkpoint");
        drop(app);
        let edit = || {
            let file = std::fs::File::options().read(true).write(true).open(scene.db("app")).expect("a file");
            let modified = file.metadata().and_then(|m| m.modified()).expect("a time");
            let bytes = std::fs::read(scene.db("app")).expect("a file");
            let at = bytes.windows(6).position(|w| w == b"EDITME").expect("the row");
            file.write_all_at(b"edited", at as u64).expect("a write");
            file.set_modified(modified).expect("a time");
        };
        let process = scene.start("app", "replica");
        process.wait_for_line("image stored");
        let process = if running {
            edit();
            process
        } else {
            process.stop();
            edit();
            scene.start("app", "replica")
        };
        until("the edited row to be stored", || {
            (scene.restored("replica") == Some(sqlite::dump_hash(&scene.db("app")))).then_some(())
        });
        process.stop();
    }
}

/// A new mode or owner changes the inode as an edit does. That is compared, but not each time, and
/// nothing is wrong.
#[test]
fn a_new_mode_costs_a_comparison_once_in_a_while() {
    let scene = Scene::new();
    // Open, so that the WAL stays, and the next start can go on in it.
    let app = scene.create("app", 4096);
    let process = scene.start("app", "replica");
    process.wait_for_line("image stored");
    let set_mode =
        |mode| std::fs::set_permissions(scene.db("app"), Permissions::from_mode(mode)).expect("mode");
    let compared = |log: &str| log.matches("msg=\"comparing page hashes").count();
    set_mode(0o640);
    // It is seen with the next look.
    insert(&app, "after");
    process.wait_for_line("msg=\"comparing page hashes");
    process.wait_for_line("compared page hashes");
    // Without an edit, the stop has to compare what is not compared at once.
    set_mode(0o600);
    let log = process.stop();
    assert!(compared(&log) == 2 && !log.contains("level=warn"), "{log}");
    let (ended, log) = scene.once("app", "replica");
    assert!(ended && !log.contains("only its mode"), "{log}");
    set_mode(0o640);
    let (ended, log) = scene.once("app", "replica");
    assert!(ended && log.contains("only its mode") && log.contains("pages=0 of="), "{log}");
    scene.assert_restores("replica", "app");
}

/// The checkpoint of a clean stop changes the database file; the next start must not take that for
/// the work of another program.
#[test]
fn a_clean_restart_compares_nothing() {
    let scene = Scene::new();
    drop(scene.create("app", 4096));
    for _ in 0..2 {
        let app = sqlite::open(&scene.db("app"));
        let process = scene.start("app", "replica");
        insert(&app, "more");
        until("the row to be stored", || {
            (scene.restored("replica") == Some(sqlite::dump_hash(&scene.db("app")))).then_some(())
        });
        drop(app);
        process.stop();
        // Before anything else opens the database: the last connection to close removes the WAL.
        let (ended, log) = scene.once("app", "replica");
        assert!(ended && log.contains("resuming from the WAL"), "{log}");
        scene.assert_restores("replica", "app");
    }
}

/// A page that has its old content back looks unchanged to hashes of an earlier time.
#[test]
fn page_hashes_of_another_time_are_not_believed() {
    let scene = Scene::new();
    let app = scene.create("app", 4096);
    let set = |text: &str| {
        app.execute("UPDATE log SET what = ?1 WHERE rowid = 7", [text]).expect("an update");
        app.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").expect("a checkpoint");
        assert!(scene.once("app", "replica").0);
    };
    let hashes = || {
        let home = scene.dir.path().join(".app.db-lsfast");
        let replica = std::fs::read_dir(home).expect("the state").flatten().find(|e| e.path().is_dir());
        replica.expect("a replica's state").path().join("pages")
    };
    set("one");
    let old = std::fs::read(hashes()).expect("page hashes");
    set("two");
    std::fs::write(hashes(), old).expect("an old copy");
    set("one");
    scene.assert_restores("replica", "app");
}

/// A folder above the database is exchanged: nothing happens to the file that is followed.
#[test]
fn a_folder_exchanged_above_the_database_is_noticed() {
    let scene = Scene::new();
    for name in ["data", "new"] {
        std::fs::create_dir(scene.replica(name)).expect("a folder");
        drop(scene.create(&format!("{name}/app"), 4096));
    }
    let process = scene.start("data/app", "replica");
    process.wait_for_line("image stored");
    std::fs::rename(scene.replica("data"), scene.replica("old")).expect("a rename");
    std::fs::rename(scene.replica("new"), scene.replica("data")).expect("a rename");
    process.wait_for_line("replaced or removed");
    until("the other database to be stored", || {
        (scene.restored("replica") == Some(sqlite::dump_hash(&scene.db("data/app")))).then_some(())
    });
    process.stop();
}

/// `verify` took the file that brought a replica back to its first database for one of a second
/// writer, and `repair` called every later state lost.
#[test]
fn a_replica_that_comes_back_from_a_copy_is_sound() {
    let scene = Scene::new();
    // Its WAL stays, because it is open.
    let app = scene.create("app", 4096);
    assert!(scene.once("app", "replica").0);
    let mut restore = lsfast::command(["restore", "-o"]);
    restore.arg(scene.db("copy")).arg(scene.url("replica"));
    assert!(lsfast::run(restore).status.success());
    let copy = Connection::open(scene.db("copy")).expect("the copy");
    insert(&copy, "in the copy");
    drop(copy);
    assert!(scene.once("copy", "replica").0);
    let (done, log) = scene.once("app", "replica");
    assert!(done && log.contains("another program stored"), "{log}");
    insert(&app, "afterwards");
    assert!(scene.once("app", "replica").0);
    let mut verify = lsfast::command(["verify"]);
    verify.arg(scene.url("replica"));
    let found = lsfast::run(verify);
    assert!(found.status.success(), "{}{}", String::from_utf8_lossy(&found.stdout), lsfast::stderr(&found));
    scene.assert_restores("replica", "app");
}
