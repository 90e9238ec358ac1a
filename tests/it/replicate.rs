//! `lsfast replicate` beside one application, through restarts, outages and accidents. The replica
//! is restored each time and must be what the application sees.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use tempfile::TempDir;

use crate::support::fault::{Fault, FaultServer, s3_error};
use crate::support::place::Place;
use crate::support::process::{Process, until};
use crate::support::s3::{
    ACCESS_KEY, S3Server, SECRET_KEY, {self},
};
use crate::support::sqlite::{
    Workload, {self},
};
use crate::support::{canned, lsfast};

/// A database, its application, and a directory replica.
struct Scene {
    dir: TempDir,
    place: Place,
    app: Option<Connection>,
    workload: Workload,
}

impl Scene {
    fn new(seed: u64) -> Scene {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let app = sqlite::create(&dir.path().join("app.db"), 4096);
        let place = Place::Dir(dir.path().join("replica"));
        let mut scene = Scene { dir, place, app: Some(app), workload: Workload::new(seed) };
        scene.write(10);
        scene
    }

    fn db(&self) -> PathBuf {
        self.dir.path().join("app.db")
    }

    fn app(&self) -> &Connection {
        self.app.as_ref().expect("the application runs")
    }

    fn write(&mut self, transactions: usize) {
        let Scene { app, workload, .. } = self;
        workload.run(app.as_ref().expect("the application runs"), transactions);
    }

    fn url(&self) -> String {
        self.place.url("db")
    }

    fn start(&self) -> Process {
        let process = lsfast::replicate(&self.db(), &[self.url()], &[]);
        process.wait_for_line("replicating");
        process
    }

    /// Starts, and waits until the replica has been brought up to the database.
    fn start_and_catch_up(&self) -> Process {
        let process = self.start();
        process.wait_for_line(" stored");
        process
    }

    fn txid(&self) -> u64 {
        self.place.last_txid("db", 0)
    }

    fn size_of(&self, txid: u64) -> u64 {
        let name = format!("{txid:016x}-{txid:016x}.ltx");
        let Place::Dir(root) = &self.place else { panic!("a directory") };
        std::fs::metadata(root.join("db/ltx/0").join(name)).expect("an object").len()
    }

    fn assert_restores(&self) {
        assert_restores(&self.db(), &self.url(), &[]);
    }
}

fn assert_restores(db: &Path, url: &str, env: &[(String, String)]) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let out = dir.path().join("out.db");
    lsfast::restore(&out, url, env, &["--integrity-check", "full"]);
    assert_eq!(sqlite::dump_hash(&out), sqlite::dump_hash(db), "the restored database is not the live one");
}

/// Runs of the log's checkpoint by the application; false if somebody was in the way.
fn checkpoint(app: &Connection, mode: &str) -> bool {
    let busy: i64 =
        app.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |r| r.get(0)).expect("a checkpoint");
    busy == 0
}

#[test]
fn a_killed_process_goes_on_from_the_log() {
    let mut scene = Scene::new(1);
    let mut first = scene.start_and_catch_up();
    scene.write(5);
    until("the writes to be stored", || (scene.txid() >= 2).then_some(()));
    first.signal("KILL");
    first.wait();
    scene.write(5);
    let second = scene.start();
    second.wait_for_line("resuming from the WAL");
    scene.write(5);
    let log = second.stop();
    assert!(!log.contains("image stored") && !log.contains("compared"), "{log}");
    scene.assert_restores();
}

#[test]
fn a_log_restarted_meanwhile_costs_the_pages_that_changed() {
    let scene = Scene::new(2);
    scene
        .app()
        .execute_batch("INSERT INTO log SELECT value, hex(randomblob(500)) FROM generate_series(1, 2000)")
        .unwrap_or_else(|_| {
            for i in 0..2000 {
                scene.app().execute("INSERT INTO log VALUES(?, hex(randomblob(500)))", [i]).expect("a row");
            }
        });
    scene.start_and_catch_up().stop();
    let image = scene.size_of(1);
    assert!(checkpoint(scene.app(), "TRUNCATE"));
    scene.app().execute("UPDATE log SET what = 'changed' WHERE at = 77", []).expect("an update");
    let before = scene.txid();
    let log = {
        let process = scene.start();
        process.wait_for_line("compared page hashes");
        process.stop()
    };
    assert!(log.contains("the WAL was restarted while lsfast was not running"), "{log}");
    assert!(!log.contains("image stored"), "{log}");
    assert_eq!(scene.txid(), before + 1);
    assert!(
        scene.size_of(before + 1) < image / 20,
        "{} of {image} bytes for one row",
        scene.size_of(before + 1)
    );
    scene.assert_restores();
}

#[test]
fn nothing_is_uploaded_when_nothing_changed_meanwhile() {
    let scene = Scene::new(3);
    scene.start_and_catch_up().stop();
    assert!(checkpoint(scene.app(), "TRUNCATE"));
    let before = scene.txid();
    let process = scene.start();
    process.wait_for_line("compared page hashes");
    process.stop();
    assert_eq!(scene.txid(), before);
    scene.assert_restores();
}

/// Ten batches leave at once, then the interval spaces them; what a writer leaves when it comes to
/// rest does not wait for it.
#[test]
fn the_end_of_a_burst_does_not_wait_for_the_interval() {
    let scene = Scene::new(17);
    let insert = || scene.app().execute("INSERT INTO log VALUES(1, 'x')", []).expect("a row");
    let process = lsfast::replicate(&scene.db(), &[scene.url(), "--sync-interval".into(), "1h".into()], &[]);
    process.wait_for_line(" stored");
    for _ in 0..11 {
        let before = scene.txid();
        insert();
        until("the batch to be stored", || (scene.txid() > before).then_some(()));
    }
    insert();
    process.stop();
    scene.assert_restores();
}

/// A host that loses its power under `synchronous=NORMAL` comes back with an older log, and an
/// older database behind it, than the replica has.
#[test]
fn a_database_that_was_set_back_takes_its_replica_with_it() {
    for cut_only in [true, false] {
        let mut scene = Scene::new(4);
        let process = scene.start_and_catch_up();
        scene.write(5);
        let (db, wal) = (scene.db(), scene.dir.path().join("app.db-wal"));
        // The state that reached the disk. Pages that are in the log only are in the log's copy.
        let saved = (std::fs::read(&db).expect("the database"), std::fs::read(&wal).expect("the log"));
        let frames = published_frames(&scene.dir.path().join("app.db-shm"));
        scene
            .app()
            .execute("INSERT INTO items(name, body) VALUES('lost in the power cut', randomblob(9000))", [])
            .expect("a row");
        until("the row to be stored", || (scene.txid() >= 2).then_some(()));
        drop(process.stop());
        scene.app = None;
        set_back(&db, &saved.0);
        std::fs::write(&wal, &saved.1[..(32 + frames as usize * 4120).min(saved.1.len())]).expect("the log");
        let _ = std::fs::remove_file(scene.dir.path().join("app.db-shm"));
        let app = sqlite::open(&db);
        let lost: i64 = app
            .query_row("SELECT count(*) FROM items WHERE name LIKE 'lost%'", [], |r| r.get(0))
            .expect("a count");
        assert_eq!(lost, 0, "the database was set back");
        if !cut_only {
            app.execute("INSERT INTO items(name, body) VALUES('after the power cut', randomblob(20000))", [])
                .expect("a row");
        }
        scene.app = Some(app);
        let process = scene.start();
        process.wait_for_line("compared page hashes");
        scene.write(5);
        let log = process.stop();
        assert!(!log.contains("image stored"), "{log}");
        scene.assert_restores();
    }
}

fn published_frames(shm: &Path) -> u32 {
    let file = std::fs::File::open(shm).expect("the wal-index");
    let mut word = [0; 4];
    file.read_exact_at(&mut word, 16).expect("mxFrame");
    // Closing it would drop the locks of this process's connection.
    std::mem::forget(file);
    u32::from_ne_bytes(word)
}

/// Writes content into the same file, as a disk that forgot does.
fn set_back(path: &Path, content: &[u8]) {
    let file = std::fs::File::options().write(true).open(path).expect("the database");
    file.set_len(content.len() as u64).expect("a length");
    file.write_all_at(content, 0).expect("a write");
}

#[test]
fn a_damaged_wal_index_heals_and_nothing_is_missed() {
    let mut scene = Scene::new(5);
    let process = scene.start_and_catch_up();
    let shm = std::fs::File::options()
        .write(true)
        .open(scene.dir.path().join("app.db-shm"))
        .expect("the wal-index");
    // As a writer does that is killed between the two copies of the header.
    shm.write_all_at(&[0x55, 0xaa, 0x55, 0xaa], 60).expect("a write");
    std::mem::forget(shm);
    let other = sqlite::open(&scene.db());
    other
        .execute("INSERT INTO log VALUES(1, 'by one who found the damage')", [])
        .expect("a row, after the healing");
    process.wait_for_line("rebuilt");
    scene.write(10);
    let log = process.stop();
    assert!(!log.contains("compared page hashes"), "{log}");
    scene.assert_restores();
}

#[test]
fn a_replica_that_is_away_holds_up_no_other() {
    let mut scene = Scene::new(6);
    let away = s3::url(canned::nobody(), "db");
    let process = lsfast::replicate(&scene.db(), &[scene.url(), away], &keys());
    process.wait_for_line("image stored");
    scene.write(10);
    until("the directory to have the writes", || (scene.txid() >= 2).then_some(()));
    process.wait_for_line("the store is not working");
    drop(process);
    assert!(scene.txid() >= 2);
}

fn keys() -> Vec<(String, String)> {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    vec![pair("AWS_ACCESS_KEY_ID", ACCESS_KEY), pair("AWS_SECRET_ACCESS_KEY", SECRET_KEY)]
}

/// Keys of level 0; what the history adds to them is not the matter here.
fn raw_keys(server: &S3Server) -> Vec<String> {
    server.keys().into_iter().filter(|key| key.contains("/0000/")).collect()
}

#[test]
fn faults_of_the_store_lose_nothing_double_nothing_and_raise_no_error() {
    let mut scene = Scene::new(7);
    let server = S3Server::start();
    let proxy = FaultServer::start(Some(server.addr));
    let url = s3::url(proxy.addr, "db");
    let process = lsfast::replicate(&scene.db(), &[url], &keys());
    process.wait_for_line("image stored");
    let faults = [
        Fault::ResetBefore,
        Fault::ResetIn,
        Fault::ResetAfter,
        s3_error(500, "InternalError"),
        s3_error(503, "SlowDown"),
        Fault::CloseAfter,
        Fault::AnswerAfter { status: 500, body: String::new() },
    ];
    for fault in faults {
        let stored = raw_keys(&server).len();
        proxy.push("PUT", fault);
        scene.write(1);
        scene.app().execute("INSERT INTO log VALUES(2, 'something in any case')", []).expect("a row");
        until("the write to be stored", || (raw_keys(&server).len() > stored).then_some(()));
        until("the fault to be met", || (proxy.faults_left() == 0).then_some(()));
    }
    let log = process.stop();
    assert!(!log.contains("level=error") && !log.contains("level=warn"), "{log}");
    let keys_there = raw_keys(&server);
    let names: Vec<String> =
        (1..=keys_there.len() as u64).map(|n| format!("db/0000/{n:016x}-{n:016x}.ltx")).collect();
    assert_eq!(keys_there, names, "each batch once, no hole");
    assert_restores(&scene.db(), &server.url("db"), &keys());
}

#[test]
fn an_outage_at_the_stop_is_made_good_by_the_next_start() {
    let mut scene = Scene::new(8);
    scene.start_and_catch_up().stop();
    scene.write(3);
    // The directory of the replica becomes a file: no request can succeed.
    let Place::Dir(root) = &scene.place else { panic!("a directory") };
    let (there, aside) = (root.join("db"), root.join("aside"));
    std::fs::rename(&there, &aside).expect("a rename");
    std::fs::write(&there, b"in the way").expect("a file");
    let mut command = lsfast::command(["replicate", "--shutdown-timeout", "200ms"]);
    command.arg(scene.db()).args([scene.url(), s3::url(canned::nobody(), "x")]).envs(keys());
    let mut process = Process::start("lsfast replicate", command);
    process.wait_for_line("trying again");
    process.signal("TERM");
    let status = process.wait();
    assert_eq!(status.code(), Some(1), "{}", process.output());
    assert!(process.output().contains("error: not everything is stored"), "{}", process.output());
    std::fs::remove_file(&there).expect("the file");
    std::fs::rename(&aside, &there).expect("a rename");
    scene.write(3);
    let process = scene.start();
    process.wait_for_line("resuming from the WAL");
    process.stop();
    scene.assert_restores();
}

/// Another program that stores to the same replica is stopped by the store, or stops us: never do
/// two histories mix.
#[test]
fn the_object_of_another_writer_ends_the_replica_by_name() {
    let scene = Scene::new(9);
    let mut process = scene.start_and_catch_up();
    let txid = scene.txid();
    let Place::Dir(root) = &scene.place else { panic!("a directory") };
    let name = format!("{0:016x}-{0:016x}.ltx", txid + 1);
    std::fs::write(root.join("db/ltx/0").join(&name), b"of somebody else").expect("an object");
    scene.app().execute("INSERT INTO log VALUES(3, 'one commit')", []).expect("a row");
    let status = process.wait();
    assert_eq!(status.code(), Some(1));
    let output = process.output();
    let last = output.lines().last().expect("a line");
    assert!(last.starts_with("error: ") && last.contains(&name), "{output}");
}

#[test]
fn a_database_that_is_not_there_yet_is_waited_for() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let db = dir.path().join("later.db");
    let place = Place::Dir(dir.path().join("replica"));
    let process = lsfast::replicate(&db, &[place.url("db")], &[]);
    process.wait_for_line("waiting for the database");
    let app = Connection::open(&db).expect("a database");
    app.execute_batch("CREATE TABLE t(x); INSERT INTO t VALUES(1)").expect("a table");
    process.wait_for_line("switched the database to WAL mode");
    process.wait_for_line("image stored");
    app.execute("INSERT INTO t VALUES(2)", []).expect("a row");
    process.stop();
    assert_restores(&db, &place.url("db"), &[]);
}

#[test]
fn a_replaced_database_is_followed_on() {
    let mut scene = Scene::new(10);
    let process = scene.start_and_catch_up();
    scene.app = None;
    let fresh = scene.dir.path().join("fresh.db");
    let mut other = Workload::new(11);
    let app = sqlite::create(&fresh, 4096);
    other.run(&app, 20);
    drop(app);
    for suffix in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(scene.dir.path().join(format!("app.db{suffix}")));
    }
    std::fs::rename(&fresh, scene.db()).expect("a rename");
    process.wait_for_line("replaced or removed");
    process.wait_for_line("compared page hashes");
    let app = sqlite::open(&scene.db());
    other.run(&app, 5);
    scene.app = Some(app);
    process.stop();
    scene.assert_restores();
}

/// Without lsfast the last connection to close brings the log into the file, and people copy the
/// one file.
#[test]
fn the_file_alone_is_whole_after_a_clean_stop() {
    let mut scene = Scene::new(71);
    let process = scene.start_and_catch_up();
    scene.write(20);
    let expected = sqlite::dump_hash(&scene.db());
    scene.app = None;
    process.stop();
    let alone = scene.dir.path().join("alone.db");
    std::fs::copy(scene.db(), &alone).expect("a copy");
    assert_eq!(sqlite::dump_hash(&alone), expected);
    // The log is as it was, and still tells where the replica is.
    let log = {
        let process = scene.start();
        process.wait_for_line("resuming from the WAL");
        process.stop()
    };
    assert!(!log.contains("image stored") && !log.contains("compared"), "{log}");
    scene.assert_restores();
}

/// A checkpoint would let its next commit start the log over, and the next start would have to read
/// the whole database.
#[test]
fn a_database_in_use_is_left_as_it_is_by_a_clean_stop() {
    let mut scene = Scene::new(72);
    let process = scene.start_and_catch_up();
    scene.write(20);
    process.stop();
    scene.write(5);
    let process = scene.start();
    process.wait_for_line("resuming from the WAL");
    let log = process.stop();
    assert!(!log.contains("image stored") && !log.contains("compared"), "{log}");
    scene.assert_restores();
}
