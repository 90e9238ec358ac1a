//! What one database's capture and its replicas' pipelines know of each other.
//!
//! All of it lives on one thread. Capture writes the pages and the mark, pipelines take them; a
//! notification only says "look again".

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::{Notify, oneshot, watch};

use super::pending::{OpenPages, Page, Pending};
use super::vitals::{DatabaseVitals, ReplicaVitals};
use crate::base::{FrameNo, Pgno};
use crate::io::watch::Hint;
use crate::sqlite::database::Stamp;
use crate::wal::tail::WalPos;

/// The stamp of a database file that others may be writing to: equal to that of no file.
const UNKNOWN: Stamp = Stamp { modified: -1, len: 0 };

/// The newest captured commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mark {
    /// Where it ends in the log.
    pub pos: WalPos,
    /// Pages in the database after it; 0 if the log has no commit and the file's length counts.
    pub size_pages: u32,
    /// SQLite's counter of commits after it.
    pub change: u32,
    /// The frames up to this one were not proven: which pages they hold says the wal-index. 0 for
    /// none.
    pub by_index: FrameNo,
}

/// What capture keeps for one replica.
#[derive(Debug, Default)]
pub struct Slot {
    /// Pages to store.
    pub pending: Pending,
    /// Why `pending` is not all that changed. Set when frames were missed, cleared by a pin.
    pub gap: Option<String>,
}

/// A transaction that is in the log, whole and verified, but not published yet: its commit is some
/// hundred microseconds away.
#[derive(Debug, Clone)]
pub struct Near {
    /// Where the database will be.
    pub mark: Mark,
    /// Its frames, in order.
    pub pages: Rc<[(Pgno, Page)]>,
}

/// The shared state of one database.
#[derive(Debug)]
pub struct Board {
    slots: RefCell<Vec<Slot>>,
    changed: Vec<Notify>,
    mark: Cell<Mark>,
    stamp: Cell<Stamp>,
    near: RefCell<Option<Near>>,
    /// Pins that hold.
    pins: Cell<u32>,
    /// Goes up when a pin can't be honoured any more.
    epoch: Cell<u64>,
    /// Pins were voided for the sake of a checkpoint, and none has held to its end since.
    indebted: Cell<bool>,
    pin_requests: RefCell<Vec<oneshot::Sender<Pin>>>,
    hint: Rc<Hint>,
    busy: Cell<u32>,
    closing: watch::Sender<bool>,
    vitals: Arc<DatabaseVitals>,
}

impl Board {
    /// For a number of replicas; `hint` wakes capture.
    #[must_use]
    pub fn new(replicas: usize, hint: Rc<Hint>) -> Board {
        Board::seen(DatabaseVitals::unseen(replicas), hint)
    }

    /// With a place for each replica in `vitals`, where everybody sees what happens.
    #[must_use]
    pub fn seen(vitals: Arc<DatabaseVitals>, hint: Rc<Hint>) -> Board {
        let replicas = vitals.replicas.len();
        Board {
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
            closing: watch::Sender::new(false),
            vitals,
        }
    }

    /// Number of replicas.
    #[must_use]
    pub fn replicas(&self) -> usize {
        self.changed.len()
    }

    /// What one replica shows of itself.
    #[must_use]
    pub fn vitals(&self, replica: usize) -> &ReplicaVitals {
        &self.vitals.replicas[replica]
    }

    /// The newest captured commit.
    #[must_use]
    pub fn mark(&self) -> Mark {
        self.mark.get()
    }

    /// The database file as only SQLite has written to it.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        self.stamp.get()
    }

    /// Capture says: nobody else has written to the database file; `None` while a checkpoint may be
    /// writing to it.
    pub fn set_stamp(&self, stamp: Option<Stamp>) {
        self.stamp.set(stamp.unwrap_or(UNKNOWN));
    }

    /// The file is not the one that was opened any more.
    pub fn file_moved(&self) {
        self.hint.note_moved();
        self.hint.give();
    }

    /// Adds the pages of whole transactions for every replica, and moves the mark.
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

    /// Shows what is about to be committed, so that batches can be made ahead.
    pub fn show_near(&self, near: Option<Near>) {
        let wake = near.is_some();
        *self.near.borrow_mut() = near;
        if wake {
            self.wake_all();
        }
    }

    /// What is about to be committed.
    #[must_use]
    pub fn near(&self) -> Option<Near> {
        self.near.borrow().clone()
    }

    /// Puts pages that one replica lacks at the start.
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

    /// Looks at, or takes from, the slot of a replica.
    pub fn slot<T>(&self, replica: usize, f: impl FnOnce(&mut Slot) -> T) -> T {
        f(&mut self.slots.borrow_mut()[replica])
    }

    /// Frames were missed: what is pending is not everything, for any replica.
    pub fn lose(&self, reason: &str) {
        for slot in self.slots.borrow_mut().iter_mut() {
            slot.pending = Pending::new();
            slot.gap = Some(reason.to_owned());
        }
        self.wake_all();
    }

    /// The WAL has frames that can't be proven.
    pub fn wal_damaged(&self, reason: &str) {
        self.vitals.wal_is_damaged(reason);
    }

    /// It has none any more.
    pub fn wal_sound(&self) {
        self.vitals.wal_is_sound();
    }

    /// Whether somebody reads the database and must not be disturbed by a checkpoint.
    #[must_use]
    pub fn is_pinned(&self) -> bool {
        self.pins.get() > 0
    }

    /// Whether somebody waits to pin.
    #[must_use]
    pub fn pin_is_wanted(&self) -> bool {
        !self.pin_requests.borrow().is_empty()
    }

    /// Capture says: the database stands still (cruise, everything captured). Whoever waits to pin
    /// gets its pin.
    pub fn grant_pins(self: &Rc<Self>) {
        for request in self.pin_requests.take() {
            self.pins.set(self.pins.get() + 1);
            // One who no longer waits gives the pin back by dropping it.
            let _ = request.send(Pin { board: Rc::clone(self), epoch: self.epoch.get() });
        }
    }

    /// Pins given so far are void.
    pub fn void_pins(&self) {
        self.epoch.set(self.epoch.get() + 1);
        self.pins.set(0);
    }

    /// A checkpoint must not wait: pins given so far are void. `false` if that was so the last
    /// time, too, and whoever reads must come to an end.
    pub fn void_pins_once(&self) -> bool {
        if self.is_pinned() && self.indebted.replace(true) {
            return false;
        }
        self.void_pins();
        true
    }

    /// Waits until the database stands still, and keeps it so until the pin is dropped. `None` when
    /// capture has ended.
    pub async fn pin(&self) -> Option<Pin> {
        let (give, get) = oneshot::channel();
        self.pin_requests.borrow_mut().push(give);
        self.hint.give();
        get.await.ok()
    }

    /// Capture ends: nobody gets a pin any more.
    pub fn refuse_pins(&self) {
        self.pin_requests.take();
    }

    /// Capture has taken its last look: what is pending now is to be stored, then the pipelines
    /// end.
    pub fn close(&self) {
        self.closing.send_replace(true);
        self.wake_all();
    }

    /// Whether [`Board::close`] was called.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        *self.closing.borrow()
    }

    /// Waits for [`Board::close`].
    pub async fn closing(&self) {
        // The sender lives in `self`, so that waiting can't fail.
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

    /// Whether every replica is uploading, so that there is no hurry to look at the log.
    #[must_use]
    pub fn all_busy(&self) -> bool {
        self.busy.get() as usize >= self.replicas()
    }
}

/// While it lives, the database file does not change, and the frames up to the mark stay where they
/// are.
#[derive(Debug)]
pub struct Pin {
    board: Rc<Board>,
    epoch: u64,
}

impl Pin {
    /// Whether the promise held until now. If not, what was read is void.
    #[must_use]
    pub fn held(&self) -> bool {
        self.board.epoch.get() == self.epoch
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        if self.held() {
            self.board.pins.set(self.board.pins.get() - 1);
            self.board.indebted.set(false);
        }
        self.board.hint.give();
    }
}
