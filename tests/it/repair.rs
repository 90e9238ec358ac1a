//! `lsfast repair`, and starts of `lsfast replicate` on a replica with damaged files.

use std::path::{Path, PathBuf};
use std::process::Output;

use rusqlite::Connection;
use tempfile::TempDir;

use crate::support::process::until;
use crate::support::{lsfast, sqlite};

/// A database whose replica has four batches and an image of the first.
struct Case {
    dir: TempDir,
    app: Connection,
}

impl Case {
    fn new() -> Case {
        let dir = tempfile::tempdir().expect("a folder");
        let app = sqlite::create(&dir.path().join("app.db"), 4096);
        let case = Case { dir, app };
        // Nothing is compacted, so that each batch is in one file only.
        let config = format!(
            "levels: [{{interval: 24h}}]\ndbs: [{{path: '{}', replica: {{url: '{}'}}}}]\n",
            case.db().display(),
            case.url()
        );
        std::fs::write(case.dir.path().join("app.yml"), config).expect("a config file");
        for _ in 0..4 {
            case.insert();
            case.must(&["replicate", "--once", "--config", &case.config()], 0);
        }
        assert_eq!(case.raw().len(), 4);
        case
    }

    fn db(&self) -> PathBuf {
        self.dir.path().join("app.db")
    }

    fn config(&self) -> String {
        self.dir.path().join("app.yml").display().to_string()
    }

    fn url(&self) -> String {
        format!("file://{}", self.dir.path().join("replica").display())
    }

    fn insert(&self) {
        let rows = "INSERT INTO items(name, body) VALUES ('x', randomblob(2000)), ('y', randomblob(9000))";
        self.app.execute(rows, []).expect("rows");
    }

    fn raw(&self) -> Vec<PathBuf> {
        let level = self.dir.path().join("replica/ltx/0");
        let mut files: Vec<_> =
            std::fs::read_dir(level).expect("level 0").map(|e| e.expect("an entry").path()).collect();
        files.sort();
        files
    }

    fn run(&self, args: &[&str]) -> Output {
        lsfast::run(lsfast::command(args))
    }

    fn must(&self, args: &[&str], code: i32) -> String {
        let output = self.run(args);
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &lsfast::stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        said
    }

    /// The newest state of the replica is that of the database.
    fn restores(&self) {
        let out = tempfile::tempdir().expect("a folder");
        let out = out.path().join("out.db");
        lsfast::restore(&out, &self.url(), &[], &[]);
        assert_eq!(sqlite::dump_hash(&out), sqlite::dump_hash(&self.db()));
    }
}

fn harm(path: &Path, how: &str) {
    let mut bytes = std::fs::read(path).expect("a file");
    match how {
        "empty" => bytes.clear(),
        "cut" => bytes.truncate(bytes.len() / 2),
        _ => {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0x40;
        }
    }
    std::fs::write(path, bytes).expect("written");
}

/// Neither a reset nor `--force-snapshot` made the newest state restorable: a batch with all pages
/// was stored after the damaged one, which a plan cannot do without, and no image.
#[test]
fn a_reset_and_a_start_make_the_newest_state_whole() {
    for how in ["empty", "cut", "changed"] {
        for harmed in [0, 2, 3] {
            let case = Case::new();
            harm(&case.raw()[harmed], how);
            case.must(&["reset", &case.db().display().to_string()], 0);
            case.must(&["replicate", "--once", &case.db().display().to_string(), &case.url()], 0);
            case.restores();
        }
    }
}

/// `lsfast replicate` ended with an error at each start, and the message named no way out.
#[test]
fn a_start_gets_over_an_empty_newest_file() {
    let case = Case::new();
    harm(&case.raw()[3], "empty");
    case.must(&["replicate", "--once", &case.db().display().to_string(), &case.url()], 0);
    case.restores();
    case.insert();
    case.must(&["replicate", "--once", &case.db().display().to_string(), &case.url()], 0);
    case.restores();
}

/// Only a restore worked around it.
#[test]
fn what_is_no_file_is_a_damaged_file() {
    for how in ["fifo", "folder", "link"] {
        let case = Case::new();
        let newest = &case.raw()[3];
        std::fs::remove_file(newest).expect("removed");
        match how {
            "fifo" => {
                let made = std::process::Command::new("mkfifo").arg(newest).status();
                assert!(made.expect("mkfifo runs").success());
            }
            "folder" => std::fs::create_dir(newest).expect("a folder"),
            _ => std::os::unix::fs::symlink(newest, newest).expect("a link"),
        }
        let said = case.must(&["verify", "--no-db", &case.url()], 4);
        assert!(said.contains("damaged: 0/0000000000000004-0000000000000004.ltx"), "{how}: {said}");
        case.insert();
        case.must(&["replicate", "--once", &case.db().display().to_string(), &case.url()], 0);
        case.restores();
    }
}

/// A newest file that is damaged in its header was followed by a batch with all pages, and by no
/// full image: a plan needed the damaged file, and Litestream's still does.
#[test]
fn a_start_after_a_damaged_newest_file_stores_a_full_image() {
    let case = Case::new();
    let newest = &case.raw()[3];
    let mut bytes = std::fs::read(newest).expect("a file");
    bytes[20] ^= 1;
    std::fs::write(newest, bytes).expect("written");
    case.must(&["replicate", "--once", "--config", &case.config()], 0);
    case.restores();
    let image = "replica/ltx/9/0000000000000001-0000000000000005.ltx";
    assert!(case.dir.path().join(image).exists());
}

#[test]
fn repair_takes_from_the_database_what_the_replica_lacks() {
    for how in ["empty", "cut", "changed"] {
        for harmed in [1, 3] {
            let case = Case::new();
            let (config, db) = (case.config(), case.db().display().to_string());
            harm(&case.raw()[harmed], how);
            let before: Vec<_> = case.raw().iter().map(|f| std::fs::read(f).expect("a file")).collect();
            let said = case.must(&["repair", "--dry-run", "--config", &config, &db], 4);
            assert!(said.contains("would store: an image of"), "{said}");
            let after: Vec<_> = case.raw().iter().map(|f| std::fs::read(f).expect("a file")).collect();
            assert!(before == after, "a dry run changes nothing");

            let said = case.must(&["repair", "--config", &config, &db], 3);
            assert!(said.contains("lost for good") && said.contains("stored: an image"), "{said}");
            case.restores();
            if how == "empty" {
                case.must(&["verify", &case.url()], 0);
                let said = case.must(&["repair", "--config", &config, &db], 0);
                assert!(said.contains("nothing to repair"), "{said}");
            } else {
                // What has content stays as it is, and is named each time.
                case.must(&["verify", &case.url()], 3);
                let said = case.must(&["repair", "--config", &config, &db], 3);
                assert!(said.contains("kept: "), "{said}");
                assert!(case.raw().iter().any(|f| std::fs::read(f).expect("a file") == before[harmed]));
            }
            // Replication goes on from there.
            case.insert();
            case.must(&["replicate", "--once", "--config", &config], 0);
            case.restores();
        }
    }
}

#[test]
fn repair_says_so_where_only_the_database_could_help() {
    let case = Case::new();
    harm(&case.raw()[2], "changed");
    let said = case.must(&["repair", &case.url()], 4);
    assert!(said.contains("the newest state cannot be restored"), "{said}");
    assert_eq!(case.raw().len(), 4, "nothing is removed while it may be needed");
    let said = case.must(&["repair", "--db", &case.db().display().to_string(), &case.url()], 3);
    assert!(said.contains("can be restored"), "{said}");
    case.restores();
}

/// Files of another database under the same names are whole. They were restored as if they were
/// right, and nothing said so.
#[test]
fn files_of_another_database_are_found_and_an_image_repairs_the_newest_state() {
    let (case, other) = (Case::new(), Case::new());
    for level in [0, 9] {
        let name = format!("replica/ltx/{level}/{0}-{0}.ltx", "0000000000000001");
        std::fs::copy(other.dir.path().join(&name), case.dir.path().join(&name)).expect("a copy");
    }
    let out = case.dir.path().join("out.db");
    std::fs::write(&out, "what was there").expect("written");
    let said = case.must(&["restore", "--force", "-o", &out.display().to_string(), &case.url()], 4);
    assert!(said.contains("is not the one that was committed"), "{said}");
    assert_eq!(std::fs::read(&out).expect("a file"), b"what was there");
    case.must(&["verify", &case.url()], 4);
    let (config, db) = (case.config(), case.db().display().to_string());
    let said = case.must(&["repair", "--dry-run", "--config", &config, &db], 4);
    assert!(said.contains("would store: an image of"), "{said}");
    let said = case.must(&["repair", "--config", &config, &db], 3);
    assert!(said.contains("stored: an image"), "{said}");
    // What the image does not bring back is named.
    let lost = "lost for good: the states of TXIDs 0000000000000002 to 0000000000000004";
    assert!(said.contains(lost), "{said}");
    case.restores();
    let said = case.must(&["verify", &case.url()], 3);
    assert!(said.contains("it is what the database was then"), "{said}");
    assert!(said.contains("2 of 5 states can be restored"), "{said}");
    // The states before the image are still not those that were committed.
    let older = ["restore", "--force", "--txid", "2", "-o", &out.display().to_string(), &case.url()];
    case.must(&older, 4);
    assert_eq!(std::fs::read(&out).expect("a file"), b"what was there");
}

#[test]
fn repair_is_refused_while_another_process_follows_the_database() {
    let case = Case::new();
    harm(&case.raw()[2], "changed");
    let process = lsfast::replicate(&case.db(), &[case.url()], &[]);
    process.wait_for_line("resuming from the WAL");
    let said = case.must(&["repair", "--config", &case.config(), &case.db().display().to_string()], 1);
    assert!(said.contains("another lsfast already follows"), "{said}");
    process.stop();
    case.must(&["repair", "--config", &case.config(), &case.db().display().to_string()], 3);
    case.restores();
}

/// A merge met the damage after the last commit was stored: `--once` ended with an error, and with
/// a newest state that could not be restored.
#[test]
fn once_stores_an_image_where_a_merge_meets_damage() {
    for how in ["cut", "changed"] {
        for harmed in [2, 3] {
            let case = Case::new();
            let config = std::fs::read_to_string(case.config()).expect("a config file");
            std::fs::write(case.config(), config.replace("24h", "1s")).expect("a config file");
            harm(&case.raw()[harmed], how);
            let path = &case.raw()[harmed];
            let stored = std::fs::metadata(path).and_then(|m| m.modified()).expect("a time");
            until("the batches to be due for a merge", || {
                (stored.elapsed().is_ok_and(|t| t.as_secs() >= 2)).then_some(())
            });
            case.insert();
            case.must(&["replicate", "--once", "--config", &case.config()], 0);
            case.restores();
        }
    }
}
