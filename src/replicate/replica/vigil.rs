//! What a replica knows about whether it still holds what was stored there.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use super::background::Background;
use super::resume::Mismatch;
use crate::base::backoff::Backoff;
use crate::base::limits;
use crate::replicate::state::Point;
use crate::replicate::sweep::Pauses;
use crate::store::StoreError;

/// Longest time between two checks next to uploads where each fails. After it a second log line
/// follows.
const BLIND_MAX: Duration = Duration::from_secs(3600);

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
    /// Checks of the anchor that have failed.
    pub(super) blind: Rc<RefCell<Blind>>,
    /// Checks of other files, by HEAD, that have failed.
    pub(super) blind_files: Rc<RefCell<Blind>>,
}

/// Checks next to uploads that have failed: whether the replica is ours is not known.
#[derive(Debug)]
pub(super) struct Blind {
    /// Doubles from the interval of the checks.
    waits: Backoff,
    /// Requests of a check may be repeated, as those of uploads are.
    requests: Backoff,
    /// When the first of them has failed.
    since: Option<Instant>,
    /// The next check is not made before.
    until: Option<Instant>,
    /// It was said a second time.
    reminded: bool,
}

impl Blind {
    fn new(every: Duration) -> Blind {
        Blind {
            waits: Backoff::new(every * 2, BLIND_MAX).growing(2),
            requests: Backoff::default(),
            since: None,
            until: None,
            reminded: false,
        }
    }

    /// Counts a failed check. Returns how long checks have failed, if that has to be said: at once,
    /// and after an hour.
    pub(super) fn fail(&mut self, e: Option<&StoreError>, now: Instant) -> Option<Duration> {
        let asked = e.map_or(Duration::ZERO, |e| e.wait(&mut self.requests));
        self.until = Some(now + self.waits.fail().max(asked).min(BLIND_MAX));
        let Some(since) = self.since else {
            self.since = Some(now);
            return Some(Duration::ZERO);
        };
        let age = now - since;
        let is_due = age >= BLIND_MAX && !std::mem::replace(&mut self.reminded, true);
        is_due.then_some(age)
    }

    /// A check was answered. Returns how long none was, if that had been said.
    pub(super) fn see(&mut self) -> Option<Duration> {
        self.waits.reset();
        self.requests.reset();
        (self.until, self.reminded) = (None, false);
        self.since.take().map(|since| since.elapsed())
    }

    pub(super) fn allows(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| now >= until)
    }
}

impl Vigil {
    /// `first_level`: the interval of the first level; checks are as frequent as its compactions,
    /// within limits.
    pub fn new(pauses: Pauses, first_level: Option<Duration>) -> Vigil {
        let every = first_level.unwrap_or(limits::LINEAGE_EVERY);
        let every = every.clamp(limits::LINEAGE_EVERY_MIN, limits::LINEAGE_EVERY);
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
            every,
            turn: 0,
            found: Rc::default(),
            graft: None,
            check: Background::none(),
            blind: Rc::new(RefCell::new(Blind::new(every))),
            blind_files: Rc::new(RefCell::new(Blind::new(every))),
        }
    }

    /// Whether a check next to uploads is due.
    pub(super) fn is_due(&self) -> bool {
        let is_time = self.checked.elapsed() >= self.every && self.blind.borrow().allows(Instant::now());
        // A check may take long where its requests are repeated.
        self.armed && is_time && self.check.is_over()
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
    use crate::store::ErrorKind;

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

    /// Checks that fail are made at growing intervals, and said at once and after an hour.
    #[test]
    fn a_replica_that_cannot_be_read_is_asked_less_and_less() {
        for kind in [ErrorKind::Transient, ErrorKind::Credentials] {
            let e = StoreError::new(kind, "x");
            let mut blind = Blind::new(limits::LINEAGE_EVERY);
            let begun = Instant::now();
            let (mut at, mut said) = (Vec::new(), Vec::new());
            for seconds in 0..10 * 3600 {
                let now = begun + Duration::from_secs(seconds);
                if blind.allows(now) {
                    at.push(seconds);
                    said.extend(blind.fail(Some(&e), now).map(|age| age.as_secs() / 3600));
                }
            }
            let waits: Vec<u64> = at.windows(2).map(|a| a[1] - a[0]).collect();
            assert!(waits[0] >= 60 && waits.iter().all(|w| *w <= 3600), "{waits:?}");
            assert_eq!(waits.last(), Some(&3600), "{waits:?}");
            assert_eq!(said.len(), 2, "{said:?}");
            assert!(said[0] == 0 && (1..=2).contains(&said[1]), "{said:?}");
            assert!(blind.see().is_some() && blind.allows(begun));
            assert!(blind.see().is_none(), "it is said once");
        }
    }
}
