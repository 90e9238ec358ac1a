//! Replicas of Litestream 0.3: by its own vectors, by the real program, and beside LTX files.

use std::ffi::OsStr;
use std::process::Command;

use lsfast::base::LtxId;
use lsfast::legacy::{Generation, WalIndex};
use lsfast::restore::Selection;

use super::*;
use crate::support::fault::FaultServer;
use crate::support::place::Place;
use crate::support::process::{
    Process, {self},
};
use crate::support::s3::{
    S3Server, {self},
};
use crate::support::sqlite::{
    Workload, {self},
};
use crate::support::{litestream, lsfast as program, peers};

fn generation(text: &str) -> Option<Generation> {
    Some(Generation::parse(text).expect("a generation"))
}

#[test]
fn every_restore_of_the_real_binary_gives_the_same_file() {
    let (manifest, engines) = (manifest(), engines());
    let mut done = 0;
    for replica in list(&manifest, "v03") {
        let dir = copy_of(replica);
        let out = tempfile::tempdir().expect("a directory");
        for wanted in list(replica, "restores") {
            let mut options = RestoreOptions::new(out.path().join("restored.db"));
            options.integrity = Integrity::Full;
            options.force = true;
            let index = wanted["index"].as_u64().map(|n| WalIndex::new(n as u32).expect("an index"));
            let until = wanted["at_ns"].as_i64().map(|ns| Until::Before(Millis(ns / 1_000_000)));
            let generation = generation(text(wanted, "generation"));
            options.state =
                Selection { until: until.unwrap_or_default(), generation, index, ..Selection::default() };
            let report = restore(FileStore::new(dir.path()), &engines[done % engines.len()], options)
                .expect("a restore");
            let bytes = fs::read(&report.output).expect("the output");
            assert_eq!(sha256(&bytes), text(wanted, "sha256"), "{} {wanted}", text(replica, "dir"));
            assert_eq!((report.output_bytes, report.integrity), (number(wanted, "size"), Verdict::Ok));
            assert_eq!(report.legacy.expect("a generation").0, generation.expect("a generation"));
            assert!(others(out.path(), "restored.db").is_empty());
            done += 1;
        }
    }
    assert!(done > 20, "{done}");
}

/// Without a generation the one with the newest file counts, without a time or with one.
#[test]
fn the_newest_generation_wins() {
    let replica = &list(&manifest(), "v03")[1].clone();
    let dir = copy_of(replica);
    let restores = list(replica, "restores");
    let hash = |state: Selection| {
        let out = tempfile::tempdir().expect("a directory");
        let mut options = RestoreOptions::new(out.path().join("restored.db"));
        options.state = state;
        let report = restore(FileStore::new(dir.path()), &engines()[0], options).expect("a restore");
        (sha256(&fs::read(report.output).expect("the output")), report.is_newest)
    };
    let of = |n: usize| text(&restores[n], "sha256").to_owned();
    assert_eq!(hash(Selection::default()), (of(0), true));
    for restore in &restores[8..12] {
        let at = Millis(restore["at_ns"].as_i64().expect("a time") / 1_000_000);
        assert_eq!(hash(Until::Before(at).into()), (text(restore, "sha256").to_owned(), false), "{restore}");
    }
    assert_eq!(hash(Until::Before(Millis(i64::MAX)).into()), (of(0), true));
}

#[test]
fn damage_and_gaps_name_the_generation_and_touch_nothing() {
    let replica = &list(&manifest(), "v03")[2].clone();
    let wal = "generations/d3d3966657cdb147/wal/00000000";
    let attempt = |change: &dyn Fn(&Path)| {
        let dir = copy_of(replica);
        change(dir.path());
        let out = tempfile::tempdir().expect("a directory");
        let options = RestoreOptions::new(out.path().join("restored.db"));
        let e = restore(FileStore::new(dir.path()), &engines()[0], options).expect_err("no restore");
        assert!(others(out.path(), "").is_empty(), "{:?}", others(out.path(), ""));
        let e = e.to_string();
        assert!(e.contains("d3d3966657cdb147"), "{e}");
        e
    };
    let remove = |name: &str| attempt(&|dir| fs::remove_file(dir.join(name)).expect("removed"));
    let e = remove(&format!("{wal}_000700c8.wal.lz4"));
    assert!(e.contains("the WAL reaches offset 000700c8, and this piece begins at 000a0110"), "{e}");
    let e = remove(&format!("{wal}_00000000.wal.lz4"));
    assert!(e.contains("WAL segment 00000000_00000000 is missing"), "{e}");
    let e = remove("generations/d3d3966657cdb147/snapshots/00000000.snapshot.lz4");
    assert!(e.contains("has no snapshot"), "{e}");
    let cut = |name: &str, len: usize| {
        attempt(&|dir| {
            let bytes = fs::read(dir.join(name)).expect("a file");
            fs::write(dir.join(name), &bytes[..len.min(bytes.len() - 1)]).expect("written");
        })
    };
    for len in [1, 100, usize::MAX] {
        let e = cut(&format!("{wal}_000700c8.wal.lz4"), len);
        assert!(e.contains("WAL segment 00000000_000700c8") && e.contains("it is cut"), "{e}");
    }
    assert!(cut(&format!("{wal}_000700c8.wal.lz4"), 0).contains("it is empty"));
    let e = cut("generations/d3d3966657cdb147/snapshots/00000000.snapshot.lz4", 1000);
    assert!(e.contains("snapshot 00000000 of generation"), "{e}");
}

/// The two formats under one path: the newer state wins, and each can be asked for.
#[test]
fn both_formats_under_one_path() {
    let manifest = manifest();
    // Written about 400 s before the old one, by the manifest.
    let (new, old) = (&list(&manifest, "v05")[1], &list(&manifest, "v03")[2]);
    let (newest_new, newest_old) = (&list(new, "restores")[0], &list(old, "restores")[0]);
    let dir = copy_of(new);
    let add = |shift_ms: i64| {
        for file in list(old, "files") {
            let to = dir.path().join(text(file, "path"));
            fs::create_dir_all(to.parent().expect("a parent")).expect("a directory");
            fs::copy(path(text(old, "dir")).join(text(file, "path")), &to).expect("a copy");
            let time = Millis(file["mtime_ms"].as_i64().expect("a time") + shift_ms).to_system();
            fs::File::options().write(true).open(&to).expect("a file").set_modified(time).expect("a time");
        }
    };
    let hash = |state: Selection| {
        let out = tempfile::tempdir().expect("a directory");
        let mut options = RestoreOptions::new(out.path().join("restored.db"));
        options.state = state;
        let report = restore(FileStore::new(dir.path()), &engines()[0], options)?;
        Ok::<_, RestoreError>((sha256(&fs::read(report.output).expect("the output")), report.is_newest))
    };
    let (of_new, of_old) = (text(newest_new, "sha256").to_owned(), text(newest_old, "sha256").to_owned());
    let after = |entry: &Value| {
        let times = list(entry, "files").iter().map(|f| f["mtime_ms"].as_i64().expect("a time"));
        Millis(times.max().expect("a time") + 1)
    };
    // What the real 0.5.17 makes of the newest.
    let litestream = || {
        let work = tempfile::tempdir().expect("a directory");
        let (db, out) = (work.path().join("app.db"), work.path().join("restored.db"));
        let place = Place::Dir(dir.path().parent().expect("a parent").to_owned());
        let prefix = dir.path().file_name().and_then(|n| n.to_str()).expect("a name");
        litestream::restore(work.path(), &db, &out, &place, prefix, None);
        sha256(&fs::read(out).expect("the output"))
    };
    add(0);
    assert!(after(old) > after(new));
    assert_eq!(litestream(), of_old);
    assert_eq!(hash(Selection::default()).expect("a restore"), (of_old.clone(), true));
    // By time: between the two the LTX files, later the others.
    assert_eq!(hash(Until::Before(after(new)).into()).expect("a restore"), (of_new.clone(), false));
    assert_eq!(hash(Until::Before(after(old)).into()).expect("a restore"), (of_old.clone(), true));
    assert_eq!(hash(Until::Txid(Txid(0x13)).into()).expect("a restore").0, of_new);
    let e = hash(Until::Before(Millis(1000)).into()).expect_err("too early").to_string();
    let first = list(new, "files").iter().map(|f| f["mtime_ms"].as_i64().expect("a time")).min();
    assert!(e.ends_with(&format!("is of {}", Millis(first.expect("a time")))), "{e}");
    // A year earlier the old files are old.
    add(-365 * 86_400_000);
    assert_eq!(litestream(), of_new);
    assert_eq!(hash(Selection::default()).expect("a restore"), (of_new.clone(), true));
    assert_eq!(hash(Until::Before(after(new)).into()).expect("a restore"), (of_new, true));
    let asked = Selection { generation: generation("d3d3966657cdb147"), ..Selection::default() };
    assert_eq!(hash(asked).expect("a restore").0, of_old);
    let e = hash(Until::Before(Millis(1000)).into()).expect_err("too early").to_string();
    assert!(e.contains("the earliest that") && e.contains("is of 2025-"), "{e}");
}

/// One listing has both formats, and the rest are the GETs of the plan.
#[test]
fn requests_of_a_restore() {
    let server = S3Server::start();
    let replica = &list(&manifest(), "v03")[0].clone();
    for file in list(replica, "files") {
        let to = server.bucket_dir().join("db").join(text(file, "path"));
        fs::create_dir_all(to.parent().expect("a parent")).expect("a directory");
        fs::copy(path(text(replica, "dir")).join(text(file, "path")), to).expect("a copy");
    }
    let proxy = FaultServer::start(Some(server.addr));
    let out = tempfile::tempdir().expect("a directory");
    let options = RestoreOptions::new(out.path().join("restored.db"));
    let store = s3::open(&s3::url(proxy.addr, "db"), &s3::options());
    let report = restore(store, &engines()[0], options).expect("a restore");
    assert_eq!(
        sha256(&fs::read(report.output).expect("the output")),
        text(&list(replica, "restores")[0], "sha256")
    );
    let seen = proxy.seen();
    let lists = seen.iter().filter(|s| s.path.contains("list-type=2")).count();
    assert_eq!((lists, seen.len()), (1, 1 + report.files), "one listing and a GET for each file");
}

/// `litestream replicate` of 0.3.13, to a directory.
fn replicate_v03(dir: &Path, db: &Path, place: &Path) -> Process {
    let config = dir.join("litestream-v03.yml");
    let text = format!(
        "dbs:\n  - path: {}\n    monitor-interval: 20ms\n    replicas:\n      - type: file\n        path: {}\n        \
         sync-interval: 20ms\n",
        db.display(),
        place.display()
    );
    fs::write(&config, text).expect("a configuration");
    let mut command = Command::new(peers::litestream_v03());
    command.env_clear().arg("replicate").arg("-config").arg(config);
    Process::start("litestream 0.3 replicate", command)
}

/// `litestream restore` of 0.3.13.
fn restore_v03(out: &Path, place: &Path) {
    let mut command = Command::new(peers::litestream_v03());
    command.env_clear().args([OsStr::new("restore"), OsStr::new("-o"), out.as_os_str()]);
    let output = command.arg(format!("file://{}", place.display())).output().expect("litestream starts");
    assert!(output.status.success(), "litestream restore:\n{}", program::stderr(&output));
}

fn tree(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            all.extend(tree(&path));
        } else {
            all.push((path.clone(), fs::read(&path).expect("a file")));
        }
    }
    all.sort();
    all
}

/// The real 0.3.13 writes; lsfast restores the same pages, then replicates beside the old data,
/// leaves every byte of it alone, and both programs restore their own.
#[test]
fn lsfast_takes_over_from_litestream_0_3() {
    let dir = tempfile::tempdir().expect("a directory");
    let (db, place) = (dir.path().join("app.db"), dir.path().join("replica"));
    let connection = sqlite::create(&db, 4096);
    sqlite::leave_checkpoints_to_litestream(&connection);
    let mut workload = Workload::new(3);
    workload.run(&connection, 60);
    let old = replicate_v03(dir.path(), &db, &place);
    process::until("a first snapshot", || {
        tree(&place).iter().any(|(p, _)| p.ends_with("00000000.snapshot.lz4")).then_some(())
    });
    workload.run(&connection, 60);
    let (ours, theirs) = (dir.path().join("ours.db"), dir.path().join("theirs.db"));
    let stores = |out: &Path| {
        let _ = fs::remove_file(out);
        program::restore(out, &format!("file://{}", place.display()), &[], &["--integrity-check", "full"]);
        (sqlite::dump_hash(out) == sqlite::dump_hash(&db)).then_some(())
    };
    process::until("the writes to be stored", || stores(&ours));
    drop(old);
    restore_v03(&theirs, &place);
    program::restore(&ours, &format!("file://{}", place.display()), &[], &["--force"]);
    sqlite::assert_same_pages("restored by both", &sqlite::image(&ours), &sqlite::image(&theirs));
    let before = tree(&place.join("generations"));

    let place = Place::Dir(dir.path().to_owned());
    let new = program::replicate(&db, &[place.url("replica")], &[]);
    place.wait_for_txid("replica", 0, 1);
    workload.run(&connection, 20);
    process::until("the writes to be stored", || stores(&ours));
    drop(new);
    let root = dir.path().join("replica");
    assert_eq!(tree(&root.join("generations")), before, "the old data is as it was");
    assert!(place.last_txid("replica", 0) >= 1);
    let dumped = sqlite::dump_hash(&theirs);
    fs::remove_file(&theirs).expect("removed");
    restore_v03(&theirs, &root);
    assert_eq!(sqlite::dump_hash(&theirs), dumped);
    let (json, out) = (dir.path().join("json.db"), program::command([OsStr::new("restore")]));
    let mut command = out;
    command.args(["--json", "-o"]).arg(&json).arg(place.url("replica"));
    let output = program::run(command);
    let json: Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    assert_eq!(text(&json, "format"), "ltx");
    let raw = LtxId::raw(Txid(1));
    assert!(root.join("ltx/0").join(raw.file_name()).exists());
}
