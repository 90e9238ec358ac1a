use std::mem::ManuallyDrop;
use std::os::unix::fs::FileExt as _;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::base::limits;
use crate::replicate::capture::look::tests::{captured, finish, insert, look, writer};
use crate::replicate::capture::state::Capture;
use crate::sqlite::database::sibling;
use crate::sqlite::guard::Phase;

const MODES: [&str; 4] = ["PASSIVE", "FULL", "RESTART", "TRUNCATE"];

/// What `PRAGMA wal_checkpoint` returns without a busy timeout: busy, frames in the WAL, frames
/// copied.
fn checkpoint(app: &Connection, mode: &str) -> (i64, i64, i64) {
    app.busy_timeout(Duration::ZERO).unwrap();
    let row = |r: &rusqlite::Row<'_>| Ok((r.get(0)?, r.get(1)?, r.get(2)?));
    app.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], row).unwrap()
}

/// A capture in cruise, all of whose WAL the application has copied.
fn copied(app: &Connection, path: &std::path::Path) -> Capture {
    let mut capture = captured(path);
    insert(app, 5);
    look(&mut capture);
    assert!(capture.guard.is_early(), "a checkpoint may come at any time");
    let (busy, frames, copied) = checkpoint(app, "PASSIVE");
    assert_eq!((busy, frames), (0, copied));
    look(&mut capture);
    assert!(capture.guard.in_cruise() && capture.is_settled());
    capture
}

/// CKPT was held as soon as all of the WAL was copied, and each further checkpoint failed.
#[tokio::test]
async fn a_checkpoint_of_a_copied_wal_succeeds_and_a_new_commit_waits_for_capture() {
    for mode in MODES {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.db");
        let app = writer(&path);
        let mut capture = copied(&app, &path);
        let salts = capture.tail.salts();
        for mode in MODES {
            assert_eq!(checkpoint(&app, mode).0, 0, "{mode}");
        }
        // I2: the WAL has started over. It cannot be copied, and so not start over again, before
        // lsfast has looked.
        insert(&app, 3);
        let (_, frames, copied) = checkpoint(&app, mode);
        assert!(frames > 0 && copied == 0, "{mode}: {copied} of {frames}");
        insert(&app, 3);
        let header = capture.db.shm().header().unwrap();
        assert!(header.salts != salts && header.mx_frame.0 >= 12, "{header:?}");
        look(&mut capture);
        assert!(!capture.is_lost() && capture.guard.is_early(), "{:?}", capture.state);
        assert_eq!(capture.taken.change(), header.change, "each commit is captured");
        let (busy, frames, copied) = checkpoint(&app, "PASSIVE");
        assert_eq!((busy, frames), (0, copied), "from now on it can be copied");
        // I2: but it does not start over.
        insert(&app, 1);
        assert_eq!(capture.db.shm().header().unwrap().salts, header.salts);
    }
}

/// A commit reset the WAL after the look that found it copied. A turn began with what that look had
/// found, and the reset counted as a loss.
#[tokio::test]
async fn a_reset_after_the_look_is_followed_before_a_turn_begins() {
    for hard in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.db");
        let app = writer(&path);
        let mut capture = copied(&app, &path);
        if hard {
            assert!(capture.guard.harden().unwrap());
        }
        let seen = capture.db.shm().header().unwrap();
        insert(&app, 3);
        assert_ne!(capture.db.shm().header().unwrap().salts, seen.salts, "it has started over");
        let moved = capture.guard.maybe_turn(seen.mx_frame, false, Instant::now()).unwrap();
        assert!(capture.guard.in_cruise(), "{moved}: {:?}", capture.guard);
        look(&mut capture);
        assert!(!capture.is_lost() && capture.guard.is_early(), "{:?}", capture.state);
    }
}

/// CKPT is released in an empty WAL, too.
#[tokio::test]
async fn a_commit_to_an_empty_wal_waits_for_capture() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.db");
    let app = writer(&path);
    app.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    let mut capture = captured(&path);
    look(&mut capture);
    for mode in MODES {
        assert_eq!(checkpoint(&app, mode).0, 0, "{mode}");
    }
    look(&mut capture);
    insert(&app, 3);
    let (_, frames, copied) = checkpoint(&app, "PASSIVE");
    assert!(frames > 0 && copied == 0, "{copied} of {frames}");
    look(&mut capture);
    assert!(!capture.is_lost() && capture.guard.is_early(), "{:?}", capture.state);
    assert_eq!(checkpoint(&app, "PASSIVE").0, 0);
}

/// A page of the database file is read under a pin, for which CKPT is held again.
#[tokio::test]
async fn a_pin_takes_the_checkpoint_lock_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.db");
    let app = writer(&path);
    let mut capture = copied(&app, &path);
    let handoff = Rc::clone(&capture.handoff);
    let (pin, _) = tokio::join!(handoff.pin(), async { look(&mut capture) });
    assert!(pin.is_some());
    assert_eq!(checkpoint(&app, "PASSIVE").0, 1, "not while the file is read");
    drop(pin);
    look(&mut capture);
    assert_eq!(checkpoint(&app, "PASSIVE").0, 0);
}

/// A busy writer gets its turns when they are due: an early one would cost it, and lsfast, calls
/// that it does not need.
#[tokio::test]
async fn after_a_turn_that_was_due_the_checkpoint_lock_is_held_for_a_moment() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.db");
    let app = writer(&path);
    let mut capture = captured(&path);
    for turn in 0..3 {
        insert(&app, limits::TURN_FRAMES as usize);
        look(&mut capture);
        assert!(!capture.guard.in_cruise() && !capture.guard.is_early());
        checkpoint(&app, "PASSIVE");
        let now = Instant::now();
        look(&mut capture);
        finish(&mut capture).await;
        insert(&app, 1);
        while capture.look(now).unwrap().more {}
        assert!(capture.guard.in_cruise() && capture.deadline().is_some(), "{turn}: {:?}", capture.guard);
        while capture.look(now + Duration::from_secs(60)).unwrap().more {}
        assert!(capture.guard.is_early(), "{turn}: {:?}", capture.guard);
    }
    assert!(!capture.is_lost());
}

/// SQLite rebuilds a damaged wal-index itself while CKPT is free. Its count of commits begins again
/// then, and says nothing about those before.
#[tokio::test]
async fn a_wal_index_that_the_application_rebuilds_begins_a_new_count() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.db");
    let app = writer(&path);
    let mut capture = captured(&path);
    insert(&app, 50);
    look(&mut capture);
    assert!(capture.guard.is_early());
    let before = capture.db.shm().header().unwrap().change;
    // Closing this descriptor would drop the locks of `app`.
    let shm =
        ManuallyDrop::new(std::fs::OpenOptions::new().write(true).open(sibling(&path, "-shm")).unwrap());
    shm.write_all_at(&[0; 96], 0).unwrap();
    insert(&app, 1);
    assert!(capture.db.shm().header().unwrap().change < before, "SQLite has rebuilt it");
    look(&mut capture);
    assert!(!capture.is_lost(), "{:?}", capture.state);
    let header = capture.db.shm().header().unwrap();
    assert_eq!(capture.taken.change(), header.change, "the count is that of the new wal-index");
}

/// A writer that has to wait for a processor between the two copies of the header counted as dead,
/// with a warning.
#[tokio::test]
async fn a_header_that_is_being_published_is_not_damaged() {
    for ending in ["COMMIT", "ROLLBACK"] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.db");
        let app = writer(&path);
        let mut capture = captured(&path);
        insert(&app, 5);
        look(&mut capture);
        app.execute_batch("BEGIN IMMEDIATE; INSERT INTO t VALUES (1)").unwrap();
        // Closing this descriptor would drop the locks of `app`.
        let shm =
            ManuallyDrop::new(std::fs::OpenOptions::new().write(true).open(sibling(&path, "-shm")).unwrap());
        shm.write_all_at(&[0; 48], 48).unwrap();
        let now = Instant::now();
        for ms in [0, 10, 90] {
            capture.look(now + Duration::from_millis(ms)).unwrap();
            assert!(capture.guard.is_early(), "{ms}: {:?}", capture.guard);
        }
        app.execute_batch(ending).unwrap();
        capture.look(now + Duration::from_millis(91)).unwrap();
        let is_healing = matches!(capture.phase(), Phase::Healing { .. });
        assert_eq!(is_healing, ending == "ROLLBACK", "{:?}", capture.guard);
        finish(&mut capture).await;
        look(&mut capture);
        assert!(!capture.is_lost() && capture.db.shm().header().is_ok());
    }
}

/// A writer without a pause made one turn due after the other, and the stop waited until its time
/// was over.
#[tokio::test]
async fn a_stop_begins_no_turn() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.db");
    let app = writer(&path);
    for stopping in [false, true] {
        let mut capture = captured(&path);
        capture.is_last_chance(stopping);
        insert(&app, limits::TURN_FRAMES as usize + 10);
        look(&mut capture);
        assert_eq!(capture.settles(Instant::now()), stopping);
    }
}
