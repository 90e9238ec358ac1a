//! Restores from directories that Litestream wrote, by hash, and what happens when something is
//! wrong.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lsfast::base::clock::Millis;
use lsfast::base::{Txid, limits};
use lsfast::io::{Engine, IoChoice};
use lsfast::restore::{Integrity, Report, RestoreError, RestoreOptions, Silent, Until, Verdict, run};
use lsfast::store::Store;
use lsfast::store::file::FileStore;
use serde_json::Value;

use crate::support::vectors::{list, manifest, number, path, sha256, text};

mod command;
mod damage;
mod faults;
mod forks;
mod into;
mod legacy;
mod made;
mod place;
mod proof;
mod times;
mod verify;

fn engines() -> Vec<Engine> {
    [IoChoice::Plain, IoChoice::Auto].map(|c| Engine::new(c).expect("an engine")).into()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

fn restore(
    store: impl Store + 'static,
    engine: &Engine,
    options: RestoreOptions,
) -> Result<Report, RestoreError> {
    runtime().block_on(run(Arc::new(store), engine, options, &Silent))
}

/// A replica with the modification times that its writer gave it, which git does not keep.
fn copy_of(replica: &Value) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    for file in list(replica, "files") {
        let target = dir.path().join(text(file, "path"));
        fs::create_dir_all(target.parent().expect("a parent")).expect("a directory");
        fs::copy(path(text(replica, "dir")).join(text(file, "path")), &target).expect("a copy");
        let time = Millis(file["mtime_ms"].as_i64().expect("a time")).to_system();
        let opened = fs::File::options().write(true).open(&target).expect("a file");
        opened.set_modified(time).expect("a time");
    }
    dir
}

/// Everything in a directory but one file.
fn others(dir: &Path, name: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).expect("a directory").map(|e| e.expect("an entry").path());
    entries.filter(|p| p.file_name().is_some_and(|n| n != name)).collect()
}

#[test]
fn every_restore_of_the_real_binary_gives_the_same_file() {
    let (manifest, engines) = (manifest(), engines());
    let mut done = 0;
    for replica in list(&manifest, "v05") {
        let dir = copy_of(replica);
        let out = tempfile::tempdir().expect("a directory");
        for wanted in list(replica, "restores") {
            let mut options = RestoreOptions::new(out.path().join("restored.db"));
            options.integrity = Integrity::Full;
            options.force = true;
            let until = match (wanted["txid"].as_u64(), wanted["before_ms"].as_i64()) {
                (Some(txid), _) => Until::Txid(Txid(txid)),
                (_, Some(time)) => Until::Before(Millis(time)),
                _ => Until::Newest,
            };
            options.state = until.into();
            let engine = &engines[done % engines.len()];
            let report = restore(FileStore::new(dir.path()), engine, options).expect("a restore");
            let bytes = fs::read(&report.output).expect("the output");
            assert_eq!(sha256(&bytes), text(wanted, "sha256"), "{} {wanted}", text(replica, "dir"));
            assert_eq!(report.output_bytes, number(wanted, "size"));
            // By time another image may do, which Litestream leaves out because it was made later.
            if !matches!(until, Until::Before(_)) {
                assert_eq!(report.files, list(wanted, "plan").len());
            }
            assert_eq!(report.integrity, Verdict::Ok);
            assert!(others(out.path(), "restored.db").is_empty());
            done += 1;
        }
        let [early, late] = list(replica, "refused_before_ms") else { panic!("two times") };
        let at = |time: &Value| Until::Before(Millis(time["before_ms"].as_i64().expect("a time"))).into();
        let mut options = RestoreOptions::new(out.path().join("refused.db"));
        options.state = at(early);
        let e = restore(FileStore::new(dir.path()), &engines[0], options.clone()).expect_err("no state");
        assert!(e.to_string().contains("no state of "), "{e}");
        // Litestream refuses a time after the newest file. There is only one state that
        // it can mean.
        options.state = at(late);
        let report = restore(FileStore::new(dir.path()), &engines[0], options).expect("the newest state");
        assert!(report.is_newest);
        let newest = &list(replica, "restores")[0];
        assert_eq!(sha256(&fs::read(&report.output).expect("the output")), text(newest, "sha256"));
        fs::remove_file(&report.output).expect("removed");
    }
    assert!(done > 100, "{done}");
}

/// The index decides nothing: a file without one, or with a wrong one, restores as long as its
/// checksum is right.
#[test]
fn a_wrong_index_is_no_fault() {
    let replica = &list(&manifest(), "v05")[1].clone();
    let dir = copy_of(replica);
    let newest = &list(replica, "restores")[0];
    for name in list(newest, "plan") {
        let file = dir.path().join(name.as_str().expect("a name"));
        let bytes = fs::read(&file).expect("a file");
        let index_len =
            u64::from_be_bytes(bytes[bytes.len() - 24..][..8].try_into().expect("8 bytes")) as usize;
        let terminator = bytes.len() - 24 - index_len;
        let mut changed = bytes[..terminator].to_vec();
        changed.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 1]);
        changed.extend_from_slice(&[0; 8]);
        changed.extend_from_slice(&made::checksum_of(&changed).to_be_bytes());
        fs::write(&file, changed).expect("written");
    }
    let out = tempfile::tempdir().expect("a directory");
    for engine in engines() {
        let mut options = RestoreOptions::new(out.path().join("restored.db"));
        options.force = true;
        let report = restore(FileStore::new(dir.path()), &engine, options).expect("a restore");
        assert_eq!(sha256(&fs::read(report.output).expect("the output")), text(newest, "sha256"));
    }
}
