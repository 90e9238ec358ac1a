//! Checks that the replica still holds what was stored there.
//!
//! # What is checked, and when
//!
//! At the start, and whenever there is reason for doubt, the pipeline lists the replica, and
//! [`resume::decide`] judges the object at the durable point. In between, a check is one small
//! request: for the header of the object at the durable point, whose print is known.
//!
//! - Before the next upload after an outage, after the process was stopped (SIGSTOP, a suspended
//!   host), and after [`PAUSE`] without uploads. The upload waits for the answer, so that it does
//!   not continue another history.
//! - Next to uploads, at most every [`limits::LINEAGE_EVERY`]: the durable point, the newest image,
//!   and in turn the last file of each level. The uploads do not wait for these.
//!
//! A replica without uploads makes no request. If a check fails, the reason is logged, and the
//! replica begins again as at the start of the process: from the WAL, with a comparison, or with an
//! image.

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

/// Time without an upload after which the next upload waits for a check.
const PAUSE: Duration = limits::LINEAGE_EVERY;

/// What a replica knows about whether it still holds what was stored there.
pub struct Vigil {
    /// The object of the durable point was ours when it was last seen. Not set between finding
    /// another history and the next upload.
    armed: bool,
    /// The store was unreachable: the next upload waits for a check.
    outage: bool,
    pauses: Pauses,
    /// The pauses before the last request that has proven the replica to be ours. A pause between
    /// that request and its answer, or after it, makes room for another history.
    seen_pauses: u64,
    uploaded: Instant,
    checked: Instant,
    every: Duration,
    turn: usize,
    /// The reason for doubt that a check next to uploads has found.
    found: Rc<RefCell<Option<String>>>,
    check: Background,
}

impl Vigil {
    /// `first_level`: the interval of the first level; checks are as frequent as its compactions,
    /// within limits.
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

    /// Notes that the store did not answer.
    pub(super) fn outage(&mut self) {
        self.outage = true;
    }

    /// From here on the durable point is known to be ours. Pauses and outages before do not count.
    pub(super) fn arm(&mut self) {
        let now = Instant::now();
        (self.armed, self.outage) = (true, false);
        (self.uploaded, self.checked) = (now, now);
    }

    /// A request is about to be made whose answer says that the replica is ours, where nothing is
    /// known.
    pub(super) fn ask(&mut self) {
        if !self.armed {
            self.seen_pauses = self.pauses.count();
        }
    }

    /// The process was stopped since the durable point was known to be ours.
    pub(super) fn was_paused(&self) -> bool {
        self.armed && self.seen_pauses != self.pauses.count()
    }

    /// Notes that an upload was answered.
    pub(super) fn uploaded(&mut self) {
        self.uploaded = Instant::now();
        if !self.armed {
            self.arm();
        }
    }

    /// Forgets what was known.
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
    /// Before an upload: makes sure that it continues what was stored, if there is reason for
    /// doubt.
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

    /// Checks the durable point and some files that a restore needs, next to the uploads.
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

    /// Whether a check next to uploads has found a reason for doubt.
    pub(super) fn is_doubted(&self) -> bool {
        self.vigil.found.borrow().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The process may be stopped, and the replica exchanged, between the answer of the store and
    /// what is made of it.
    #[test]
    fn a_pause_after_the_request_is_doubt_whenever_its_answer_is_taken() {
        let pauses = Pauses::new(Duration::from_secs(1));
        let mut vigil = Vigil::new(pauses.clone(), None);
        vigil.ask();
        pauses.stop();
        vigil.arm();
        assert!(vigil.was_paused() && vigil.must_wait(), "stopped before the answer was taken");
        pauses.stop();
        vigil.arm();
        assert!(vigil.must_wait(), "stopped during the check");
        vigil.arm();
        assert!(!vigil.was_paused() && !vigil.must_wait());
        vigil.ask();
        pauses.stop();
        vigil.ask();
        assert!(vigil.must_wait(), "an upload proves nothing of what it is put on");
        vigil.disarm();
        pauses.stop();
        vigil.ask();
        vigil.uploaded();
        assert!(!vigil.must_wait(), "the first upload is asked for after the pause");
    }
}
