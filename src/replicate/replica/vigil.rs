//! What a replica knows about whether it still holds what was stored there.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use super::background::Background;
use super::resume::Mismatch;
use crate::base::limits;
use crate::replicate::state::Point;
use crate::replicate::sweep::Pauses;

/// Why the replica is not what was stored there.
#[derive(Debug, Clone)]
pub(super) struct Finding {
    pub(super) what: Mismatch,
    /// The newest object may still be ours. Then only this finding tells that what it was put on is
    /// not.
    pub(super) below: bool,
}

impl Finding {
    pub(super) fn at(below: bool, what: Option<Mismatch>) -> Option<Finding> {
        what.map(|what| Finding { what, below })
    }
}

/// What a replica knows about whether it still holds what was stored there.
pub struct Vigil {
    /// The object of the durable point was ours when it was last seen. Not set between finding
    /// another history and the next upload.
    pub(super) armed: bool,
    /// The store was unreachable: the next upload waits for a check.
    pub(super) outage: bool,
    /// The object that the next check asks for; everything up to it is known to be ours.
    pub(super) anchor: Rc<Cell<Point>>,
    /// How many times a check at the stop has failed.
    pub(super) failed_at_stop: u32,
    pub(super) pauses: Pauses,
    /// The pauses before the last request that has proven the replica to be ours. A pause between
    /// that request and its answer, or after it, makes room for another history.
    pub(super) seen_pauses: u64,
    pub(super) uploaded: Instant,
    /// Something was uploaded in this run.
    pub(super) wrote: bool,
    pub(super) checked: Instant,
    pub(super) every: Duration,
    pub(super) turn: usize,
    /// The reason for doubt that a check next to uploads has found.
    pub(super) found: Rc<RefCell<Option<Finding>>>,
    /// What the newest object was put on is not ours.
    pub(super) graft: Option<Mismatch>,
    pub(super) check: Background,
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
            anchor: Rc::default(),
            failed_at_stop: 0,
            seen_pauses: pauses.count(),
            pauses,
            uploaded: now,
            wrote: false,
            checked: now,
            every: every.clamp(limits::LINEAGE_EVERY_MIN, limits::LINEAGE_EVERY),
            turn: 0,
            found: Rc::default(),
            graft: None,
            check: Background::none(),
        }
    }

    /// Notes that the store did not answer.
    pub(super) fn outage(&mut self) {
        self.outage = true;
    }

    /// From here on `durable`, the durable point, is known to be ours. Pauses and outages before do
    /// not count.
    pub(super) fn arm(&mut self, durable: Point) {
        let now = Instant::now();
        self.anchor = Rc::new(Cell::new(durable));
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

    /// Notes that an upload was answered, which is the durable point now.
    pub(super) fn uploaded(&mut self, durable: Point) {
        (self.uploaded, self.wrote) = (Instant::now(), true);
        if !self.armed {
            self.arm(durable);
        }
    }

    /// Forgets what was known.
    pub(super) fn disarm(&mut self) {
        self.armed = false;
        self.check = Background::none();
        self.found.borrow_mut().take();
    }

    pub(super) fn must_wait(&mut self, pause: Duration) -> bool {
        let pauses = self.pauses.count();
        let paused = std::mem::replace(&mut self.seen_pauses, pauses) != pauses;
        self.armed && (self.outage || paused || self.uploaded.elapsed() >= pause)
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
        vigil.arm(Point::default());
        assert!(
            vigil.was_paused() && vigil.must_wait(limits::LINEAGE_EVERY),
            "stopped before the answer was taken"
        );
        pauses.stop();
        vigil.arm(Point::default());
        assert!(vigil.must_wait(limits::LINEAGE_EVERY), "stopped during the check");
        vigil.arm(Point::default());
        assert!(!vigil.was_paused() && !vigil.must_wait(limits::LINEAGE_EVERY));
        vigil.ask();
        pauses.stop();
        vigil.ask();
        assert!(vigil.must_wait(limits::LINEAGE_EVERY), "an upload proves nothing of what it is put on");
        vigil.disarm();
        pauses.stop();
        vigil.ask();
        vigil.uploaded(Point::default());
        assert!(!vigil.must_wait(limits::LINEAGE_EVERY), "the first upload is asked for after the pause");
    }
}
