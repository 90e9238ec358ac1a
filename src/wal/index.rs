//! The header of the wal-index (`DB-shm`), read from a copy of its bytes.
//!
//! # The first 136 bytes, in host byte order except for the salts
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 48 | header, copy 1 |
//! | 48 | 48 | header, copy 2 |
//! | 96 | 4 | nBackfill: frames 1 to this are in the database file |
//! | 100 | 20 | read marks 0..4; `ffffffff` = not used |
//! | 120 | 8 | lock bytes: only locked, never written |
//! | 128 | 4 | nBackfillAttempted: frames 1 to this may have been copied by a checkpoint |
//! | 132 | 4 | unused |
//!
//! Header copy:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | version 3007000 |
//! | 4 | 4 | unused |
//! | 8 | 4 | change counter, incremented by each commit |
//! | 12 | 1 | 1 once initialised |
//! | 13 | 1 | 1 if the WAL's checksums read big-endian words |
//! | 14 | 2 | page size; 65536 is stored as 1; 0 in an index recovered from an empty WAL |
//! | 16 | 4 | mxFrame: the last committed frame; 0 = empty WAL |
//! | 20 | 4 | nPage: pages in the database as of mxFrame; 0 after recovery from an empty WAL |
//! | 24 | 8 | running checksum of frame mxFrame |
//! | 32 | 8 | salts, as in the WAL's header (big-endian) |
//! | 40 | 8 | checksum of bytes 0..40 in host order |
//!
//! A writer stores copy 2, then a barrier, then copy 1. A reader therefore copies copy 1, then a
//! barrier, then copy 2. It trusts them only if they are equal and the checksum is right.
//!
//! The first connection that opens a database whose WAL is empty or missing *recovers* an index. In
//! such an index page size, nPage, salts and the frame checksum are 0 until the first commit. The
//! header that this commit publishes has all of them.

use super::checksum::{self, Sum};
use crate::base::fields::Fields;
use crate::base::{FrameNo, PageSize, Salts};

/// Bytes of both copies of the header.
pub const HEADERS_BYTES: usize = 2 * HEADER_BYTES;

/// Bytes of the checkpoint information after the two header copies.
pub const CHECKPOINT_BYTES: usize = 40;

/// Bytes before the page lookup tables: header copies, checkpoint information and lock bytes.
pub const LEAD_BYTES: usize = HEADERS_BYTES + CHECKPOINT_BYTES;

/// Offset of nBackfill, where [`CheckpointInfo`] begins.
pub const CHECKPOINT_OFFSET: usize = HEADERS_BYTES;

/// Offset of nBackfillAttempted.
pub const ATTEMPTED_OFFSET: usize = CHECKPOINT_OFFSET + 32;

/// The only version of the wal-index format.
pub const VERSION: u32 = 3_007_000;

/// Read mark of a slot that no reader uses.
pub const READ_MARK_NOT_USED: u32 = u32::MAX;

/// Number of read slots: READ(0) to READ(4).
pub const READ_SLOTS: usize = 5;

/// Lock byte WRITE: the one writer holds it.
pub const LOCK_WRITE: u64 = 120;

/// Lock byte CKPT: the one checkpointer holds it.
pub const LOCK_CKPT: u64 = 121;

/// Lock byte DMS: each process holds it shared while it has the file open.
pub const LOCK_DMS: u64 = 128;

/// Lock byte of the read slot READ(`slot`).
///
/// # Panics
/// If `slot` is not below [`READ_SLOTS`].
#[must_use]
pub const fn lock_read(slot: usize) -> u64 {
    assert!(slot < READ_SLOTS, "read slots are 0 to 4");
    123 + slot as u64
}

/// Bytes in one block of the lookup tables: page numbers, then hash slots.
pub(super) const BLOCK_BYTES: u64 = 32 << 10;

/// Page numbers in a block. The first block has fewer, because the header takes their place.
pub(super) const BLOCK_FRAMES: u32 = 4096;
pub(super) const FIRST_BLOCK_FRAMES: u32 = BLOCK_FRAMES - (LEAD_BYTES / 4) as u32;

/// Offset in the wal-index of the page number of `frame`. Also returns how many page numbers follow
/// there without a gap, that of `frame` included.
///
/// # Panics
/// If `frame` is 0: frames are counted from 1.
#[must_use]
pub const fn page_number_at(frame: FrameNo) -> (u64, u32) {
    assert!(frame.0 != 0, "frames are counted from 1");
    if frame.0 <= FIRST_BLOCK_FRAMES {
        return (LEAD_BYTES as u64 + 4 * (frame.0 as u64 - 1), FIRST_BLOCK_FRAMES - frame.0 + 1);
    }
    let behind = frame.0 - FIRST_BLOCK_FRAMES - 1;
    let (block, place) = (behind / BLOCK_FRAMES + 1, behind % BLOCK_FRAMES);
    (block as u64 * BLOCK_BYTES + 4 * place as u64, BLOCK_FRAMES - place)
}

/// Bytes in one copy of the header.
const HEADER_BYTES: usize = 48;

/// Bytes of the checksum at the end of each copy.
const SUM_BYTES: usize = 8;

/// Lock bytes between the read marks and what was attempted. Nothing is stored in them.
const LOCK_BYTES: usize = 8;

/// Why the header of a wal-index can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WalIndexError {
    /// The two copies of the header differ. A commit is being published, or its writer died.
    #[error("the two copies of the wal-index header differ: a commit is being published, or its writer died")]
    Torn,
    /// The file was created, but no connection has used the database since.
    #[error("the wal-index is not initialised: the database has not been used since the file was made")]
    NotInitialised,
    /// Another program cut the file below the end of its header.
    #[error("the wal-index is shorter than its header: another program cut it")]
    Cut,
    /// The checksum does not fit the bytes of the header.
    #[error("the checksum of the wal-index header is {computed}, but {stored} is stored")]
    Checksum {
        /// The checksum in the header.
        stored: Sum,
        /// The checksum computed from the header's bytes.
        computed: Sum,
    },
    /// The header has this version instead of [`VERSION`].
    #[error("the wal-index has version {0}, only 3007000 is known")]
    Version(u32),
    /// The header has this page size, which SQLite does not support.
    #[error("the wal-index has page size {0}, which is not a power of two from 512 to 65536")]
    PageSize(u16),
}

/// The header that the last commit published. Out of date as soon as it is read, unless a lock
/// prevents commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalIndexHeader {
    /// The change counter, incremented by each commit; wraps around.
    pub change: u32,
    /// Whether the WAL's checksums read big-endian words.
    pub big_endian: bool,
    /// Bytes in a page; `None` only in an index that was recovered from an empty WAL.
    pub page_size: Option<PageSize>,
    /// The last committed frame of the generation `salts`; 0 = empty WAL.
    pub mx_frame: FrameNo,
    /// Pages in the database as of `mx_frame`. In an index that was recovered from an empty WAL it
    /// is 0, and the database file has the number.
    pub n_page: u32,
    /// The running checksum of frame `mx_frame`.
    pub frame_sum: Sum,
    /// The salts of the WAL generation that `mx_frame` belongs to.
    pub salts: Salts,
}

impl WalIndexHeader {
    /// Reads the header from a private copy of the first 96 bytes. The caller must have read copy 1
    /// before copy 2.
    ///
    /// # Errors
    /// [`WalIndexError`], checked in this order: torn, not initialised, checksum, version, page
    /// size.
    pub fn parse(bytes: &[u8; HEADERS_BYTES]) -> Result<WalIndexHeader, WalIndexError> {
        let (header, second) = bytes.split_at(HEADER_BYTES);
        if header != second {
            return Err(WalIndexError::Torn);
        }
        let mut fields = Fields::new(header);
        let (version, _unused, change) = (fields.ne32(), fields.ne32(), fields.ne32());
        let (initialised, big_endian, page_size) = (fields.byte(), fields.byte(), fields.ne16());
        let (mx_frame, n_page) = (FrameNo(fields.ne32()), fields.ne32());
        let frame_sum = Sum(fields.ne32(), fields.ne32());
        let salts = Salts { one: fields.be32(), two: fields.be32() };
        let stored = Sum(fields.ne32(), fields.ne32());
        if initialised == 0 {
            return Err(WalIndexError::NotInitialised);
        }
        let summed = &header[..HEADER_BYTES - SUM_BYTES];
        let computed = checksum::plain(cfg!(target_endian = "big"), Sum::ZERO, summed);
        if stored != computed {
            return Err(WalIndexError::Checksum { stored, computed });
        }
        if version != VERSION {
            return Err(WalIndexError::Version(version));
        }
        let page_size = match page_size {
            0 if mx_frame.0 == 0 => None,
            v => Some(PageSize::from_u16(v).map_err(|_| WalIndexError::PageSize(v))?),
        };
        let big_endian = big_endian != 0;
        Ok(WalIndexHeader { change, big_endian, page_size, mx_frame, n_page, frame_sum, salts })
    }
}

/// How far checkpoints have come, and which frames readers need. No checksum covers these bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckpointInfo {
    /// Frames 1 to this are in the database file.
    pub n_backfill: FrameNo,
    /// The last frame that a reader in each slot may see. [`READ_MARK_NOT_USED`] in a slot that
    /// limits no checkpoint.
    pub read_marks: [u32; READ_SLOTS],
    /// Frames 1 to this may be in the database file.
    pub n_backfill_attempted: FrameNo,
}

impl CheckpointInfo {
    /// Reads a private copy of bytes 96..136.
    #[must_use]
    pub fn parse(bytes: &[u8; CHECKPOINT_BYTES]) -> CheckpointInfo {
        let mut fields = Fields::new(bytes);
        let n_backfill = FrameNo(fields.ne32());
        let read_marks = std::array::from_fn(|_| fields.ne32());
        fields.skip(LOCK_BYTES);
        CheckpointInfo { n_backfill, read_marks, n_backfill_attempted: FrameNo(fields.ne32()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two equal copies of a header whose checksum is right.
    fn headers(change: impl FnOnce(&mut [u8])) -> [u8; HEADERS_BYTES] {
        let mut header = [0u8; HEADER_BYTES];
        header[..4].copy_from_slice(&VERSION.to_ne_bytes());
        header[8..12].copy_from_slice(&7u32.to_ne_bytes());
        header[12] = 1;
        header[14..16].copy_from_slice(&4096u16.to_ne_bytes());
        header[16..20].copy_from_slice(&11u32.to_ne_bytes());
        header[20..24].copy_from_slice(&5u32.to_ne_bytes());
        header[24..28].copy_from_slice(&0x0a0b_0c0du32.to_ne_bytes());
        header[28..32].copy_from_slice(&0x0102_0304u32.to_ne_bytes());
        header[32..40].copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8]);
        change(&mut header);
        let sum = checksum::plain(cfg!(target_endian = "big"), Sum::ZERO, &header[..40]);
        header[40..44].copy_from_slice(&sum.0.to_ne_bytes());
        header[44..].copy_from_slice(&sum.1.to_ne_bytes());
        let mut both = [0; HEADERS_BYTES];
        both[..HEADER_BYTES].copy_from_slice(&header);
        both[HEADER_BYTES..].copy_from_slice(&header);
        both
    }

    #[test]
    fn fields() {
        let header = WalIndexHeader::parse(&headers(|_| {})).unwrap();
        let expected = WalIndexHeader {
            change: 7,
            big_endian: false,
            page_size: PageSize::new(4096).ok(),
            mx_frame: FrameNo(11),
            n_page: 5,
            frame_sum: Sum(0x0a0b_0c0d, 0x0102_0304),
            salts: Salts { one: 0x0102_0304, two: 0x0506_0708 },
        };
        assert_eq!(header, expected);
        let big = WalIndexHeader::parse(&headers(|h| {
            h[13] = 1;
            h[14..16].copy_from_slice(&1u16.to_ne_bytes());
        }))
        .unwrap();
        assert_eq!(big, WalIndexHeader { big_endian: true, page_size: Some(PageSize::MAX), ..expected });
    }

    /// SQLite publishes page size 0 when it recovers an index and finds no WAL.
    #[test]
    fn an_index_recovered_from_an_empty_log_has_no_page_size() {
        let empty = headers(|h| h[14..40].fill(0));
        let header = WalIndexHeader::parse(&empty).unwrap();
        assert_eq!((header.page_size, header.mx_frame, header.n_page), (None, FrameNo(0), 0));
        let frames = headers(|h| h[14..16].fill(0));
        assert_eq!(WalIndexHeader::parse(&frames), Err(WalIndexError::PageSize(0)));
    }

    #[test]
    fn each_fault_has_its_error() {
        let found = |bytes: &[u8; HEADERS_BYTES]| WalIndexHeader::parse(bytes).unwrap_err();
        assert_eq!(found(&[0; HEADERS_BYTES]), WalIndexError::NotInitialised);
        assert_eq!(found(&headers(|h| h[12] = 0)), WalIndexError::NotInitialised);
        assert_eq!(
            found(&headers(|h| h[..4].copy_from_slice(&1u32.to_ne_bytes()))),
            WalIndexError::Version(1)
        );
        assert_eq!(
            found(&headers(|h| h[14..16].copy_from_slice(&100u16.to_ne_bytes()))),
            WalIndexError::PageSize(100)
        );
        for at in (0..HEADERS_BYTES).filter(|at| at % HEADER_BYTES != 12) {
            let mut bytes = headers(|_| {});
            bytes[at] ^= 0x40;
            assert_eq!(found(&bytes), WalIndexError::Torn, "byte {at}");
            bytes[(at + HEADER_BYTES) % HEADERS_BYTES] ^= 0x40;
            assert!(matches!(found(&bytes), WalIndexError::Checksum { .. }), "bytes {at} of both copies");
        }
    }

    #[test]
    fn page_numbers_fill_each_block_up_to_its_hash_slots() {
        assert_eq!(page_number_at(FrameNo(1)), (136, 4062));
        assert_eq!(page_number_at(FrameNo(4062)), ((16 << 10) - 4, 1));
        assert_eq!(page_number_at(FrameNo(4063)), (32 << 10, 4096));
        assert_eq!(page_number_at(FrameNo(4062 + 4096)), ((48 << 10) - 4, 1));
        assert_eq!(page_number_at(FrameNo(4062 + 4097)), (64 << 10, 4096));
        assert_eq!(page_number_at(FrameNo(u32::MAX)).0 % 4, 0);
    }

    #[test]
    fn lock_bytes() {
        assert_eq!([0, 4].map(lock_read), [123, 127]);
        assert_eq!(LEAD_BYTES, 136);
    }
}
