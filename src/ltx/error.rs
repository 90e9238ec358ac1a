//! Errors of LTX files that are read or written.

use crate::base::{DatabaseChecksum, Pgno, Txid};

/// What is wrong. Variants with a page or an offset name the first one found.
#[derive(Debug, thiserror::Error)]
pub enum LtxError {
    /// The input could not be read.
    #[error("cannot read the LTX file: {0}")]
    Read(#[from] std::io::Error),
    /// The temporary file of a page index could not be read back.
    #[error("cannot read back the temporary file with the page index: {0}")]
    IndexFile(std::io::Error),
    /// The file ends too early.
    #[error("LTX file ends after {len} bytes, within its {part}: the upload or the copy was cut short")]
    Truncated {
        /// Length of the file in bytes.
        len: u64,
        /// The part of the file that is incomplete.
        part: &'static str,
    },
    /// The file is not an LTX file.
    #[error("not an LTX file: it begins with {found:02x?} instead of \"LTX1\"")]
    Magic {
        /// The first four bytes.
        found: [u8; 4],
    },
    /// The header has an unknown flag.
    #[error("LTX header has flags {0:#x}, of which only 0x2 is known: a newer program wrote this file")]
    HeaderFlags(u32),
    /// The header has a page size that SQLite does not support.
    #[error("LTX header has page size {0}, which is not a power of two from 512 to 65536")]
    PageSize(u32),
    /// The pages of a file with all pages of a database are not those that its header names.
    #[error("its pages make a database with checksum {computed}, and its header says {stored}")]
    Pages {
        /// The checksum in the header.
        stored: DatabaseChecksum,
        /// The checksum of the pages.
        computed: DatabaseChecksum,
    },
    /// The TXIDs in the header are not a range.
    #[error("LTX header has TXIDs {min}-{max}, which is not a range")]
    TxidRange {
        /// First TXID in the header.
        min: Txid,
        /// Last TXID in the header.
        max: Txid,
    },
    /// The WAL range in the header is impossible.
    #[error("LTX header has the impossible WAL range of {size} bytes at {offset}")]
    WalRange {
        /// Offset as stored.
        offset: i64,
        /// Size as stored.
        size: i64,
    },
    /// The pre-apply checksum is missing, or forbidden by the flags.
    #[error("LTX header has pre-apply checksum {0:016x}, which does not fit its flags and TXIDs")]
    PreApply(u64),
    /// A file to be written leaves the database without pages.
    #[error("an LTX file for a database of 0 pages cannot be written: Litestream refuses it")]
    CommitZero,
    /// The header of a file to be written asks for checksums of the database.
    #[error("an LTX file with database checksums cannot be written: Litestream cannot restore from it")]
    DatabaseChecksum,
    /// A page has an unknown flag.
    #[error("page {pgno} has flags {flags:#x}, of which only 0x1 is known: a newer program wrote this file")]
    PageFlags {
        /// Page number as stored; 0 is the terminator.
        pgno: u32,
        /// Flags as stored.
        flags: u16,
    },
    /// Page numbers do not ascend.
    #[error("page {found} comes after page {last}: page numbers must ascend")]
    PageOrder {
        /// The page before.
        last: Pgno,
        /// The page that should be higher.
        found: Pgno,
    },
    /// A page is beyond the end of the database.
    #[error("page {found} lies beyond the database, which has {commit} pages after this file")]
    PageBeyondCommit {
        /// The page number.
        found: Pgno,
        /// Length of the database in pages.
        commit: u32,
    },
    /// The file has the page that contains SQLite's lock bytes.
    #[error("page {0} is the lock page, which never carries data")]
    LockPage(Pgno),
    /// A snapshot lacks a page.
    #[error("a file that begins at TXID 1 must have every page, and page {missing} of {commit} is missing")]
    SnapshotGap {
        /// The first page that is missing.
        missing: u32,
        /// Length of the database in pages.
        commit: u32,
    },
    /// A page to be written has the wrong length.
    #[error("page {pgno} has {found} bytes instead of {expected}")]
    PageLength {
        /// The page number.
        pgno: Pgno,
        /// Page size in bytes.
        expected: usize,
        /// Length of the given page in bytes.
        found: usize,
    },
    /// The length of a compressed page is impossible.
    #[error("page {pgno} claims {found} compressed bytes, which must be from 1 to {max}")]
    PayloadLength {
        /// The page number.
        pgno: Pgno,
        /// Length as stored, in bytes.
        found: u64,
        /// The longest possible length, in bytes.
        max: usize,
    },
    /// A compressed page does not decompress to exactly one page.
    #[error("page {pgno} does not decompress to one page ({reason}): the file is damaged")]
    Payload {
        /// The page number.
        pgno: Pgno,
        /// The damage, as a phrase.
        reason: &'static str,
    },
    /// The index cannot be used; the file may be good nevertheless.
    #[error("page index is of no use ({0}): read the file from its beginning")]
    Index(&'static str),
    /// The index and a frame disagree; the file may be good nevertheless.
    #[error(
        "page index disagrees with the frame at {offset} (page {pgno}): read the file from its beginning"
    )]
    IndexMismatch {
        /// Page number in the index.
        pgno: Pgno,
        /// Offset in the index.
        offset: u64,
    },
    /// Ranges were not added in the order of the file.
    #[error("range at {found} was added where the one at {expected} was due")]
    RangeOrder {
        /// Offset at which the next range has to begin.
        expected: u64,
        /// Offset of the range that was added.
        found: u64,
    },
    /// The post-apply checksum is wrong, or forbidden by the header.
    #[error("post-apply checksum is {stored:016x}, computed {computed:016x}: the file is damaged")]
    PostApply {
        /// The stored checksum.
        stored: u64,
        /// The checksum of the content.
        computed: u64,
    },
    /// The file checksum is wrong.
    #[error("file checksum is {stored:016x}, computed {computed:016x}: the file is damaged")]
    FileChecksum {
        /// The stored checksum.
        stored: u64,
        /// The checksum of the content.
        computed: u64,
    },
    /// A decoder was used after an error.
    #[error("the LTX decoder has already failed")]
    AlreadyFailed,
    /// A merge has no inputs.
    #[error("no LTX files to merge")]
    NothingToMerge,
    /// The inputs of a merge leave a gap, or one of them adds nothing.
    #[error("{min}-{max} does not follow a file that ends at {previous}: there is a gap, or it adds nothing")]
    NotContiguous {
        /// Last TXID of the file before.
        previous: Txid,
        /// First TXID of the file.
        min: Txid,
        /// Last TXID of the file.
        max: Txid,
    },
    /// The inputs of a merge have different page sizes.
    #[error("page size changes from {before} to {after} between the files to merge")]
    PageSizeChanges {
        /// Page size of the first file.
        before: u32,
        /// Page size of the other file.
        after: u32,
    },
}

impl LtxError {
    /// Whether only the index is at fault: the same file, read from its beginning, may turn out
    /// good.
    #[cfg(feature = "internals")]
    #[must_use]
    pub fn is_index_fault(&self) -> bool {
        matches!(self, LtxError::Index(_) | LtxError::IndexMismatch { .. })
    }
}
