//! What capture knows of one database.
//!
//! # State
//!
//! [`State`] says what is proven of the position in the WAL:
//!
//! | from | to | when |
//! |---|---|---|
//! | `Following` | `Closing` | the guard is in cruise again after a turn, a round or a checkpoint |
//! | `Closing` | `Following` | everything is captured; for `Prove`, also the proof succeeded |
//! | `Following`, `Closing` | `Lost` | the proof failed, a frame cannot be proven, or another program wrote to the file |
//! | `Lost` | `Closing(Held)` | capture has entered the WAL again, in cruise |
//!
//! In cruise the guard holds CKPT, or READ(0) in place of it.
//!
//! On each way into `Lost` the replicas are told to compare page hashes.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use super::taken::Taken;
use crate::base::{FrameNo, Salts};
use crate::replicate::handoff::{Handoff, Near};
use crate::replicate::pending::{Mark, OpenPages, PgnoSet};
use crate::sqlite::database::{Database, Stamp};
use crate::sqlite::guard::Guard;
use crate::wal::frames::Chain;
use crate::wal::tail::{Ahead, Tail, WalPos};

/// What is proven of the position in the WAL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// Every commit up to the position was taken.
    Following,
    /// The guard is in cruise again after a turn, a round or a checkpoint.
    Closing(Closing),
    /// The position is not proven, for this reason. Nothing is taken until capture has entered the
    /// WAL again.
    Lost(String),
}

/// What has to be done once the guard is in cruise again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Closing {
    /// READ(k) was held throughout, so nothing has to be proven. Release it when everything is
    /// captured.
    Held,
    /// For a moment no lock was held: prove that nothing was missed.
    Prove,
}

/// Frames in the present generation of the WAL that cannot be proven.
#[derive(Debug, Clone, Copy)]
pub(super) struct Damage {
    pub(super) salts: Salts,
    /// The last of these frames.
    pub(super) to: FrameNo,
    pub(super) since: Instant,
    pub(super) logged: bool,
}

/// The damage met so far, in this and earlier generations.
#[derive(Debug, Default)]
pub(super) struct Damages {
    pub(super) present: Option<Damage>,
    pub(super) logged_at: Option<Instant>,
}

/// What is known of the database file in cruise, when no program may write to it.
#[derive(Debug, Default)]
pub(super) struct Edits {
    pub(super) stamp: Option<Stamp>,
    /// When a file of which only the inode has changed is to be compared.
    pub(super) touched_due: Option<Instant>,
    /// When that was last done.
    pub(super) touched_at: Option<Instant>,
    /// The stop was requested: such a file is compared once more, however short the time.
    pub(super) last_chance: Option<bool>,
    pub(super) stamped_at: Option<Instant>,
    /// When the latest change by another program was noticed; `None` if there was none, or it is
    /// settled.
    pub(super) edited_at: Option<Instant>,
    pub(super) said_at: Option<Instant>,
}

/// What is known of the wal-index.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// When to check again a wal-index that was found damaged.
    pub(super) check_at: Option<Instant>,
    pub(super) reported: Option<Instant>,
}

/// The capture of one database.
#[derive(Debug)]
pub struct Capture {
    pub(super) state: State,
    pub(super) db: Arc<Database>,
    pub(super) tail: Tail,
    pub(super) guard: Guard,
    pub(super) handoff: Rc<Handoff>,
    pub(super) taken: Taken,
    /// A transaction that was read, verified and copied before it was published, and the chain at
    /// its end.
    pub(super) near: Option<(Near, Chain)>,
    /// Start of an unpublished transaction of more than `PEEK_FRAMES` frames.
    pub(super) long: Option<WalPos>,
    /// What followed the captured frames at the end of the turn that is to be proven.
    pub(super) ahead: Option<Ahead>,
    /// A writer pads the WAL, so that the count of commits proves nothing.
    pub(super) padded: bool,
    /// A recovery restarted SQLite's count: adopt it when everything is captured.
    pub(super) recount: bool,
    /// SQLite's count of commits at the last look.
    pub(super) seen_change: u32,
    pub(super) damaged_since: Option<Instant>,
    pub(super) damage_reported: Option<Instant>,
    pub(super) read_tries: u32,
    pub(super) damages: Damages,
    pub(super) last_change: Instant,
    /// Turns since a pin was requested.
    pub(super) turns_before_pin: u32,
    pub(super) edits: Edits,
    pub(super) index: Index,
}

impl Capture {
    /// Continues from a tail that is positioned at a captured commit, `mark`, with CKPT held.
    #[must_use]
    pub fn new(
        db: Arc<Database>,
        tail: Tail,
        guard: Guard,
        handoff: Rc<Handoff>,
        mark: Mark,
        now: Instant,
    ) -> Capture {
        handoff.set_mark(mark);
        Capture {
            state: State::Following,
            db,
            tail,
            guard,
            taken: Taken {
                handoff: Rc::clone(&handoff),
                open: OpenPages::default(),
                seen: PgnoSet::default(),
                commits: 0,
                count_base: mark.change,
                by_index: mark.by_index,
            },
            handoff,
            near: None,
            long: None,
            ahead: None,
            padded: false,
            recount: false,
            seen_change: mark.change,
            damaged_since: None,
            damage_reported: None,
            read_tries: 0,
            damages: Damages::default(),
            last_change: now,
            turns_before_pin: 0,
            edits: Edits::default(),
            index: Index::default(),
        }
    }

    pub(super) fn is_lost(&self) -> bool {
        matches!(self.state, State::Lost(_))
    }

    pub(super) fn is_closing(&self) -> bool {
        matches!(self.state, State::Closing(_))
    }

    /// Whether equal counts of commits prove something: not with a writer that pads the WAL, and
    /// after a recovery only once everything is captured.
    pub(super) fn counts(&self) -> bool {
        !self.padded && !self.recount
    }

    /// The guard is in cruise again. A lost position stays lost.
    pub(super) fn close(&mut self, closing: Closing) {
        if !self.is_lost() {
            self.state = State::Closing(closing);
        }
    }
}
