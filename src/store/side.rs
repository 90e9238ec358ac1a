//! What lies beside the LTX files of a replica: old replicas of Litestream 0.3, and lists of times.

use std::cmp::Reverse;
use std::fmt;

use super::api::Entry;
use crate::base::clock::Millis;
use crate::legacy::LegacyName;
use crate::ltx::TimesId;

/// Name of an object that is no LTX file. Nothing else beside the levels is ever looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SideId {
    /// A file of Litestream 0.3; never written.
    Legacy(LegacyName),
    /// A list of times.
    Times(TimesId),
}

impl SideId {
    /// Below the root of the replica.
    #[must_use]
    pub fn path(&self) -> String {
        match self {
            SideId::Legacy(name) => name.path(),
            SideId::Times(id) => format!("times/{}", id.file_name()),
        }
    }

    /// Reads a name below the root; `None` for all that is not known.
    #[must_use]
    pub fn parse(path: &str) -> Option<SideId> {
        match path.strip_prefix("times/") {
            Some(name) => TimesId::parse_file_name(name).map(SideId::Times),
            None => LegacyName::parse(path).map(SideId::Legacy),
        }
    }
}

impl fmt::Display for SideId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SideId::Legacy(name) => name.fmt(f),
            SideId::Times(id) => write!(f, "times {}-{}", id.min, id.max),
        }
    }
}

/// One such object of a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SideEntry {
    /// Name.
    pub id: SideId,
    /// Length in bytes.
    pub size: u64,
    /// When the store says it was written.
    pub modified: Millis,
}

/// Everything in a replica.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// LTX files, in order of level, then minimum, then maximum TXID.
    pub files: Vec<Entry>,
    /// What lies beside them, in order of names.
    pub sides: Vec<SideEntry>,
}

impl Listing {
    /// Sorts, and drops what was listed twice: of an object that was replaced meanwhile the younger
    /// stays.
    pub(super) fn sort(&mut self) {
        self.files.sort_unstable_by_key(|e| (e.id, Reverse(e.modified)));
        self.files.dedup_by_key(|e| e.id);
        self.sides.sort_unstable_by_key(|e| (e.id, Reverse(e.modified)));
        self.sides.dedup_by_key(|e| e.id);
    }

    /// How many objects it names.
    pub(super) fn len(&self) -> usize {
        self.files.len() + self.sides.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_below_the_root() {
        for path in [
            "times/0000000000000001-000000000000012c.times",
            "generations/c9576ca0d0b8b360/snapshots/00000001.snapshot.lz4",
        ] {
            assert_eq!(SideId::parse(path).expect(path).path(), path);
        }
        for path in ["0000000000000001-000000000000012c.times", "times/x", "lsfast-scratch/probe", ""] {
            assert_eq!(SideId::parse(path), None, "{path}");
        }
    }
}
