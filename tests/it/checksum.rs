//! The checksum of the whole database in the headers of stored files: whatever happens to database
//! and process, it is that of the database that a restore makes, and it is there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ::lsfast::base::DatabaseChecksum;
use ::lsfast::ltx::{HEADER_LEN, Header, set_checksum};
use rusqlite::Connection;
use tempfile::TempDir;

use crate::support::ltx_file::{self, Pages};
use crate::support::place::Place;
use crate::support::process::{Process, until};
use crate::support::sqlite::{
    Workload, {self},
};
use crate::support::{litestream, lsfast};

/// A database and its replicas, in one folder.
struct Scene {
    dir: TempDir,
    /// TXIDs whose files are not by lsfast.
    foreign: Vec<u64>,
}

impl Scene {
    fn new() -> Scene {
        Scene { dir: tempfile::tempdir().expect("a temporary folder"), foreign: Vec::new() }
    }

    fn db(&self) -> PathBuf {
        self.dir.path().join("app.db")
    }

    fn url(&self, replica: &str) -> String {
        format!("file://{}", self.dir.path().join("replicas").join(replica).display())
    }

    fn files(&self, replica: &str, level: u8) -> Vec<PathBuf> {
        let dir = self.dir.path().join("replicas").join(replica).join(format!("ltx/{level}"));
        let mut files: Vec<_> =
            std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).collect();
        files.retain(|p| p.extension().is_some_and(|e| e == "ltx"));
        files.sort();
        files
    }

    fn last_txid(&self, replica: &str) -> u64 {
        let newest = self.files(replica, 0).pop();
        newest.map_or(0, |path| header(&path).max.0)
    }

    fn start(&self, replicas: &[&str]) -> Process {
        let urls: Vec<_> = replicas.iter().map(|r| self.url(r)).collect();
        let process = lsfast::replicate(&self.db(), &urls, &[]);
        process.wait_for_line("replicating");
        process
    }

    fn once(&self, db: &Path, replica: &str) -> String {
        let mut command = lsfast::command(["replicate", "--once", "--log-level", "debug"]);
        command.arg(db).arg(self.url(replica));
        let output = lsfast::run(command);
        assert!(output.status.success(), "{}", lsfast::stderr(&output));
        lsfast::stderr(&output)
    }

    fn forget_state(&self) {
        std::fs::remove_dir_all(self.dir.path().join(".app.db-lsfast")).expect("the state");
    }

    /// Replays the files of level 0, and compares each header, there and on other levels, with the
    /// database at its TXID. Returns the newest database.
    fn check(&self, replica: &str) -> Vec<u8> {
        let (mut pages, mut sums, mut newest) = (Pages::new(), BTreeMap::new(), Vec::new());
        for path in self.files(replica, 0) {
            let file = ltx_file::stream(&std::fs::read(&path).expect("a file"), usize::MAX).expect("LTX");
            let header = file.header;
            pages.retain(|pgno, _| *pgno <= header.commit);
            pages.extend(file.pages);
            newest = ltx_file::image(header.page_size, header.commit, &pages);
            let sum = DatabaseChecksum::of(header.page_size, &newest);
            sums.insert(header.max, sum);
            let known = !self.foreign.contains(&header.max.0);
            assert_eq!(header.checksum, known.then_some(sum), "{replica}: {}", path.display());
        }
        for path in (1..=9).flat_map(|level| self.files(replica, level)) {
            let header = header(&path);
            if let (Some(found), Some(sum)) = (header.checksum, sums.get(&header.max)) {
                assert_eq!(found, *sum, "{replica}: {}", path.display());
            }
            assert!(header.checksum.is_some() || !self.foreign.is_empty(), "{} has none", path.display());
        }
        newest
    }

    fn check_restore(&self, replica: &str) {
        let newest = self.check(replica);
        let out = self.dir.path().join(format!("{replica}.restored"));
        lsfast::restore(&out, &self.url(replica), &[], &[]);
        sqlite::assert_same_pages("restored", &std::fs::read(&out).expect("a database"), &newest);
        std::fs::remove_file(&out).expect("a database");
        assert_eq!(newest, sqlite::image(&self.db()), "{replica} is not the database");
    }
}

fn header(path: &Path) -> Header {
    let bytes = std::fs::read(path).expect("an LTX file");
    Header::parse(bytes.first_chunk().expect("a header")).expect("a header")
}

/// One thing that an application does to its database.
fn change(app: &Connection, workload: &mut Workload, random: &mut fastrand::Rng) {
    let sql = match random.u32(0..12) {
        0..=5 => return workload.run(app, 2),
        6 => "VACUUM".to_owned(),
        7 => "DELETE FROM items WHERE id % 2 = 0; PRAGMA incremental_vacuum".to_owned(),
        8 => format!("PRAGMA user_version={}", random.u16(..)),
        9 => "CREATE TABLE IF NOT EXISTS more(x); INSERT INTO more VALUES(randomblob(300000))".to_owned(),
        10 => "DROP TABLE IF EXISTS more; PRAGMA incremental_vacuum".to_owned(),
        _ => "PRAGMA wal_checkpoint(TRUNCATE)".to_owned(),
    };
    app.execute_batch(&sql).expect("SQL");
}

/// Lsfast is killed and stopped, loses its state, gets a second replica, and misses commits, while
/// the database grows and shrinks.
#[test]
fn every_stored_file_has_the_checksum_of_the_database_that_it_makes() {
    let run = |page_size: u32, seed: u64| {
        let mut random = fastrand::Rng::with_seed(seed);
        let scene = Scene::new();
        let app = sqlite::create(&scene.db(), page_size);
        app.busy_timeout(std::time::Duration::from_secs(60)).expect("a timeout");
        app.execute_batch("PRAGMA auto_vacuum=INCREMENTAL; VACUUM").expect("SQL");
        let mut workload = Workload::new(seed);
        for round in 0..9 {
            let replicas: &[&str] = if round < 2 { &["a"] } else { &["a", "b"] };
            let mut process = scene.start(replicas);
            for _ in 0..random.u32(1..6) {
                let before = scene.last_txid("a");
                change(&app, &mut workload, &mut random);
                app.execute("INSERT INTO log VALUES(1, 'wait')", []).expect("a row");
                if random.bool() {
                    until("a batch", || (scene.last_txid("a") > before).then_some(()));
                }
            }
            if round == 4 && page_size > 512 {
                // Beyond the bound of what waits in memory.
                let before = scene.last_txid("a");
                app.execute_batch("CREATE TABLE big AS SELECT randomblob(20000000) AS x").expect("SQL");
                until("the large batch", || (scene.last_txid("a") > before).then_some(()));
            }
            if random.bool() {
                process.stop();
            } else {
                process.signal("KILL");
                process.wait();
            }
            match random.u32(0..4) {
                0 => change(&app, &mut workload, &mut random),
                1 if round > 0 => scene.forget_state(),
                _ => {}
            }
        }
        scene.start(&["a", "b"]).stop();
        scene.check_restore("a");
        scene.check_restore("b");
    };
    std::thread::scope(|s| {
        for (seed, page_size) in (0..).zip([512, 4096, 65536]) {
            s.spawn(move || run(page_size, seed));
        }
    });
}

/// Litestream does not know the checksum: its files have none, and neither have its merges. From
/// the next batch of lsfast on it is there again.
#[test]
fn the_checksum_returns_after_litestream_has_taken_over() {
    let mut scene = Scene::new();
    let place = Place::Dir(scene.dir.path().join("replicas"));
    let app = sqlite::create(&scene.db(), 4096);
    sqlite::leave_checkpoints_to_litestream(&app);
    let mut workload = Workload::new(3);
    workload.run(&app, 20);
    for round in 0..2 {
        let process = scene.start(&["a"]);
        let before = scene.last_txid("a");
        workload.run(&app, 20);
        until("a batch", || (scene.last_txid("a") > before).then_some(()));
        process.stop();
        scene.check_restore("a");
        let before = scene.last_txid("a");
        let process = litestream::replicate(scene.dir.path(), &scene.db(), &place, "a");
        workload.run(&app, 20);
        place.wait_for_txid("a", 0, before + 1);
        place.wait_for_txid("a", 1, before + 1);
        process.stop();
        scene.foreign.extend(before + 1..=scene.last_txid("a"));
        let out = scene.dir.path().join(format!("litestream-{round}"));
        litestream::restore(scene.dir.path(), &scene.db(), &out, &place, "a", None);
        sqlite::assert_same_pages("Litestream", &sqlite::image(&out), &scene.check("a"));
    }
    scene.start(&["a"]).stop();
    workload.run(&app, 5);
    scene.start(&["a"]).stop();
    assert!(header(&scene.files("a", 0).pop().expect("a file")).checksum.is_some());
    scene.check_restore("a");
}

/// A host that has lost its state, or has restored the database, stored all of it again.
#[test]
fn a_database_that_is_the_newest_state_of_its_replica_is_not_stored_again() {
    let scene = Scene::new();
    let app = sqlite::create(&scene.db(), 4096);
    Workload::new(1).run(&app, 50);
    scene.once(&scene.db(), "a");
    let stored = |replica: &str| scene.files(replica, 0).len();
    let before = stored("a");
    scene.forget_state();
    let log = scene.once(&scene.db(), "a");
    assert!(log.contains("nothing has to be stored") && !log.contains("storing an image"), "{log}");
    assert_eq!(stored("a"), before);
    // The state that it has now is as good as that of a process that stored all of it.
    app.execute("INSERT INTO log VALUES(1, 'after')", []).expect("a row");
    let log = scene.once(&scene.db(), "a");
    assert!(!log.contains("storing an image") && stored("a") == before + 1, "{log}");
    scene.check_restore("a");

    // A restored copy.
    let copy = scene.dir.path().join("copy.db");
    lsfast::restore(&copy, &scene.url("a"), &[], &[]);
    let log = scene.once(&copy, "a");
    assert!(log.contains("nothing has to be stored") && stored("a") == before + 1, "{log}");

    // With one page that differs it is another database.
    scene.forget_state();
    app.execute("UPDATE log SET what = 'other' WHERE rowid = 1", []).expect("a row");
    let log = scene.once(&scene.db(), "a");
    assert!(log.contains("is not its newest state") && log.contains("image stored"), "{log}");
    scene.check_restore("a");

    // What a user asks for is done.
    let before = stored("a");
    let mut reset = lsfast::command(["reset"]);
    reset.arg(scene.db());
    assert!(lsfast::run(reset).status.success());
    let log = scene.once(&scene.db(), "a");
    assert!(log.contains("image stored") && stored("a") == before + 1, "{log}");
    scene.check_restore("a");
}

/// The object at the durable TXID has the print that is known, and is of another database.
#[test]
fn a_replica_with_another_checksum_at_the_durable_txid_is_not_gone_on_with() {
    let scene = Scene::new();
    let app = sqlite::create(&scene.db(), 4096);
    Workload::new(1).run(&app, 20);
    scene.once(&scene.db(), "a");
    let newest = scene.files("a", 0).pop().expect("a file");
    let mut file = std::fs::read(&newest).expect("a file");
    let mut changed = Header::parse(file[..HEADER_LEN].first_chunk().expect("a header")).expect("a header");
    let other = DatabaseChecksum(changed.checksum.expect("a checksum").0 ^ 1);
    let pages = ltx_file::stream(&file, usize::MAX).expect("a sound file").pages.len();
    set_checksum(&mut file, &mut changed, pages, other);
    ltx_file::stream(&file, usize::MAX).expect("a sound file");
    std::fs::remove_file(&newest).expect("a file");
    std::fs::write(&newest, file).expect("a file");
    app.execute("INSERT INTO log VALUES(1, 'after')", []).expect("a row");
    let log = scene.once(&scene.db(), "a");
    assert!(log.contains("it holds another history") && log.contains("image stored"), "{log}");
    let out = scene.dir.path().join("out.db");
    lsfast::restore(&out, &scene.url("a"), &[], &[]);
    assert_eq!(std::fs::read(&out).expect("a database"), sqlite::image(&scene.db()));
}
