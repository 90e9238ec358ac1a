//! Pages that were committed but are not stored yet.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::time::Instant;

use crate::base::{Pgno, limits};

/// The image of one page.
pub type Page = Arc<[u8]>;

/// A set of page numbers.
pub type PgnoSet = HashSet<Pgno, BuildHasherDefault<PgnoHasher>>;

/// Page numbers are small, dense and not chosen by an enemy of the hash table: one multiplication spreads them well enough.
#[derive(Debug, Default)]
pub struct PgnoHasher(u64);

impl Hasher for PgnoHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|b| self.write_u32(u32::from(*b)));
    }

    fn write_u32(&mut self, n: u32) {
        self.0 = (self.0 ^ u64::from(n)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    }
}

/// The pages that one replica still has to store, each once, as of the last captured commit.
///
/// Images are kept up to [`limits::PENDING_BYTES`]. Beyond it only the numbers stay: the pages are then read from the database and its
/// log when the batch is made. Nothing is lost by that, since a batch holds the last image of each page anyway.
#[derive(Debug, Default)]
pub struct Pending {
    pages: HashMap<Pgno, Option<Page>, BuildHasherDefault<PgnoHasher>>,
    bytes: usize,
    /// The bound was reached: only numbers from now on, until the batch is made.
    full: bool,
    since: Option<Instant>,
    /// Captured commits that changed something, for the log and the status.
    commits: u64,
}

impl Pending {
    /// Nothing.
    #[must_use]
    pub fn new() -> Pending {
        Pending::default()
    }

    /// Whether there is nothing to store.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    /// Number of pages.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pages.len()
    }

    /// Bytes of images held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Commits in it.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.commits
    }

    /// When the oldest page came.
    #[must_use]
    pub fn since(&self) -> Option<Instant> {
        self.since
    }

    /// Whether only numbers are known of some pages.
    #[must_use]
    pub fn has_numbers_only(&self) -> bool {
        self.full || self.pages.values().any(Option::is_none)
    }

    /// Whether it is so much that it needs no company.
    #[must_use]
    pub fn is_worth_a_batch(&self) -> bool {
        self.full || self.bytes >= limits::BATCH_BYTES
    }

    /// Counts commits.
    pub fn add_commits(&mut self, n: u64) {
        self.commits += n;
    }

    /// The newest image of a page.
    pub fn insert(&mut self, pgno: Pgno, page: &Page) {
        self.since.get_or_insert_with(Instant::now);
        if self.bytes >= limits::PENDING_BYTES {
            self.full = true;
            self.bytes = 0;
            self.pages.values_mut().for_each(|p| *p = None);
        }
        if self.full {
            self.pages.insert(pgno, None);
            return;
        }
        if let Some(Some(old)) = self.pages.insert(pgno, Some(Arc::clone(page))) {
            self.bytes -= old.len();
        }
        self.bytes += page.len();
    }

    /// A page that changed, image unknown.
    pub fn insert_number(&mut self, pgno: Pgno) {
        self.since.get_or_insert_with(Instant::now);
        self.pages.entry(pgno).or_insert(None);
    }

    /// Lays `newer` over this.
    pub fn merge(&mut self, newer: Pending) {
        self.commits += newer.commits;
        for (pgno, page) in newer.pages {
            match page {
                Some(page) => self.insert(pgno, &page),
                None => {
                    if let Some(Some(old)) = self.pages.insert(pgno, None) {
                        self.bytes -= old.len();
                    }
                    self.since.get_or_insert_with(Instant::now);
                }
            }
        }
    }

    /// The pages in order, without those above `size_pages`.
    #[must_use]
    pub fn into_sorted(self, size_pages: u32) -> Vec<(Pgno, Option<Page>)> {
        let mut pages: Vec<_> = self.pages.into_iter().filter(|(p, _)| p.get() <= size_pages).collect();
        pages.sort_unstable_by_key(|(p, _)| *p);
        pages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(byte: u8, len: usize) -> Page {
        vec![byte; len].into()
    }

    fn pg(n: u32) -> Pgno {
        Pgno::new(n).unwrap()
    }

    #[test]
    fn the_last_image_of_a_page_counts_and_a_shrink_drops_the_rest() {
        let mut p = Pending::new();
        for (n, byte) in [(3, 1), (1, 2), (3, 3), (9, 4)] {
            p.insert(pg(n), &page(byte, 512));
        }
        assert_eq!(p.bytes(), 3 * 512);
        let sorted = p.into_sorted(8);
        assert_eq!(
            sorted.iter().map(|(n, p)| (n.get(), p.as_ref().unwrap()[0])).collect::<Vec<_>>(),
            [(1, 2), (3, 3)]
        );
    }

    #[test]
    fn beyond_the_bound_only_numbers_are_kept() {
        let mut p = Pending::new();
        let big = page(7, 65536);
        let n = (limits::PENDING_BYTES / 65536) as u32 + 3;
        for i in 1..=n {
            p.insert(pg(i), &big);
        }
        assert!(p.has_numbers_only());
        assert_eq!(p.len(), n as usize);
        assert!(p.into_sorted(u32::MAX).iter().all(|(_, p)| p.is_none()));
    }

    #[test]
    fn a_newer_set_wins_page_by_page() {
        let (mut old, mut new) = (Pending::new(), Pending::new());
        old.insert(pg(1), &page(1, 512));
        old.insert(pg(2), &page(1, 512));
        new.insert(pg(2), &page(2, 512));
        new.insert_number(pg(3));
        old.merge(new);
        let got: Vec<_> = old.into_sorted(9).into_iter().map(|(n, p)| (n.get(), p.map(|p| p[0]))).collect();
        assert_eq!(got, [(1, Some(1)), (2, Some(2)), (3, None)]);
    }
}
