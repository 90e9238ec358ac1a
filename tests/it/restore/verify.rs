//! `lsfast verify`: what is damaged, and what can be restored all the same.

use lsfast::restore::{Health, VerifyOptions, VerifyReport, verify_replica};

use super::*;
use crate::support::lsfast as program;

fn verify(dir: &Path) -> Result<VerifyReport, RestoreError> {
    let store: Arc<dyn Store> = Arc::new(FileStore::new(dir));
    runtime().block_on(verify_replica(&store, VerifyOptions::default()))
}

/// `lsfast verify --json`: its exit code and what it says.
fn command(dir: &Path) -> (i32, Value) {
    let mut command = program::command(["verify", "--json"]);
    command.arg(format!("file://{}", dir.display()));
    let output = program::run(command);
    let json = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output.status.code().expect("an exit code"), json)
}

#[test]
fn every_vector_is_sound() {
    let manifest = manifest();
    for (format, replica) in
        ["v05", "v03"].iter().flat_map(|f| list(&manifest, f).iter().map(move |r| (f, r)))
    {
        let dir = copy_of(replica);
        let found = verify(dir.path()).expect("a report");
        let name = text(replica, "dir");
        assert_eq!(found.health(), Health::Sound, "{name}: {found:?}");
        let files = list(replica, "files").len() as u64;
        assert_eq!((found.objects, found.read), (files, files), "{name}");
        let bytes: u64 = list(replica, "files").iter().map(|f| number(f, "size")).sum();
        assert_eq!(found.bytes, bytes, "{name}");
        let newest = &list(replica, "restores")[0];
        assert_eq!(found.newest.expect("the newest").bytes, number(newest, "size"), "{name}");
        if *format == "v05" {
            let txids = list(replica, "restores").iter().filter(|r| r["txid"].is_u64()).count() as u64;
            assert_eq!((found.states, found.restorable), (txids, txids), "{name}");
        }
    }
}

/// Each byte of each file of one replica: a change is found, but where it means nothing.
#[test]
fn any_changed_byte_is_found() {
    let replica = list(&manifest(), "v05")[0].clone();
    let dir = copy_of(&replica);
    let plan: Vec<&str> =
        list(&list(&replica, "restores")[0], "plan").iter().map(|p| p.as_str().expect("a name")).collect();
    let mut any_lost = false;
    for file in list(&replica, "files") {
        let name = text(file, "path");
        let path = dir.path().join(name);
        let bytes = fs::read(&path).expect("a file");
        for at in (0..bytes.len()).step_by(bytes.len() / 7) {
            let mut wrong = bytes.clone();
            wrong[at] ^= 0x10;
            fs::write(&path, &wrong).expect("written");
            let found = verify(dir.path()).expect("a report");
            // Where another file covers one of the plan, the newest state is not lost.
            let lost = found.health() == Health::NewestLost;
            assert!(
                lost && plan.contains(&name) || found.health() == Health::Damaged,
                "{name} at {at}: {found:?}"
            );
            assert_eq!(found.damaged_count, 1);
            any_lost |= lost;
            if lost {
                assert!(found.restorable < found.states);
            }
        }
        fs::write(&path, &bytes).expect("written");
    }
    assert!(any_lost, "the newest batch is in one file only");
    assert_eq!(verify(dir.path()).expect("a report").health(), Health::Sound);
}

#[test]
fn exit_codes() {
    let manifest = manifest();
    let replica = &list(&manifest, "v05")[1];
    let dir = copy_of(replica);
    let (code, json) = command(dir.path());
    assert_eq!((code, text(&json, "verdict")), (0, "sound"));
    assert_eq!(text(&json["newest"], "txid"), "0000000000000013");

    // One that the newest state does not need.
    fs::write(dir.path().join("ltx/1/0000000000000001-0000000000000002.ltx"), "short").expect("written");
    let (code, json) = command(dir.path());
    assert_eq!((code, text(&json, "verdict"), number(&json, "damaged_count")), (3, "damaged", 1));

    // A hole on a level, over which files of higher levels lead.
    let dir = copy_of(replica);
    fs::remove_file(dir.path().join("ltx/0/0000000000000005-0000000000000005.ltx")).expect("removed");
    let (code, json) = command(dir.path());
    assert_eq!((code, text(&json, "verdict")), (0, "sound"), "{json}");

    // The last file of the newest state.
    let dir = copy_of(replica);
    let last = dir.path().join("ltx/0/0000000000000013-0000000000000013.ltx");
    let bytes = fs::read(&last).expect("a file");
    fs::write(&last, &bytes[..bytes.len() - 1]).expect("written");
    let (code, json) = command(dir.path());
    assert_eq!((code, text(&json, "verdict")), (4, "newest state lost"));
    assert_eq!(text(&json, "last_restorable_txid"), "0000000000000012");
    assert!(text(&json, "newest_lost").contains("0000000000000013"), "{json}");

    let (code, _) = command(Path::new("/nowhere/at/all"));
    assert_eq!(code, 1);
}

#[test]
fn a_wrong_index_is_said_and_restores() {
    let replica = &list(&manifest(), "v05")[1].clone();
    let dir = copy_of(replica);
    let file = dir.path().join("ltx/0/0000000000000013-0000000000000013.ltx");
    let mut bytes = fs::read(&file).expect("a file");
    let at = bytes.len() - 26;
    bytes[at] ^= 1;
    let checksum = made::checksum_of(&bytes[..bytes.len() - 8]);
    let end = bytes.len() - 8;
    bytes[end..].copy_from_slice(&checksum.to_be_bytes());
    fs::write(&file, bytes).expect("written");
    let found = verify(dir.path()).expect("a report");
    assert_eq!((found.health(), found.wrong_indexes.len(), found.damaged_count), (Health::Damaged, 1, 0));
    assert!(found.newest.is_some());
}

#[test]
fn damaged_generations_of_litestream_0_3() {
    let replica = &list(&manifest(), "v03")[2].clone();
    for file in list(replica, "files") {
        for change in ["cut", "remove"] {
            let dir = copy_of(replica);
            let path = dir.path().join(text(file, "path"));
            let bytes = fs::read(&path).expect("a file");
            match change {
                "cut" => fs::write(&path, &bytes[..bytes.len() / 2]).expect("written"),
                _ => fs::remove_file(&path).expect("removed"),
            }
            let last = text(file, "path").contains("000a0110");
            let found = verify(dir.path()).expect("a report");
            // Without its last piece a log is one that ended earlier: nobody can tell.
            let expected = if change == "remove" && last { Health::Sound } else { Health::NewestLost };
            assert_eq!(found.health(), expected, "{change} {}: {found:?}", path.display());
        }
    }
}

#[test]
fn a_sample_reads_the_newest_state_whole() {
    let replica = &list(&manifest(), "v05")[1].clone();
    let dir = copy_of(replica);
    let store: Arc<dyn Store> = Arc::new(FileStore::new(dir.path()));
    let options =
        VerifyOptions { sample_percent: 0, bytes_per_second: Some(100_000_000), ..VerifyOptions::default() };
    let found = runtime().block_on(verify_replica(&store, options)).expect("a report");
    assert_eq!(found.read as usize, list(&list(replica, "restores")[0], "plan").len());
    assert_eq!(found.health(), Health::Sound);
}

/// Every file is what it says, and still there is no newest state: nobody has page 2.
#[test]
fn a_page_that_no_file_has() {
    let dir = tempfile::tempdir().expect("a directory");
    let size = lsfast::base::PageSize::new(512).expect("a page size");
    let step = |commit, pages: &[(u32, u8)]| made::Step { commit, pages: pages.iter().copied().collect() };
    let steps = [step(1, &[(1, 1)]), step(3, &[(3, 3)])];
    made::put(&FileStore::new(dir.path()), size, &steps);
    let found = verify(dir.path()).expect("a report");
    assert_eq!((found.health(), found.damaged_count), (Health::NewestLost, 0));
    assert_eq!(found.newest_lost.as_deref(), Some("page 2 is in none of its files"));
    assert!(
        restore(FileStore::new(dir.path()), &engines()[0], RestoreOptions::new(dir.path().join("o")))
            .is_err()
    );
}

/// A database in use, replicated by lsfast: equal at the replica's position, whatever was written
/// since, and a changed byte is found.
#[test]
fn the_newest_state_is_that_of_the_database() {
    use crate::support::place::Place;
    use crate::support::{process, sqlite};
    let dir = tempfile::tempdir().expect("a directory");
    let db = dir.path().join("app.db");
    let place = Place::Dir(dir.path().join("replicas"));
    let connection = sqlite::create(&db, 4096);
    let mut workload = sqlite::Workload::new(11);
    workload.run(&connection, 50);
    let compare = || {
        let mut command = program::command(["verify", "--json", "--db"]);
        command.arg(&db).arg(place.url("app"));
        let output = program::run(command);
        let json: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        (output.status.code().expect("an exit code"), json["compared"].clone())
    };
    let replicating = program::replicate(&db, &[place.url("app")], &[]);
    place.wait_for_txid("app", 0, 1);
    for _ in 0..5 {
        workload.run(&connection, 10);
        let position = || {
            let (code, compared) = compare();
            // Between a turn of the log and the next upload the position is gone,
            // and nothing can be said.
            (code == 0 && compared["at_position"] == true).then_some(compared)
        };
        let compared = process::until("the replica to be compared", position);
        assert_eq!(number(&compared, "differ_count"), 0);
        assert!(number(&compared, "pages") > 0, "{compared}");
    }
    // Under a writer who never rests a difference would be a false alarm.
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let writer = std::thread::spawn({
        let (stop, db) = (Arc::clone(&stop), db.clone());
        move || {
            let connection = sqlite::open(&db);
            let mut workload = sqlite::Workload::new(12);
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                workload.run(&connection, 1);
            }
        }
    });
    let codes: Vec<i32> = (0..30).map(|_| compare().0).collect();
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    writer.join().expect("the writer");
    assert!(codes.iter().all(|c| [0, 1].contains(c)) && codes.contains(&0), "{codes:?}");
    // Pages that were committed after what is stored are left out of a comparison.
    process::until("the replica to have all", || {
        let (code, compared) = compare();
        (code == 0 && compared["left_out"] == 0).then_some(())
    });
    drop(replicating);
    // Nobody replicates any more. What is written is after the position, or in a log that
    // starts over:
    // left out.
    connection.execute("insert or replace into items values(1, 'after', zeroblob(9000))", []).expect("a row");
    let (code, compared) = compare();
    assert_eq!((code, number(&compared, "differ_count")), (0, 0), "{compared}");
    // Damage where the log has nothing newer, as a broken disk would do it, by another process.
    connection.query_row("pragma wal_checkpoint(truncate)", [], |_| Ok(())).expect("a checkpoint");
    let pages = fs::metadata(&db).expect("a database").len() / 4096;
    let script =
        format!("printf x | dd of={} bs=1 seek={} conv=notrunc", db.display(), (pages - 1) * 4096 + 4000);
    let done = std::process::Command::new("sh").args(["-c", &script]).output().expect("sh");
    assert!(done.status.success());
    let (code, compared) = compare();
    assert_eq!((code, compared["at_position"].as_bool()), (5, Some(false)), "{compared}");
}

/// `lsfast verify DB` compares with the database by itself, found by the config file or by the
/// replica beside it.
#[test]
fn a_database_that_is_named_is_compared() {
    use crate::support::sqlite;
    let dir = tempfile::tempdir().expect("a directory");
    let (db, config) = (dir.path().join("app.db"), dir.path().join("lsfast.yml"));
    let yaml =
        format!("dbs:\n- path: {}\n  replica:\n    path: {}/far\n", db.display(), dir.path().display());
    fs::write(&config, yaml).expect("a config file");
    let connection = sqlite::create(&db, 4096);
    sqlite::Workload::new(5).run(&connection, 10);
    for more in [&["--config"][..], &[]] {
        let mut command = program::command(["replicate", "--once"]);
        command.args(more).args(more.iter().map(|_| &config)).arg(&db);
        assert!(program::run(command).status.success());
    }
    let verify = |more: &[&str], configured: bool| {
        let mut command = program::command(["verify", "--json"]);
        command
            .args(more)
            .arg(&db)
            .args(configured.then_some("--config"))
            .args(configured.then_some(&config));
        let output = program::run(command);
        let json: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        (output.status.code().expect("an exit code"), json)
    };
    for configured in [true, false] {
        let (code, json) = verify(&[], configured);
        assert_eq!((code, number(&json["compared"], "differ_count")), (0, 0), "{json}");
        let (code, json) = verify(&["--no-db"], configured);
        assert_eq!((code, &json["compared"], &json["not_compared"]), (0, &Value::Null, &Value::Null));
    }
    assert_eq!(verify(&["--no-db", "--db", "x"], true).0, 2);
    // Another file in its place.
    drop(connection);
    for end in ["", "-wal", "-shm"] {
        _ = fs::remove_file(dir.path().join(format!("app.db{end}")));
    }
    // Gone: nothing to compare with, and the replica is as sound as before.
    let (code, json) = verify(&[], true);
    assert_eq!((code, &json["compared"]), (0, &Value::Null), "{json}");
    let other = sqlite::create(&db, 4096);
    sqlite::Workload::new(6).run(&other, 10);
    drop(other);
    let (code, json) = verify(&[], true);
    assert_eq!((code, text(&json, "verdict")), (5, "differs from the database"), "{json}");
    assert_eq!(verify(&["--no-db"], true).0, 0);
    // What can't be compared is said beside what was found.
    fs::write(&db, b"").expect("a file");
    let other = rusqlite::Connection::open(&db).expect("a database");
    other
        .execute_batch("pragma page_size=8192; pragma journal_mode=wal; create table t(a)")
        .expect("a table");
    let (code, json) = verify(&[], true);
    assert_eq!((code, text(&json, "verdict")), (1, "sound"), "{json}");
    assert!(json["not_compared"].as_str().is_some_and(|w| w.contains("is not the database of this replica")));
}
