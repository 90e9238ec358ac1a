//! Outages, ends and second writers, as a user of `lsfast replicate` sees them.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ::lsfast::base::clock::Millis;
use ::lsfast::base::{LtxId, Txid};
use ::lsfast::store::{CreateOnly, ErrorKind, PutOptions, Store as _};
use rusqlite::Connection;
use tempfile::TempDir;

use crate::support::memory::MemoryS3;
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
use crate::support::{canned, lsfast};

fn keys() -> [(&'static str, &'static str); 2] {
    [("AWS_ACCESS_KEY_ID", s3::ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", s3::SECRET_KEY)]
}

pub fn database(dir: &TempDir, name: &str, seed: u64) -> (PathBuf, Connection) {
    let path = dir.path().join(name);
    let connection = sqlite::create(&path, 4096);
    Workload::new(seed).run(&connection, 10);
    (path, connection)
}

/// One small commit.
pub fn write(connection: &Connection) {
    connection
        .execute("INSERT INTO items(name, body) VALUES ('one more', randomblob(100))", [])
        .expect("a row");
}

pub fn replicate(db: &Path, url: &str, flags: &[&str]) -> Process {
    let mut command = lsfast::command(["replicate", "--sync-interval", "100ms"]);
    command.args(flags).arg(db).arg(url).envs(keys());
    Process::start("lsfast replicate", command)
}

pub fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn loud(log: &str) -> usize {
    log.lines().filter(|l| l.contains("level=warn") || l.contains("level=error")).count()
}

/// Each refusal was tried again ten times a second, with a line each.
#[test]
fn a_store_that_refuses_is_left_alone() {
    for status in [403, 413, 400] {
        let (dir, server) = (folder(), MemoryS3::start());
        let (db, connection) = database(&dir, "app.db", 1);
        server.refuse(status);
        let mut process = replicate(&db, &server.url("db"), &[]);
        process.wait_for_line("the store refuses");
        // Long enough for a storm.
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(3) {
            write(&connection);
            std::thread::sleep(Duration::from_millis(50));
        }
        let (puts, log) = (server.count("PUT"), process.output());
        assert!(puts <= 5, "{status}: {puts} PUTs");
        assert_eq!(loud(&log), 1, "{status}:\n{log}");
        // The end does not wait for it either.
        process.signal("TERM");
        assert_eq!(process.wait().code(), Some(1), "{}", process.output());
        assert!(
            process.output().contains("error: ") && process.output().contains("not everything is stored")
        );
        // And a store that takes it again gets all of it.
        server.refuse(0);
        let process = replicate(&db, &server.url("db"), &[]);
        process.wait_for_line("image stored");
        process.stop();
    }
}

/// The number of attempts and their seconds made each message another one, and each a line.
#[test]
fn an_outage_of_several_databases_is_one_line_and_its_end_is_soon_seen() {
    let (dir, mut server) = (folder(), S3Server::start());
    let connections: Vec<Connection> = (0..3).map(|i| database(&dir, &format!("{i}.db"), i).1).collect();
    let dbs: String = (0..3)
        .map(|i| {
            let (db, url) = (dir.path().join(format!("{i}.db")), server.url(&i.to_string()));
            format!("- path: {}\n  replica:\n    url: {url}&region=us-east-1\n", db.display())
        })
        .collect();
    let config = dir.path().join("lsfast.yml");
    std::fs::write(&config, format!("dbs:\n{dbs}")).expect("a file");
    let mut command = lsfast::command(["replicate", "--config"]);
    command.arg(&config).envs(keys());
    let process = Process::start("lsfast replicate", command);
    process::until("three images, on both levels", || {
        let of = |level: &str| server.keys().iter().filter(|k| k.contains(level)).count();
        (of("/0000/") >= 3 && of("/0009/") >= 3).then_some(())
    });
    server.stop();
    for (i, connection) in connections.iter().enumerate() {
        Workload::new(10 + i as u64).run(connection, 3);
    }
    process.wait_for_line("the store is not working");
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(8) {
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(loud(&process.output()), 1, "{}", process.output());
    server.start_again();
    let back = Instant::now();
    let line = process.wait_for_line("the store works again");
    assert!(line.contains("down="), "{line}");
    assert!(back.elapsed() < Duration::from_secs(30), "{:?}", back.elapsed());
    let log = process.stop();
    assert_eq!(log.matches("the store works again").count(), 1, "{log}");
    for i in 0..3 {
        let out = dir.path().join("out.db");
        lsfast::restore(
            &out,
            &format!("{}&region=us-east-1", server.url(&i.to_string())),
            &keys().map(|(n, v)| (n.to_owned(), v.to_owned())),
            &["--force"],
        );
        assert_eq!(sqlite::dump_hash(&out), sqlite::dump_hash(&dir.path().join(format!("{i}.db"))));
    }
}

/// Both went on, or the first was stopped by the second.
#[test]
fn of_two_writers_the_second_stops_whatever_the_store_honours() {
    for server in [MemoryS3::start(), MemoryS3::start().ignore_conditions()] {
        let dir = folder();
        let ((first, connection), (second, _)) = (database(&dir, "a.db", 1), database(&dir, "b.db", 2));
        let mut one = replicate(&first, &server.url("db"), &[]);
        one.wait_for_line("image stored");
        let mut two = replicate(&second, &server.url("db"), &[]);
        process::until("the second to stop", || {
            write(&connection);
            (!two.runs()).then_some(())
        });
        assert_eq!(two.wait().code(), Some(1));
        assert!(two.output().contains("another program writes to this replica"), "{}", two.output());
        assert!(one.runs(), "{}", one.output());
        one.stop();
        let (out, env) = (dir.path().join("out.db"), keys().map(|(n, v)| (n.to_owned(), v.to_owned())));
        lsfast::restore(&out, &server.url("db"), &env, &[]);
        assert_eq!(sqlite::dump_hash(&out), sqlite::dump_hash(&first));
    }
}

/// A replica of another database was put in the place of this one, and reaches further. The next
/// upload met a taken name, and the process ended as if there were a second writer.
#[test]
fn a_replica_in_the_place_of_ours_is_no_second_writer() {
    for (honours, server) in [(true, MemoryS3::start()), (false, MemoryS3::start().ignore_conditions())] {
        let dir = folder();
        let ((ours, connection), (theirs, other)) = (database(&dir, "a.db", 1), database(&dir, "b.db", 2));
        let process = replicate(&theirs, &server.url("foreign"), &["--log-level", "debug"]);
        process.wait_for_line("history written");
        for txid in 2..=4 {
            write(&other);
            process.wait_for_line(&format!("txid=000000000000000{txid} pages"));
        }
        process.stop();
        let mut process = replicate(&ours, &server.url("db"), &["--log-level", "debug"]);
        process.wait_for_line("history written");
        // With this batch the process finds out what the store honours.
        write(&connection);
        process.wait_for_line("txid=0000000000000002 pages");
        if !honours {
            process.wait_for_line("does not keep a PUT");
        }
        let foreign = server.objects(|objects| {
            let foreign: Vec<_> = objects
                .iter()
                .filter(|(key, _)| key.contains("foreign/"))
                .map(|(key, body)| (key.replace("foreign/", "db/"), body.clone()))
                .collect();
            objects.retain(|key, _| !key.contains("db/"));
            objects.extend(foreign.clone());
            foreign
        });
        assert!(foreign.len() >= 5, "{foreign:?}");
        write(&connection);
        process.wait_for_line("it holds another history");
        process.wait_for_line("snapshot stored");
        assert!(process.runs(), "{}", process.output());
        process.stop();
        let env = keys().map(|(n, v)| (n.to_owned(), v.to_owned()));
        for (name, flags, db) in [("a", &[][..], &ours), ("b", &["--txid", "4"], &theirs)] {
            let out = dir.path().join(name);
            lsfast::restore(&out, &server.url("db"), &env, flags);
            assert_eq!(sqlite::dump_hash(&out), sqlite::dump_hash(db));
        }
        // Only retention removes what is old, and this server says that all is.
        let other =
            |(key, body): &&(String, _)| server.objects(|o| o.get(key).is_some_and(|now| now != body));
        let changed: Vec<_> = foreign.iter().filter(other).map(|(key, _)| key).collect();
        assert!(changed.is_empty(), "{changed:?} of the other replica");
    }
}

/// The next process of a deployment starts before the last one has ended.
#[test]
fn a_deployment_may_overlap() {
    let dir = folder();
    let (db, connection) = database(&dir, "app.db", 1);
    let place = Place::Dir(dir.path().to_path_buf());
    let old = replicate(&db, &place.url("replica"), &[]);
    old.wait_for_line("image stored");
    let new = replicate(&db, &place.url("replica"), &[]);
    new.wait_for_line("waiting for it to end");
    Workload::new(2).run(&connection, 3);
    old.stop();
    new.wait_for_line("resuming from the WAL");
    Workload::new(3).run(&connection, 3);
    new.stop();
    let out = dir.path().join("out.db");
    lsfast::restore(&out, &place.url("replica"), &[], &[]);
    assert_eq!(sqlite::dump_hash(&out), sqlite::dump_hash(&db));
}

fn at(txid: u64) -> LtxId {
    LtxId::raw(Txid(txid))
}

const CREATE: PutOptions = PutOptions { created: Millis(1), create_only: true };

#[tokio::test]
async fn a_store_that_ignores_conditions_is_found_out_and_watched() {
    let server = MemoryS3::start().ignore_conditions();
    let open = || s3::open(&server.url("db"), &s3::options());
    let (ours, theirs) = (open(), open());
    let body = |text: &'static str| vec![bytes::Bytes::from_static(text.as_bytes())];
    ours.put(at(1), body("ours 1"), CREATE).await.unwrap();
    let before = server.requests().len();
    let proof = ours.prove_create_only(at(1), body("ours 1").remove(0), CREATE).await.unwrap();
    assert!(proof.is_some_and(|p| !p.honoured), "{proof:?}");
    assert_eq!(server.requests().len() - before, 1, "one small request");
    assert_eq!(
        ours.prove_create_only(at(1), body("ours 1").remove(0), CREATE).await.unwrap(),
        None,
        "once a day"
    );
    // One LIST before each, and nothing in the way of the only writer.
    for txid in 2..5 {
        let before = server.requests().len();
        ours.put(at(txid), body("ours"), CREATE).await.unwrap();
        assert_eq!(server.requests().len() - before, 2);
    }
    // Another one writes the next object: found before ours would replace it.
    theirs.put(at(5), body("theirs"), CREATE).await.unwrap();
    assert_eq!(ours.put(at(5), body("ours"), CREATE).await.unwrap_err().kind(), ErrorKind::Conflict);
    // Or replaces our newest one within the time of our own PUT.
    let (ours, theirs) = (open(), open());
    ours.know_create_only(CreateOnly { proven: Millis::now(), honoured: false });
    ours.put(at(6), body("ours"), CREATE).await.unwrap();
    theirs.put(at(6), body("them"), PutOptions { create_only: false, ..CREATE }).await.unwrap();
    let e = ours.put(at(7), body("ours"), CREATE).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Conflict, "{e}");
    assert!(e.to_string().contains("another program writes to this replica"), "{e}");
}

#[tokio::test]
async fn a_store_that_honours_conditions_is_proven_by_one_request() {
    let server = MemoryS3::start();
    let store = s3::open(&server.url("db"), &s3::options());
    let body = bytes::Bytes::from_static(b"ours");
    store.put(at(1), vec![body.clone()], CREATE).await.unwrap();
    let before = server.requests().len();
    let proof = store.prove_create_only(at(1), body, CREATE).await.unwrap();
    assert!(proof.is_some_and(|p| p.honoured), "{proof:?}");
    store.put(at(2), vec![bytes::Bytes::from_static(b"more")], CREATE).await.unwrap();
    assert_eq!(server.requests().len() - before, 2, "the proof and the PUT: {:?}", server.requests());
}

/// A file of another history between two of ours was sound for `verify`.
#[test]
fn verify_finds_files_of_two_writers() {
    let dir = folder();
    let place = Place::Dir(dir.path().to_path_buf());
    for (name, seed) in [("a", 1), ("b", 2)] {
        let (db, connection) = database(&dir, &format!("{name}.db"), seed);
        let process = replicate(&db, &place.url(name), &[]);
        place.wait_for_txid(name, 0, 1);
        for txid in 2..5 {
            write(&connection);
            place.wait_for_txid(name, 0, txid);
        }
        process.stop();
    }
    let verify = || lsfast::run(lsfast::command(["verify", &place.url("a")]));
    assert!(verify().status.success());
    let file = "ltx/0/0000000000000003-0000000000000003.ltx";
    std::fs::copy(dir.path().join("b").join(file), dir.path().join("a").join(file)).expect("a copy");
    let output = verify();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), lsfast::stderr(&output));
    assert!(!output.status.success() && said.contains("two programs have written"), "{said}");
}

/// `--once` at a store that refuses, or is not there, went on for ever.
#[test]
fn once_ends_whatever_the_store_does() {
    let dir = folder();
    let (db, _connection) = database(&dir, "app.db", 1);
    let nobody = format!("{}&region=us-east-1", s3::url(canned::nobody(), "db"));
    let (refusing, hanging) = (MemoryS3::start(), MemoryS3::start());
    refusing.refuse(400);
    hanging.hang();
    for (url, flags) in [
        (nobody, &["--once"][..]),
        (refusing.url("db"), &["--once"]),
        (hanging.url("db"), &["--once", "--shutdown-timeout", "1s"]),
    ] {
        let mut process = replicate(&db, &url, flags);
        assert_eq!(process.wait().code(), Some(1), "{}", process.output());
        let output = process.output();
        assert!(output.lines().last().is_some_and(|l| l.starts_with("error: ")), "{output}");
        assert!(!output.contains("everything is stored\n"), "{output}");
    }
    let server = MemoryS3::start();
    let mut process = replicate(&db, &server.url("db"), &["--once"]);
    assert_eq!(process.wait().code(), Some(0), "{}", process.output());
    assert!(!server.keys().is_empty());
}

/// It said that everything is stored, and ended with 0.
#[test]
fn a_database_that_never_came_is_not_stored() {
    let dir = folder();
    let place = Place::Dir(dir.path().to_path_buf());
    let mut process = replicate(&dir.path().join("none.db"), &place.url("replica"), &[]);
    process.wait_for_line("waiting for the database");
    process.signal("TERM");
    assert_eq!(process.wait().code(), Some(1), "{}", process.output());
    assert!(process.output().contains("never came"), "{}", process.output());
}

/// The store never answers: the end comes in time all the same, and the file alone is whole.
#[test]
fn sigterm_ends_in_time_at_a_store_that_hangs() {
    let (dir, server) = (folder(), MemoryS3::start());
    let (db, connection) = database(&dir, "app.db", 1);
    let mut process = replicate(&db, &server.url("db"), &["--shutdown-timeout", "1s"]);
    process.wait_for_line("image stored");
    server.hang();
    Workload::new(2).run(&connection, 1);
    process::until("a request that hangs", || (server.count("PUT hangs") > 0).then_some(()));
    let expected = sqlite::dump_hash(&db);
    drop(connection);
    process.signal("TERM");
    assert_eq!(process.wait().code(), Some(1), "{}", process.output());
    let alone = dir.path().join("alone.db");
    std::fs::copy(&db, &alone).expect("a copy");
    assert_eq!(sqlite::dump_hash(&alone), expected);
    let output = process.output();
    assert!(output.contains("not everything is stored: after 1s"), "{output}");
    assert!(output.contains("the last commits of ") || output.contains(" does not work: "), "{output}");
}

/// The store carries out a PUT after lsfast was killed, once or several times in a row, and has
/// listed the replica again. The next start took it for another program's, and ended.
#[test]
fn an_upload_that_arrives_after_the_next_start_is_our_own() {
    std::thread::scope(|s| {
        for (first_image, kills, blind) in
            [(true, 1, false), (false, 1, false), (true, 2, false), (false, 3, false), (false, 2, true)]
        {
            s.spawn(move || late_upload(first_image, kills, blind));
        }
    });
}

/// Kills `kills` processes in a row. The upload of the first arrives after the start of the process
/// that follows them. `blind`: for a while the store refuses to show that process the object.
fn late_upload(first_image: bool, kills: usize, blind: bool) {
    let (dir, server) = (folder(), MemoryS3::start());
    let (db, connection) = database(&dir, "app.db", 1);
    let url = server.url("db");
    let mut before = 1;
    if !first_image {
        let mut process = replicate(&db, &url, &["--once"]);
        assert!(process.wait().success(), "{}", process.output());
        before = 2;
    }
    let puts = || server.keys().iter().filter(|key| key.contains("/0000/")).count();
    server.delay();
    for _ in 0..kills {
        let delayed = server.delayed();
        let mut killed = replicate(&db, &url, &[]);
        if !first_image {
            killed.wait_for_line("resuming");
            write(&connection);
        }
        process::until("a PUT that is under way", || (server.delayed() > delayed).then_some(()));
        killed.signal("KILL");
        killed.wait();
        assert!(puts() < before, "it has not arrived");
        // Another batch than the one under way.
        write(&connection);
    }
    if blind {
        server.go_blind();
    }
    server.carry_on();
    let process = replicate(&db, &url, &[]);
    if blind {
        process.wait_for_line("the store refuses");
        server.see_again();
    } else {
        process.wait_for_line("arrived late");
    }
    let log = process.stop();
    assert!(log.contains("arrived late") && loud(&log) == usize::from(blind), "{log}");
    let out = dir.path().join("out.db");
    lsfast::restore(&out, &url, &keys().map(|(n, v)| (n.to_owned(), v.to_owned())), &["--force"]);
    assert_eq!(sqlite::dump_hash(&out), sqlite::dump_hash(&db));
}

/// The answer to a PUT is lost with a kill, and the page size is changed before the next start. It
/// took the object for another database's, and ended, as did each start after it.
#[test]
fn an_upload_without_an_answer_may_have_the_old_page_size() {
    for late in [false, true] {
        let (dir, server) = (folder(), MemoryS3::start());
        let (db, connection) = database(&dir, "app.db", 1);
        let url = server.url("db");
        assert!(replicate(&db, &url, &["--once"]).wait().success());
        let mut killed = replicate(&db, &url, &[]);
        killed.wait_for_line("resuming");
        server.delay();
        write(&connection);
        process::until("a PUT that is under way", || (server.delayed() > 0).then_some(()));
        killed.signal("KILL");
        killed.wait();
        if !late {
            // Any PUT is followed by those that were delayed.
            server.carry_on();
            let (other, _app) = database(&dir, "other.db", 2);
            assert!(replicate(&other, &server.url("other"), &["--once"]).wait().success());
        }
        let sql = "PRAGMA journal_mode=DELETE; PRAGMA page_size=8192; VACUUM; PRAGMA journal_mode=WAL";
        connection.execute_batch(sql).expect("SQL");
        write(&connection);
        server.carry_on();
        let process = replicate(&db, &url, &[]);
        process.wait_for_line("image stored");
        let log = process.stop();
        let out = dir.path().join("out.db");
        lsfast::restore(&out, &url, &keys().map(|(n, v)| (n.to_owned(), v.to_owned())), &["--force"]);
        assert_eq!(sqlite::dump_hash(&out), sqlite::dump_hash(&db), "{log}");
    }
}
