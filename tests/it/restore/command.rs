//! `lsfast restore` as a user types it.

use std::ffi::OsStr;

use super::*;
use crate::support::lsfast;

/// Standard output, which must be all that a successful run says there.
fn says(dir: &Path, args: &[&str]) -> String {
    let mut command = lsfast::command([OsStr::new("restore")]);
    command.args(args).current_dir(dir);
    let output = lsfast::run(command);
    assert!(output.status.success(), "{}", lsfast::stderr(&output));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn flags_and_results() {
    let manifest = manifest();
    let replica = &list(&manifest, "v05")[1];
    let store = copy_of(replica);
    let newest = &list(replica, "restores")[0];
    let work = tempfile::tempdir().expect("a directory");
    let url = format!("file://{}", store.path().display());
    let empty = format!("file://{}/no/app.db-replica", work.path().display());

    let json = says(work.path(), &["-o", "a.db", "--json", "--integrity-check", "full", &url]);
    let json: Value = serde_json::from_str(&json).expect("one JSON object");
    assert_eq!((json["restored"].as_bool(), json["integrity"].as_str()), (Some(true), Some("ok")));
    assert_eq!(number(&json, "bytes"), number(newest, "size"));
    assert_eq!(text(&json, "txid"), "0000000000000013");
    assert_eq!(text(&json, "output"), work.path().join("a.db").to_str().expect("text"));
    let hash = || sha256(&fs::read(work.path().join("a.db")).expect("the output"));
    assert_eq!(hash(), text(newest, "sha256"));

    fs::write(work.path().join("a.db"), "old").expect("written");
    let there = says(work.path(), &["-o", "a.db", "--if-db-not-exists", &url]);
    assert_eq!(there, "a.db exists: nothing to do\n");
    assert_eq!(fs::read(work.path().join("a.db")).expect("the output"), b"old");
    let line = says(work.path(), &["-o", "a.db", "--force", "--io", "plain", "--parallelism", "1", &url]);
    assert!(line.starts_with("restored a.db from file:///") && line.lines().count() == 1, "{line}");
    assert_eq!(hash(), text(newest, "sha256"));

    let none = says(work.path(), &["--if-replica-exists", "--json", &empty]);
    let none: Value = serde_json::from_str(&none).expect("one JSON object");
    assert_eq!(none["restored"].as_bool(), Some(false));
    assert!(text(&none, "reason").starts_with("no replica at file:///"), "{none}");
    assert!(!work.path().join("app.db").exists());
    assert_eq!(others(work.path(), "a.db"), [] as [PathBuf; 0]);
}

#[test]
fn without_a_name_the_file_is_called_like_the_replica() {
    let manifest = manifest();
    let store = copy_of(&list(&manifest, "v05")[0]);
    let work = tempfile::tempdir().expect("a directory");
    let place = work.path().join("app.db-replica");
    std::os::unix::fs::symlink(store.path(), &place).expect("a link");
    says(work.path(), &[&format!("file://{}", place.display())]);
    assert!(work.path().join("app.db").is_file());
}
