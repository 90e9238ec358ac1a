//! Integers with a meaning, each as a type of its own.

use std::fmt;
use std::num::NonZeroU32;

/// Offset of SQLite's lock bytes in a database file. The page that contains it never carries data.
const LOCK_BYTE: u32 = 0x4000_0000;

/// Why a value is not a valid identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The number is not a page size that SQLite supports.
    #[error("page size {0} is not a power of two from 512 to 65536")]
    PageSize(u32),
    /// The number is not a level of a replica.
    #[error("level {0} is not in 0..=9")]
    Level(u32),
    /// The numbers are not a range of transaction ids from 1 to [`Txid::MAX`].
    #[error("{min:016x}-{max:016x} is not a range of transaction ids from 1 to {last}", last = Txid::MAX)]
    TxidRange {
        /// First transaction id of the range.
        min: u64,
        /// Last transaction id of the range.
        max: u64,
    },
}

/// Number of a database page, counted from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pgno(NonZeroU32);

impl Pgno {
    /// The first page, which holds the database header.
    pub const FIRST: Pgno = Pgno(NonZeroU32::MIN);

    /// `None` for 0, because pages are counted from 1.
    #[must_use]
    pub const fn new(n: u32) -> Option<Pgno> {
        match NonZeroU32::new(n) {
            Some(n) => Some(Pgno(n)),
            None => None,
        }
    }

    /// The page number, counted from 1.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0.get()
    }

    /// Index in a zero-based array of pages.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0.get() as usize - 1
    }

    /// Byte offset of the page in a database file.
    #[must_use]
    pub const fn offset(self, size: PageSize) -> u64 {
        (self.0.get() as u64 - 1) * size.get() as u64
    }
}

impl fmt::Debug for Pgno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "page {}", self.0)
    }
}

impl fmt::Display for Pgno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Bytes in a page: a power of two, 512 to 65536.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageSize(u32);

impl PageSize {
    /// The largest page.
    pub const MAX: PageSize = PageSize(65536);

    /// Checks that SQLite supports this page size.
    ///
    /// # Errors
    /// [`IdError::PageSize`] if it does not.
    pub const fn new(bytes: u32) -> Result<PageSize, IdError> {
        if bytes.is_power_of_two() && bytes >= 512 && bytes <= 65536 {
            Ok(PageSize(bytes))
        } else {
            Err(IdError::PageSize(bytes))
        }
    }

    /// Converts the 16-bit form in the database header and the wal-index, where 1 means 65536.
    ///
    /// # Errors
    /// [`IdError::PageSize`] if SQLite does not support the size.
    pub const fn from_u16(v: u16) -> Result<PageSize, IdError> {
        PageSize::new(if v == 1 { 65536 } else { v as u32 })
    }

    /// Bytes in a page.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Bytes in a page, as a length in memory.
    #[must_use]
    pub const fn bytes(self) -> usize {
        self.0 as usize
    }

    /// Number of the page that contains SQLite's lock bytes. It never carries data.
    #[must_use]
    pub const fn lock_page(self) -> Pgno {
        match Pgno::new(LOCK_BYTE / self.0 + 1) {
            Some(p) => p,
            None => unreachable!(),
        }
    }
}

impl fmt::Display for PageSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Transaction id of a replica: the number of one uploaded batch. 0 means that nothing was
/// uploaded.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Txid(pub u64);

impl Txid {
    /// The largest TXID that is accepted anywhere, 2^63 - 1. No replica reaches it by counting. So
    /// another program put a larger one into a name or a file.
    pub const MAX: Txid = Txid(u64::MAX >> 1);

    /// The newest TXID from which a replica is not continued, 2^62. The rest up to [`Txid::MAX`] is
    /// more than any replica needs, so no TXID is written that would later be refused.
    pub const NEWEST_MAX: Txid = Txid(u64::MAX >> 2);

    /// The TXID `n`, or `None` above [`Txid::MAX`].
    #[must_use]
    pub const fn checked(n: u64) -> Option<Txid> {
        if n <= Txid::MAX.0 { Some(Txid(n)) } else { None }
    }

    /// The following TXID. It does not overflow, because no accepted TXID is larger than
    /// [`Txid::MAX`].
    #[must_use]
    pub const fn next(self) -> Txid {
        Txid(self.0 + 1)
    }
}

impl fmt::Debug for Txid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for Txid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Number of a frame in a WAL file, counted from 1. 0 means no frame, like `mxFrame` of an empty
/// WAL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct FrameNo(pub u32);

/// The two salts of a WAL header, which identify one generation of the WAL.
///
/// Compare them only for equality. `docs/design/guard.md` says when "one higher" proves something.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Salts {
    /// First salt; usually incremented by one at each restart of the WAL.
    pub one: u32,
    /// Second salt; random for each generation.
    pub two: u32,
}

impl fmt::Debug for Salts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{:08x}", self.one, self.two)
    }
}

impl fmt::Display for Salts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{:08x}", self.one, self.two)
    }
}

/// Level of a replica: 0 raw batches, 1 to 8 compacted files, 9 snapshots.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Level(u8);

impl Level {
    /// Level 0: one object for each upload.
    pub const RAW: Level = Level(0);
    /// Level 9: full images of the database.
    pub const SNAPSHOT: Level = Level(9);

    /// Checks that `n` is a level, 0 to 9.
    ///
    /// # Errors
    /// [`IdError::Level`] if it is larger.
    pub const fn new(n: u32) -> Result<Level, IdError> {
        if n <= 9 { Ok(Level(n as u8)) } else { Err(IdError::Level(n)) }
    }

    /// All levels, 0 to 9.
    pub fn all() -> impl DoubleEndedIterator<Item = Level> {
        (0..=9).map(Level)
    }

    /// The number of the level.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl fmt::Debug for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "level {}", self.0)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Name of one LTX file within a replica.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LtxId {
    /// Level that the file belongs to.
    pub level: Level,
    /// First transaction id in the file, at least 1.
    pub min: Txid,
    /// Last transaction id in the file, at least `min`.
    pub max: Txid,
}

impl LtxId {
    /// Name of a file with the transaction ids from `min` to `max`.
    ///
    /// # Errors
    /// [`IdError::TxidRange`] unless `1 <= min <= max <= Txid::MAX`.
    pub const fn new(level: Level, min: Txid, max: Txid) -> Result<LtxId, IdError> {
        if min.0 == 0 || max.0 < min.0 || max.0 > Txid::MAX.0 {
            return Err(IdError::TxidRange { min: min.0, max: max.0 });
        }
        Ok(LtxId { level, min, max })
    }

    /// Name of the level-0 file of one transaction id, which must not be 0.
    #[must_use]
    pub const fn raw(txid: Txid) -> LtxId {
        assert!(txid.0 != 0, "transaction ids start at 1");
        LtxId { level: Level::RAW, min: txid, max: txid }
    }

    /// File name `MIN-MAX.ltx`, 37 characters.
    #[must_use]
    pub fn file_name(&self) -> String {
        format!("{}-{}.ltx", self.min, self.max)
    }

    /// Parses `MIN-MAX.ltx`. `None` for every other name, including upper-case hex, `.tmp` and
    /// TXIDs above [`Txid::MAX`].
    #[must_use]
    pub fn parse_file_name(level: Level, name: &str) -> Option<LtxId> {
        fn hex16(s: &str) -> Option<u64> {
            let lower = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
            (s.len() == 16 && s.bytes().all(lower)).then(|| u64::from_str_radix(s, 16).ok())?
        }
        let stem = name.strip_suffix(".ltx")?;
        let (min, max) = stem.split_once('-')?;
        LtxId::new(level, Txid(hex16(min)?), Txid(hex16(max)?)).ok()
    }
}

impl fmt::Debug for LtxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}-{}", self.level, self.min, self.max)
    }
}

impl fmt::Display for LtxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "level {} {}-{}", self.level, self.min, self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lock_page_follows_the_page_size() {
        for (size, page) in
            [(512, 2_097_153), (1024, 1_048_577), (4096, 262_145), (8192, 131_073), (65536, 16385)]
        {
            assert_eq!(PageSize::new(size).unwrap().lock_page().get(), page);
        }
    }

    #[test]
    fn page_sizes() {
        assert_eq!(PageSize::from_u16(1).unwrap().get(), 65536);
        for bad in [0, 1, 256, 513, 131_072] {
            assert_eq!(PageSize::new(bad), Err(IdError::PageSize(bad)));
        }
    }

    #[test]
    fn file_names_round_trip_and_strangers_are_ignored() {
        let id = LtxId::new(Level::RAW, Txid(1), Txid(0xabc)).unwrap();
        assert_eq!(id.file_name(), "0000000000000001-0000000000000abc.ltx");
        assert_eq!(LtxId::parse_file_name(Level::RAW, &id.file_name()), Some(id));
        let last = LtxId::raw(Txid::MAX);
        assert_eq!(LtxId::parse_file_name(Level::RAW, &last.file_name()), Some(last));
        assert_eq!(Txid::MAX.next().0, 1 << 63, "no overflow");
        for bad in [
            "0000000000000001-0000000000000ABC.ltx",
            "0000000000000001-0000000000000abc.ltx.tmp",
            "000000000000001-0000000000000abc.ltx",
            "0000000000000002-0000000000000001.ltx",
            "0000000000000000-0000000000000001.ltx",
            "+000000000000001-0000000000000001.ltx",
            "0000000000000001-8000000000000000.ltx",
            "0000000000000001-ffffffffffffffff.ltx",
            "ffffffffffffffff-ffffffffffffffff.ltx",
            "",
        ] {
            assert_eq!(LtxId::parse_file_name(Level::RAW, bad), None, "{bad}");
        }
    }
}
