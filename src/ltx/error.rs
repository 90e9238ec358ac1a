//! What can be wrong with an LTX file, or with what was to become one.

use crate::base::{Pgno, Txid};

/// What was wrong. Variants that name a page or an offset name the first one found.
#[derive(Debug, thiserror::Error)]
pub enum LtxError {
    /// the input could not be read
    #[error("cannot read the LTX file: {0}")]
    Read(#[from] std::io::Error),
    /// the temporary file of a page index can't be read back
    #[error("cannot read back the temporary file with the page index: {0}")]
    IndexFile(std::io::Error),
    /// the file ends too early
    #[error("LTX file ends after {len} bytes, within its {part}: the upload or the copy was cut short")]
    Truncated {
        /// Bytes there are.
        len: u64,
        /// Part of the file that is incomplete.
        part: &'static str,
    },
    /// not an LTX file
    #[error("not an LTX file: it begins with {found:02x?} instead of \"LTX1\"")]
    Magic {
        /// First four bytes.
        found: [u8; 4],
    },
    /// a header flag that nobody knows
    #[error("LTX header has flags {0:#x}, of which only 0x2 is known: a newer program wrote this file")]
    HeaderFlags(u32),
    /// a page size that SQLite does not have
    #[error("LTX header has page size {0}, which is not a power of two from 512 to 65536")]
    PageSize(u32),
    /// TXIDs that are no range
    #[error("LTX header has TXIDs {min}-{max}, which is not a range")]
    TxidRange {
        /// First of the header.
        min: Txid,
        /// Last of the header.
        max: Txid,
    },
    /// a part of the WAL that cannot be
    #[error("LTX header has the impossible WAL range of {size} bytes at {offset}")]
    WalRange {
        /// Offset as stored.
        offset: i64,
        /// Size as stored.
        size: i64,
    },
    /// a pre-apply checksum that the flags forbid, or one that is missing
    #[error("LTX header has pre-apply checksum {0:016x}, which does not fit its flags and TXIDs")]
    PreApply(u64),
    /// a file to be written leaves the database without pages
    #[error("an LTX file for a database of 0 pages cannot be written: Litestream refuses it")]
    CommitZero,
    /// a file to be written is to keep checksums of the database
    #[error("an LTX file with database checksums cannot be written: Litestream cannot restore from it")]
    DatabaseChecksum,
    /// page flags that nobody knows
    #[error("page {pgno} has flags {flags:#x}, of which only 0x1 is known: a newer program wrote this file")]
    PageFlags {
        /// Page number as stored; 0 is the terminator.
        pgno: u32,
        /// Flags as stored.
        flags: u16,
    },
    /// page numbers that do not ascend
    #[error("page {found} comes after page {last}: page numbers must ascend")]
    PageOrder {
        /// The page before.
        last: Pgno,
        /// The page that should have been higher.
        found: Pgno,
    },
    /// a page beyond the end of the database
    #[error("page {found} lies beyond the database, which has {commit} pages after this file")]
    PageBeyondCommit {
        /// The page.
        found: Pgno,
        /// Pages of the database.
        commit: u32,
    },
    /// the page of SQLite's lock bytes
    #[error("page {0} is the lock page, which never carries data")]
    LockPage(Pgno),
    /// a snapshot that leaves out a page
    #[error("a file that begins at TXID 1 must have every page, and page {missing} of {commit} is missing")]
    SnapshotGap {
        /// First page that is missing.
        missing: u32,
        /// Pages of the database.
        commit: u32,
    },
    /// a page to be written that is not one page long
    #[error("page {pgno} has {found} bytes instead of {expected}")]
    PageLength {
        /// The page.
        pgno: Pgno,
        /// Bytes in a page.
        expected: usize,
        /// Bytes given.
        found: usize,
    },
    /// a compressed page that is longer than any compressor makes it
    #[error("page {pgno} claims {found} compressed bytes, which must be from 1 to {max}")]
    PayloadLength {
        /// The page.
        pgno: Pgno,
        /// Length as stored.
        found: u64,
        /// Longest that can be.
        max: usize,
    },
    /// a compressed page that does not give one page
    #[error("page {pgno} does not decompress to one page ({reason}): the file is damaged")]
    Payload {
        /// The page.
        pgno: Pgno,
        /// What was wrong with it.
        reason: &'static str,
    },
    /// an index that cannot be used; the file may be good all the same
    #[error("page index is of no use ({0}): read the file from its beginning")]
    Index(&'static str),
    /// the index and a frame disagree; the file may be good all the same
    #[error(
        "page index disagrees with the frame at {offset} (page {pgno}): read the file from its beginning"
    )]
    IndexMismatch {
        /// Page by the index.
        pgno: Pgno,
        /// Offset by the index.
        offset: u64,
    },
    /// ranges that were not added in the order of the file
    #[error("range at {found} was added where the one at {expected} was due")]
    RangeOrder {
        /// Offset where the next range begins.
        expected: u64,
        /// Offset of the range given.
        found: u64,
    },
    /// a post-apply checksum that the header forbids, or a wrong one
    #[error("post-apply checksum is {stored:016x}, computed {computed:016x}: the file is damaged")]
    PostApply {
        /// As stored.
        stored: u64,
        /// As it should be.
        computed: u64,
    },
    /// the file checksum does not agree
    #[error("file checksum is {stored:016x}, computed {computed:016x}: the file is damaged")]
    FileChecksum {
        /// As stored.
        stored: u64,
        /// As it should be.
        computed: u64,
    },
    /// the decoder is used after an error
    #[error("the LTX decoder has already failed")]
    AlreadyFailed,
    /// nothing to merge
    #[error("no LTX files to merge")]
    NothingToMerge,
    /// inputs of a merge that leave a gap, or that add nothing
    #[error("{min}-{max} does not follow a file that ends at {previous}: there is a gap, or it adds nothing")]
    NotContiguous {
        /// Last TXID of the file before.
        previous: Txid,
        /// First TXID of the file.
        min: Txid,
        /// Last TXID of the file.
        max: Txid,
    },
    /// inputs of a merge with different page sizes
    #[error("page size changes from {before} to {after} between the files to merge")]
    PageSizeChanges {
        /// Page size of the first file.
        before: u32,
        /// Page size of the other.
        after: u32,
    },
}

impl LtxError {
    /// Only the index is at fault: the same file, read from its beginning, may prove good.
    #[must_use]
    pub fn is_index_fault(&self) -> bool {
        matches!(self, LtxError::Index(_) | LtxError::IndexMismatch { .. })
    }
}
