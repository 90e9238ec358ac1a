//! The bytes of a WAL file.
//!
//! # Header, 32 bytes, all fields big-endian
//!
//! | offset | field |
//! |---|---|
//! | 0 | magic `377f0682` or `377f0683`; the lowest bit is 1 if checksums *read* big-endian words |
//! | 4 | version, 3007000 |
//! | 8 | page size; 65536 is stored as 65536 |
//! | 12 | checkpoint sequence number, counted by the connection that wrote it; orders nothing |
//! | 16 | salt 1 |
//! | 20 | salt 2 |
//! | 24 | checksum of bytes 0..24, two words |
//!
//! # Frame, 24 bytes of header, big-endian, and one page
//!
//! | offset | field |
//! |---|---|
//! | 0 | page number |
//! | 4 | commit: pages in the database after the transaction if this is its last frame, or 0 |
//! | 8 | salt 1, as in the header |
//! | 12 | salt 2 |
//! | 16 | running checksum up to and including this frame, two words |
//! | 24 | the page |
//!
//! Frame `k`, counted from 1, begins at `32 + (k - 1) * (24 + page size)`. Its checksum covers
//! bytes 0..8 of the frame and the page. It starts with the checksum of the frame before; that of
//! frame 1 starts with the checksum of the header.

use super::checksum::{self, Sum};
use crate::base::fields::Fields;
use crate::base::{FrameNo, PageSize, Pgno, Salts};

/// Bytes of a WAL header.
pub const HEADER_BYTES: usize = 32;

/// Bytes of a frame's header, which precedes the page.
pub const FRAME_HEADER_BYTES: usize = 24;

/// The magic number without its lowest bit. That bit is 1 if checksums read big-endian words.
pub const MAGIC: u32 = 0x377f_0682;

/// The only version of the WAL format.
pub const VERSION: u32 = 3_007_000;

/// Bytes at the start of a frame header that the checksum covers.
pub(super) const SUMMED_BYTES: usize = 8;

/// Bytes of a stored checksum: two words, the last ones of a header.
const SUM_BYTES: usize = 8;

/// Why bytes are not the header of a WAL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WalError {
    /// The file is shorter than a header.
    #[error("the WAL has {found} bytes, fewer than the 32 of a header")]
    Short {
        /// Length of the file in bytes.
        found: usize,
    },
    /// The file begins with this number instead of [`MAGIC`].
    #[error("the WAL begins with {0:08x}, not with the magic number 377f0682 or 377f0683")]
    Magic(u32),
    /// The checksum does not fit the bytes of the header. The header is being written, or damaged.
    #[error(
        "the checksum of the WAL's header is {computed}, but {stored} is stored: it is being written, or damaged"
    )]
    Checksum {
        /// The checksum in the header.
        stored: Sum,
        /// The checksum computed from the header's bytes.
        computed: Sum,
    },
    /// The header has this version instead of [`VERSION`].
    #[error("the WAL has version {0}, only 3007000 is known")]
    Version(u32),
    /// The header has this page size, which SQLite does not support.
    #[error("the WAL has page size {0}, which is not a power of two from 512 to 65536")]
    PageSize(u32),
}

impl WalError {}

/// A WAL header whose checksum was right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalHeader {
    /// Bytes in a page.
    pub page_size: PageSize,
    /// Whether checksums read big-endian words.
    pub big_endian: bool,
    /// A counter of the connection that wrote the header. Only for diagnostics; it orders nothing.
    pub checkpoint_seq: u32,
    /// The salts, which identify this generation of the WAL.
    pub salts: Salts,
    /// The header's checksum, with which the chain of frame 1 starts.
    pub sum: Sum,
}

impl WalHeader {
    /// Reads and validates the header at the start of `bytes`, which may be longer than the header.
    ///
    /// # Errors
    /// [`WalError`], checked in this order: short, magic, checksum, version, page size.
    pub fn parse(bytes: &[u8]) -> Result<WalHeader, WalError> {
        let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Err(WalError::Short { found: bytes.len() });
        };
        let mut fields = Fields::new(header);
        let (magic, version, page_size) = (fields.be32(), fields.be32(), fields.be32());
        let checkpoint_seq = fields.be32();
        let salts = Salts { one: fields.be32(), two: fields.be32() };
        let stored = Sum(fields.be32(), fields.be32());
        if magic & !1 != MAGIC {
            return Err(WalError::Magic(magic));
        }
        let big_endian = magic & 1 == 1;
        let computed = checksum::plain(big_endian, Sum::ZERO, &header[..HEADER_BYTES - SUM_BYTES]);
        if stored != computed {
            return Err(WalError::Checksum { stored, computed });
        }
        if version != VERSION {
            return Err(WalError::Version(version));
        }
        let page_size = PageSize::new(page_size).map_err(|_| WalError::PageSize(page_size))?;
        Ok(WalHeader { page_size, big_endian, checkpoint_seq, salts, sum: stored })
    }
}

/// The header of a frame. None of its fields is validated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// Number of the page in the frame; `None` for 0, which no valid frame has.
    pub pgno: Option<Pgno>,
    /// Pages in the database after the transaction if this is its last frame, otherwise 0.
    pub commit: u32,
    /// The generation that the frame claims to belong to.
    pub salts: Salts,
    /// The running checksum up to and including this frame.
    pub sum: Sum,
}

impl FrameHeader {
    /// Reads the fields, without validation.
    #[must_use]
    pub fn parse(bytes: &[u8; FRAME_HEADER_BYTES]) -> FrameHeader {
        let mut fields = Fields::new(bytes);
        FrameHeader {
            pgno: Pgno::new(fields.be32()),
            commit: fields.be32(),
            salts: Salts { one: fields.be32(), two: fields.be32() },
            sum: Sum(fields.be32(), fields.be32()),
        }
    }
}

/// Bytes of a frame, its header included.
#[must_use]
pub const fn frame_bytes(page_size: PageSize) -> usize {
    FRAME_HEADER_BYTES + page_size.bytes()
}

/// Offset in the file at which a frame begins.
///
/// # Panics
/// If `frame` is 0: frames are counted from 1.
#[must_use]
pub const fn frame_offset(page_size: PageSize, frame: FrameNo) -> u64 {
    assert!(frame.0 != 0, "frames are counted from 1");
    HEADER_BYTES as u64 + (frame.0 as u64 - 1) * frame_bytes(page_size) as u64
}

/// Offset in the file at which a frame ends. For frame 0 this is the end of the WAL header.
#[must_use]
pub const fn frame_end(page_size: PageSize, frame: FrameNo) -> u64 {
    HEADER_BYTES as u64 + frame.0 as u64 * frame_bytes(page_size) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example header of the format description.
    const HEADER: [u32; 8] = [MAGIC, VERSION, 512, 1, 0x6d44_e169, 0x03a6_c67d, 0x3fac_4780, 0x764c_c528];

    fn bytes(fields: [u32; 8]) -> Vec<u8> {
        fields.iter().flat_map(|f| f.to_be_bytes()).collect()
    }

    /// The bytes of a header with a correct checksum.
    fn summed(mut fields: [u32; 8]) -> Vec<u8> {
        let sum = checksum::plain(fields[0] & 1 == 1, Sum::ZERO, &bytes(fields)[..24]);
        [fields[6], fields[7]] = [sum.0, sum.1];
        bytes(fields)
    }

    fn with(at: usize, value: u32) -> [u32; 8] {
        let mut fields = HEADER;
        fields[at] = value;
        fields
    }

    #[test]
    fn header_of_the_description() {
        let header = WalHeader {
            page_size: PageSize::new(512).unwrap(),
            big_endian: false,
            checkpoint_seq: 1,
            salts: Salts { one: 0x6d44_e169, two: 0x03a6_c67d },
            sum: Sum(0x3fac_4780, 0x764c_c528),
        };
        assert_eq!(WalHeader::parse(&bytes(HEADER)), Ok(header));
        let big = WalHeader::parse(&summed(with(0, MAGIC | 1))).unwrap();
        assert_eq!(WalHeader { sum: header.sum, big_endian: false, ..big }, header);
        assert!(big.big_endian && big.sum != header.sum);
        assert_eq!(WalHeader::parse(&summed(with(2, 65536))).unwrap().page_size, PageSize::MAX);
    }

    #[test]
    fn each_fault_has_its_error() {
        let found = |bytes: &[u8]| WalHeader::parse(bytes).unwrap_err();
        assert_eq!(found(&bytes(HEADER)[..31]), WalError::Short { found: 31 });
        assert_eq!(found(&summed(with(0, MAGIC | 4))), WalError::Magic(MAGIC | 4));
        assert_eq!(found(&summed(with(1, VERSION + 1))), WalError::Version(VERSION + 1));
        assert_eq!(found(&summed(with(2, 1))), WalError::PageSize(1));
        for (at, &field) in HEADER.iter().enumerate().skip(3) {
            let error = found(&bytes(with(at, field ^ 1)));
            assert!(matches!(error, WalError::Checksum { .. }), "field {at}: {error}");
        }
        assert_eq!(found(&[0; 32]), WalError::Magic(0));
        assert_eq!(
            found(&bytes(with(7, 1))).to_string(),
            "the checksum of the WAL's header is 3fac4780-764cc528, but 3fac4780-00000001 is stored: it is being \
             written, or damaged"
        );
    }

    #[test]
    fn offsets() {
        let size = PageSize::new(4096).unwrap();
        assert_eq!(frame_offset(size, FrameNo(1)), 32);
        assert_eq!(frame_offset(size, FrameNo(3)), 32 + 2 * 4120);
        assert_eq!(frame_end(size, FrameNo(2)), frame_offset(size, FrameNo(3)));
        assert_eq!(frame_end(size, FrameNo(0)), 32);
        assert_eq!(frame_offset(PageSize::MAX, FrameNo(u32::MAX)), 32 + (u64::from(u32::MAX) - 1) * 65560);
    }

    #[test]
    fn frame_header_fields() {
        let mut bytes: [u8; 24] = std::array::from_fn(|i| i as u8 + 1);
        let header = FrameHeader::parse(&bytes);
        assert_eq!(header.pgno.unwrap().get(), 0x0102_0304);
        assert_eq!(header.commit, 0x0506_0708);
        assert_eq!(header.salts, Salts { one: 0x090a_0b0c, two: 0x0d0e_0f10 });
        assert_eq!(header.sum, Sum(0x1112_1314, 0x1516_1718));
        bytes[..4].fill(0);
        assert_eq!(FrameHeader::parse(&bytes).pgno, None);
    }
}
