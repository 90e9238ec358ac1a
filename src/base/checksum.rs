//! The checksum of a whole database, which tells one state from every other.
//!
//! # Definition
//!
//! The hash of a page is XXH3-64 of its bytes, with the page number as the seed. The checksum of a
//! database is the XOR of the hashes of all its pages. The lock page, which SQLite never uses, does
//! not count. So the order of the pages does not matter, and a change of some pages costs their
//! old and new hashes only.
//!
//! The definition has no secret part, so that other programs can compute it. It finds damage and
//! mistakes; it is no proof against someone who makes up pages on purpose.

use std::fmt;

use xxhash_rust::xxh3::xxh3_64_with_seed;

#[cfg(feature = "internals")]
use super::PageSize;
use super::Pgno;

/// Hash of one page, as part of a [`DatabaseChecksum`].
#[must_use]
pub fn page_hash(pgno: Pgno, page: &[u8]) -> u64 {
    xxh3_64_with_seed(page, u64::from(pgno.get()))
}

/// The checksum of a database at one moment. Starts as that of a database without pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct DatabaseChecksum(pub u64);

impl DatabaseChecksum {
    /// Checksum of a database file: `bytes` are all of its pages, in order.
    #[cfg(feature = "internals")]
    #[must_use]
    pub fn of(page_size: PageSize, bytes: &[u8]) -> DatabaseChecksum {
        let mut sum = DatabaseChecksum::default();
        let numbers = (1..).filter_map(Pgno::new);
        for (pgno, page) in numbers.zip(bytes.chunks_exact(page_size.bytes())) {
            if pgno != page_size.lock_page() {
                sum.toggle(page_hash(pgno, page));
            }
        }
        sum
    }

    /// Adds the hash of a page that the database did not have, or takes out that of one it had.
    pub const fn toggle(&mut self, page_hash: u64) {
        self.0 ^= page_hash;
    }
}

impl fmt::Display for DatabaseChecksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fixed values: other programs compute the same, and files have them for years.
    #[test]
    fn the_definition_does_not_change() {
        let page = |byte: u8| vec![byte; 512];
        let first = Pgno::FIRST;
        let second = Pgno::new(2).unwrap();
        // Values of the reference implementation of XXH3.
        let zeros = 0x8a3b_1157_7f6f_69db;
        assert_eq!(page_hash(first, &page(0)), zeros);
        assert_ne!(page_hash(second, &page(0)), zeros, "the number counts");
        let size = PageSize::new(512).unwrap();
        let mut sum = DatabaseChecksum::of(size, &[page(0), page(1)].concat());
        assert_eq!(sum.to_string(), "2e459fb6da27fa76");
        let page_of_docs = include_str!("../../docs/format.md");
        for value in ["8a3b11577f6f69db", "a47e8ee1a54893ad", "2e459fb6da27fa76"] {
            assert!(page_of_docs.contains(value), "{value}");
        }
        sum.toggle(page_hash(second, &page(1)));
        sum.toggle(page_hash(second, &page(2)));
        assert_eq!(sum, DatabaseChecksum::of(size, &[page(0), page(2)].concat()));
        sum.toggle(page_hash(second, &page(2)));
        assert_eq!(sum, DatabaseChecksum::of(size, &page(0)));
    }
}
