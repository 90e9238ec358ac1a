//! A readable state of the live database that belongs to a TXID: how an image is made while
//! replication goes on.
//!
//! # Order of writes
//!
//! 1. The executor pins the database, so that its state stays readable, and asks the pipeline for a
//!    point.
//! 2. The pipeline, in its next iteration, knows what is pending. If nothing is, the state is that
//!    of the last batch. Otherwise the pending pages become a batch at this moment, and the state
//!    is that of the new batch.
//! 3. The image is written when that batch is durable (I1).
//!
//! # Cancellation
//!
//! A request that is dropped is withdrawn, and its pin with it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::cache::ReplicaCache;
use super::inventory::{Inventory, Stored};
use crate::base::clock::Millis;
use crate::base::{FrameNo, Level, LtxId, PageSize, Txid, limits};
use crate::ltx::WalRange;
use crate::replicate::handoff::{Handoff, Pin};
use crate::replicate::image::source::PageSource;
use crate::replicate::pending::Mark;
use crate::restore::Survey;
use crate::store::{Listing, SideId};
use crate::wal::format;

/// A readable state of the database.
pub struct Point {
    /// The TXID of the state; the image may be written once this is durable.
    pub txid: Txid,
    /// The state's position in the WAL.
    pub mark: Mark,
    /// The state's pages.
    pub source: JoinHandle<std::io::Result<PageSource>>,
}

/// The executor's request for a point.
pub struct Wish {
    /// Sends the answer to the executor.
    give: oneshot::Sender<(Pin, Point)>,
    pin: Pin,
}

impl Wish {
    /// Whether the state can still be read.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.pin.held()
    }

    /// Answers the request.
    pub fn give(self, point: Point) {
        // If the request was given up, the pin returns by being dropped.
        let _ = self.give.send((self.pin, point));
    }
}

/// What the pipeline of a replica and the executor of its history share.
pub struct Feed {
    inventory: RefCell<Inventory>,
    /// Whether the listing has come.
    ready: Cell<bool>,
    changed: Notify,
    wish: RefCell<Option<Wish>>,
    cache: ReplicaCache,
}

impl Feed {
    /// The feed of a replica that is not listed yet.
    #[must_use]
    pub fn new(cache: ReplicaCache) -> Feed {
        Feed {
            inventory: RefCell::default(),
            ready: Cell::new(false),
            changed: Notify::new(),
            wish: RefCell::default(),
            cache,
        }
    }

    /// Takes what the store has. The pipeline calls it with the first listing, and it is called
    /// again when a file is found to be missing. Batches stored after the listing stay known.
    pub fn listed(&self, listing: &Listing, now: Millis) {
        self.take(listing, None, now);
    }

    /// As [`Feed::listed`], with a survey.
    pub fn surveyed(&self, survey: &Survey, now: Millis) {
        self.take(survey.listing(), survey.gap(), now);
    }

    fn take(&self, listing: &Listing, gap: Option<(Txid, Txid)>, now: Millis) {
        let known = self.inventory.take();
        let mut inventory = Inventory::without(&listing.files, known.damaged(), now);
        inventory.set_gap(gap);
        known.beyond(Level::RAW, inventory.position()).into_iter().for_each(|s| inventory.put(s));
        for side in &listing.sides {
            if let SideId::Times(id) = side.id {
                inventory.put_times(id);
            }
        }
        self.inventory.replace(inventory);
        self.ready.set(true);
        self.changed.notify_one();
    }

    /// Whether files are known to be damaged.
    #[must_use]
    pub fn has_damage(&self) -> bool {
        !self.inventory.borrow().damaged().is_empty()
    }

    /// Forgets everything: the replica is no longer what was stored there, and has to be listed
    /// again.
    pub fn forget(&self) {
        self.ready.set(false);
        self.inventory.take();
        self.wish.take();
        self.cache.forget_all();
    }

    /// Whether a file is known to be stored.
    #[must_use]
    pub fn has(&self, id: LtxId) -> bool {
        self.inventory.borrow().find(id).is_some()
    }

    /// Whether the first batch is on level 9, too.
    #[must_use]
    pub fn has_first_image(&self) -> bool {
        self.inventory.borrow().snapshots().any(|s| s.id.max == Txid(1))
    }

    /// Runs the deletion of files. They are not known from its beginning on, so that a check that
    /// misses one finds out why. If the deletion fails, they are known again.
    pub async fn without<E>(
        &self,
        ids: &[LtxId],
        deletion: impl Future<Output = Result<(), E>>,
    ) -> Result<(), E> {
        let known: Vec<Stored> = self.inventory(|s| ids.iter().filter_map(|id| s.remove(*id)).collect());
        let deleted = deletion.await;
        if deleted.is_err() {
            self.inventory(|s| known.into_iter().for_each(|k| s.put(k)));
        }
        deleted
    }

    /// Files that a restore of the newest state is likely to need: the newest image, and the last
    /// file of one level, a different level for each `turn`.
    #[must_use]
    pub fn needed(&self, turn: usize) -> Vec<Stored> {
        let inventory = self.inventory.borrow();
        let first = || inventory.all().filter(|s| s.id.min == Txid(1)).max_by_key(|s| s.id.max);
        let image = inventory.newest_snapshot().or_else(first);
        let levels: Vec<_> = (1..9)
            .filter_map(|n| Level::new(n).ok())
            .filter_map(|l| inventory.level(l).next_back())
            .filter(|s| image.is_none_or(|i| s.id.max > i.id.max))
            .collect();
        let of_levels = levels.get(turn % levels.len().max(1)).copied();
        image.into_iter().chain(of_levels).copied().collect()
    }

    /// Notes a durable batch. `bytes` are those of the file, if they are in memory.
    pub fn stored(&self, id: LtxId, size: u64, created: Millis, now: Millis, bytes: Option<&Bytes>) {
        let mut inventory = self.inventory.borrow_mut();
        // While something waits to be compacted, the executor knows when to look again.
        let first = inventory.nothing_waits();
        inventory.put(Stored { id, size, created, seen: created.min(now), exact: true });
        if let Some(bytes) = bytes {
            self.cache.put(id, bytes);
        }
        if first || self.wish.borrow().is_some() {
            self.changed.notify_one();
        }
    }

    /// Notes files that were found to be damaged.
    pub fn damaged(&self, files: impl IntoIterator<Item = (LtxId, String)>) {
        let mut inventory = self.inventory.borrow_mut();
        let found = files.into_iter().filter(|(id, why)| inventory.damage(*id, why.clone())).count();
        drop(inventory);
        if found > 0 {
            self.changed.notify_one();
        }
    }

    /// Whether only a batch with all pages makes the newest state restorable again.
    #[must_use]
    pub fn wants_whole_batch(&self) -> bool {
        let inventory = self.inventory.borrow();
        inventory.is_broken() || inventory.position_is_damaged()
    }

    /// Whether the newest state cannot be restored from what is stored.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.inventory.borrow().is_broken()
    }

    /// Files from which a later start can tell whether the replica was exchanged: the last one of
    /// each level but level 0, the newest image, and the first of level 0.
    #[must_use]
    pub fn landmarks(&self) -> Vec<Stored> {
        let inventory = self.inventory.borrow();
        let last = Level::all().filter(|l| *l != Level::RAW).filter_map(|l| inventory.level(l).next_back());
        let mut all: Vec<Stored> = last
            .chain(inventory.newest_snapshot())
            .chain(inventory.level(Level::RAW).next())
            .copied()
            .collect();
        all.sort_unstable_by_key(|s| s.id);
        all.dedup_by_key(|s| s.id);
        all
    }

    /// Whether the newest state can be restored from what is stored, as far as that is known.
    #[must_use]
    pub fn is_restorable(&self) -> bool {
        let inventory = self.inventory.borrow();
        let forgets = Level::all().any(|l| inventory.level(l).len() >= limits::SHELF_OBJECTS);
        !inventory.is_broken()
            && (forgets || inventory.position() == Txid(0) || inventory.newest_plan().is_ok())
    }

    /// The files from which the newest state is restored; empty if there is no way.
    #[must_use]
    pub fn newest_files(&self) -> Vec<Stored> {
        let inventory = self.inventory.borrow();
        let plan = inventory.newest_plan().unwrap_or_default();
        plan.iter().filter_map(|e| inventory.find(e.id).copied()).collect()
    }

    /// Requests a full image as soon as possible.
    pub fn want_image(&self) {
        self.inventory.borrow_mut().want_image();
        self.changed.notify_one();
    }

    /// Takes the executor's request for a point, if there is one.
    pub fn take_wish(&self) -> Option<Wish> {
        self.wish.borrow_mut().take()
    }

    /// Whether the replica has been listed.
    pub(super) fn is_ready(&self) -> bool {
        self.ready.get()
    }

    /// Waits for something new.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Runs `f` on the inventory.
    pub(super) fn inventory<T>(&self, f: impl FnOnce(&mut Inventory) -> T) -> T {
        f(&mut self.inventory.borrow_mut())
    }

    /// The files that are kept in memory.
    pub(super) fn cache(&self) -> &ReplicaCache {
        &self.cache
    }
}

/// The executor's access to the live database.
pub struct Live {
    /// Grants pins, and wakes the pipeline.
    pub handoff: Rc<Handoff>,
    /// Index of the replica on the handoff.
    pub index: usize,
}

impl Live {
    /// A durable state, and the pin that keeps it readable; or why there is none.
    pub(super) async fn point(&self, feed: &Feed) -> Result<(Pin, Point, Arc<PageSource>), String> {
        let wait = limits::SNAPSHOT_POINT_WAIT;
        let pin =
            timeout(wait, self.handoff.pin()).await.map_err(|_| "the database keeps changing".to_owned())?;
        let pin = pin.ok_or("capture of the database has ended")?;
        let (give, get) = oneshot::channel();
        *feed.wish.borrow_mut() = Some(Wish { give, pin });
        let _withdraw = Withdraw(feed);
        self.handoff.wake(self.index);
        let given = timeout(wait, get).await.map_err(|_| "batches are held up".to_owned())?;
        let (pin, mut point) = given.map_err(|_| "the database is being repaired".to_owned())?;
        let source = (&mut point.source).await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
        timeout(wait, self.durable(feed, point.txid)).await.map_err(|_| "batches are held up".to_owned())?;
        Ok((pin, point, Arc::new(source)))
    }

    async fn durable(&self, feed: &Feed, txid: Txid) {
        while feed.inventory(|s| s.position()) < txid {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Withdraws a request that the pipeline has not taken, and drops its pin.
struct Withdraw<'a>(&'a Feed);

impl Drop for Withdraw<'_> {
    fn drop(&mut self) {
        drop(self.0.take_wish());
    }
}

impl Inventory {
    fn nothing_waits(&self) -> bool {
        let compacted = (1..9).filter_map(|n| Level::new(n).ok()).map(|l| self.max(l)).max();
        let image = self.newest_snapshot().map(|s| s.id.max);
        let covered = compacted.into_iter().chain(image).max().unwrap_or_default();
        self.position() <= covered
    }
}

/// The range of the WAL in the header of an image: its last frame.
pub(super) fn last_frame(page_size: PageSize, mark: &Mark) -> WalRange {
    let salts = mark.pos.salts;
    let frame = format::frame_bytes(page_size) as u64;
    match mark.pos.frame {
        FrameNo(0) => WalRange { offset: format::frame_end(page_size, FrameNo(0)), size: 0, salts },
        last => WalRange { offset: format::frame_offset(page_size, last), size: frame, salts },
    }
}
