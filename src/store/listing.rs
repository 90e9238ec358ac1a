//! The result of a listing of a replica.

use std::cmp::Reverse;

use super::side::SideId;
use crate::base::LtxId;
use crate::base::clock::Millis;

/// One object of a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Level and TXID range, which form the name.
    pub id: LtxId,
    /// Length in bytes.
    pub size: u64,
    /// When the store says it was written: LastModified, or the file's modification time. For a
    /// directory this is the creation time of the header; for S3 it is the time of the upload.
    pub modified: Millis,
}

/// One side file of a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SideEntry {
    /// Its name, with the kind of the file.
    pub id: SideId,
    /// Length in bytes.
    pub size: u64,
    /// When the store says it was written.
    pub modified: Millis,
}

/// All files of a replica.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// LTX files, in order of level, then minimum, then maximum TXID.
    pub files: Vec<Entry>,
    /// Side files, sorted by name.
    pub sides: Vec<SideEntry>,
}

/// A part of a replica.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listed {
    /// What was listed.
    pub listing: Listing,
    /// The part was not listed to its end.
    pub more: bool,
}

impl Listing {
    /// Adds what another listing of the same replica shows.
    pub fn add(&mut self, other: Listing) {
        self.files.extend(other.files);
        self.sides.extend(other.sides);
        self.sort();
    }

    /// Sorts and removes duplicates. Of an object that was replaced during the listing, the younger
    /// entry stays.
    pub(super) fn sort(&mut self) {
        self.files.sort_unstable_by_key(|e| (e.id, Reverse(e.modified)));
        self.files.dedup_by_key(|e| e.id);
        self.sides.sort_unstable_by_key(|e| (e.id, Reverse(e.modified)));
        self.sides.dedup_by_key(|e| e.id);
    }

    /// Number of objects in the listing.
    pub(super) fn len(&self) -> usize {
        self.files.len() + self.sides.len()
    }
}
