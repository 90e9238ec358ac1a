//! Whether the replica still is what was stored there.
//!
//! # What is checked, and when
//!
//! At the start, and whenever there is reason to doubt, the replica is listed and
//! [`resume::decide`] judges what lies at the durable point. In between it is one small request:
//! the header of the object at the durable point, whose print is known.
//!
//! - Before the next upload after an outage, after the process was stopped (SIGSTOP, a suspended
//!   host), and after [`PAUSE`] without uploads. The upload waits for the answer: it must not be
//!   put on top of another history.
//! - Next to uploads, each [`limits::LINEAGE_EVERY`] at most: of the durable point, of the newest
//!   image, and in turns of the last file of a level. The uploads do not wait for these.
//!
//! A replica without uploads makes no request. What is found is logged, and the replica begins
//! again as at the start of the process: with the WAL, with a comparison, or with an image.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::error::ReplicaError;
use super::keep::Background;
use super::pipeline::Replica;
use super::resume;
use super::resume::RemoteError;
use crate::base::limits;
use crate::replicate::fleet::sweep::Pauses;

/// Time without an upload after which the next one waits for a check.
const PAUSE: Duration = limits::LINEAGE_EVERY;

/// What a replica knows of its being the one that it was.
pub struct Vigil {
    /// The object of the durable point is ours, as far as was known last. Not before the first
    /// upload after another history was met.
    armed: bool,
    /// The store was unreachable: the next upload waits for a check.
    outage: bool,
    pauses: Pauses,
    seen_pauses: u64,
    uploaded: Instant,
    checked: Instant,
    every: Duration,
    turn: usize,
    /// What a check next to uploads has found.
    found: Rc<RefCell<Option<String>>>,
    check: Background,
}

impl Vigil {
    /// `first_level`: the interval of the first level; what is compacted that often is checked that
    /// often.
    pub fn new(pauses: Pauses, first_level: Option<Duration>) -> Vigil {
        let every = first_level.unwrap_or(limits::LINEAGE_EVERY);
        let now = Instant::now();
        Vigil {
            armed: false,
            outage: false,
            seen_pauses: pauses.count(),
            pauses,
            uploaded: now,
            checked: now,
            every: every.clamp(limits::LINEAGE_EVERY_MIN, limits::LINEAGE_EVERY),
            turn: 0,
            found: Rc::default(),
            check: Background::none(),
        }
    }

    /// The store did not answer.
    pub(super) fn outage(&mut self) {
        self.outage = true;
    }

    /// The durable point is known to be ours from here on; what was found before speaks of another
    /// one.
    pub(super) fn arm(&mut self) {
        let now = Instant::now();
        (self.armed, self.outage) = (true, false);
        (self.uploaded, self.checked) = (now, now);
        self.seen_pauses = self.pauses.count();
    }

    /// An upload was answered.
    pub(super) fn uploaded(&mut self) {
        self.uploaded = Instant::now();
        if !self.armed {
            self.arm();
        }
    }

    /// Nothing is known.
    pub(super) fn disarm(&mut self) {
        self.armed = false;
        self.check = Background::none();
        self.found.borrow_mut().take();
    }

    fn must_wait(&mut self) -> bool {
        let pauses = self.pauses.count();
        let paused = std::mem::replace(&mut self.seen_pauses, pauses) != pauses;
        self.armed && (self.outage || paused || self.uploaded.elapsed() >= PAUSE)
    }
}

impl Replica {
    /// Before an upload: makes sure that it continues what was stored, if there is reason to doubt
    /// it.
    ///
    /// # Errors
    /// [`ReplicaError::Doubt`] if it does not.
    pub(super) async fn still_ours(&mut self) -> Result<(), ReplicaError> {
        if let Some(reason) = self.vigil.found.borrow_mut().take() {
            return Err(ReplicaError::Doubt(reason));
        }
        if self.vigil.must_wait() {
            let reason = loop {
                let begun = Instant::now();
                match resume::confirm(&*self.store, &self.local.state().durable).await {
                    Ok(reason) => break reason,
                    Err(RemoteError::Store(e)) => self.wait_out(e, begun).await?,
                    Err(e) => return Err(e.into()),
                }
            };
            self.works();
            if let Some(reason) = reason {
                return Err(ReplicaError::Doubt(reason));
            }
            self.vigil.arm();
        } else if self.vigil.armed && self.vigil.checked.elapsed() >= self.vigil.every {
            self.check_aside();
        }
        Ok(())
    }

    /// Checks the durable point and one file that a restore needs, next to the uploads.
    fn check_aside(&mut self) {
        let vigil = &mut self.vigil;
        (vigil.checked, vigil.turn) = (Instant::now(), vigil.turn + 1);
        let files = self.history.needed(vigil.turn);
        let (store, durable) = (Arc::clone(&self.store), self.local.state().durable);
        let (found, board, index) = (Rc::clone(&vigil.found), Rc::clone(&self.board), self.index);
        vigil.check = Background::spawn(async move {
            let mut reason = resume::confirm(&*store, &durable).await.ok().flatten();
            for id in files {
                if reason.is_none() && matches!(store.head(id).await, Ok(None)) {
                    reason = Some(format!("{id}, which was stored, is not there any more"));
                }
            }
            if reason.is_some() {
                *found.borrow_mut() = reason;
                board.wake(index);
            }
        });
    }

    /// Whether a check next to uploads has found something.
    pub(super) fn is_doubted(&self) -> bool {
        self.vigil.found.borrow().is_some()
    }
}
