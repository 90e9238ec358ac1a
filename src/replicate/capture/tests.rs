use std::mem::ManuallyDrop;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::rc::Rc;

use rusqlite::Connection;

use super::*;
use crate::replicate::database::attach::{Opened, open};
use crate::replicate::handoff::Handoff;
use crate::sqlite::database::sibling;
use crate::wal::index::{CHECKPOINT_OFFSET, HEADERS_BYTES, LOCK_CKPT, lock_read};
use crate::wal::shm::{LockKind, Shm};

pub(in super::super) fn writer(path: &Path) -> Connection {
    let app = writer_of(path);
    app.execute_batch("CREATE TABLE t(x)").unwrap();
    app
}

fn writer_of(path: &Path) -> Connection {
    let app = Connection::open(path).unwrap();
    // A cache so small that an open transaction is written to the WAL long before its commit.
    app.execute_batch("PRAGMA journal_mode=wal; PRAGMA cache_size=2; PRAGMA wal_autocheckpoint=0").unwrap();
    app
}

pub(in super::super) fn insert(app: &Connection, pages: usize) {
    for _ in 0..pages {
        app.execute("INSERT INTO t VALUES(randomblob(3500))", []).unwrap();
    }
}

pub(in super::super) fn captured(path: &Path) -> Capture {
    let db = Arc::new(Database::open(path).unwrap());
    let Opened { guard, tail, mark, .. } = open(&db, &[]).unwrap();
    Capture::new(db, tail, guard, Rc::new(Handoff::new(1, Rc::default())), mark, Instant::now())
}

/// Looks until there is nothing to take.
pub(in super::super) fn look(capture: &mut Capture) -> Look {
    let mut captured = false;
    loop {
        let look = capture.look(Instant::now()).unwrap();
        captured |= look.captured;
        if !look.more {
            return Look { captured, all: false, ..look };
        }
    }
}

#[test]
fn a_transaction_that_is_being_written_is_near_however_long_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.db");
    let app = writer(&path);
    let mut capture = captured(&path);
    let nothing = Look { quiet: true, ..Look::default() };
    assert_eq!(look(&mut capture), nothing);
    for pages in [PEEK_FRAMES / 4, 4 * PEEK_FRAMES] {
        app.execute_batch("BEGIN").unwrap();
        insert(&app, pages);
        let under_way = Look { near: true, ..Look::default() };
        assert_eq!(look(&mut capture), under_way, "{pages} pages are under way");
        assert_eq!(look(&mut capture), under_way);
        app.execute_batch("COMMIT").unwrap();
        assert_eq!(look(&mut capture), Look { captured: true, quiet: true, ..Look::default() });
        assert_eq!(look(&mut capture), nothing);
    }
}

#[test]
fn the_first_transaction_of_a_generation_is_near_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.db");
    let app = writer(&path);
    insert(&app, 3);
    app.execute_batch("PRAGMA wal_checkpoint(RESTART)").unwrap();
    let mut capture = captured(&path);
    app.execute_batch("BEGIN").unwrap();
    insert(&app, PEEK_FRAMES / 4);
    assert_eq!(look(&mut capture), Look { near: true, ..Look::default() });
    app.execute_batch("COMMIT").unwrap();
    assert!(look(&mut capture).captured);
}

#[test]
fn what_was_taken_back_is_not_near_once_something_else_is_committed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.db");
    let app = writer(&path);
    let mut capture = captured(&path);
    app.execute_batch("BEGIN").unwrap();
    insert(&app, 4 * PEEK_FRAMES);
    app.execute_batch("ROLLBACK").unwrap();
    assert!(look(&mut capture).near, "nothing tells it from one that goes on");
    insert(&app, 1);
    let after = look(&mut capture);
    assert!(after.captured && !after.near, "{after:?}");
    let later = look(&mut capture);
    assert!(!later.near && !later.quiet, "frames of this generation follow, and continue nothing: {later:?}");
}

/// A transaction of 400 MB took 413 MB: all its images were kept until the commit was read.
#[tokio::test]
async fn a_transaction_of_any_length_is_captured_in_bounded_memory() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.db");
    let app = writer(&path);
    let db = Arc::new(Database::open(&path).unwrap());
    let Opened { guard, tail, mark, .. } = open(&db, &[]).unwrap();
    let handoff = Rc::new(Handoff::new(1, Rc::default()));
    let mut capture = Capture::new(db, tail, guard, Rc::clone(&handoff), mark, Instant::now());
    app.execute_batch("BEGIN").unwrap();
    insert(&app, 3 * limits::OPEN_BYTES / 4096);
    assert!(!look(&mut capture).captured, "frames that are not published are not taken");
    assert!(capture.taken.open.is_empty());
    app.execute_batch("COMMIT").unwrap();
    let mut captured = false;
    for _ in 0..1_000 {
        captured |= capture.look(Instant::now()).unwrap().captured;
        assert!(capture.taken.open.bytes() <= limits::OPEN_BYTES);
        if captured {
            break;
        }
    }
    assert!(captured);
    let (pages, bytes) = handoff.slot(0, |s| (s.pending.len(), s.pending.bytes()));
    assert!(pages > 3 * limits::OPEN_BYTES / 4096 && bytes == 0, "{pages} pages, {bytes} bytes");
    assert!(handoff.slot(0, |s| s.pending.has_numbers_only()));
    insert(&app, 1);
    assert!(look(&mut capture).captured);
    assert!(capture.taken.open.is_empty());
}

/// Turns once went after pins: while pins were requested in quick succession, the WAL could not
/// start over.
#[tokio::test]
async fn pins_in_close_succession_leave_room_for_turns() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.db");
    let app = writer(&path);
    let mut capture = captured(&path);
    let handoff = Rc::clone(&capture.handoff);
    let mut pin = {
        let (wanted, granted) = (handoff.pin(), async { look(&mut capture) });
        let (pin, _) = tokio::join!(wanted, granted);
        pin.unwrap()
    };
    insert(&app, limits::TURN_FRAMES as usize);
    assert!(
        look(&mut capture).captured && capture.guard.in_cruise(),
        "the database stands still for the pin"
    );
    for _ in 0..3 {
        drop(pin);
        let mut turned = false;
        let (wanted, granted) = (handoff.pin(), async {
            while !handoff.pin_is_wanted() {
                tokio::task::yield_now().await;
            }
            while handoff.pin_is_wanted() {
                let in_turn = !capture.guard.in_cruise();
                turned |= in_turn;
                if in_turn {
                    app.execute_batch("PRAGMA wal_checkpoint(PASSIVE)").unwrap();
                }
                look(&mut capture);
                if capture.is_waiting()
                    && let Phase::Closing { work, .. } | Phase::Round { work, .. } = capture.phase()
                {
                    let result = work.await.unwrap();
                    capture.locked(result).unwrap();
                }
            }
        });
        let (next, ()) = tokio::join!(wanted, granted);
        pin = next.unwrap();
        assert!(turned, "a turn that is due goes first");
        insert(&app, limits::TURN_FRAMES as usize);
    }
}

/// Takes the result of the helper thread, if there is one.
pub(in super::super) async fn finish(capture: &mut Capture) {
    if capture.is_waiting() {
        let (Phase::Closing { work, .. }
        | Phase::Round { work, .. }
        | Phase::Arming { work, .. }
        | Phase::Healing { work, .. }) = capture.phase()
        else {
            panic!("{:?}", capture.phase());
        };
        let result = work.await.unwrap();
        capture.locked(result).unwrap();
    }
}

/// While CKPT is held, a checkpoint of the application fails without a trace.
#[tokio::test]
async fn a_checkpoint_of_the_application_succeeds_before_the_wal_is_long() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.db");
    let app = writer(&path);
    let mut capture = captured(&path);
    for (i, mode) in ["TRUNCATE", "PASSIVE", "RESTART", "FULL", "TRUNCATE"].into_iter().enumerate() {
        insert(&app, 90);
        look(&mut capture);
        assert!(capture.guard.is_early(), "{mode}");
        let of = path.clone();
        let checkpoint = tokio::task::spawn_blocking(move || {
            let app = Connection::open(of).unwrap();
            app.busy_timeout(std::time::Duration::from_secs(60)).unwrap();
            app.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |r| r.get::<_, i64>(0)).unwrap()
        });
        while !checkpoint.is_finished() || !capture.guard.in_cruise() {
            look(&mut capture);
            finish(&mut capture).await;
            tokio::task::yield_now().await;
        }
        assert_eq!(checkpoint.await.unwrap(), 0, "{mode}");
        insert(&app, 1);
        look(&mut capture);
        let header = capture.db.shm().header().unwrap();
        assert!(!capture.is_lost(), "{mode}");
        assert_eq!(capture.taken.change(), header.change, "each commit is captured ({i}, {mode})");
    }
}

/// What needs the database file unchanged does not wait until an early turn ends by itself.
#[tokio::test]
async fn an_early_turn_ends_when_something_else_is_wanted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.db");
    let app = writer(&path);
    let mut capture = captured(&path);
    let handoff = Rc::clone(&capture.handoff);
    insert(&app, 90);
    assert!(look(&mut capture).quiet && capture.guard.is_early(), "looks wait for hints");
    let (pin, ()) = tokio::join!(handoff.pin(), async {
        while !handoff.pin_is_wanted() {
            tokio::task::yield_now().await;
        }
        look(&mut capture);
    });
    assert!(pin.is_some() && capture.guard.in_cruise());
    drop(pin);
    look(&mut capture);
    assert!(capture.guard.is_early() && capture.settles(Instant::now()), "a stop ends it");
    insert(&app, 1);
    look(&mut capture);
    assert!(capture.guard.is_early());
    // By another program than SQLite.
    capture.db.file().pwrite_all(&[0], 100_000).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(5));
    look(&mut capture);
    assert!(capture.is_lost(), "an edit is noticed");
    drop(app);
}

/// A transaction is prepared as soon as it is whole, and taken when the wal-index publishes it:
/// until then SQLite may take it back.
#[test]
fn a_whole_transaction_is_not_taken_before_it_is_published() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.db");
    let app = writer(&path);
    let mut capture = captured(&path);
    look(&mut capture);
    // Closing it would drop the locks of `app`.
    let shm = ManuallyDrop::new(std::fs::File::options().read(true).write(true).open(sibling(&path, "-shm")));
    let shm = shm.as_ref().unwrap();
    let header = || {
        let mut bytes = [0; HEADERS_BYTES];
        shm.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    };
    let before = header();
    insert(&app, 1);
    let after = header();
    shm.write_all_at(&before, 0).unwrap();
    for _ in 0..2 {
        assert_eq!(look(&mut capture), Look { near: true, ..Look::default() });
        assert!(capture.handoff.near().is_some());
    }
    shm.write_all_at(&after, 0).unwrap();
    assert!(look(&mut capture).captured);
}

/// After a crash of the host a WAL may have other frames than before, with the same salts and an
/// unbroken chain of checksums.
#[tokio::test]
async fn frames_that_are_not_the_published_ones_are_not_taken() {
    let dir = tempfile::tempdir().unwrap();
    let [path, other] = ["app.db", "other.db"].map(|name| dir.path().join(name));
    let app = writer(&path);
    let mut capture = captured(&path);
    look(&mut capture);
    for suffix in ["", "-wal"] {
        std::fs::copy(sibling(&path, suffix), sibling(&other, suffix)).unwrap();
    }
    let wal = |of: &Path| std::fs::read(sibling(of, "-wal")).unwrap();
    let begin = wal(&path).len();
    let elsewhere = writer_of(&other);
    insert(&app, 1);
    insert(&elsewhere, 1);
    let (here, there) = (wal(&path), wal(&other));
    assert!(here.len() == there.len() && here[..begin] == there[..begin] && here[begin..] != there[begin..]);
    let file = std::fs::File::options().write(true).open(sibling(&path, "-wal")).unwrap();
    file.write_all_at(&there[begin..], begin as u64).unwrap();
    for _ in 0..=crate::replicate::capture::READ_TRIES {
        assert!(!look(&mut capture).captured);
        // I3: no pipeline can store them meanwhile.
        assert!(capture.handoff.slot(0, |s| s.gap.is_some() && s.pending.commits() == 0));
    }
    assert!(capture.is_damaged());
    assert!(matches!(capture.phase(), Phase::Round { .. }), "they are copied to the database file at once");
}

/// Readers may use all read slots. SQLite needs CKPT all the same to rebuild a damaged wal-index.
#[tokio::test]
async fn a_damaged_wal_index_does_not_wait_for_a_read_slot() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.db");
    let app = writer(&path);
    let mut capture = captured(&path);
    let readers = Database::open(&path).unwrap();
    for slot in 1..=4 {
        assert!(readers.shm().try_lock(lock_read(slot), LockKind::Exclusive).unwrap());
    }
    assert!(capture.db.shm().invalidate().unwrap());
    let now = Instant::now();
    for at in [now, now + std::time::Duration::from_secs(1)] {
        capture.look(at).unwrap();
    }
    let Phase::Healing { held: false, work } = capture.phase() else { panic!("CKPT is not released") };
    (1..=4).for_each(|slot| readers.shm().unlock(lock_read(slot)).unwrap());
    let result = work.await.unwrap();
    capture.locked(result).unwrap();
    assert!(capture.is_lost(), "the WAL may have started over meanwhile");
    insert(&app, 1);
    look(&mut capture);
    assert!(!capture.is_lost());
}

/// READ(k) is held before CKPT is released. Otherwise the next commit starts the WAL over before
/// its last frames are captured.
#[tokio::test]
async fn in_a_turn_a_checkpoint_does_not_let_the_wal_start_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.db");
    let app = writer(&path);
    let mut capture = captured(&path);
    insert(&app, limits::TURN_FRAMES as usize);
    while capture.guard.in_cruise() {
        assert!(capture.look(Instant::now()).unwrap().more, "a turn is due");
    }
    app.execute_batch("PRAGMA wal_checkpoint(PASSIVE)").unwrap();
    assert!(capture.db.shm().checkpoint_info().n_backfill >= capture.tail.last(), "CKPT is free");
    insert(&app, 1);
    assert_eq!(capture.db.shm().header().unwrap().salts, capture.tail.salts());
}

/// At the end of a turn, for a moment no lock is held. One restart of the WAL in it can be proven.
/// With two of them, the commits between are nowhere to be read.
#[test]
fn a_restart_of_the_wal_without_locks_is_proven_or_a_loss() {
    for (restarts, counts) in [(1, true), (2, true), (1, false), (2, false)] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.db");
        let app = writer(&path);
        // What follows the captured frames is older than they are.
        insert(&app, 50);
        app.execute_batch("PRAGMA wal_checkpoint(RESTART)").unwrap();
        let mut capture = captured(&path);
        insert(&app, 3);
        assert!(look(&mut capture).captured);
        capture.padded = !counts;
        capture.guard.enter_cruise();
        (1..=4).map(lock_read).chain([LOCK_CKPT]).for_each(|lock| capture.db.shm().unlock(lock).unwrap());
        for _ in 0..restarts {
            app.execute_batch("PRAGMA wal_checkpoint(RESTART)").unwrap();
            insert(&app, 1);
        }
        capture.db.shm().lock_blocking(LOCK_CKPT, LockKind::Exclusive).unwrap();
        capture.state = State::Closing(Closing::Prove);
        look(&mut capture);
        assert_eq!(capture.is_lost(), restarts == 2, "{restarts} restarts, {counts}: {:?}", capture.state);
    }
}

/// Readers of the database that come one after the other, each before the last one has ended, would
/// keep the WAL from ever starting over.
#[tokio::test]
async fn no_further_pin_joins_one_that_holds_back_a_large_wal() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.db");
    let app = Connection::open(&path).unwrap();
    app.execute_batch(
        "PRAGMA page_size=65536; PRAGMA journal_mode=wal; PRAGMA wal_autocheckpoint=0; CREATE TABLE t(x)",
    )
    .unwrap();
    let mut capture = captured(&path);
    let handoff = Rc::clone(&capture.handoff);
    let (pin, _) = tokio::join!(handoff.pin(), async { look(&mut capture) });
    let joins = |capture: &mut Capture| {
        let mut wanted = Box::pin(handoff.pin());
        let waker = &mut std::task::Context::from_waker(std::task::Waker::noop());
        assert!(wanted.as_mut().poll(waker).is_pending());
        look(capture);
        wanted.as_mut().poll(waker).is_ready()
    };
    assert!(joins(&mut capture), "the WAL is short");
    let rows = limits::WAL_REPORT_BYTES / 65536 + 1;
    app.execute_batch("BEGIN").unwrap();
    for _ in 0..rows {
        app.execute("INSERT INTO t VALUES(zeroblob(64000))", []).unwrap();
    }
    app.execute_batch("COMMIT").unwrap();
    while capture.look(Instant::now()).unwrap().more {}
    assert!(!joins(&mut capture));
    drop(pin);
}

/// No checkpoint copies anything while the wal-index says that more is copied than the WAL has.
#[test]
fn a_count_of_copied_frames_beyond_the_end_of_the_wal_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.db");
    let app = writer(&path);
    insert(&app, 1_100);
    let mut capture = captured(&path);
    let mx = capture.db.shm().header().unwrap().mx_frame;
    // Closing this descriptor would drop the locks of `app`.
    let shm =
        ManuallyDrop::new(std::fs::OpenOptions::new().write(true).open(sibling(&path, "-shm")).unwrap());
    shm.write_all_at(&(mx.0 + 7).to_ne_bytes(), CHECKPOINT_OFFSET as u64).unwrap();
    look(&mut capture);
    assert!(capture.db.shm().header().is_err(), "SQLite rebuilds the wal-index");
}

/// While locks of ours are on the old wal-index, an application that begins the database anew under
/// its name gets errors.
#[test]
fn all_locks_are_released_when_the_path_names_another_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.db");
    let app = writer(&path);
    let mut capture = captured(&path);
    insert(&app, 1);
    look(&mut capture);
    let other = ManuallyDrop::new(Shm::open(&sibling(&path, "-shm")).unwrap());
    let held = || (LOCK_CKPT..=lock_read(4)).any(|lock| other.held_by_other(lock).unwrap());
    assert!(held());
    capture.leave();
    assert!(!held());
}

/// What was committed after a loss was not stored, and reading at the old place failed until the
/// time for the last commits was over.
#[tokio::test]
async fn a_removed_database_is_compared_where_its_commits_are_not_proven() {
    for lost in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.db");
        let app = writer(&path);
        let mut capture = captured(&path);
        if lost {
            capture.lose("a test", Instant::now());
        } else {
            // A turn ends, and nobody has proven yet what came in the moment without a lock.
            insert(&app, limits::TURN_FRAMES as usize);
            look(&mut capture);
            app.execute_batch("PRAGMA wal_checkpoint(PASSIVE)").unwrap();
            let &mut Phase::Turn { slot, .. } = capture.phase() else { panic!("{:?}", capture.guard) };
            capture.db.shm().unlock(lock_read(slot)).unwrap();
            *capture.phase() = Phase::Closing { work: tokio::task::spawn_blocking(|| Ok(None)), soft: false };
        }
        insert(&app, 3);
        for name in ["app.db", "app.db-wal", "app.db-shm"] {
            std::fs::remove_file(dir.path().join(name)).unwrap();
        }
        let header = capture.db.shm().header().unwrap();
        assert!(lost || header.salts != capture.tail.salts(), "the WAL has started over");
        capture.leave();
        let mark = capture.handoff.mark();
        assert_eq!((mark.pos.frame, mark.change), (header.mx_frame, header.change), "lost before: {lost}");
        assert!(capture.handoff.slot(0, |slot| slot.gap.is_some()), "page hashes are compared");
    }
}
