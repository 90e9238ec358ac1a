//! Side files of a replica, next to its LTX files: replicas of Litestream 0.3, and lists of times.

use std::fmt;

use crate::legacy::LegacyName;
use crate::ltx::TimesId;

/// Name of an object that is not an LTX file. Objects with other names are ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SideId {
    /// A file of Litestream 0.3. Only read, never written.
    Legacy(LegacyName),
    /// A list of times.
    Times(TimesId),
}

impl SideId {
    /// The path relative to the replica's root.
    #[must_use]
    pub fn path(&self) -> String {
        match self {
            SideId::Legacy(name) => name.path(),
            SideId::Times(id) => format!("times/{}", id.file_name()),
        }
    }

    /// Parses a path relative to the root; `None` for an unknown name.
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
