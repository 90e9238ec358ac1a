//! Copies the last frames of the WAL into the database file while no transaction can begin, so
//! that the next commit starts the WAL over.
//!
//! # Why
//!
//! The WAL starts over only if all of it is in the database file when a write begins. A checkpoint
//! takes two flushes of the disk. Where commits follow one another faster than that, the checkpoint
//! always leaves a rest, and the WAL grows without end.
//!
//! # Locks
//!
//! The guard holds CKPT throughout, so there is no other checkpoint (I2). [`arm`] takes READ(0) to
//! READ(4) exclusively, as a RESTART checkpoint takes READ(1) to READ(4). Each transaction holds
//! one of them from its beginning to its end. If all can be taken, no transaction is under way, and
//! one that wants to begin waits.
//!
//! SQLite takes this for another connection that changes a read mark. It tries again after some
//! microseconds, and then at growing intervals for up to ten seconds. It does not use the busy
//! handler, and does not return `SQLITE_BUSY`. WRITE is not taken: without a busy timeout, a writer
//! would get an error.
//!
//! # Order of the steps
//!
//! As in any checkpoint the WAL is flushed before the database file is written to, and the database
//! file before nBackfill is published. A crash at any point leaves the frames in the WAL.
//!
//! # Time
//!
//! Nearly all of the time is that of the flushes. After [`HOLD_MAX`] another thread releases the
//! locks, and nothing is published. The pages that were written by then are those of committed
//! frames, which readers still find in the WAL.

use std::io;
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use super::database::Database;
use super::pace::ARM_FRAMES;
use crate::base::FrameNo;
use crate::base::pages::PageSet;
use crate::io::urgently;
use crate::wal::format::{self, FrameHeader};
use crate::wal::index::{READ_SLOTS, WalIndexHeader, lock_read};
use crate::wal::shm::{LockKind, Shm};
use crate::wal::tail::Ahead;

/// How long transactions may be kept from beginning.
const HOLD_MAX: Duration = Duration::from_millis(20);

/// How long the locks are tried. Meanwhile transactions may still begin.
const TRY_MAX: Duration = Duration::from_millis(2);

/// Wait between two attempts to take a lock.
const TRY_AGAIN: Duration = Duration::from_micros(50);

/// Most frames that are copied. More than this came since lsfast began.
const FRAMES_MAX: u32 = 2 * ARM_FRAMES;

/// Most frames that are committed between the last look of capture and the taking of the locks.
const AHEAD_FRAMES: u32 = 1_000;

/// READ(0) to READ(4), held exclusively. They can be released only once.
struct Held<'a> {
    shm: &'a Shm,
    held: Mutex<bool>,
}

impl<'a> Held<'a> {
    /// Takes all five. `None`, with none of them held, if a transaction is under way.
    fn take(shm: &'a Shm) -> io::Result<Option<Held<'a>>> {
        let held = Held { shm, held: Mutex::new(true) };
        let give_up = Instant::now() + TRY_MAX;
        for slot in (0..READ_SLOTS).rev() {
            while !shm.try_lock(lock_read(slot), LockKind::Exclusive)? {
                if Instant::now() >= give_up {
                    return Ok(None);
                }
                std::thread::sleep(TRY_AGAIN);
            }
        }
        Ok(Some(held))
    }

    /// Runs `publish` if the locks are still held, then releases them. Whether it ran.
    fn release(&self, publish: impl FnOnce() -> io::Result<()>) -> io::Result<bool> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::mem::replace(&mut *held, false) {
            return Ok(false);
        }
        let published = publish();
        for slot in 0..READ_SLOTS {
            self.shm.unlock(lock_read(slot))?;
        }
        published.map(|()| true)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Err(e) = self.release(|| Ok(())) {
            tracing::debug!(error = %e, "releasing the read locks failed");
        }
    }
}

/// With CKPT held and everything captured up to `captured`: copies the last frames, at most
/// [`FRAMES_MAX`], while no transaction can begin. Copies nothing if one is under way.
/// Returns the WAL's content after the captured frames, read before a write could begin.
///
/// # Errors
/// Any I/O error. Nothing is published then.
pub(super) fn arm(db: &Database, captured: FrameNo) -> io::Result<Option<Ahead>> {
    // Most of the work of the flush, while nothing is held up. The second has what was committed
    // during the first.
    db.wal().sync_data()?;
    db.wal().sync_data()?;
    let (begun, ended) = mpsc::channel::<()>();
    let Some(held) = urgently(|| Held::take(db.shm()))? else { return Ok(None) };
    let held = &held;
    std::thread::scope(|threads| {
        let since = Instant::now();
        std::thread::Builder::new().spawn_scoped(threads, move || {
            if ended.recv_timeout(HOLD_MAX) == Err(mpsc::RecvTimeoutError::Timeout) {
                _ = held.release(|| Ok(()));
            }
        })?;
        let result = copy(db, captured, held);
        drop(begun);
        // With an error, too, the locks are released before the thread of the loop is told.
        _ = held.release(|| Ok(()));
        tracing::trace!(
            db = %db.path().display(),
            us = since.elapsed().as_micros(),
            armed = result.as_ref().is_ok_and(|(armed, _)| *armed),
            "copied the last frames while no transaction could begin"
        );
        result.map(|(_, ahead)| ahead)
    })
}

fn copy(db: &Database, captured: FrameNo, held: &Held<'_>) -> io::Result<(bool, Option<Ahead>)> {
    let (shm, page_size) = (db.shm(), db.page_size());
    let Ok(header) = shm.header() else { return Ok((false, None)) };
    let (from, to) = (shm.checkpoint_info().n_backfill, header.mx_frame);
    let uncaptured = to.0.saturating_sub(captured.0);
    if from >= to || captured < from || to.0 - from.0 > FRAMES_MAX || uncaptured > AHEAD_FRAMES {
        return Ok((false, None));
    }
    // I2: no write is under way, so these bytes are still those of the present generation. They
    // are captured from memory if the next write starts the WAL over before capture has read them.
    let ahead = Ahead::read(
        db.wal(),
        page_size,
        captured,
        (uncaptured as usize + 1) * format::frame_bytes(page_size),
    )?;
    shm.note_attempt(to)?;
    if uncaptured > 0 {
        db.wal().sync_data()?;
    }
    if !write_pages(db, &header, from)? {
        return Ok((false, Some(ahead)));
    }
    let bytes = u64::from(header.n_page) * page_size.bytes() as u64;
    if db.file().len()? != bytes {
        db.file().set_len(bytes)?;
    }
    db.file().sync_data()?;
    let armed = held.release(|| shm.publish_backfilled(to))?;
    Ok((armed, Some(ahead)))
}

/// Writes the last image of each page in the frames after `from` to the database file. `false`,
/// perhaps after some pages, if a frame is not one of the present generation.
fn write_pages(db: &Database, header: &WalIndexHeader, from: FrameNo) -> io::Result<bool> {
    let page_size = db.page_size();
    let mut bytes = vec![0; (header.mx_frame.0 - from.0) as usize * format::frame_bytes(page_size)];
    db.wal().pread_exact(&mut bytes, format::frame_end(page_size, from))?;
    let mut done = PageSet::default();
    for frame in bytes.chunks_exact(format::frame_bytes(page_size)).rev() {
        let Some((head, page)) = frame.split_first_chunk() else { return Ok(false) };
        let head = FrameHeader::parse(head);
        let Some(pgno) = head.pgno.filter(|_| head.salts == header.salts) else { return Ok(false) };
        if pgno.get() <= header.n_page && !done.contains(pgno) {
            done.insert(pgno);
            db.file().pwrite_all(page, u64::from(pgno.get() - 1) * page_size.bytes() as u64)?;
        }
    }
    Ok(true)
}

#[cfg(test)]
#[path = "arm_tests.rs"]
mod tests;
