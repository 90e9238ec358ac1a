//! Names of generations, snapshots and segments.

use std::fmt;

/// A generation: the random name of a history without gaps.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

impl Generation {
    /// Parses 16 lower-case hex digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Generation> {
        hex(text, 16, 16).map(Generation)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "self")
    }
}

/// Number of a WAL within a generation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WalIndex(u32);

impl WalIndex {
    /// The largest number that 0.3 uses.
    pub const MAX: WalIndex = WalIndex(i32::MAX as u32);

    /// Creates an index; `None` beyond [`WalIndex::MAX`].
    #[must_use]
    pub const fn new(n: u32) -> Option<WalIndex> {
        if n <= WalIndex::MAX.0 { Some(WalIndex(n)) } else { None }
    }

    /// The number itself.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The next number; `None` after [`WalIndex::MAX`].
    #[must_use]
    pub const fn next(self) -> Option<WalIndex> {
        WalIndex::new(self.0 + 1)
    }
}

impl fmt::Display for WalIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl fmt::Debug for WalIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "self")
    }
}

/// Name of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LegacyName {
    /// A copy of the database file.
    Snapshot {
        /// Generation of the snapshot.
        generation: Generation,
        /// The WAL that was current when the snapshot was made.
        index: WalIndex,
    },
    /// A piece of a WAL.
    Segment {
        /// Generation of the segment.
        generation: Generation,
        /// Number of its WAL.
        index: WalIndex,
        /// Offset of its first byte in the WAL.
        offset: u64,
        /// Number of digits of the offset in the name, 8 to 16.
        digits: u8,
    },
}

impl LegacyName {
    /// Parses a path `generations/...`; `None` for every other name.
    #[must_use]
    pub fn parse(path: &str) -> Option<LegacyName> {
        let parts: Vec<&str> = path.split('/').collect();
        let ["generations", generation, folder, name] = parts[..] else { return None };
        let generation = Generation::parse(generation)?;
        match folder {
            "snapshots" => {
                let index = index(name.strip_suffix(".snapshot.lz4")?)?;
                Some(LegacyName::Snapshot { generation, index })
            }
            "wal" => {
                let (i, offset) = name.strip_suffix(".wal.lz4")?.split_once('_')?;
                let digits = u8::try_from(offset.len()).ok()?;
                let offset = hex(offset, 8, 16)?;
                Some(LegacyName::Segment { generation, index: index(i)?, offset, digits })
            }
            _ => None,
        }
    }

    /// The path `generations/...` below the root of the replica.
    #[must_use]
    pub fn path(&self) -> String {
        match self {
            LegacyName::Snapshot { generation, index } => {
                format!("generations/{generation}/snapshots/{index}.snapshot.lz4")
            }
            LegacyName::Segment { generation, index, offset, digits } => {
                let width = usize::from(*digits);
                format!("generations/{generation}/wal/{index}_{offset:0width$x}.wal.lz4")
            }
        }
    }

    /// Generation of the file.
    #[must_use]
    pub const fn generation(&self) -> Generation {
        match self {
            LegacyName::Snapshot { generation, .. } | LegacyName::Segment { generation, .. } => *generation,
        }
    }

    /// Number of the WAL that the file belongs to.
    #[must_use]
    pub const fn index(&self) -> WalIndex {
        match self {
            LegacyName::Snapshot { index, .. } | LegacyName::Segment { index, .. } => *index,
        }
    }

    /// Whether the file is a snapshot.
    #[must_use]
    pub const fn is_snapshot(&self) -> bool {
        matches!(self, LegacyName::Snapshot { .. })
    }
}

impl fmt::Display for LegacyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LegacyName::Snapshot { generation, index } => {
                write!(f, "snapshot {index} of generation {generation}")
            }
            LegacyName::Segment { generation, index, offset, .. } => {
                write!(f, "WAL segment {index}_{offset:08x} of generation {generation}")
            }
        }
    }
}

fn index(text: &str) -> Option<WalIndex> {
    WalIndex::new(u32::try_from(hex(text, 8, 8)?).ok()?)
}

fn hex(text: &str, min: usize, max: usize) -> Option<u64> {
    let lower = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    let fits = (min..=max).contains(&text.len()) && text.bytes().all(lower);
    if fits { u64::from_str_radix(text, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_and_strangers_are_ignored() {
        for good in [
            "generations/c9576ca0d0b8b360/snapshots/00000001.snapshot.lz4",
            "generations/c9576ca0d0b8b360/wal/0000000a_00000238.wal.lz4",
            "generations/c9576ca0d0b8b360/wal/7fffffff_123456789.wal.lz4",
            "generations/c9576ca0d0b8b360/wal/00000001_0000000000000020.wal.lz4",
        ] {
            assert_eq!(LegacyName::parse(good).expect(good).path(), good);
        }
        for bad in [
            "generations/c9576ca0d0b8b360/snapshots/80000000.snapshot.lz4",
            "generations/c9576ca0d0b8b360/snapshots/0000001.snapshot.lz4",
            "generations/C9576ca0d0b8b360/snapshots/00000001.snapshot.lz4",
            "generations/c9576ca0d0b8b36/snapshots/00000001.snapshot.lz4",
            "generations/c9576ca0d0b8b360/snapshots/00000001.snapshot.lz4.tmp",
            "generations/c9576ca0d0b8b360/snapshots/00000001.snapshot",
            "generations/c9576ca0d0b8b360/wal/0000000a_0000238.wal.lz4",
            "generations/c9576ca0d0b8b360/wal/0000000a_00000000000000238.wal.lz4",
            "generations/c9576ca0d0b8b360/wal/0000000a_+0000238.wal.lz4",
            "generations/c9576ca0d0b8b360/wal/0000000a.wal.lz4",
            "generations/c9576ca0d0b8b360/other/0000000a_00000000.wal.lz4",
            "generations//c9576ca0d0b8b360/wal/0000000a_00000000.wal.lz4",
            "generations/c9576ca0d0b8b360/",
            "x/generations/c9576ca0d0b8b360/snapshots/00000001.snapshot.lz4",
        ] {
            assert_eq!(LegacyName::parse(bad), None, "{bad}");
        }
    }
}
