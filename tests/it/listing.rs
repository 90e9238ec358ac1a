//! How much of a replica is listed, by the requests at a store, where a day of raw files is kept.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::lsfast::base::clock::Millis;
use ::lsfast::base::{DatabaseChecksum, Level, LtxId, PageSize, Pgno, Txid};
use ::lsfast::io::{Engine, IoChoice};
use ::lsfast::ltx::{Header, WalRange, encode_file};
use ::lsfast::restore::{
    Integrity, Report, RestoreError, RestoreOptions, Silent, Survey, Until, points, run,
};
use ::lsfast::store::Store;
use ::lsfast::view::delta::{self, DeltaOptions, Planned};
use ::lsfast::view::{self, At, History, Pages as _, Replica};
use tempfile::TempDir;

use crate::support::memory::MemoryS3;
use crate::support::process::Process;
use crate::support::s3::{open, options};
use crate::support::{lsfast, s3, sqlite};

/// Raw files of a day with a commit each second.
const DAY: u64 = 86_400;

/// The newest TXID: the image, the day, and some that are not merged yet.
const NEWEST: u64 = 1 + DAY + 17;

/// Most LISTs of a command, however long the history is.
const MOST: usize = 6;

const PAGE_SIZE: u32 = 4096;

/// A replica with a day of raw files and all levels, made of one database that never changes.
struct World {
    server: MemoryS3,
    dir: TempDir,
    image: Vec<u8>,
    begin: Millis,
    /// Whether each state has its TXID as `user_version`, and its checksum.
    told_apart: bool,
}

impl World {
    fn new() -> World {
        World::made(false)
    }

    fn made(told_apart: bool) -> World {
        let dir = tempfile::tempdir().expect("a directory");
        let db = dir.path().join("app.db");
        sqlite::create(&db, PAGE_SIZE).close().expect("closed");
        let image = sqlite::image(&db);
        let begin = Millis(Millis::now().0 - 1_000 * NEWEST as i64);
        let world = World { server: MemoryS3::start(), dir, image, begin, told_apart };
        world.put(Level::SNAPSHOT, 1, 1);
        for txid in 1..=NEWEST {
            // Most of them are never read.
            match txid == 1 || txid > DAY - 2_000 || (txid / 300) == 100 {
                true => world.put(Level::RAW, txid, txid),
                false => {
                    world.server.place(key(Level::RAW, txid, txid), vec![0; 700], world.at(txid));
                }
            }
        }
        for (n, seconds) in [(1, 30), (2, 300), (3, 3_600)] {
            // The last ones of the higher levels are still to be made.
            let count = DAY / seconds - u64::from(n > 1);
            for k in 0..count {
                world.put(Level::new(n).expect("a level"), 2 + k * seconds, 1 + (k + 1) * seconds);
            }
        }
        world
    }

    /// When a state was stored.
    fn at(&self, txid: u64) -> Millis {
        Millis(self.begin.0 + 1_000 * txid as i64)
    }

    /// The database in a state.
    fn state(&self, txid: u64) -> Vec<u8> {
        let mut image = self.image.clone();
        if self.told_apart {
            image[60..64].copy_from_slice(&u32::try_from(txid).expect("a day").to_be_bytes());
        }
        image
    }

    fn put(&self, level: Level, min: u64, max: u64) {
        let size = PageSize::new(PAGE_SIZE).expect("a size");
        let image = self.state(max);
        let pages: Vec<&[u8]> = image.chunks(PAGE_SIZE as usize).collect();
        let wanted = if min == 1 { pages.len() } else { 1 };
        let header = Header::new(
            size,
            u32::try_from(pages.len()).expect("a few"),
            (Txid(min), Txid(max)),
            self.at(max),
            WalRange::default(),
        );
        let checksum = self.told_apart.then(|| DatabaseChecksum::of(size, &image));
        let header = Header { checksum, ..header };
        let numbered =
            pages.iter().take(wanted).zip(1..).map(|(page, n)| (Pgno::new(n).expect("a page"), *page));
        let numbered: Vec<_> = numbered.collect();
        let bytes = encode_file(&header, numbered).expect("a file");
        self.server.place(key(level, min, max), bytes, self.at(max));
    }

    fn url(&self) -> String {
        self.server.url("db")
    }

    fn store(&self) -> Arc<dyn Store> {
        Arc::new(open(&self.url(), &options()))
    }

    fn lists(&self, work: impl FnOnce()) -> usize {
        let before = self.server.lists();
        work();
        self.server.lists() - before
    }

    fn restore(&self, until: Until) -> Result<Report, RestoreError> {
        let mut options = RestoreOptions::new(self.dir.path().join("restored.db"));
        (options.force, options.integrity, options.state) = (true, Integrity::Quick, until.into());
        let engine = Engine::new(IoChoice::Plain).expect("an engine");
        runtime().block_on(run(self.store(), &engine, options, &Silent))
    }

    fn command(&self, args: &[&str]) -> std::process::Command {
        let mut command = lsfast::command(args);
        command.envs([("AWS_ACCESS_KEY_ID", s3::ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", s3::SECRET_KEY)]);
        command
    }
}

fn key(level: Level, min: u64, max: u64) -> String {
    let id = LtxId::new(level, Txid(min), Txid(max)).expect("an id");
    format!("db/{:04x}/{}", level.get(), id.file_name())
}

fn level(n: u32) -> Level {
    Level::new(n).expect("a level")
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

/// A directory with a copy of the database, as another host has it.
fn copy_of(db: &Path, dir: &Path, name: &str) -> PathBuf {
    let copy = dir.join(name);
    std::fs::copy(db, &copy).expect("a copy");
    let connection = sqlite::open(&copy);
    connection.pragma_update(None, "journal_mode", "wal").expect("WAL");
    connection.close().expect("closed");
    copy
}

#[test]
fn a_day_of_raw_files_costs_no_listing() {
    let world = World::new();

    // The newest state.
    let mut report = None;
    let lists = world.lists(|| report = Some(world.restore(Until::Newest).expect("a restore")));
    let report = report.expect("a report");
    assert_eq!((report.txid, report.is_newest), (Txid(NEWEST), true));
    assert!(lists <= 4, "restore: {lists} LISTs");

    // States in the past, exactly.
    for txid in [30_005, 30_030, 86_390] {
        let mut report = None;
        let lists = world.lists(|| report = Some(world.restore(Until::Txid(Txid(txid))).expect("a restore")));
        assert_eq!(report.expect("a report").txid, Txid(txid));
        assert!(lists <= MOST, "--txid {txid}: {lists} LISTs");

        let before = Millis(world.at(txid).0 + 500);
        let lists = world.lists(|| {
            let report = world.restore(Until::Before(before)).expect("a restore");
            assert_eq!(report.txid, Txid(txid));
        });
        assert!(lists <= MOST, "--timestamp of {txid}: {lists} LISTs");
    }

    // The newest states.
    let lists = world.lists(|| {
        let (points, more) = runtime().block_on(points(&world.store(), 20)).expect("points");
        let txids: Vec<u64> = points
            .iter()
            .map(|p| match p.state {
                ::lsfast::restore::PointState::Ltx { txid, .. } => txid.0,
                ::lsfast::restore::PointState::Legacy(_) => 0,
            })
            .collect();
        assert_eq!(txids, (NEWEST - 19..=NEWEST).collect::<Vec<_>>());
        assert!(more);
    });
    assert!(lists <= MOST, "points: {lists} LISTs");

    // What a process holds that goes on with the replica.
    let lists = world.lists(|| {
        let survey = runtime().block_on(Survey::to_go_on(&*world.store())).expect("a survey");
        let raw = survey.listing().files.iter().filter(|e| e.id.level == Level::RAW).count();
        assert!(raw < 1_100, "{raw} raw files are held");
        assert!(survey.gap().is_some());
    });
    assert!(lists <= MOST, "to go on: {lists} LISTs");

    // A standby: its restore and its first look.
    let lists = world.lists(|| {
        let out = world.dir.path().join("standby.db");
        let mut command =
            world.command(&["restore", "-f", "--follow-interval", "20ms", "--log-level", "debug", "-o"]);
        command.arg(&out).arg(world.url());
        let process = Process::start("lsfast restore -f", command);
        process.wait_for_line("msg=following ");
        // The one that it asks for by name.
        let next = key(Level::RAW, NEWEST + 1, NEWEST + 1);
        crate::support::process::until("a look", || {
            world.server.requests().iter().any(|r| r.contains(&next)).then_some(())
        });
        process.stop();
    });
    assert!(lists <= MOST, "restore -f: {lists} LISTs");

    // A merged file that is damaged: those below it serve. The stretch is listed, and no more.
    let last = 1 + (DAY / 300 - 1) * 300;
    let merged = [(level(2), last - 299), (level(1), last - 29)];
    for (level, min) in merged {
        world.server.place(key(level, min, last), vec![0; 700], world.at(last));
    }
    let lists = world.lists(|| {
        let report = world.restore(Until::Newest).expect("a restore");
        assert!(report.txid >= Txid(NEWEST) && report.is_newest, "{}", report.txid);
        assert_eq!(report.damaged.len(), 2, "{:?}", report.damaged);
    });
    assert!(lists <= 3 * MOST, "around damage: {lists} LISTs");
    merged.iter().for_each(|(level, min)| world.put(*level, *min, last));

    // A start without local state, and a restart.
    let db = copy_of(&world.dir.path().join("app.db"), world.dir.path(), "copy.db");
    for (start, most) in [("start", MOST + 1), ("restart", MOST)] {
        let lists = world.lists(|| {
            // The oldest raw files are not old enough to be deleted.
            let mut command = world.command(&["replicate", "--once", "--log-level", "debug"]);
            command.arg(&db).arg(world.url());
            let output = lsfast::run(command);
            assert!(output.status.success(), "{}", lsfast::stderr(&output));
        });
        assert!(lists <= most, "{start}: {lists} LISTs");
    }

    // A store that begins where it likes is listed as a whole, and found out at once.
    world.server.ignore_start_after();
    let lists = world.lists(|| {
        let report = world.restore(Until::Newest).expect("a restore");
        assert!(report.txid >= Txid(NEWEST) && report.is_newest, "{}", report.txid);
    });
    assert!((87..=100).contains(&lists), "ignored: {lists} LISTs");
}

/// `query`, `log`, `diff` and `restore --into` list no more of it than a restore does.
#[test]
fn a_day_of_raw_files_costs_a_view_no_listing() {
    let world = World::made(true);
    let lists = |what: &str, most: usize, work: &mut dyn FnMut()| {
        let lists = world.lists(work);
        println!("{what}: {lists} LISTs");
        assert!(lists <= most, "{what}: {lists} LISTs");
    };
    let version = |page: &[u8]| u64::from(u32::from_be_bytes(page[60..64].try_into().expect("four")));
    let replica = || Replica::new(world.store()).expect("threads");

    // One state.
    for (at, txid) in [
        (At::Newest, NEWEST),
        (At::Txid(Txid(30_005)), 30_005),
        (At::Time(Millis(world.at(30_030).0 + 500)), 30_030),
    ] {
        lists(&format!("the state {txid}"), MOST, &mut || {
            let mut state = view::open(&replica(), at).expect("a state");
            assert_eq!((state.txid(), state.is_newest()), (Txid(txid), txid == NEWEST));
            assert_eq!(version(&state.page(1).expect("a page")), txid);
        });
    }

    // The steps between states, each as small as it is.
    lists("the newest 20 steps", MOST + 1, &mut || {
        let (history, more) = History::newest(&replica(), Txid(0), Txid(NEWEST), 20).expect("steps");
        let ends: Vec<u64> = history.changes().iter().map(|c| c.entry().id.max.0).collect();
        assert_eq!((ends, more), ((NEWEST - 19..=NEWEST).collect(), true));
    });
    lists("25 steps of an earlier time", MOST, &mut || {
        let history = History::files(&replica(), Txid(30_005), Txid(30_030)).expect("steps");
        let ends: Vec<u64> = history.changes().iter().map(|c| c.entry().id.max.0).collect();
        assert_eq!(ends, (30_006..=30_030).collect::<Vec<_>>());
    });

    // A file becomes another state. Which one it is follows from when it was written, or else is
    // looked for among all.
    for (from, to, written, most) in [
        (NEWEST, 30_005, NEWEST, 2 * MOST),
        (30_005, NEWEST, 30_005, 2 * MOST),
        (30_030, 30_007, 30_030, 2 * MOST),
        (86_000, NEWEST, 86_200, 100),
    ] {
        lists(&format!("from {from} to {to}"), most, &mut || {
            let path = world.dir.path().join("into.db");
            std::fs::write(&path, world.state(from)).expect("a file");
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_millis(world.at(written).0 as u64);
            let file = std::fs::File::options().write(true).open(&path).expect("the file");
            file.set_modified(time).expect("a time");
            drop(file);
            let (until, integrity) = (Until::Txid(Txid(to)), Integrity::Quick);
            let options = DeltaOptions { path: path.clone(), until, integrity, parallel: 4, hint: None };
            let planned = runtime().block_on(delta::plan(world.store(), options)).expect("a plan");
            let plan = match planned {
                Planned::Pages(plan) => plan,
                Planned::Whole(why) => panic!("from {from} to {to}: {why}"),
            };
            assert_eq!((plan.base(), plan.pages()), ((Txid(from), 0), 1));
            runtime().block_on(plan.fetch(&Silent)).expect("pages").apply().expect("the state");
            assert!(std::fs::read(&path).expect("the file") == world.state(to));
        });
    }
}
