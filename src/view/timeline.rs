//! All states between two, as sources of pages.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::btree::{BtreeError, Source};
use super::{At, Change, History, Pages as _, Replica, Snapshot, ViewError, snapshot};
use crate::base::{PageSize, Txid};

/// The states after each of some files that follow each other, and the state before the first.
pub struct Timeline {
    /// The state before the first file. `None` if that is the beginning of the replica.
    base: Option<Still>,
    changes: Vec<Change>,
    /// For each page the files that have it, oldest first.
    places: HashMap<u32, Vec<usize>>,
    page_size: PageSize,
}

/// One state of a timeline.
#[derive(Clone, Copy)]
pub struct Moment<'a> {
    timeline: &'a Timeline,
    /// Number of files that lead to it.
    files: usize,
}

impl Timeline {
    /// Opens the state before the files. Pages are read when they are asked for.
    ///
    /// # Errors
    /// [`ViewError`], if that state cannot be reached.
    pub fn open(replica: &Replica, history: &History) -> Result<Timeline, ViewError> {
        let first = history.changes().first().map(|change| change.entry().id.min.0.saturating_sub(1));
        let base = match first {
            None | Some(0) => None,
            Some(txid) => Some(snapshot::open(replica, At::Txid(Txid(txid)))?),
        };
        Ok(Timeline::new(base, history))
    }

    /// The states from `base`, to which the files belong.
    #[must_use]
    pub fn after(base: Snapshot, history: &History) -> Timeline {
        Timeline::new(Some(base), history)
    }

    fn new(base: Option<Snapshot>, history: &History) -> Timeline {
        let changes = history.changes().to_vec();
        let mut places: HashMap<u32, Vec<usize>> = HashMap::new();
        for (i, change) in changes.iter().enumerate() {
            for number in change.numbers() {
                places.entry(number).or_default().push(i);
            }
        }
        let size = changes.first().map(Change::page_size).or(base.as_ref().map(Snapshot::page_size));
        let page_size = size.and_then(|size| PageSize::new(size).ok()).unwrap_or(PageSize::MAX);
        Timeline { base: base.map(Still::new), changes, places, page_size }
    }

    /// The files, oldest first.
    #[must_use]
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// The state after this number of files.
    #[must_use]
    pub fn at(&self, files: usize) -> Moment<'_> {
        Moment { timeline: self, files: files.min(self.changes.len()) }
    }
}

impl Source for Moment<'_> {
    fn page_size(&self) -> usize {
        self.timeline.page_size.bytes()
    }

    fn page_count(&self) -> u32 {
        match (self.files.checked_sub(1), &self.timeline.base) {
            (Some(last), _) => self.timeline.changes[last].page_count(),
            (None, Some(base)) => base.page_count(),
            (None, None) => 0,
        }
    }

    fn page(&self, number: u32) -> Result<Arc<[u8]>, BtreeError> {
        let of_store = |e: ViewError| BtreeError::Source(Box::new(e));
        if number == self.timeline.page_size.lock_page().get() {
            return Ok(vec![0; self.timeline.page_size.bytes()].into());
        }
        let places = self.timeline.places.get(&number).map_or(&[][..], |places| &places[..]);
        let before = places.partition_point(|i| *i < self.files);
        match (before.checked_sub(1), &self.timeline.base) {
            (Some(last), _) => self.timeline.changes[places[last]].page(number).map_err(of_store),
            (None, Some(base)) => base.page(number),
            (None, None) => Err(BtreeError::damaged(number, "no file of the replica has it")),
        }
    }
}

/// One state as a source of pages.
pub struct Still(Mutex<Snapshot>);

impl Still {
    /// The pages of a state.
    #[must_use]
    pub fn new(snapshot: Snapshot) -> Still {
        Still(Mutex::new(snapshot))
    }

    fn get(&self) -> MutexGuard<'_, Snapshot> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source for Still {
    fn page_size(&self) -> usize {
        self.get().page_size() as usize
    }

    fn page_count(&self) -> u32 {
        self.get().page_count()
    }

    fn page(&self, number: u32) -> Result<Arc<[u8]>, BtreeError> {
        self.get().page(number).map_err(|e| BtreeError::Source(Box::new(e)))
    }
}
