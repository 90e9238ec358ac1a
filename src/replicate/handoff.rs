//! What capture and the replicas' pipelines of one database hand to one another.
//!
//! # Overview
//!
//! Everything here lives on one thread. Capture adds pages and moves the [`Mark`]; each pipeline
//! takes the pages from its [`Slot`]. A notification only says "look again".
//!
//! # State
//!
//! - A *gap* in a slot: its pending pages are not all that changed. The pipeline compares page
//!   hashes.
//! - A [`Pin`]: while one is held no turn begins, so that the database file does not change under
//!   its readers. Capture grants pins in cruise with everything captured. If it must void them,
//!   their epoch passes, and what was read under them is discarded.
//! - *Closing*: capture has taken its last look; pipelines store what is pending and end.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::{Notify, oneshot, watch};

use super::pending::{Mark, OpenPages, Page, Pending};
use super::vitals::{DatabaseVitals, ReplicaVitals};
use crate::base::Pgno;
use crate::io::watch::Hint;
use crate::sqlite::database::Stamp;

/// The stamp while other programs may be writing to the database file; no file has it.
const UNKNOWN: Stamp = Stamp { modified: -1, len: 0, changed: 0 };

/// What capture keeps for one replica.
#[derive(Debug, Default)]
pub struct Slot {
    /// Pages to store.
    pub pending: Pending,
    /// Why `pending` is not all that changed. Set when frames were missed, cleared by an image or a
    /// comparison under a pin.
    pub gap: Option<String>,
}

/// A transaction that is in the WAL, complete and verified, but not published yet: its commit
/// usually follows within some hundred microseconds.
#[derive(Debug, Clone)]
pub struct Near {
    /// The mark after its commit.
    pub mark: Mark,
    /// Its frames, in order.
    pub pages: Rc<[(Pgno, Page)]>,
}

/// The state that capture and the pipelines of one database share.
#[derive(Debug)]
pub struct Handoff {
    slots: RefCell<Vec<Slot>>,
    changed: Vec<Notify>,
    mark: Cell<Mark>,
    stamp: Cell<Stamp>,
    near: RefCell<Option<Near>>,
    /// Number of valid pins that are held.
    pins: Cell<u32>,
    /// Grows when the pins held so far become void.
    epoch: Cell<u64>,
    /// Pins were voided for a checkpoint, and none has been held to its end since.
    indebted: Cell<bool>,
    pin_requests: RefCell<Vec<oneshot::Sender<Pin>>>,
    hint: Rc<Hint>,
    busy: Cell<u32>,
    /// For each replica: a request waits for what is pending, so its batch leaves at once.
    hurried: Vec<Cell<bool>>,
    /// A request waits for what is stored next.
    waited: Cell<bool>,
    closing: watch::Sender<bool>,
    vitals: Arc<DatabaseVitals>,
}

impl Handoff {
    /// A handoff for `replicas` replicas whose numbers are not shown; `hint` wakes capture.
    #[cfg(feature = "internals")]
    #[must_use]
    pub fn new(replicas: usize, hint: Rc<Hint>) -> Handoff {
        Handoff::seen(DatabaseVitals::unseen(replicas), hint)
    }

    /// A handoff that publishes its numbers in `vitals`, with a place there for each replica.
    #[must_use]
    pub fn seen(vitals: Arc<DatabaseVitals>, hint: Rc<Hint>) -> Handoff {
        let replicas = vitals.replicas.len();
        Handoff {
            slots: RefCell::new((0..replicas).map(|_| Slot::default()).collect()),
            changed: (0..replicas).map(|_| Notify::new()).collect(),
            mark: Cell::default(),
            stamp: Cell::new(UNKNOWN),
            near: RefCell::default(),
            pins: Cell::new(0),
            epoch: Cell::new(0),
            indebted: Cell::new(false),
            pin_requests: RefCell::default(),
            hint,
            busy: Cell::new(0),
            hurried: (0..replicas).map(|_| Cell::new(false)).collect(),
            waited: Cell::new(false),
            closing: watch::Sender::new(false),
            vitals,
        }
    }

    /// Number of replicas.
    #[must_use]
    pub fn replicas(&self) -> usize {
        self.changed.len()
    }

    /// The numbers that one replica publishes.
    #[must_use]
    pub fn vitals(&self, replica: usize) -> &ReplicaVitals {
        &self.vitals.replicas[replica]
    }

    /// The newest captured commit.
    #[must_use]
    pub fn mark(&self) -> Mark {
        self.mark.get()
    }

    /// Stamp of the database file after SQLite's last write; matches no file while that is unknown.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        self.stamp.get()
    }

    /// Called by capture: only SQLite has written to the database file up to this stamp. `None`
    /// while a checkpoint may be writing to it.
    pub fn set_stamp(&self, stamp: Option<Stamp>) {
        self.stamp.set(stamp.unwrap_or(UNKNOWN));
    }

    /// Notes that the path may name another file, and wakes the loop to check it.
    pub fn file_moved(&self) {
        self.hint.note_moved();
        self.hint.give();
    }

    /// Adds the pages of whole transactions to each replica's slot, and moves the mark.
    pub fn commit(&self, pages: &mut OpenPages, commits: u64, mark: Mark) {
        let mut slots = self.slots.borrow_mut();
        for slot in slots.iter_mut() {
            slot.pending.add(pages);
            slot.pending.add_commits(commits);
        }
        self.vitals.captured(commits, pages.len(), &mark);
        pages.clear();
        self.mark.set(mark);
    }

    /// Called by capture: the wal-index publishes this many frames that are not read yet.
    pub fn unread(&self, frames: u32) {
        self.vitals.unread(frames);
    }

    /// Shows a transaction that is about to be committed, so that pipelines can prepare its batch.
    pub fn show_near(&self, near: Option<Near>) {
        let wake = near.is_some();
        *self.near.borrow_mut() = near;
        if wake {
            self.wake_all();
        }
    }

    /// The transaction that is about to be committed, if one is known.
    #[must_use]
    pub fn near(&self) -> Option<Near> {
        self.near.borrow().clone()
    }

    /// Adds the pages that one replica lacks at the start.
    pub fn seed(&self, replica: usize, pending: Pending) {
        self.vitals.awaits(self.vitals(replica), pending.commits(), pending.len());
        self.slots.borrow_mut()[replica].pending.merge(pending);
    }

    /// Moves the mark without pages: the state at the start.
    pub fn set_mark(&self, mark: Mark) {
        self.vitals.marked(&mark);
        self.mark.set(mark);
    }

    /// Wakes every pipeline.
    pub fn wake_all(&self) {
        self.changed.iter().for_each(Notify::notify_one);
    }

    /// Waits until there may be something new for a replica.
    pub async fn changed(&self, replica: usize) {
        self.changed[replica].notified().await;
    }

    /// Wakes one pipeline.
    pub fn wake(&self, replica: usize) {
        self.changed[replica].notify_one();
    }

    /// Runs `f` on the slot of a replica.
    pub fn slot<T>(&self, replica: usize, f: impl FnOnce(&mut Slot) -> T) -> T {
        f(&mut self.slots.borrow_mut()[replica])
    }

    /// Frames were missed: for every replica, the pending pages are not all that changed.
    pub fn lose(&self, reason: &str) {
        for slot in self.slots.borrow_mut().iter_mut() {
            slot.pending = Pending::new();
            slot.gap = Some(reason.to_owned());
        }
        self.wake_all();
    }

    /// Notes that the WAL has frames that cannot be proven.
    pub fn wal_damaged(&self, reason: &str) {
        self.vitals.wal_is_damaged(reason);
    }

    /// Notes that the WAL has no such frames any more.
    pub fn wal_sound(&self) {
        self.vitals.wal_is_sound();
    }

    /// Whether a pin is held, so that no checkpoint may disturb its reader.
    #[must_use]
    pub fn is_pinned(&self) -> bool {
        self.pins.get() > 0
    }

    /// Whether a pin is requested.
    #[must_use]
    pub fn pin_is_wanted(&self) -> bool {
        !self.pin_requests.borrow().is_empty()
    }

    /// Called by capture: the database does not change (cruise, everything captured). Grants all
    /// requested pins.
    pub fn grant_pins(self: &Rc<Self>) {
        for request in self.pin_requests.take() {
            self.pins.set(self.pins.get() + 1);
            // If the request was given up, the pin returns by being dropped.
            let _ = request.send(Pin { handoff: Rc::clone(self), epoch: self.epoch.get() });
        }
    }

    /// Makes all pins granted so far void.
    pub fn void_pins(&self) {
        self.epoch.set(self.epoch.get() + 1);
        self.pins.set(0);
    }

    /// Voids all pins, for a checkpoint that must not wait. Returns `false`, and leaves the pins
    /// valid, if that also happened the last time: readers must be able to finish.
    pub fn void_pins_once(&self) -> bool {
        if self.is_pinned() && self.indebted.replace(true) {
            return false;
        }
        self.void_pins();
        true
    }

    /// Waits until the database does not change, and keeps it so until the pin is dropped. `None`
    /// when capture has ended.
    pub async fn pin(&self) -> Option<Pin> {
        let (give, get) = oneshot::channel();
        self.pin_requests.borrow_mut().push(give);
        self.hint.give();
        get.await.ok()
    }

    /// Capture ends: no pin is granted any more.
    pub fn refuse_pins(&self) {
        self.pin_requests.take();
    }

    /// Called by the loop: for which replicas a request waits, and whether any request does.
    pub fn hurry(&self, hurried: &[bool], waited: bool) {
        self.waited.set(waited);
        for (replica, now) in hurried.iter().enumerate() {
            if *now && !self.hurried[replica].replace(*now) {
                self.wake(replica);
            }
            self.hurried[replica].set(*now);
        }
    }

    /// Whether a request waits for what is pending for a replica.
    #[must_use]
    pub fn is_hurried(&self, replica: usize) -> bool {
        self.hurried[replica].get()
    }

    /// Called by a pipeline that has stored something: the loop looks what it was.
    pub fn tell_waiting(&self) {
        if self.waited.get() {
            self.hint.give();
        }
    }

    /// Capture has taken its last look: pipelines store what is pending now, then end.
    pub fn close(&self) {
        self.closing.send_replace(true);
        self.wake_all();
    }

    /// Whether [`Handoff::close`] was called.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        *self.closing.borrow()
    }

    /// Waits for [`Handoff::close`].
    pub async fn closing(&self) {
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self.closing.subscribe().wait_for(|closing| *closing).await;
    }

    /// An upload begins: commits may gather meanwhile.
    pub fn begin_upload(&self) {
        self.busy.set(self.busy.get() + 1);
    }

    /// An upload ended.
    pub fn end_upload(&self) {
        self.busy.set(self.busy.get() - 1);
    }

    /// Whether every replica is uploading, so that looks at the WAL are not urgent.
    #[must_use]
    pub fn all_busy(&self) -> bool {
        self.busy.get() as usize >= self.replicas()
    }
}

/// While a valid pin exists, the database file does not change, and the frames up to the mark stay
/// where they are.
#[derive(Debug)]
pub struct Pin {
    handoff: Rc<Handoff>,
    epoch: u64,
}

impl Pin {
    /// Whether the pin is still valid. If not, what was read under it must be discarded.
    #[must_use]
    pub fn held(&self) -> bool {
        self.handoff.epoch.get() == self.epoch
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        if self.held() {
            self.handoff.pins.set(self.handoff.pins.get() - 1);
            self.handoff.indebted.set(false);
        }
        self.handoff.hint.give();
    }
}
