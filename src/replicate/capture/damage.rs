//! Frames that are published but cannot be proven, and how lsfast disposes of them.
//!
//! # Overview
//!
//! SQLite relies on the wal-index and does not check the frames that it names: readers and
//! checkpoints take a frame whatever its salts and checksum are. SQLite 3.40 writes some frames
//! with neither (a savepoint that spilled, `ROLLBACK TO`, `COMMIT`), and a disk can change bytes.
//!
//! # Failure and crash
//!
//! Until the WAL starts over, a recovery after a crash ends before the first such frame. All
//! commits from there on would be lost, and older frames would hide newer pages of the database
//! file. So capture neither waits for such a frame nor holds anything back for it:
//!
//! 1. A checkpoint of lsfast's own copies all frames into the database file immediately, under
//!    READ(k). Readers with a pin give way ([`Handoff::void_pins_once`]).
//! 2. Capture continues at the position that the wal-index publishes, whose checksum proves the
//!    next frame. Replicas compare page hashes.
//! 3. The next commit starts the WAL over, because all of it is in the database file. If none
//!    comes, lsfast truncates the WAL.
//!
//! [`Handoff::void_pins_once`]: crate::replicate::handoff::Handoff::void_pins_once

use std::time::{Duration, Instant};

use super::outcome::Look;
use super::state::{Capture, Damage, Damages, State};
use crate::wal::index::WalIndexHeader;
use crate::wal::tail::TailError;

/// How often frames that cannot be read as published are read again before they count as damaged.
pub(in crate::replicate) const READ_TRIES: u32 = 5;

/// Damage within this time after the last logged one is not logged.
const LOG_AGAIN: Duration = Duration::from_secs(60);

impl Damages {
    /// Whether the present generation has frames that cannot be proven.
    pub(super) fn any(&self) -> bool {
        self.present.is_some()
    }

    fn is_in(&self, header: &WalIndexHeader) -> bool {
        self.present.is_some_and(|d| d.salts == header.salts && d.to <= header.mx_frame)
    }
}

impl Capture {
    /// Handles an error of reading or proving published frames.
    pub(super) fn unreadable(
        &mut self,
        e: TailError,
        header: &WalIndexHeader,
        now: Instant,
    ) -> Result<Look, TailError> {
        if !e.is_damage() {
            return Err(e);
        }
        self.read_tries += 1;
        // A reset between the look at the wal-index and the reading has the same effect; the next
        // look sees it.
        if self.read_tries >= READ_TRIES && !self.guard.is_open() {
            self.read_tries = 0;
            let other = matches!(e, TailError::Salts { .. } | TailError::Header(_));
            if other && self.forget_index("it describes another WAL", now)? {
                return Ok(Look { near: true, ..Look::default() });
            }
            self.meet(&e.to_string(), header, now)?;
        }
        Ok(Look { near: true, ..Look::default() })
    }

    /// Handles damage: the frames up to mxFrame cannot be proven.
    fn meet(&mut self, reason: &str, header: &WalIndexHeader, now: Instant) -> Result<(), TailError> {
        self.note_damage(reason, header, now);
        self.state = State::Lost(reason.to_owned());
        self.taken.open.clear();
        self.near = None;
        self.last_change = now;
        self.handoff.lose(reason);
        self.end_early_turn(now)?;
        if self.guard.in_cruise() && self.handoff.void_pins_once() {
            self.guard.copy_now(header.mx_frame)?;
        }
        Ok(())
    }

    /// Notes damage that was found when the WAL was opened. A checkpoint must copy everything up to
    /// the header's mxFrame.
    pub fn opened_damaged(&mut self, reason: &str, header: &WalIndexHeader, now: Instant) {
        self.note_damage(reason, header, now);
    }

    fn note_damage(&mut self, reason: &str, header: &WalIndexHeader, now: Instant) {
        let before = self.damages.present.take();
        let logged = self.damages.logged_at.is_none_or(|at| now.duration_since(at) >= LOG_AGAIN);
        if logged {
            self.damages.logged_at = Some(now);
            tracing::warn!(
                db = %self.db.path().display(),
                reason,
                "frames of the WAL can't be proven: SQLite wrote them without a checksum, or the disk changed them; \
                 moving them to the database file at once and comparing page hashes"
            );
        }
        let logged = logged || before.is_some_and(|d| d.logged);
        let since = before.map_or(now, |d| d.since);
        self.damages.present = Some(Damage { salts: header.salts, to: header.mx_frame, since, logged });
        self.handoff.wal_damaged(reason);
        self.guard.must_copy(header.mx_frame);
    }

    /// Ends damage with its generation of the WAL, or with a recovery that ended before it.
    pub(super) fn end_damage(&mut self, header: &WalIndexHeader) {
        let Some(damage) = self.damages.present.filter(|_| !self.damages.is_in(header)) else { return };
        self.damages.present = None;
        self.guard.need_not_copy();
        self.handoff.wal_sound();
        if damage.logged {
            let ms = damage.since.elapsed().as_millis();
            tracing::info!(db = %self.db.path().display(), ms, "the WAL is sound again: the frames that could not be proven are in the database file");
        }
    }

    /// Whether to truncate the WAL as soon as it is idle, whatever its size.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.damages.any()
    }
}
