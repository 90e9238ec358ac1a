//! Readers of a replica while it is written, compacted and cleaned up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use lsfast::store::{FileStore, Store};
use lsfast::view::vfs::Mount;
use lsfast::view::{At, Replica};
use rusqlite::Connection;

use crate::support::case::Case;
use crate::support::lsfast::{command, run, stderr};
use crate::support::process::{self, Process};
use crate::support::sqlite;

const SUM: &str = "SELECT sum(n), count(*), (SELECT n FROM counter), sum(length(pad)) FROM account";

/// The counter of the state, in which no transfer is half done.
fn consistent(connection: &Connection) -> rusqlite::Result<i64> {
    let row = connection
        .query_row(SUM, [], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get(2)?)))?;
    assert_eq!((row.0, row.1), (0, ACCOUNTS), "a state that never was");
    Ok(row.2)
}

const ACCOUNTS: i64 = 1_000;

/// Eight threads and four processes read while a database is written, levels are merged, images are
/// stored and old files go. Each state that they see is one that was committed, and no file that
/// vanishes under them is an error.
#[test]
fn threads_and_processes_read_while_files_come_and_go() {
    let case = Case::new();
    let db = case.path("app.db");
    let writer = sqlite::create(&db, 4096);
    writer
        .execute_batch(&format!(
            "CREATE TABLE account(id INTEGER PRIMARY KEY, n INTEGER, pad BLOB);
             CREATE TABLE counter(n INTEGER);
             INSERT INTO counter VALUES (0);
             WITH RECURSIVE ids(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM ids WHERE id < {ACCOUNTS})
             INSERT INTO account SELECT id, 0, randomblob(1500) FROM ids;"
        ))
        .expect("accounts");
    let config = format!(
        "dbs:\n  - path: {}\n    replicas:\n      - url: {}\nlevels:\n  - interval: 1s\n  - interval: 2s\n\
         snapshot:\n  interval: 3s\n  retention: 10m\nl0-retention: 1s\nl0-retention-check-interval: 1s\n",
        db.display(),
        case.place.url("replica")
    );
    let file = case.path("lsfast.yml");
    std::fs::write(&file, config).expect("written");
    let mut replicate = command(["replicate", "--config"]);
    replicate.arg(&file);
    let mut replicating = Process::start("lsfast replicate", replicate);
    let url = case.place.url("replica");
    let folder = case.path("replica");
    let names =
        |level: u32| std::fs::read_dir(folder.join(format!("ltx/{level}"))).map_or(0, Iterator::count);
    process::until("the first image", || (names(9) > 0).then_some(()));
    let (stop, rounds) = (AtomicBool::new(false), AtomicU64::new(0));
    let store: Arc<dyn Store> = Arc::new(FileStore::new(&folder));
    let shared = Replica::new(Arc::clone(&store)).expect("threads");
    std::thread::scope(|scope| {
        let (stop, rounds, url) = (&stop, &rounds, &url);
        for n in 0..8 {
            let shared = shared.clone();
            let store = Arc::clone(&store);
            scope.spawn(move || {
                let mut last = 0;
                while !stop.load(Ordering::Relaxed) {
                    let own = || Replica::new(Arc::clone(&store)).expect("threads");
                    let replica = if n % 2 == 0 { shared.clone() } else { own() };
                    let mount = Mount::new(&replica, At::Newest).expect("a mount");
                    let connection = mount.connect().expect("a connection");
                    let counter =
                        consistent(&connection).unwrap_or_else(|e| panic!("{e}: {:?}", mount.error()));
                    assert!(counter >= last, "the newest state went back from {last} to {counter}");
                    last = counter;
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for _ in 0..4 {
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let output = run(command(["query", url, "--csv", SUM]));
                    let printed = String::from_utf8_lossy(&output.stdout);
                    let row = printed.lines().nth(1).unwrap_or_default();
                    assert!(row.starts_with(&format!("0,{ACCOUNTS},")), "{printed}{}", stderr(&output));
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let mut random = fastrand::Rng::with_seed(1);
        process::until("merges, images, and many reads", || {
            let (from, to) = (random.i64(1..=ACCOUNTS), random.i64(1..=ACCOUNTS));
            let transfer = "BEGIN IMMEDIATE; UPDATE counter SET n = n + 1;";
            let sql = format!(
                "{transfer} UPDATE account SET n = n - 7 WHERE id = {from}; \
                 UPDATE account SET n = n + 7, pad = randomblob(1500) WHERE id = {to}; COMMIT"
            );
            writer.execute_batch(&sql).expect("a transfer");
            assert!(replicating.runs(), "{}", replicating.output());
            let enough = names(2) > 0 && names(9) > 1 && rounds.load(Ordering::Relaxed) > 100;
            enough.then_some(())
        });
        stop.store(true, Ordering::Relaxed);
    });
    replicating.stop();
}
