//! A part of a page index, read without the rest.
//!
//! The index of an image of 10 GB is some 27 MB long, and a lookup needs one entry of it. Where an
//! entry begins cannot be seen in the bytes. But each frame begins where the one before it ends, so
//! only the right beginning makes a row of entries that fit.

use super::frame::frame_len_max;
use super::index::{ENTRY_LEN_MAX, varint};
use super::shape::HEAD_SHORT;
use super::{HEADER_LEN, IndexEntry};
use crate::base::{PageSize, Pgno};

/// Entries that must fit together to prove that a part was read from the right byte on.
const ROW_MIN: usize = 4;

/// The whole entries of a part of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexPart {
    /// The entries, in the order of the file.
    pub entries: Vec<IndexEntry>,
    /// Bytes before the first of them.
    pub start: usize,
    /// Bytes up to the end of the last of them.
    pub end: usize,
}

/// Parses a part of an index without its end mark. `frames_end` is the offset of the terminator.
/// `aligned` says that an entry begins with the first byte. `None` if the bytes are no such part.
#[must_use]
pub fn parse_part(bytes: &[u8], frames_end: u64, aligned: bool) -> Option<IndexPart> {
    if aligned {
        return parse_from(bytes, 0, frames_end);
    }
    let starts = 0..bytes.len().min(ENTRY_LEN_MAX + 1);
    let mut parts = starts.filter_map(|start| parse_from(bytes, start, frames_end));
    let mut part = parts.find(|part| part.entries.len() > ROW_MIN)?;
    // From the second byte of a page number on, the rest of it is a smaller number, which fits too.
    part.entries.remove(0);
    let len: u64 = part.entries.iter().map(entry_len).sum();
    part.start = part.end.checked_sub(usize::try_from(len).ok()?)?;
    Some(part)
}

fn parse_from(bytes: &[u8], start: usize, frames_end: u64) -> Option<IndexPart> {
    let len_max = frame_len_max(PageSize::MAX) as u64;
    let mut entries: Vec<IndexEntry> = Vec::new();
    let mut end = start;
    loop {
        let mut rest = &bytes[end..];
        // A number that is cut ends the part. One that is wrong ends it too, and then few fit.
        let (Ok(pgno), Ok(offset), Ok(len)) = (varint(&mut rest), varint(&mut rest), varint(&mut rest))
        else {
            let cut = bytes.len() - end <= ENTRY_LEN_MAX;
            return cut.then_some(IndexPart { entries, start, end });
        };
        let pgno = u32::try_from(pgno).ok().and_then(Pgno::new)?;
        let fits = match entries.last() {
            Some(last) => pgno > last.pgno && offset == last.end(),
            None => offset >= HEADER_LEN as u64,
        };
        if !fits || len <= HEAD_SHORT as u64 || len > len_max || offset.checked_add(len)? > frames_end {
            return None;
        }
        entries.push(IndexEntry { pgno, offset, len: u32::try_from(len).ok()? });
        end = bytes.len() - rest.len();
    }
}

/// Bytes of an entry in the index.
#[must_use]
pub fn entry_len(entry: &IndexEntry) -> u64 {
    let bytes = |n: u64| u64::from((64 - n.max(1).leading_zeros()).div_ceil(7));
    bytes(u64::from(entry.pgno.get())) + bytes(entry.offset) + bytes(u64::from(entry.len))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ltx::index::put_varint;

    fn index(pages: u32, random: &mut fastrand::Rng) -> (Vec<u8>, Vec<IndexEntry>, u64) {
        let (mut bytes, mut entries, mut offset, mut pgno) = (Vec::new(), Vec::new(), 100, 0);
        for _ in 0..pages {
            pgno += if random.u8(0..4) == 0 { random.u32(1..5_000) } else { 1 };
            let len = random.u32(12..4_200);
            let entry = IndexEntry { pgno: Pgno::new(pgno).unwrap(), offset, len };
            [u64::from(pgno), offset, u64::from(len)].into_iter().for_each(|n| put_varint(&mut bytes, n));
            offset += u64::from(len);
            entries.push(entry);
        }
        (bytes, entries, offset)
    }

    #[test]
    fn a_part_from_any_byte_has_the_right_entries() {
        let mut random = fastrand::Rng::with_seed(11);
        let (bytes, all, end) = index(20_000, &mut random);
        assert_eq!(all.iter().map(entry_len).sum::<u64>(), bytes.len() as u64);
        for _ in 0..2_000 {
            let from = random.usize(..bytes.len() - 1_000);
            let to = from + random.usize(200..1_000);
            let part = parse_part(&bytes[from..to], end, false).expect("a part");
            let at = all.iter().position(|e| *e == part.entries[0]).expect("a real entry");
            assert_eq!(all[at..at + part.entries.len()], part.entries);
            assert!(
                part.start < 2 * ENTRY_LEN_MAX && to - from - part.end < ENTRY_LEN_MAX,
                "nothing is left out"
            );
            let before: u64 = all[..at].iter().map(entry_len).sum();
            assert_eq!(before, (from + part.start) as u64);
        }
        let whole = parse_part(&bytes, end, true).expect("all of it");
        assert_eq!((whole.entries, whole.start, whole.end), (all, 0, bytes.len()));
    }

    #[test]
    fn other_bytes_are_not_a_part() {
        let mut random = fastrand::Rng::with_seed(12);
        for _ in 0..500 {
            let noise: Vec<u8> = (0..random.usize(100..2_000)).map(|_| random.u8(..)).collect();
            assert_eq!(parse_part(&noise, u64::MAX, false), None);
        }
        let (mut bytes, _, end) = index(1_000, &mut random);
        bytes[500] ^= 1;
        assert_eq!(parse_part(&bytes, end, true), None, "a damaged entry does not fit its neighbours");
    }
}
