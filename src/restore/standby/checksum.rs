//! The checksum of the state that a standby has.
//!
//! Page 1 is not stored as it was committed: it has the mark, and SQLite counts in its header. So
//! the checksum is kept in two parts. The other pages are summed when the database is opened, and
//! each applied page takes out the old hash and puts in the new one. The hash of page 1 comes from
//! the restore or from an applied file. After a restart it follows from the checksum in the header
//! of a file that ends at the position.

use crate::base::checksum::page_hash;
use crate::base::{DatabaseChecksum, Pgno};

/// The two parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Checksum {
    /// That of all pages but the first.
    rest: DatabaseChecksum,
    /// Hash of page 1 as it was committed; `None` if it is not known.
    first: Option<u64>,
}

impl Checksum {
    /// Adds a page, or takes out one that was added. Page 1 is not counted.
    pub(super) fn toggle(&mut self, pgno: Pgno, page: &[u8]) {
        self.toggle_hash(pgno, page_hash(pgno, page));
    }

    /// The same with the hash of the page.
    pub(super) fn toggle_hash(&mut self, pgno: Pgno, hash: u64) {
        if pgno != Pgno::FIRST {
            self.rest.toggle(hash);
        }
    }

    /// Takes page 1 as it was committed.
    pub(super) fn set_first(&mut self, page: &[u8]) {
        self.first = Some(page_hash(Pgno::FIRST, page));
    }

    /// Takes the checksum of the whole state, unless it is known.
    pub(super) fn learn(&mut self, whole: DatabaseChecksum) {
        self.first.get_or_insert(whole.0 ^ self.rest.0);
    }

    /// Compares with the checksum that a file has for this state.
    ///
    /// # Errors
    /// The checksum of this state, if it is another one.
    pub(super) fn must_be(&mut self, expected: Option<DatabaseChecksum>) -> Result<(), DatabaseChecksum> {
        let Some(expected) = expected else { return Ok(()) };
        // Without page 1 nothing can be compared yet, but the next file can.
        self.learn(expected);
        let found = DatabaseChecksum(self.rest.0 ^ self.first.unwrap_or_default());
        if found == expected { Ok(()) } else { Err(found) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::PageSize;

    #[test]
    fn the_two_parts_make_the_checksum_of_the_database() {
        let pages: Vec<Vec<u8>> = (1..=4).map(|n| vec![n; 512]).collect();
        let size = PageSize::new(512).unwrap();
        let of = |pages: &[Vec<u8>]| DatabaseChecksum::of(size, &pages.concat());
        let pgno = |n| Pgno::new(n).unwrap();
        let mut sum = Checksum::default();
        (2..=3).for_each(|n| sum.toggle(pgno(n), &pages[n as usize - 1]));
        // Page 1 is not known: the first file is believed, and the next one is compared.
        assert_eq!((sum.first, sum.must_be(None)), (None, Ok(())));
        assert_eq!((sum.must_be(Some(of(&pages[..3]))), sum.first.is_some()), (Ok(()), true));
        sum.toggle(pgno(4), &pages[3]);
        assert_eq!(sum.must_be(Some(of(&pages))), Ok(()));
        assert_eq!(sum.must_be(Some(of(&pages[..3]))), Err(of(&pages)));
        let mut changed = pages.clone();
        changed[0].fill(9);
        sum.set_first(&changed[0]);
        assert_eq!(sum.must_be(Some(of(&changed))), Ok(()));
    }
}
