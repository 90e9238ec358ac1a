//! Lists of times: when each batch was made, for batches whose level-0 files are gone.
//!
//! # Overview
//!
//! A compacted file has one time, that of its last batch. A search for a time among many files
//! would need one request per look, and the time of the upload is not the one that counts. So a
//! compactor may write down the header times of the level-0 files that it merged. It stores the
//! list next to the levels, where old readers do not look: on S3 at `PREFIX/times/NAME`, in a
//! directory at `PATH/times/NAME`. NAME is `MIN-MAX.times`, the first and the last TXID in the
//! object with 16 lower-case hex digits each.
//!
//! These objects are hints about LTX files, never content. If one is missing or damaged, a reader
//! uses the headers. They may overlap, and may list batches at which no file ends any longer. A
//! TXID without an entry is one of unknown time, such as one inside a compacted file of another
//! program.
//!
//! # Format
//!
//! | offset | size | content |
//! |---|---|---|
//! | 0 | 8 | ASCII `LSTIMES1` |
//! | 8 | any | per entry, a varint: TXID minus the previous one (the first: minus 0), at least 1 |
//! |   |     | then a zigzag varint: ms since 1970 minus the previous time (the first: minus 0) |
//! | end - 8 | 8 | CRC-64/GO-ISO of all before it, big-endian |
//!
//! Varints are LEB128, as in the page index. TXIDs ascend. Times may decrease where a clock was set
//! back.

use super::index::{put_varint, varint};
use crate::base::clock::Millis;
use crate::base::crc64::crc64;
use crate::base::{Level, LtxId, Txid, limits};

/// The first bytes of every object.
const MAGIC: &[u8; 8] = b"LSTIMES1";

/// Name of one object: the first and the last TXID in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimesId {
    /// TXID of the first entry, at least 1.
    pub min: Txid,
    /// TXID of the last entry, at least `min`.
    pub max: Txid,
}

impl TimesId {
    /// The file name, `MIN-MAX.times`.
    #[must_use]
    pub fn file_name(&self) -> String {
        format!("{}-{}.times", self.min, self.max)
    }

    /// Parses `MIN-MAX.times`; `None` for every other name.
    #[must_use]
    pub fn parse_file_name(name: &str) -> Option<TimesId> {
        let stem = name.strip_suffix(".times")?;
        let LtxId { min, max, .. } = LtxId::parse_file_name(Level::RAW, &format!("{stem}.ltx"))?;
        Some(TimesId { min, max })
    }
}

/// Why a list of times cannot be written or read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TimesError {
    /// The number of entries is not between 1 and [`limits::TIMES_ENTRIES`].
    #[error("{0} entries, not between 1 and {max}", max = limits::TIMES_ENTRIES)]
    Count(usize),
    /// TXIDs do not ascend, or begin at 0; with the index of the entry.
    #[error("TXIDs do not ascend at entry {0}")]
    Order(usize),
    /// The object is incomplete or not a list of times.
    #[error("it is cut or not a list of times")]
    Malformed,
    /// The checksum does not match.
    #[error("its checksum is {stored:016x}, expected {computed:016x}")]
    Checksum {
        /// The stored checksum.
        stored: u64,
        /// The checksum of the content.
        computed: u64,
    },
    /// The object has other TXIDs than its name; with those that it has.
    #[error("it holds the TXIDs {}-{}, not those of its name", .0.min, .0.max)]
    Misnamed(TimesId),
}

/// Name and content of the object for `entries`: TXID and header time of level-0 files, with
/// ascending TXIDs.
///
/// # Errors
/// [`TimesError::Count`] and [`TimesError::Order`].
pub fn encode(entries: &[(Txid, Millis)]) -> Result<(TimesId, Vec<u8>), TimesError> {
    let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
        return Err(TimesError::Count(0));
    };
    if entries.len() > limits::TIMES_ENTRIES {
        return Err(TimesError::Count(entries.len()));
    }
    let mut out = MAGIC.to_vec();
    let (mut txid, mut time) = (0, 0i64);
    for (n, (t, at)) in entries.iter().enumerate() {
        let step = t.0.checked_sub(txid).filter(|s| *s > 0).ok_or(TimesError::Order(n))?;
        put_varint(&mut out, step);
        let delta = at.0.wrapping_sub(time);
        put_varint(&mut out, (delta << 1 ^ delta >> 63) as u64);
        (txid, time) = (t.0, at.0);
    }
    out.extend_from_slice(&crc64(&out).to_be_bytes());
    Ok((TimesId { min: first.0, max: last.0 }, out))
}

/// Decodes the entries of the object `id`.
///
/// # Errors
/// [`TimesError`], for anything that [`encode`] does not produce for that name.
pub fn decode(id: TimesId, bytes: &[u8]) -> Result<Vec<(Txid, Millis)>, TimesError> {
    let (body, stored) = bytes.split_last_chunk::<8>().ok_or(TimesError::Malformed)?;
    let mut rest = body.strip_prefix(MAGIC).ok_or(TimesError::Malformed)?;
    let (stored, computed) = (u64::from_be_bytes(*stored), crc64(body));
    if stored != computed {
        return Err(TimesError::Checksum { stored, computed });
    }
    let mut entries: Vec<(Txid, Millis)> = Vec::new();
    let (mut txid, mut time) = (0u64, 0i64);
    while !rest.is_empty() {
        let step = varint(&mut rest).map_err(|_| TimesError::Malformed)?;
        let delta = varint(&mut rest).map_err(|_| TimesError::Malformed)?;
        let next = txid.checked_add(step).filter(|t| step > 0 && *t <= Txid::MAX.0);
        txid = next.ok_or(TimesError::Order(entries.len()))?;
        time = time.wrapping_add((delta >> 1) as i64 ^ -((delta & 1) as i64));
        entries.push((Txid(txid), Millis(time)));
        if entries.len() > limits::TIMES_ENTRIES {
            return Err(TimesError::Count(entries.len()));
        }
    }
    match (entries.first(), entries.last()) {
        (Some(first), Some(last)) if (first.0, last.0) == (id.min, id.max) => Ok(entries),
        (Some(first), Some(last)) => Err(TimesError::Misnamed(TimesId { min: first.0, max: last.0 })),
        _ => Err(TimesError::Count(0)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_bytes_of_a_short_list() {
        let entries = [(Txid(1), Millis(1000)), (Txid(2), Millis(1001)), (Txid(300), Millis(999))];
        let (id, bytes) = encode(&entries).unwrap();
        assert_eq!(id.file_name(), "0000000000000001-000000000000012c.times");
        // 1, zigzag(1000) = 2000; 1, zigzag(1) = 2; 298, zigzag(-2) = 3
        let body = [b"LSTIMES1".as_slice(), &[1, 0xd0, 0x0f, 1, 2, 0xaa, 2, 3]].concat();
        assert_eq!(bytes, [&body[..], &crc64(&body).to_be_bytes()].concat());
        assert_eq!(decode(id, &bytes), Ok(entries.to_vec()));
    }

    #[test]
    fn names() {
        let name = "0000000000000001-000000000000012c.times";
        assert_eq!(TimesId::parse_file_name(name), Some(TimesId { min: Txid(1), max: Txid(300) }));
        for bad in ["0000000000000001-000000000000012c.ltx", "1-2.times", "", ".times"] {
            assert_eq!(TimesId::parse_file_name(bad), None, "{bad}");
        }
        assert_eq!(TimesId::parse_file_name(&format!("{name}.tmp")), None);
        assert_eq!(TimesId::parse_file_name("0000000000000001-000000000000012c.ltx.times"), None);
    }

    #[test]
    fn what_cannot_be_written_and_what_cannot_be_read() {
        assert_eq!(encode(&[]), Err(TimesError::Count(0)));
        assert_eq!(encode(&[(Txid(0), Millis(1))]), Err(TimesError::Order(0)));
        assert_eq!(encode(&[(Txid(2), Millis(1)), (Txid(2), Millis(2))]), Err(TimesError::Order(1)));
        let many: Vec<_> = (1..=limits::TIMES_ENTRIES as u64 + 1).map(|n| (Txid(n), Millis(0))).collect();
        assert_eq!(encode(&many), Err(TimesError::Count(many.len())));
        let (id, bytes) = encode(&many[1..]).unwrap();
        assert_eq!(decode(id, &bytes).unwrap(), many[1..]);
        assert!(bytes.len() as u64 <= limits::TIMES_BYTES);

        let (id, bytes) = encode(&[(Txid(5), Millis(7)), (Txid(6), Millis(9))]).unwrap();
        for cut in 0..bytes.len() {
            assert!(decode(id, &bytes[..cut]).is_err(), "{cut}");
        }
        for at in 0..bytes.len() {
            let mut wrong = bytes.clone();
            wrong[at] ^= 1;
            assert!(decode(id, &wrong).is_err(), "{at}");
        }
        let other = TimesId { min: Txid(5), max: Txid(7) };
        assert_eq!(decode(other, &bytes), Err(TimesError::Misnamed(id)));
        let summed = |body: &[u8]| [body, &crc64(body).to_be_bytes()].concat();
        assert_eq!(decode(id, &summed(MAGIC)), Err(TimesError::Count(0)));
        assert_eq!(decode(id, &summed(b"LSTIMES1\x05")), Err(TimesError::Malformed));
        assert_eq!(decode(id, &summed(b"LSTIMES1\x05\x00\x00\x00")), Err(TimesError::Order(1)));
    }

    proptest! {
        #[test]
        fn every_list_comes_back(
            txids in proptest::collection::btree_set(1..=Txid::MAX.0, 1..100),
            times in proptest::collection::vec(any::<i64>(), 100),
        ) {
            let entries: Vec<_> = txids.into_iter().map(Txid).zip(times.into_iter().map(Millis)).collect();
            let (id, bytes) = encode(&entries).unwrap();
            prop_assert_eq!(decode(id, &bytes), Ok(entries));
        }

        #[test]
        fn no_bytes_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            bytes.splice(0..0, MAGIC.iter().copied());
            let sum = crc64(&bytes);
            bytes.extend_from_slice(&sum.to_be_bytes());
            let _ = decode(TimesId { min: Txid(1), max: Txid(1) }, &bytes);
        }
    }
}
