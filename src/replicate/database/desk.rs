//! Waits until what is committed now is stored.
//!
//! # Overview
//!
//! A request comes to the [`Desk`] of its database and gives the loop a hint. The next look
//! captures everything that was committed before the request. What is captured then is the
//! request's target. Each time a pipeline has stored something, the loop compares the targets.
//!
//! While a request waits for a replica, its batches do not wait for the sync interval. They do not
//! leave alone either: all that is pending goes into one batch, and only one is under way at a
//! time.
//!
//! The desk outlives an opening of the database. A request that comes while the database is not
//! open, or whose opening ends, waits for the next one.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use tokio::sync::oneshot;

use crate::io::watch::Hint;
use crate::replicate::handoff::Handoff;
use crate::replicate::vitals::ReplicaPhase;

/// How far a database is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Synced {
    /// Whether something was not stored yet when the request came.
    pub changed: bool,
    /// TXID of the newest commit. One that is not stored yet has the next TXID.
    pub txid: u64,
    /// TXID of the newest stored state of the first replica.
    pub replicated: u64,
}

/// Receives the answer, or why there is none.
pub type Done = oneshot::Sender<Result<Synced, String>>;

/// A request.
#[derive(Debug)]
struct Wait {
    /// `None` for a request that was answered, whose batch has yet to leave.
    done: Option<Done>,
    /// Whether the request is answered only when everything is stored.
    until_stored: bool,
    /// For each replica, the captured commits that it has to store. Empty before the look.
    targets: Vec<u64>,
    /// Whether something was not stored yet when the targets were set.
    changed: bool,
}

/// The requests of one database.
#[derive(Debug, Default)]
pub struct Desk {
    waits: RefCell<Vec<Wait>>,
    /// Wakes the loop of the database, while it is open.
    hint: RefCell<Option<Rc<Hint>>>,
}

/// The desks of all databases, by path.
#[derive(Debug, Clone, Default)]
pub struct Desks(Rc<RefCell<HashMap<PathBuf, Rc<Desk>>>>);

impl Desks {
    /// The desk of a database.
    #[must_use]
    pub fn of(&self, path: &Path) -> Rc<Desk> {
        Rc::clone(self.0.borrow_mut().entry(path.to_owned()).or_default())
    }

    /// The database was opened: its requests give this hint from now on.
    pub(super) fn open(&self, path: &Path, hint: &Rc<Hint>) -> Rc<Desk> {
        let desk = self.of(path);
        desk.open(hint);
        desk
    }

    /// The database is not replicated any more: answers what waits there.
    pub fn close(&self, path: &Path, why: &str) {
        let desk = self.0.borrow_mut().remove(path);
        for done in desk.iter().flat_map(|desk| desk.waits.take()).filter_map(|w| w.done) {
            let _ = done.send(Err(why.to_owned()));
        }
    }
}

impl Desk {
    /// Adds a request. With `until_stored` it is answered when all replicas have what is committed
    /// now, otherwise when that is known.
    pub fn ask(&self, until_stored: bool, done: Done) {
        let mut waits = self.waits.borrow_mut();
        waits.retain(Wait::is_wanted);
        waits.push(Wait { done: Some(done), until_stored, targets: Vec::new(), changed: false });
        drop(waits);
        self.hint.borrow().iter().for_each(|hint| hint.give());
    }

    fn open(&self, hint: &Rc<Hint>) {
        *self.hint.borrow_mut() = Some(Rc::clone(hint));
        // The numbers of the former opening are gone.
        self.waits.borrow_mut().iter_mut().for_each(|w| w.targets.clear());
        hint.give();
    }

    /// The opening has ended. If everything that was captured is stored, that is the answer.
    pub(super) fn close(&self, handoff: &Handoff, stored: bool) {
        *self.hint.borrow_mut() = None;
        if stored {
            let txid = txid(handoff);
            let mut waits = self.waits.borrow_mut();
            for mut wait in waits.extract_if(.., |w| !w.targets.is_empty()) {
                wait.answer(txid, txid);
            }
        }
    }

    /// Whether anything waits.
    pub(super) fn is_busy(&self) -> bool {
        !self.waits.borrow().is_empty()
    }

    /// Answers what is stored. `all_captured` says that the last look has captured everything that
    /// was committed before it.
    pub(super) fn serve(&self, handoff: &Handoff, all_captured: bool) {
        let replicas = 0..handoff.replicas();
        let now = txid(handoff);
        let mut hurried = vec![false; handoff.replicas()];
        let mut waits = self.waits.borrow_mut();
        waits.retain_mut(|wait| {
            if wait.targets.is_empty() && all_captured {
                wait.targets = replicas.clone().map(|r| handoff.vitals(r).captured_commits()).collect();
                wait.changed = wait.targets.iter().zip(0..).any(|(target, r)| !has(handoff, r, *target));
            }
            if wait.targets.is_empty() {
                return wait.is_wanted();
            }
            let behind: Vec<bool> =
                wait.targets.iter().zip(0..).map(|(target, r)| !has(handoff, r, *target)).collect();
            let stored = !behind.contains(&true);
            if stored || !wait.until_stored {
                // A commit that is not stored yet gets the next TXID.
                wait.answer(now + u64::from(behind[0]), now);
            } else if let Some(why) = replicas.clone().find_map(|r| ended(handoff, r)) {
                wait.done.take().map(|done| done.send(Err(why)));
                return false;
            }
            let stays = !stored && wait.is_wanted();
            if stays {
                hurried.iter_mut().zip(behind).for_each(|(hurried, behind)| *hurried |= behind);
            }
            stays
        });
        handoff.hurry(&hurried, !waits.is_empty());
    }
}

impl Wait {
    /// Whether the request still matters: it was answered already, or something waits for the
    /// answer.
    fn is_wanted(&self) -> bool {
        self.done.as_ref().is_none_or(|done| !done.is_closed())
    }

    fn answer(&mut self, txid: u64, replicated: u64) {
        let synced = Synced { changed: self.changed, txid, replicated };
        self.done.take().map(|done| done.send(Ok(synced)));
    }
}

/// TXID of the newest stored state of the first replica.
fn txid(handoff: &Handoff) -> u64 {
    handoff.vitals(0).durable().map_or(0, |(txid, ..)| txid.0)
}

/// Whether a replica has the first `target` commits that were captured.
fn has(handoff: &Handoff, replica: usize, target: u64) -> bool {
    let vitals = handoff.vitals(replica);
    // With a gap, what is pending is not all that changed.
    vitals.phase() == ReplicaPhase::Following
        && vitals.durable().is_some()
        && !vitals.recalls()
        && vitals.stored_commits() >= target
        && handoff.slot(replica, |slot| slot.gap.is_none())
}

/// Why a replica stores nothing any more.
fn ended(handoff: &Handoff, replica: usize) -> Option<String> {
    let vitals = handoff.vitals(replica);
    let why = || vitals.failure().map_or_else(|| String::from("it has ended"), |f| f.message);
    let ended = vitals.phase() == ReplicaPhase::Stopped;
    ended.then(|| format!("{} is not written any more: {}", vitals.url, why()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Millis;
    use crate::base::{PageSize, Txid};
    use crate::replicate::pending::Mark;
    use crate::replicate::pending::OpenPages;
    use crate::replicate::state::Point;

    fn asked(desk: &Desk, wait: bool) -> oneshot::Receiver<Result<Synced, String>> {
        let (done, answer) = oneshot::channel();
        desk.ask(wait, done);
        answer
    }

    /// A handoff whose only replica has TXID 7 and nothing else to store.
    fn following(desk: &Desk) -> Rc<Handoff> {
        let hint = Rc::<Hint>::default();
        let handoff = Rc::new(Handoff::new(1, Rc::clone(&hint)));
        desk.open(&hint);
        let vitals = handoff.vitals(0);
        vitals.set_phase(ReplicaPhase::Following);
        vitals.known(&Point { txid: Txid(7), ..Point::default() }, Millis(1));
        handoff
    }

    fn commit(handoff: &Handoff) {
        let mut pages = OpenPages::default();
        pages.push(crate::base::Pgno::new(1).unwrap(), &vec![0; PageSize::new(512).unwrap().get() as usize]);
        handoff.commit(&mut pages, 1, Mark::default());
    }

    fn store(handoff: &Handoff, txid: u64) {
        handoff.vitals(0).answered(1, None);
        handoff.vitals(0).known(&Point { txid: Txid(txid), ..Point::default() }, Millis(1));
    }

    #[test]
    fn a_wait_ends_with_the_batch_that_has_the_commit_and_not_before() {
        let desk = Desk::default();
        let handoff = following(&desk);
        commit(&handoff);
        handoff.vitals(0).take();
        // This commit is for the batch after the one that is under way.
        commit(&handoff);
        let mut answer = asked(&desk, true);
        desk.serve(&handoff, false);
        assert!(!handoff.is_hurried(0), "what is committed is not captured yet");
        desk.serve(&handoff, true);
        assert!(handoff.is_hurried(0));
        store(&handoff, 8);
        desk.serve(&handoff, true);
        answer.try_recv().unwrap_err();
        handoff.vitals(0).take();
        // A later commit is not waited for.
        commit(&handoff);
        store(&handoff, 9);
        desk.serve(&handoff, true);
        let synced = Synced { changed: true, txid: 9, replicated: 9 };
        assert_eq!(answer.try_recv().unwrap(), Ok(synced));
        assert!(!handoff.is_hurried(0) && !desk.is_busy());
    }

    /// Commits from before the start are found in the WAL, and counted by nothing.
    #[test]
    fn what_was_committed_before_the_start_is_waited_for() {
        let desk = Desk::default();
        let handoff = following(&desk);
        let durable = Point { txid: Txid(7), ..Point::default() };
        handoff.vitals(0).remembered(&durable, Millis(1), Some(std::time::Duration::ZERO));
        let mut answer = asked(&desk, true);
        desk.serve(&handoff, true);
        answer.try_recv().unwrap_err();
        handoff.vitals(0).take();
        store(&handoff, 8);
        desk.serve(&handoff, true);
        assert_eq!(answer.try_recv().unwrap().map(|s| (s.changed, s.txid)), Ok((true, 8)));
    }

    #[test]
    fn nothing_is_waited_for_where_everything_is_stored_unless_pages_have_to_be_compared() {
        let desk = Desk::default();
        let handoff = following(&desk);
        let mut answer = asked(&desk, true);
        desk.serve(&handoff, true);
        assert_eq!(answer.try_recv().unwrap(), Ok(Synced { changed: false, txid: 7, replicated: 7 }));
        handoff.lose("frames were missed");
        let mut answer = asked(&desk, true);
        desk.serve(&handoff, true);
        answer.try_recv().unwrap_err();
        handoff.slot(0, |slot| slot.gap = None);
        handoff.vitals(0).set_phase(ReplicaPhase::Image);
        desk.serve(&handoff, true);
        answer.try_recv().unwrap_err();
        handoff.vitals(0).set_phase(ReplicaPhase::Following);
        desk.serve(&handoff, true);
        answer.try_recv().unwrap().unwrap();
    }

    #[test]
    fn a_request_without_a_wait_is_answered_at_once_and_lets_the_batch_leave() {
        let desk = Desk::default();
        let handoff = following(&desk);
        commit(&handoff);
        let mut answer = asked(&desk, false);
        desk.serve(&handoff, true);
        assert_eq!(answer.try_recv().unwrap(), Ok(Synced { changed: true, txid: 8, replicated: 7 }));
        assert!(handoff.is_hurried(0));
        handoff.vitals(0).take();
        store(&handoff, 8);
        desk.serve(&handoff, true);
        assert!(!handoff.is_hurried(0) && !desk.is_busy());
    }

    #[test]
    fn a_wait_ends_with_an_error_where_the_replica_ends_and_is_forgotten_where_its_caller_left() {
        let desk = Desk::default();
        let handoff = following(&desk);
        commit(&handoff);
        drop(asked(&desk, true));
        let mut answer = asked(&desk, true);
        handoff.vitals(0).fail("no space");
        handoff.vitals(0).set_phase(ReplicaPhase::Stopped);
        desk.serve(&handoff, true);
        assert!(answer.try_recv().unwrap().unwrap_err().contains("no space"));
        assert!(!desk.is_busy());
        // What comes after the last look is not known to be stored.
        let mut late = asked(&desk, true);
        desk.close(&handoff, true);
        late.try_recv().unwrap_err();
    }
}
