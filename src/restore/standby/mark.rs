//! The mark that a standby keeps in its database: the position, when that state was made, and a sum
//! of all pages.
//!
//! It uses the 20 bytes of the database header that SQLite reserves and never reads. So it changes
//! in the same transaction as the pages and always matches them.
//!
//! | offset | bytes | |
//! |---|---|---|
//! | 72 | 2 | `lF` |
//! | 74 | 6 | TXID |
//! | 80 | 6 | when the state was made: milliseconds since 1970, 0 if unknown; bit 47: exact |
//! | 86 | 6 | sum: XOR of 48 bits for each page, made of the CRC-64 of its number and bytes |
//!
//! Numbers are big-endian. The sum leaves out the mark and the bytes that SQLite sets by itself
//! (change counter, version-valid-for, version).

use std::ops::Range;

use super::lineage::Made;
use crate::base::clock::Millis;
use crate::base::crc64::Crc64;
use crate::base::{Pgno, Txid};

/// Byte range of the mark in page 1.
const PLACE: Range<usize> = 72..92;
const MAGIC: &[u8; 2] = b"lF";
/// Length of a number in bytes.
const NUMBER: usize = 6;
/// 2^64 divided by the golden ratio, made odd. Multiplying by it carries every bit of a number into
/// its upper bits.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
const EXACT: u64 = 1 << 47;
/// The largest TXID that a standby can have.
pub(super) const TXID_MAX: Txid = Txid((1 << 48) - 1);
/// Byte range of the change counter in page 1.
const COUNTER: Range<usize> = 24..28;
/// Byte range of the mark, version-valid-for and version in page 1.
const END: Range<usize> = 72..100;

/// The position of a standby.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) txid: Txid,
    pub(super) made: Option<Made>,
    pub(super) sum: u64,
}

impl Mark {
    /// Reads the mark from page 1; `None` if there is none.
    pub(super) fn of(page: &[u8]) -> Option<Mark> {
        let bytes = page.get(PLACE)?.strip_prefix(MAGIC)?;
        let number =
            |n: usize| bytes.chunks(NUMBER).nth(n)?.iter().try_fold(0, |n, b| Some(n << 8 | u64::from(*b)));
        let (txid, time, sum) = (number(0)?, number(1)?, number(2)?);
        let at = Millis((time & !EXACT).cast_signed());
        let made = (time != 0).then_some(Made { at, exact: time & EXACT != 0 });
        Some(Mark { txid: Txid(txid), made, sum })
    }

    /// Writes the mark into page 1.
    pub(super) fn put(self, page: &mut [u8]) {
        assert!(self.txid <= TXID_MAX, "larger ones are refused before");
        let time = self.made.map_or(0, |made| {
            // A time that does not fit is stored as unknown.
            let at = u64::try_from(made.at.0).ok().filter(|at| *at < EXACT);
            at.map_or(0, |at| at | if made.exact { EXACT } else { 0 })
        });
        let place = &mut page[PLACE];
        place[..MAGIC.len()].copy_from_slice(MAGIC);
        for (n, field) in
            [self.txid.0, time, self.sum].into_iter().zip(place[MAGIC.len()..].chunks_mut(NUMBER))
        {
            field.copy_from_slice(&n.to_be_bytes()[8 - NUMBER..]);
        }
    }
}

/// Clears the mark in page 1.
pub(super) fn clear(page: &mut [u8]) {
    page[PLACE].fill(0);
}

/// What a page contributes to the sum; XOR with it a second time takes it out again.
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
    // CRC-64/GO-ISO spreads the last bytes over its upper bits only.
    crc.value().wrapping_mul(SPREAD) >> (64 - 8 * NUMBER)
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
        let made = |ms, exact| Some(Made { at: Millis(ms), exact });
        let mut mark = Mark { txid: Txid(0x1234_5678_9abc), made: None, sum: TXID_MAX.0 - 7 };
        for time in [None, made(1_790_000_000_123, true), made(1_790_000_000_123, false)] {
            mark.made = time;
            mark.put(&mut page);
            assert_eq!(Mark::of(&page), Some(mark));
        }
        for odd in [-5, i64::MAX] {
            Mark { made: made(odd, true), ..mark }.put(&mut page);
            assert_eq!(Mark::of(&page).unwrap().made, None);
        }
        mark.txid = TXID_MAX;
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
