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
//! open, or whose opening ends with an error, waits for the next one. If the database is removed or
//! replaced before everything is stored, requests get an error: what they wait for may be lost.

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

/// A request whose look has not come yet.
#[derive(Debug)]
struct Fresh {
    /// `None` for a request that was answered, whose batch has yet to leave.
    done: Option<Done>,
    /// Whether the request is answered only when everything is stored.
    until_stored: bool,
}

/// Requests that wait for the same commits. What a look costs does not depend on their number.
#[derive(Debug)]
struct Group {
    /// For each replica, the captured commits that it has to store.
    targets: Vec<u64>,
    waiting: Vec<Done>,
    /// Whether a request was answered before its commits are stored: their batch leaves soon all
    /// the same.
    must_leave: bool,
}

/// The answer to requests whose commits may be lost.
const LOST: &str = "the database was removed or replaced before its last commits could be stored";

/// The requests of one database.
#[derive(Debug, Default)]
pub struct Desk {
    fresh: RefCell<Vec<Fresh>>,
    /// By growing targets.
    groups: RefCell<Vec<Group>>,
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
        if let Some(desk) = self.0.borrow_mut().remove(path) {
            desk.refuse(why);
        }
    }
}

impl Desk {
    /// Adds a request. With `until_stored` it is answered when all replicas have what is committed
    /// now, otherwise when that is known.
    pub fn ask(&self, until_stored: bool, done: Done) {
        add(&mut self.fresh.borrow_mut(), Fresh { done: Some(done), until_stored }, Fresh::is_wanted);
        self.hint.borrow().iter().for_each(|hint| hint.give());
    }

    fn open(&self, hint: &Rc<Hint>) {
        *self.hint.borrow_mut() = Some(Rc::clone(hint));
        // The numbers of the former opening are gone.
        let mut fresh = self.fresh.borrow_mut();
        for group in self.groups.take() {
            fresh
                .extend(group.waiting.into_iter().map(|done| Fresh { done: Some(done), until_stored: true }));
            fresh.extend(group.must_leave.then_some(Fresh { done: None, until_stored: false }));
        }
        hint.give();
    }

    /// The opening has ended. `stored`: whether everything that was committed is stored, if that is
    /// decided. If it is not stored, the next opening may be one of another file, and says nothing
    /// about the commits that are waited for.
    pub(super) fn close(&self, handoff: &Handoff, stored: Option<bool>) {
        *self.hint.borrow_mut() = None;
        match stored {
            None => {}
            Some(true) => {
                let txid = txid(handoff);
                self.groups.take().into_iter().for_each(|group| group.answer(txid));
            }
            Some(false) => self.refuse(LOST),
        }
    }

    /// Answers all requests with an error.
    fn refuse(&self, why: &str) {
        let fresh = self.fresh.take().into_iter().filter_map(|f| f.done);
        for done in fresh.chain(self.groups.take().into_iter().flat_map(|g| g.waiting)) {
            let _ = done.send(Err(why.to_owned()));
        }
    }

    /// Whether anything waits.
    pub(super) fn is_busy(&self) -> bool {
        !self.fresh.borrow().is_empty() || !self.groups.borrow().is_empty()
    }

    /// Answers what is stored. `all_captured` says that the last look has captured everything that
    /// was committed before it.
    pub(super) fn serve(&self, handoff: &Handoff, all_captured: bool) {
        if all_captured {
            self.sort_fresh(handoff);
        }
        let now = txid(handoff);
        let why = (0..handoff.replicas()).find_map(|r| ended(handoff, r));
        let mut hurried = vec![false; handoff.replicas()];
        let mut groups = self.groups.borrow_mut();
        for mut group in std::mem::take(&mut *groups) {
            let behind = behind(handoff, &group.targets);
            if !behind.contains(&true) {
                group.answer(now);
            } else if let Some(why) = &why {
                group.waiting.drain(..).for_each(|done| drop(done.send(Err(why.clone()))));
            } else if group.is_wanted() {
                hurried.iter_mut().zip(behind).for_each(|(hurried, behind)| *hurried |= behind);
                groups.push(group);
            }
        }
        self.fresh.borrow_mut().retain(Fresh::is_wanted);
        drop(groups);
        handoff.hurry(&hurried, self.is_busy());
    }

    /// Answers requests for which nothing has to be stored, and gives the others their targets.
    fn sort_fresh(&self, handoff: &Handoff) {
        let fresh = self.fresh.take();
        if fresh.is_empty() {
            return;
        }
        let targets: Vec<u64> =
            (0..handoff.replicas()).map(|r| handoff.vitals(r).captured_commits()).collect();
        let behind = behind(handoff, &targets);
        let (now, changed) = (txid(handoff), behind.contains(&true));
        // A commit that is not stored yet gets the next TXID.
        let synced = Synced { changed, txid: now + u64::from(behind[0]), replicated: now };
        let mut groups = self.groups.borrow_mut();
        if changed && groups.last().is_none_or(|last| last.targets != targets) {
            groups.push(Group { targets, waiting: Vec::new(), must_leave: false });
        }
        for Fresh { done, until_stored } in fresh {
            match groups.last_mut().filter(|_| changed) {
                Some(group) if until_stored => {
                    done.into_iter().for_each(|done| add(&mut group.waiting, done, |d| !d.is_closed()));
                    continue;
                }
                Some(group) => group.must_leave = true,
                None => {}
            }
            done.map(|done| done.send(Ok(synced)));
        }
        // One batch takes all that is pending.
        if let Some((last, older)) = groups.split_last_mut()
            && last.must_leave
        {
            older.iter_mut().for_each(|group| group.must_leave = false);
        }
    }
}

impl Fresh {
    fn is_wanted(&self) -> bool {
        self.done.as_ref().is_none_or(|done| !done.is_closed())
    }
}

impl Group {
    /// Whether its batch has to leave, or a caller still waits for the answer.
    fn is_wanted(&self) -> bool {
        self.must_leave || self.waiting.iter().any(|done| !done.is_closed())
    }

    /// Its commits are stored: wakes each caller.
    fn answer(self, txid: u64) {
        let synced = Synced { changed: true, txid, replicated: txid };
        for done in self.waiting {
            let _ = done.send(Ok(synced));
        }
    }
}

/// Adds to a list. Before it would grow, what is no longer wanted leaves it.
fn add<T>(list: &mut Vec<T>, item: T, is_wanted: impl Fn(&T) -> bool) {
    if list.len() == list.capacity() {
        list.retain(is_wanted);
        list.reserve(list.len() + 1);
    }
    list.push(item);
}

/// Which replicas have yet to store captured commits up to these.
fn behind(handoff: &Handoff, targets: &[u64]) -> Vec<bool> {
    targets.iter().zip(0..).map(|(target, r)| !has(handoff, r, *target)).collect()
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
    use std::pin::Pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Wake};

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

    /// Counts how often the task of a caller is woken.
    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A thousand callers that ask one after the other, a look between them, cost one comparison a
    /// look. Batches that do not store their commit wake none of them.
    #[test]
    fn a_thousand_waits_for_one_commit_are_one_group_and_each_is_woken_once() {
        let desk = Desk::default();
        let handoff = following(&desk);
        commit(&handoff);
        handoff.vitals(0).take();
        commit(&handoff);
        let wakes = Arc::<Wakes>::default();
        let waker = Arc::clone(&wakes).into();
        let mut context = Context::from_waker(&waker);
        let mut answers: Vec<_> = (0..1_000)
            .map(|_| {
                let mut answer = asked(&desk, true);
                desk.serve(&handoff, true);
                assert!(Pin::new(&mut answer).poll(&mut context).is_pending());
                answer
            })
            .collect();
        assert_eq!((desk.groups.borrow().len(), desk.fresh.borrow().len()), (1, 0));
        // Half of them give up. Their places are used again.
        answers.truncate(500);
        for _ in 0..10_000 {
            drop(asked(&desk, true));
            desk.serve(&handoff, true);
        }
        assert!(desk.groups.borrow()[0].waiting.len() < 2_100);
        store(&handoff, 8);
        desk.serve(&handoff, true);
        assert_eq!(wakes.0.load(Ordering::Relaxed), 0, "their commit is in the next batch");
        handoff.vitals(0).take();
        store(&handoff, 9);
        desk.serve(&handoff, true);
        assert_eq!(wakes.0.load(Ordering::Relaxed), 500);
        let synced = Synced { changed: true, txid: 9, replicated: 9 };
        assert!(answers.iter_mut().all(|answer| answer.try_recv() == Ok(Ok(synced))));
        assert!(!handoff.is_hurried(0) && !desk.is_busy());
    }

    /// Its numbers are of no use any more, but the callers still want their answer.
    #[test]
    fn a_wait_goes_on_in_the_next_opening_and_what_has_to_leave_still_does() {
        let desk = Desk::default();
        let handoff = following(&desk);
        commit(&handoff);
        let mut answer = asked(&desk, true);
        asked(&desk, false);
        desk.serve(&handoff, true);
        desk.close(&handoff, None);
        let handoff = following(&desk);
        desk.serve(&handoff, false);
        assert!(desk.is_busy());
        commit(&handoff);
        desk.serve(&handoff, true);
        assert!(handoff.is_hurried(0));
        answer.try_recv().unwrap_err();
        drop(answer);
        desk.serve(&handoff, true);
        assert!(handoff.is_hurried(0), "a request without a wait was answered, and wants its batch");
        handoff.vitals(0).take();
        store(&handoff, 8);
        desk.serve(&handoff, true);
        assert!(!handoff.is_hurried(0) && !desk.is_busy());
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
        desk.close(&handoff, Some(true));
        late.try_recv().unwrap_err();
    }

    /// The next opening is of another file: its commits are not those that were waited for.
    #[test]
    fn commits_that_are_lost_with_their_file_are_never_called_stored() {
        let desk = Desk::default();
        let handoff = following(&desk);
        commit(&handoff);
        let mut waits = asked(&desk, true);
        desk.serve(&handoff, true);
        let mut fresh = asked(&desk, true);
        desk.close(&handoff, Some(false));
        let handoff = following(&desk);
        desk.serve(&handoff, true);
        for answer in [&mut waits, &mut fresh] {
            assert_eq!(answer.try_recv().unwrap(), Err(LOST.to_owned()));
        }
    }
}
