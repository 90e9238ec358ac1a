//! What a running lsfast tells of itself, and `status`, `ltx` and `reset`.

mod day;
mod metrics;
mod page;
mod scope;
mod state;
mod verification;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Output;

use rusqlite::Connection;
use serde_json::Value;

use crate::support::place::Place;
use crate::support::process::{Process, until};
use crate::support::{lsfast, sqlite};

/// A database with its application, and a directory for replicas.
struct Case {
    dir: tempfile::TempDir,
    app: Connection,
    place: Place,
}

impl Case {
    fn new() -> Case {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let app = sqlite::create(&dir.path().join("app.db"), 4096);
        let place = Place::Dir(dir.path().join("replicas"));
        let case = Case { dir, app, place };
        case.write(5);
        case
    }

    fn db(&self) -> PathBuf {
        self.dir.path().join("app.db")
    }

    fn home(&self) -> PathBuf {
        self.dir.path().join(".app.db-lsfast")
    }

    fn write(&self, commits: usize) {
        for i in 0..commits {
            self.app.execute("INSERT INTO log VALUES(?1, hex(randomblob(300)))", [i as i64]).expect("a row");
        }
    }

    fn start(&self) -> Process {
        let process = lsfast::replicate(&self.db(), &[self.place.url("db")], &[]);
        process.wait_for_line("image stored");
        process
    }

    /// With another replica, so that the process does not end if the first one refuses.
    fn start_without_store(&self) -> Process {
        lsfast::replicate(&self.db(), &[self.place.url("db"), self.place.url("other")], &[])
    }

    /// Makes the directory of the replica a file, so that no request can succeed.
    fn take_away(&self) {
        let Place::Dir(root) = &self.place else { panic!("a directory") };
        std::fs::rename(root.join("db"), root.join("aside")).expect("a rename");
        std::fs::write(root.join("db"), b"in the way").expect("a file");
    }

    fn give_back(&self) {
        let Place::Dir(root) = &self.place else { panic!("a directory") };
        std::fs::remove_file(root.join("db")).expect("the file");
        std::fs::rename(root.join("aside"), root.join("db")).expect("a rename");
    }

    /// `lsfast status DB --json`: its only database.
    fn status(&self) -> Value {
        let all = status(&self.db());
        assert_eq!(all["databases"].as_array().expect("databases").len(), 1, "{all}");
        all["databases"][0].clone()
    }

    /// Waits until everything is stored.
    fn synced(&self) -> Value {
        until("everything to be stored", || Some(self.status()).filter(|s| in_sync(&s["replicas"][0])))
    }
}

fn in_sync(replica: &Value) -> bool {
    replica["state"] == "following" && replica["lag"]["commits"] == 0 && replica["lag"]["bytes"] == 0
}

fn run<I: AsRef<OsStr>>(args: impl IntoIterator<Item = I>) -> Output {
    lsfast::run(lsfast::command(args))
}

/// What a command prints, which must succeed.
fn printed<I: AsRef<OsStr>>(args: impl IntoIterator<Item = I>) -> String {
    let output = run(args);
    assert!(output.status.success(), "{}", lsfast::stderr(&output));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// What `lsfast status -v` prints.
fn shown(db: &Path) -> String {
    let output = run([OsStr::new("status"), OsStr::new("-v"), db.as_os_str()]);
    assert!(output.status.code() <= Some(2), "{}", lsfast::stderr(&output));
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn status(db: &Path) -> Value {
    let text = printed([OsStr::new("status"), OsStr::new("--json"), db.as_os_str()]);
    serde_json::from_str(&text).expect("JSON")
}
