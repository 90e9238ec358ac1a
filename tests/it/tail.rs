//! The tail of a real log, written by SQLite, against a plain model: pages laid over pages.

use std::collections::BTreeMap;
use std::path::Path;

use lsfast::base::{FrameNo, Pgno};
use lsfast::sqlite::database::Database;
use lsfast::wal::tail::{Ahead, Found, Tail};
use proptest::prelude::*;
use rusqlite::Connection;

use crate::support::sqlite;

/// What the application does between two looks.
#[derive(Debug, Clone)]
enum Op {
    /// Commits rows of a length.
    Commit { rows: u32, len: u32 },
    /// Spills a transaction larger than the cache into the log, and takes it back.
    Rollback { rows: u32 },
    /// Spills, rewrites what it spilled, and commits.
    Rewrite { rows: u32 },
    /// Deletes most and gives the pages back.
    Shrink,
    /// Copies everything, so that the next write starts the log over.
    Checkpoint,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (1u32..20, 1u32..3000).prop_map(|(rows, len)| Op::Commit { rows, len }),
        1 => (1u32..60).prop_map(|rows| Op::Rollback { rows }),
        1 => (1u32..60).prop_map(|rows| Op::Rewrite { rows }),
        1 => Just(Op::Shrink),
        2 => Just(Op::Checkpoint),
    ]
}

fn perform(app: &Connection, op: &Op) {
    let fill = |rows: u32, len: u32| {
        for _ in 0..rows {
            app.execute("INSERT INTO log VALUES(?1, hex(randomblob(?1)))", [len]).expect("a row");
        }
    };
    let sql = |text: &str| app.execute_batch(text).expect("a statement");
    match *op {
        Op::Commit { rows, len } => {
            sql("BEGIN");
            fill(rows, len);
            sql("COMMIT");
        }
        Op::Rollback { rows } => {
            sql("BEGIN");
            fill(rows, 2000);
            sql("ROLLBACK");
        }
        Op::Rewrite { rows } => {
            sql("BEGIN");
            fill(rows, 2000);
            sql("UPDATE log SET at = at + 1; UPDATE log SET at = at - 1; COMMIT");
        }
        Op::Shrink => sql("DELETE FROM log WHERE rowid % 5 <> 0; VACUUM"),
        Op::Checkpoint => sql("PRAGMA wal_checkpoint(RESTART)"),
    }
}

type Pages = BTreeMap<u32, Vec<u8>>;

fn pages_of_file(path: &Path, page_size: usize) -> Pages {
    let bytes = std::fs::read(path).expect("the database");
    (1..).zip(bytes.chunks_exact(page_size).map(<[u8]>::to_vec)).collect()
}

/// Reads what is published, at most `piece` bytes at a time, and lays it over the model.
fn look(tail: &mut Tail, db: &Database, piece: usize, model: &mut Pages) {
    let header = db.shm().header().expect("a header at rest");
    if header.salts != tail.salts() {
        tail.enter(header.salts);
    }
    let mut open: Vec<(Pgno, Vec<u8>)> = Vec::new();
    let mut size = None;
    loop {
        let whole = tail.read_to(header.mx_frame, piece, |found| match found {
            Found::Open(frames) => open.extend(frames.map(|(_, pgno, page)| (pgno, page.to_vec()))),
            Found::Committed(_, run) => {
                open.extend(run.frames().map(|(_, pgno, page)| (pgno, page.to_vec())));
                model.extend(open.drain(..).map(|(pgno, page)| (pgno.get(), page)));
                size = Some(run.size_pages);
            }
        });
        if whole.expect("the published frames are valid") {
            break;
        }
    }
    assert!(open.is_empty(), "what is published ends with a commit");
    if let Some(size) = size {
        assert_eq!(size, header.n_page);
        model.retain(|pgno, _| *pgno <= size);
    }
    tail.check_published(&header).expect("the checksum that is published");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_tail_takes_every_commit_and_nothing_else(
        page_size in prop_oneof![Just(512u32), Just(4096), Just(65536)],
        ops in prop::collection::vec((op(), prop_oneof![Just(1usize), Just(70_000), Just(usize::MAX)]), 1..25),
    ) {
        // I3: no commit is missed, and nothing beyond the last one is taken.
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("app.db");
        let app = sqlite::create(&path, page_size);
        app.execute_batch("PRAGMA cache_size=5; PRAGMA wal_autocheckpoint=0; PRAGMA wal_checkpoint(TRUNCATE)").expect("pragmas");
        let mut model = pages_of_file(&path, page_size as usize);
        let db = Database::open(&path).expect("the database");
        let salts = db.shm().header().expect("a header").salts;
        let mut tail = Tail::new(db.wal().clone(), db.page_size(), salts);
        for (op, piece) in &ops {
            perform(&app, op);
            look(&mut tail, &db, *piece, &mut model);
        }
        app.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").expect("a checkpoint");
        prop_assert!(model == pages_of_file(&path, page_size as usize), "the pages differ");
    }
}

#[test]
fn what_was_read_ahead_survives_being_written_over() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("app.db");
    let app = sqlite::create(&path, 4096);
    app.execute_batch("PRAGMA wal_autocheckpoint=0").expect("a pragma");
    let insert = |count: usize| {
        for _ in 0..count {
            app.execute("INSERT INTO log VALUES(1, 'x')", []).expect("a row");
        }
    };
    insert(5);
    let db = Database::open(&path).expect("the database");
    let before = db.shm().header().expect("a header");
    let at_start = || Tail::new(db.wal().clone(), db.page_size(), before.salts);
    let read = |tail: &mut Tail| assert!(tail.read_to(before.mx_frame, usize::MAX, |_| {}).expect("frames"));
    let [mut with, mut without, mut other, mut later] = std::array::from_fn(|_| at_start());
    for tail in [&mut with, &mut without, &mut other, &mut later] {
        read(tail);
    }

    insert(3);
    let read_ahead = |after| Ahead::read(db.wal(), db.page_size(), after, 1 << 20).expect("a read");
    let ahead = read_ahead(before.mx_frame);
    let elsewhere = read_ahead(FrameNo(before.mx_frame.0 + 1));
    let earlier = read_ahead(FrameNo(before.mx_frame.0 - 2));
    app.execute_batch("PRAGMA wal_checkpoint(RESTART)").expect("a checkpoint");
    insert(60);
    let new = db.shm().header().expect("a header").salts;
    assert_ne!(new, before.salts, "the log has started over");

    let walk = |tail: &mut Tail, ahead: Option<&Ahead>| {
        let mut commits = 0;
        let walk = tail.walk_on(new, ahead, |found| match found {
            Found::Committed(count, _) => commits += count,
            Found::Open(_) => panic!("only whole transactions"),
        });
        (walk.expect("a walk").commits, commits)
    };
    assert_eq!(walk(&mut with, Some(&ahead)), (3, 3));
    assert_eq!(walk(&mut without, None), (0, 0), "they are gone from the file");
    assert_eq!(walk(&mut later, Some(&earlier)), (3, 3), "captured further since");
    assert_eq!(walk(&mut other, Some(&elsewhere)), (0, 0), "what was read at another place is not used");
}

/// Frames that are in the WAL, whole and with right checksums, but not published by the wal-index
/// may be rolled back: a recovery of SQLite publishes them, or a writer writes over them.
#[test]
fn nothing_beyond_what_is_published_is_taken() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("app.db");
    let app = sqlite::create(&path, 4096);
    app.execute_batch("PRAGMA wal_autocheckpoint=0").expect("a pragma");
    let commit = || app.execute("INSERT INTO log VALUES(1, 'x')", []).expect("a row");
    commit();
    let db = Database::open(&path).expect("the database");
    let published = db.shm().header().expect("a header");
    commit();
    commit();
    let mut tail = Tail::new(db.wal().clone(), db.page_size(), published.salts);
    let mut ends = Vec::new();
    let whole = tail.read_to(published.mx_frame, usize::MAX, |found| {
        if let Found::Committed(_, run) = found {
            ends.push(run.end.last());
        }
    });
    assert!(whole.expect("frames") && tail.last() == published.mx_frame);
    assert_eq!(ends, [published.mx_frame]);
}
