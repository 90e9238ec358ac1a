//! What a follower keeps in the database itself: its position and a sum of all pages.
//!
//! They stand in the 20 bytes of the header that SQLite reserves and never reads, so they change in the same
//! transaction as the pages: whatever happens, they belong to each other.
//!
//! | offset | bytes | |
//! |---|---|---|
//! | 72 | 4 | `lsfF` |
//! | 76 | 8 | TXID |
//! | 84 | 8 | sum: XOR of the CRC-64 of each page with its number |
//!
//! The sum leaves out what SQLite sets by itself (change counter, version-valid-for, version) and the mark.

use std::ops::Range;

use crate::base::crc64::Crc64;
use crate::base::{Pgno, Txid};

/// Where the mark is.
const PLACE: Range<usize> = 72..92;
const MAGIC: &[u8; 4] = b"lsfF";
/// Change counter.
const COUNTER: Range<usize> = 24..28;
/// Mark, version-valid-for and version.
const END: Range<usize> = 72..100;

/// The position of a follower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) txid: Txid,
    pub(super) sum: u64,
}

impl Mark {
    /// Reads it from page 1.
    pub(super) fn of(page: &[u8]) -> Option<Mark> {
        let bytes = page.get(PLACE)?.strip_prefix(MAGIC)?;
        let (txid, sum) = bytes.split_first_chunk::<8>()?;
        let sum = sum.first_chunk::<8>()?;
        Some(Mark { txid: Txid(u64::from_be_bytes(*txid)), sum: u64::from_be_bytes(*sum) })
    }

    /// Writes it into page 1.
    pub(super) fn put(self, page: &mut [u8]) {
        let place = &mut page[PLACE];
        place[..4].copy_from_slice(MAGIC);
        place[4..12].copy_from_slice(&self.txid.0.to_be_bytes());
        place[12..].copy_from_slice(&self.sum.to_be_bytes());
    }
}

/// Takes the mark out of page 1.
pub(super) fn clear(page: &mut [u8]) {
    page[PLACE].fill(0);
}

/// What a page adds to the sum; adding it again takes it away.
pub(super) fn share(pgno: Pgno, page: &[u8]) -> u64 {
    let mut crc = Crc64::new();
    crc.update(&pgno.get().to_be_bytes());
    if pgno == Pgno::FIRST {
        crc.update(&page[..COUNTER.start]);
        crc.update(&page[COUNTER.end..END.start]);
        crc.update(&page[END.end..]);
    } else {
        crc.update(page);
    }
    crc.value()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_comes_back_and_goes_without_a_trace() {
        let blank: Vec<u8> = (0..512).map(|i| u8::try_from(i % 251).unwrap_or(0)).collect();
        let mut page = blank.clone();
        clear(&mut page);
        let clean = page.clone();
        assert_eq!(Mark::of(&page), None);
        let mark = Mark { txid: Txid(0x1234_5678_9abc), sum: u64::MAX - 7 };
        mark.put(&mut page);
        assert_eq!(Mark::of(&page), Some(mark));
        assert_eq!(share(Pgno::FIRST, &page), share(Pgno::FIRST, &clean));
        clear(&mut page);
        assert_eq!(page, clean);
    }

    #[test]
    fn every_other_byte_counts() {
        let page = vec![9; 512];
        for at in 0..512 {
            let mut other = page.clone();
            other[at] ^= 1;
            let left_out = COUNTER.contains(&at) || END.contains(&at);
            assert_eq!(share(Pgno::FIRST, &page) == share(Pgno::FIRST, &other), left_out, "{at}");
            let second = Pgno::new(2).unwrap();
            assert_ne!(share(second, &page), share(second, &other), "{at}");
        }
    }
}
