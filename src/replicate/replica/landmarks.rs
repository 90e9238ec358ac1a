//! Remembers some files of a replica, so that the next start finds out from its listing whether
//! they were exchanged.
//!
//! # Overview
//!
//! A start judges the newest object, and that is ours even where it was put on top of another
//! history. So the state folder has a list of *landmarks*: the newest image, the last file of each
//! other level, and the first one of level 0, each with its length and its times. The start lists
//! the replica in any case. Only a landmark whose length or time is not the same costs a request,
//! for its header, whose time tells whether it is the file that was stored.
//!
//! # Failure and crash
//!
//! The list is written after the start, when the state is flushed, and at the stop. A file that is
//! not in the list, or no longer in the listing, is not judged. An unreadable list counts as none.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::base::clock::Millis;
use crate::base::{Level, LtxId, Txid};
use crate::replicate::history::Stored;
use crate::replicate::state::replica_folder;
use crate::store::Entry;

/// File in the folder of the replica's state.
pub(super) const NAME: &str = "landmarks";

/// Permissions of the file, as in the rest of the folder.
pub(super) const MODE: u32 = 0o600;

/// Most bytes that are read of the file; it has twelve entries of some 100 bytes at most.
const BYTES: u64 = 16 << 10;

/// A file that was stored, as it was last known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Landmark {
    pub(super) id: LtxId,
    pub(super) size: u64,
    /// Time in its header; `None` if it was only seen in a listing.
    pub(super) created: Option<Millis>,
    /// Time in the listing of the store; `None` if it was not listed since it was stored.
    listed: Option<Millis>,
}

/// An entry of the file; times in milliseconds since 1970.
#[derive(Serialize, Deserialize)]
pub(super) struct Written {
    level: u8,
    min: u64,
    max: u64,
    size: u64,
    created: Option<i64>,
    listed: Option<i64>,
}

impl Landmark {
    /// `is_local`: the store lists a file with the time in its header.
    fn of(stored: &Stored, is_local: bool) -> Landmark {
        let (id, size, time) = (stored.id, stored.size, Some(stored.created));
        let created = time.filter(|_| stored.exact);
        Landmark { id, size, created, listed: time.filter(|_| !stored.exact || is_local) }
    }

    /// Adds what was known of the same file before.
    fn with(self, before: &Landmark) -> Landmark {
        match self.id == before.id && self.size == before.size {
            true => Landmark {
                created: self.created.or(before.created),
                listed: self.listed.or(before.listed),
                ..self
            },
            false => self,
        }
    }

    fn is_changed(&self, entry: &Entry) -> bool {
        entry.size != self.size || self.listed.is_some_and(|listed| listed != entry.modified)
    }

    pub(super) fn written(&self) -> Written {
        let (level, min, max) = (self.id.level.get(), self.id.min.0, self.id.max.0);
        let [created, listed] = [self.created, self.listed].map(|t| t.map(|t| t.0));
        Written { level, min, max, size: self.size, created, listed }
    }

    fn read(w: &Written) -> Option<Landmark> {
        let id = LtxId::new(Level::new(u32::from(w.level)).ok()?, Txid(w.min), Txid(w.max)).ok()?;
        let [created, listed] = [w.created, w.listed].map(|t| t.map(Millis));
        Some(Landmark { id, size: w.size, created, listed })
    }
}

/// The landmarks of a replica, and what the last listing said of them.
#[derive(Debug, Default)]
pub struct Landmarks {
    pub(super) known: Vec<Landmark>,
    /// Landmarks that are listed otherwise than they are known.
    pub(super) changed: Vec<(Landmark, Entry)>,
}

impl Landmarks {
    pub(super) fn of(folder: &Path) -> Landmarks {
        let bytes = replica_folder(folder).open().and_then(|f| f.read_small(NAME, BYTES));
        let written: Vec<Written> = serde_json::from_slice(&bytes.unwrap_or_default()).unwrap_or_default();
        Landmarks { known: written.iter().filter_map(Landmark::read).collect(), changed: Vec::new() }
    }

    /// Compares with a listing, which is sorted.
    pub(super) fn compare(&mut self, files: &[Entry]) {
        let listed = |id: LtxId| files.binary_search_by_key(&id, |e| e.id).ok().map(|at| files[at]);
        let changed = |lm: &Landmark| listed(lm.id).filter(|e| lm.is_changed(e)).map(|e| (*lm, e));
        self.changed = self.known.iter().filter_map(changed).collect();
    }

    /// Takes over what is stored now. Returns whether anything is new.
    pub(super) fn update(&mut self, stored: &[Stored], is_local: bool) -> bool {
        let new = stored.iter().map(|s| Landmark::of(s, is_local));
        let new = new.map(|lm| self.known.iter().fold(lm, Landmark::with)).collect();
        std::mem::replace(&mut self.known, new) != self.known
    }
}
