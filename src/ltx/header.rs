//! Header and trailer of a file.

use super::LtxError;
use crate::base::clock::Millis;
use crate::base::fields::{Fields, Filler};
use crate::base::{DatabaseChecksum, PageSize, Salts, Txid};

/// Bit that is set in every stored checksum, so that 0 can mean "none".
pub const CHECKSUM_FLAG: u64 = 1 << 63;

/// Length of a header in bytes.
pub const HEADER_LEN: usize = 100;

/// Length of a trailer in bytes.
pub const TRAILER_LEN: usize = 16;

const MAGIC: [u8; 4] = *b"LTX1";
const NO_CHECKSUM: u32 = 2;

/// Marks that the reserved bytes have a database checksum.
const DATABASE_CHECKSUM: [u8; 4] = *b"LSFC";

/// The part of a WAL from which an LTX file was made. All zero in merged files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct WalRange {
    /// Offset of the first byte in the WAL.
    pub offset: u64,
    /// Number of bytes.
    pub size: u64,
    /// Salts of the WAL, which tell its generation.
    pub salts: Salts,
}

impl WalRange {
    /// Offset of the first byte after the range, where reading continues.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.offset.saturating_add(self.size)
    }
}

/// The first 100 bytes of a file.
///
/// | offset | size | field | rule |
/// |---|---|---|---|
/// | 0 | 4 | magic | `LTX1` |
/// | 4 | 4 | flags | only value 2 (no database checksums) is known |
/// | 8 | 4 | page size | power of two, 512 to 65536, as is |
/// | 12 | 4 | commit | pages of the database after this file |
/// | 16 | 8 | min TXID | at least 1 |
/// | 24 | 8 | max TXID | at least min TXID, at most [`Txid::MAX`] |
/// | 32 | 8 | timestamp | signed, milliseconds since 1970 UTC |
/// | 40 | 8 | pre-apply checksum | 0 if min TXID is 1 or flag 2 is set, otherwise bit 63 is set |
/// | 48 | 8 | WAL offset | signed, not negative, not 0 if a size or a salt is given |
/// | 56 | 8 | WAL size | signed, not negative |
/// | 64 | 4 | WAL salt 1 | |
/// | 68 | 4 | WAL salt 2 | |
/// | 72 | 8 | node id | 0 = unset |
/// | 80 | 4 | mark | `LSFC` if a database checksum follows, otherwise zeros |
/// | 84 | 8 | database checksum | see [`checksum`](crate::base::checksum) |
/// | 92 | 8 | reserved | written as zeros, ignored |
///
/// The format reserves bytes 80 to 99, and other programs ignore them. A merge by Litestream
/// leaves them out, so a header without the mark only says that the checksum is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Page size of the database.
    pub page_size: PageSize,
    /// Length of the database in pages after this file.
    pub commit: u32,
    /// First TXID.
    pub min: Txid,
    /// Last TXID.
    pub max: Txid,
    /// When the file was made. A merged file has the time of its last input.
    pub timestamp: Millis,
    /// The part of the WAL from which the file was made.
    pub wal: WalRange,
    /// The node that wrote the file; 0 if unset.
    pub node_id: u64,
    /// Whether the file has no checksums of the database. True for every file of a replica.
    pub no_checksum: bool,
    /// Checksum of the database before this file; 0 if there is none.
    pub pre_apply: u64,
    /// Checksum of the database after this file, in lsfast's own field; `None` if it is not known.
    pub checksum: Option<DatabaseChecksum>,
}

impl Header {
    /// Creates a header as this program writes it: node id 0, and nothing in LTX's own fields for
    /// database checksums, because Litestream's compaction rejects files that mix. The database
    /// checksum is not known yet.
    #[must_use]
    pub const fn new(
        page_size: PageSize,
        commit: u32,
        (min, max): (Txid, Txid),
        timestamp: Millis,
        wal: WalRange,
    ) -> Header {
        Header {
            page_size,
            commit,
            min,
            max,
            timestamp,
            wal,
            node_id: 0,
            no_checksum: true,
            pre_apply: 0,
            checksum: None,
        }
    }

    /// Whether the file begins at TXID 1 and therefore must have every page.
    #[must_use]
    pub const fn is_snapshot(&self) -> bool {
        self.min.0 == 1
    }

    /// Parses and validates a header.
    ///
    /// # Errors
    /// One for each rule of the table at [`Header`].
    pub fn parse(bytes: &[u8; HEADER_LEN]) -> Result<Header, LtxError> {
        let mut fields = Fields::new(bytes);
        let magic = fields.take::<4>();
        if magic != MAGIC {
            return Err(LtxError::Magic { found: magic });
        }
        let flags = fields.be32();
        if flags & !NO_CHECKSUM != 0 {
            return Err(LtxError::HeaderFlags(flags));
        }
        let page_size = fields.be32();
        let page_size = PageSize::new(page_size).map_err(|_| LtxError::PageSize(page_size))?;
        let commit = fields.be32();
        let (min, max) = (Txid(fields.be64()), Txid(fields.be64()));
        let timestamp = Millis(fields.be64().cast_signed());
        let pre_apply = fields.be64();
        let (offset, size) = (fields.be64(), fields.be64());
        let salts = Salts { one: fields.be32(), two: fields.be32() };
        let node_id = fields.be64();
        let (mark, checksum) = (fields.take::<4>(), DatabaseChecksum(fields.be64()));
        let checksum = (mark == DATABASE_CHECKSUM).then_some(checksum);
        let wal = WalRange { offset, size, salts };
        let no_checksum = flags & NO_CHECKSUM != 0;
        let header =
            Header { page_size, commit, min, max, timestamp, wal, node_id, no_checksum, pre_apply, checksum };
        header.validate()?;
        Ok(header)
    }

    /// Checks the rules that fields of the right type can still break.
    ///
    /// # Errors
    /// One for each rule of the table at [`Header`].
    pub fn validate(&self) -> Result<(), LtxError> {
        if self.min.0 == 0 || self.max < self.min || self.max > Txid::MAX {
            return Err(LtxError::TxidRange { min: self.min, max: self.max });
        }
        let wal = &self.wal;
        let (offset, size) = (wal.offset.cast_signed(), wal.size.cast_signed());
        let used = size != 0 || wal.salts != Salts::default();
        if offset < 0 || size < 0 || (used && offset == 0) {
            return Err(LtxError::WalRange { offset, size });
        }
        let pre_apply_fits = if self.is_snapshot() || self.no_checksum {
            self.pre_apply == 0
        } else {
            self.pre_apply & CHECKSUM_FLAG != 0
        };
        if pre_apply_fits { Ok(()) } else { Err(LtxError::PreApply(self.pre_apply)) }
    }

    /// The bytes as they are stored.
    #[must_use]
    pub fn to_bytes(self) -> [u8; HEADER_LEN] {
        let flags = if self.no_checksum { NO_CHECKSUM } else { 0 };
        let mut out = [0; HEADER_LEN];
        let mut fields = Filler::new(&mut out);
        fields.put(MAGIC);
        fields.put(flags.to_be_bytes());
        fields.put(self.page_size.get().to_be_bytes());
        fields.put(self.commit.to_be_bytes());
        fields.put(self.min.0.to_be_bytes());
        fields.put(self.max.0.to_be_bytes());
        fields.put(self.timestamp.0.to_be_bytes());
        fields.put(self.pre_apply.to_be_bytes());
        fields.put(self.wal.offset.to_be_bytes());
        fields.put(self.wal.size.to_be_bytes());
        fields.put(self.wal.salts.one.to_be_bytes());
        fields.put(self.wal.salts.two.to_be_bytes());
        fields.put(self.node_id.to_be_bytes());
        if let Some(checksum) = self.checksum {
            fields.put(DATABASE_CHECKSUM);
            fields.put(checksum.0.to_be_bytes());
        }
        out
    }
}

/// The last 16 bytes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trailer {
    /// Checksum of the database after this file; 0 if the header says that there is none.
    pub post_apply: u64,
    /// Checksum of the file, with bit 63 set.
    pub file_checksum: u64,
}

impl Trailer {
    /// Parses a trailer. That proves nothing yet.
    #[must_use]
    pub fn parse(bytes: &[u8; TRAILER_LEN]) -> Trailer {
        let mut fields = Fields::new(bytes);
        Trailer { post_apply: fields.be64(), file_checksum: fields.be64() }
    }

    /// The bytes as they are stored.
    #[must_use]
    pub fn to_bytes(self) -> [u8; TRAILER_LEN] {
        let mut out = [0; TRAILER_LEN];
        let mut fields = Filler::new(&mut out);
        fields.put(self.post_apply.to_be_bytes());
        fields.put(self.file_checksum.to_be_bytes());
        out
    }

    /// Compares with the computed checksums. `crc` covers everything up to and including the
    /// post-apply checksum. `database` is the XOR of all page checksums, which only a snapshot with
    /// checksums has.
    pub(super) fn verify(&self, header: &Header, crc: u64, database: u64) -> Result<(), LtxError> {
        let (stored, computed) = (self.file_checksum, crc | CHECKSUM_FLAG);
        if stored != computed {
            return Err(LtxError::FileChecksum { stored, computed });
        }
        let stored = self.post_apply;
        let computed = if header.no_checksum {
            0
        } else if header.is_snapshot() || header.commit == 0 {
            database | CHECKSUM_FLAG
        } else {
            stored | CHECKSUM_FLAG
        };
        if stored == computed { Ok(()) } else { Err(LtxError::PostApply { stored, computed }) }
    }
}
