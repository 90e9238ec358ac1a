//! Logs that SQLite wrote, read by us and by SQLite's own recovery: both must find the same
//! database.

use std::fs;
use std::path::{Path, PathBuf};

use lsfast::base::{FrameNo, PageSize};
use lsfast::sqlite::header::{DbHeader, HeaderError};
use lsfast::wal::checksum::{
    Sum, {self},
};
use lsfast::wal::format::{HEADER_BYTES, WalHeader, frame_bytes};
use lsfast::wal::frames::{Chain, End, UNLIMITED};
use lsfast::wal::index::{CHECKPOINT_OFFSET, CheckpointInfo, LEAD_BYTES, WalIndexHeader};
use proptest::prelude::*;
use rusqlite::Connection;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// What a log holds: the database after it is applied, the position after the last commit, and how
/// it ends.
struct Applied {
    image: Vec<u8>,
    chain: Chain,
    size_pages: Option<u32>,
    open_frames: usize,
    end: End,
}

/// Applies the committed frames of a log to the bytes of a database.
fn apply(db: &[u8], wal: &[u8]) -> Applied {
    let header = WalHeader::parse(wal).expect("a log");
    let size = header.page_size;
    let mut image = db.to_vec();
    let mut scan = Chain::start(&header).scan(&wal[HEADER_BYTES..], UNLIMITED);
    let (mut size_pages, mut chain) = (None, Chain::start(&header));
    for run in &mut scan {
        image.resize(image.len().max(run.size_pages as usize * size.bytes()), 0);
        for (_, pgno, page) in run.frames() {
            if pgno.get() <= run.size_pages {
                let at = pgno.offset(size) as usize;
                image[at..at + size.bytes()].copy_from_slice(page);
            }
        }
        image.truncate(run.size_pages as usize * size.bytes());
        (size_pages, chain) = (Some(run.size_pages), run.end);
    }
    let scanned = scan.finish();
    Applied { image, chain, size_pages, open_frames: scanned.open.len(), end: scanned.end }
}

/// The same log with checksums over big-endian words, as a big-endian machine writes it.
fn big_endian(wal: &[u8]) -> Vec<u8> {
    let mut wal = wal.to_vec();
    let size = WalHeader::parse(&wal).expect("a log").page_size;
    wal[3] |= 1;
    let mut sum = checksum::plain(true, Sum::ZERO, &wal[..24]);
    wal[24..32].copy_from_slice(&sum.to_be_bytes());
    let salts = wal[16..24].to_vec();
    for frame in wal[HEADER_BYTES..].chunks_exact_mut(frame_bytes(size)) {
        if frame[8..16] != salts {
            break;
        }
        sum = checksum::plain(true, sum, &frame[..8]);
        sum = checksum::plain(true, sum, &frame[24..]);
        frame[16..24].copy_from_slice(&sum.to_be_bytes());
    }
    wal
}

/// The database as SQLite recovers it from these bytes.
fn recovered(db: &[u8], wal: &[u8]) -> Vec<u8> {
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let path = scratch.path().join("db");
    fs::write(&path, db).expect("the database");
    fs::write(scratch.path().join("db-wal"), wal).expect("the log");
    let connection = Connection::open(&path).expect("open");
    connection.execute_batch("PRAGMA synchronous=OFF").expect("no fsync");
    let busy: i64 =
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |r| r.get(0)).expect("a checkpoint");
    assert_eq!(busy, 0);
    drop(connection);
    fs::read(&path).expect("the recovered database")
}

fn lead(shm: &[u8]) -> (WalIndexHeader, CheckpointInfo) {
    let lead = shm.first_chunk::<LEAD_BYTES>().expect("a wal-index");
    let header = WalIndexHeader::parse(lead.first_chunk().expect("headers")).expect("a good header");
    (header, CheckpointInfo::parse(lead[CHECKPOINT_OFFSET..].first_chunk().expect("checkpoint information")))
}

fn vectors() -> Vec<(PathBuf, Value)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let manifest = fs::read(dir.join("manifest.json")).expect("the manifest");
    let manifest: Value = serde_json::from_slice(&manifest).expect("JSON");
    let list = manifest["wal"].as_array().expect("a list");
    assert_eq!(list.len(), 6);
    list.iter().map(|v| (dir.join(v["dir"].as_str().expect("a folder")), v.clone())).collect()
}

fn number(v: &Value, key: &str) -> u32 {
    v[key].as_u64().and_then(|n| u32::try_from(n).ok()).unwrap_or_else(|| panic!("no number {key}"))
}

#[test]
fn vectors_of_logs() {
    for (dir, v) in vectors() {
        let name = dir.display();
        let db = fs::read(dir.join("db")).expect("a database");
        let wal = fs::read(dir.join("db-wal")).expect("a log");
        let size = WalHeader::parse(&wal).expect("a log").page_size;
        assert_eq!(size.get(), number(&v, "page_size"), "{name}");
        let body = wal.len() - HEADER_BYTES;
        assert_eq!((body / frame_bytes(size)) as u32, number(&v, "frames_in_file"), "{name}");
        assert_eq!((body % frame_bytes(size)) as u32, number(&v, "bytes_after_last_whole_frame"), "{name}");

        let applied = apply(&db, &wal);
        assert_eq!(applied.chain.last().0, number(&v, "frames_committed"), "{name}");
        let sha256: String = Sha256::digest(&applied.image).iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(sha256, v["sha256"].as_str().expect("a hash"), "{name}");
        assert_eq!(applied.image.len() as u32, number(&v, "size"), "{name}");

        let header = DbHeader::parse(&dir.join("db"), &applied.image).expect("a database header");
        assert_eq!((header.page_size, header.is_wal()), (size, true), "{name}");
        assert_eq!(header.size_pages, applied.size_pages, "{name}");

        let swapped = apply(&db, &big_endian(&wal));
        assert_eq!(swapped.image, applied.image, "{name}");
        assert_eq!(recovered(&db, &big_endian(&wal)), applied.image, "{name}");
    }
}

#[test]
fn vectors_end_as_they_were_made() {
    let end = |name: &str| {
        let (dir, _) = vectors().into_iter().find(|(d, _)| d.ends_with(name)).expect("a vector");
        let read = |file: &str| fs::read(dir.join(file)).expect("a file");
        apply(&read("db"), &read("db-wal")).end
    };
    assert_eq!(end("torn512"), End::NeedBytes { have: 236 });
    assert_eq!(end("vacuum512"), End::NeedBytes { have: 0 });
    assert_eq!(end("spill4096"), End::NeedBytes { have: 0 });
    assert!(matches!(end("reset512"), End::OtherSalts(_)));
    assert!(matches!(end("rewrite512"), End::BrokenChain { .. }));
}

#[cfg(target_endian = "little")]
#[test]
fn vectors_of_wal_indexes() {
    for (dir, v) in vectors() {
        let Ok(shm) = fs::read(dir.join("db-shm")) else {
            assert!(v.get("shm_endian").is_none(), "{} has no wal-index", dir.display());
            continue;
        };
        let wal = fs::read(dir.join("db-wal")).expect("a log");
        let (header, checkpoint) = lead(&shm);
        assert_eq!(header.mx_frame.0, number(&v, "mx_frame"));
        assert_eq!(header.n_page, number(&v, "n_page"));
        assert_eq!(checkpoint.n_backfill.0, number(&v, "n_backfill"));
        assert!(checkpoint.n_backfill_attempted >= checkpoint.n_backfill);
        let marks: Vec<u64> =
            v["read_marks"].as_array().expect("marks").iter().filter_map(Value::as_u64).collect();
        assert_eq!(checkpoint.read_marks.map(u64::from).as_slice(), marks);

        let chain = apply(&[], &wal).chain;
        assert_eq!((header.mx_frame, header.frame_sum), (chain.last(), chain.sum), "{}", dir.display());
        assert_eq!((header.salts, header.page_size), (chain.salts, Some(chain.page_size)));
        assert_eq!(header.big_endian, chain.big_endian);
    }
}

#[test]
fn a_file_that_is_no_database() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    let file = dir.join("Cargo.toml");
    let error = DbHeader::parse(&file, &fs::read(&file).expect("a file")).unwrap_err();
    assert_eq!(error, HeaderError::Magic { file });
}

/// What a test does to a live database.
#[derive(Debug, Clone)]
enum Op {
    Insert {
        rows: u8,
        bytes: u16,
    },
    Update {
        bytes: u16,
    },
    Delete,
    /// Larger than the cache: it spills, and rewrites its own frames.
    Large {
        rows: u8,
        commit: bool,
    },
    Rollback {
        rows: u8,
    },
    Checkpoint(&'static str),
    Vacuum,
    Reconnect,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        5 => (1u8..6, 0u16..3000).prop_map(|(rows, bytes)| Op::Insert { rows, bytes }),
        2 => (0u16..3000).prop_map(|bytes| Op::Update { bytes }),
        1 => Just(Op::Delete),
        2 => (20u8..80, any::<bool>()).prop_map(|(rows, commit)| Op::Large { rows, commit }),
        2 => (1u8..6).prop_map(|rows| Op::Rollback { rows }),
        2 => prop::sample::select(vec!["PASSIVE", "FULL", "RESTART", "TRUNCATE"]).prop_map(Op::Checkpoint),
        1 => Just(Op::Vacuum),
        1 => Just(Op::Reconnect),
    ]
}

/// A database under test. Its files are read while the connection lives; that costs SQLite its
/// locks, which nobody contends for here.
struct Live {
    dir: tempfile::TempDir,
    connection: Option<Connection>,
    autocheckpoint: u32,
    /// Comparisons made, and how many of them met the frames of an open transaction, whole or being
    /// rewritten.
    checked: usize,
    open_whole: usize,
    open_broken: usize,
}

impl Live {
    fn new(page_size: u32, autocheckpoint: u32) -> Live {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut live =
            Live { dir, connection: None, autocheckpoint, checked: 0, open_whole: 0, open_broken: 0 };
        live.connect();
        live.run(&format!(
            "PRAGMA page_size={page_size}; PRAGMA journal_mode=WAL; CREATE TABLE t(id INTEGER PRIMARY KEY, x)"
        ));
        live
    }

    fn connect(&mut self) {
        self.connection = None;
        let connection = Connection::open(self.dir.path().join("db")).expect("open");
        self.connection = Some(connection);
        let auto = self.autocheckpoint;
        self.run(&format!("PRAGMA cache_size=1; PRAGMA synchronous=OFF; PRAGMA wal_autocheckpoint={auto}"));
    }

    fn run(&self, sql: &str) {
        self.connection
            .as_ref()
            .expect("connected")
            .execute_batch(sql)
            .unwrap_or_else(|e| panic!("{sql}: {e}"));
    }

    fn insert(&self, rows: u8, bytes: u16) {
        self.run(&format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < {rows}) \
             INSERT INTO t(x) SELECT randomblob({bytes}) FROM n"
        ));
    }

    /// Applies an operation, looking at the files in the middle of open transactions too.
    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Insert { rows, bytes } => self.insert(rows, bytes),
            Op::Update { bytes } => {
                self.run(&format!("UPDATE t SET x = randomblob({bytes}) WHERE id % 3 = (abs(random()) % 3)"));
            }
            Op::Delete => self.run("DELETE FROM t WHERE id % 2 = (abs(random()) % 2)"),
            Op::Large { rows, commit } => {
                self.run("BEGIN");
                self.insert(rows, 2000);
                self.check();
                self.run("UPDATE t SET x = randomblob(length(x))");
                self.check();
                self.run(if commit { "COMMIT" } else { "ROLLBACK" });
            }
            Op::Rollback { rows } => {
                self.run("BEGIN");
                self.insert(rows, 700);
                self.run("ROLLBACK");
            }
            Op::Checkpoint(mode) => self.run(&format!("PRAGMA wal_checkpoint({mode})")),
            Op::Vacuum => self.run("VACUUM"),
            Op::Reconnect => self.connect(),
        }
        self.check();
    }

    fn file(&self, suffix: &str) -> Vec<u8> {
        fs::read(self.dir.path().join(format!("db{suffix}"))).unwrap_or_default()
    }

    /// Our reading of the files against the published wal-index and SQLite's own recovery.
    fn check(&mut self) {
        let (db, wal) = (self.file(""), self.file("-wal"));
        if wal.is_empty() {
            return;
        }
        let (index, checkpoint) = lead(&self.file("-shm"));
        let header = WalHeader::parse(&wal).expect("a header");
        if header.salts != index.salts {
            // A checkpoint made ready for a new generation whose header nobody has written.
            assert_eq!(index.mx_frame, FrameNo(0));
            return;
        }
        // SQLite's own processes go by mxFrame; a scan with it as the limit must end exactly there.
        let mut scan = Chain::start(&header).scan(&wal[HEADER_BYTES..], index.mx_frame);
        let last = scan.by_ref().last();
        let scanned = scan.finish();
        assert_eq!((scanned.end, scanned.open.len()), (End::Limit, 0));
        assert_eq!(scanned.after_valid.last(), index.mx_frame);
        if let Some(run) = last {
            assert_eq!((run.size_pages, run.end.sum), (index.n_page, index.frame_sum));
        }
        assert!(checkpoint.n_backfill <= index.mx_frame);
        // Recovery may find no more than that here, since nobody dies between writing
        // and publishing.
        let applied = apply(&db, &wal);
        assert_eq!(applied.chain.last(), index.mx_frame);
        assert!(
            applied.image == recovered(&db, &wal),
            "our image of {} frames is not SQLite's",
            index.mx_frame.0
        );
        self.checked += 1;
        self.open_whole += usize::from(applied.open_frames > 0);
        self.open_broken += usize::from(matches!(applied.end, End::BrokenChain { .. } | End::ZeroSalts));
    }
}

#[test]
fn transactions_larger_than_the_cache() {
    for commit in [true, false] {
        let mut live = Live::new(1024, 1000);
        live.apply(&Op::Insert { rows: 3, bytes: 100 });
        live.apply(&Op::Large { rows: 60, commit });
        live.apply(&Op::Insert { rows: 1, bytes: 100 });
        assert!(live.open_whole > 0 && live.open_broken > 0, "{} and {}", live.open_whole, live.open_broken);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn live_databases(
        exponent in 9u32..=16,
        autocheckpoint in prop::sample::select(vec![0u32, 1, 10, 50, 1000]),
        ops in proptest::collection::vec(op(), 1..14),
    ) {
        let mut live = Live::new(1 << exponent, autocheckpoint);
        live.check();
        let size = WalHeader::parse(&live.file("-wal")).expect("a header").page_size;
        prop_assert_eq!(size, PageSize::new(1 << exponent).expect("a page size"));
        for op in &ops {
            live.apply(op);
        }
        prop_assert!(live.checked > 0);
    }
}
