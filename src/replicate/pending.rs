//! Pages that are committed but not stored yet.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::time::Instant;

use crate::base::pages::PageSet;
use crate::base::{FrameNo, Pgno, limits};
use crate::wal::tail::WalPos;

/// The newest captured commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mark {
    /// Position of its end in the WAL.
    pub pos: WalPos,
    /// Pages in the database after it; 0 if the WAL has no commit, so that the file's length
    /// counts.
    pub size_pages: u32,
    /// SQLite's counter of commits after it.
    pub change: u32,
    /// Frames up to this one were not proven: only the wal-index says which pages they hold. 0 if
    /// all are proven.
    pub by_index: FrameNo,
}

/// The image of one page.
pub type Page = Arc<[u8]>;

/// A set of page numbers.
pub type PgnoSet = HashSet<Pgno, BuildHasherDefault<PgnoHasher>>;

/// Hashes page numbers. They are small, dense and not chosen by an attacker: one multiplication
/// spreads them well enough.
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

/// Pages of transactions whose commit has not been read yet.
///
/// Images are kept up to [`limits::OPEN_BYTES`], whatever the transaction's length; beyond that
/// only the numbers.
#[derive(Debug, Default)]
pub struct OpenPages {
    /// In the order of the WAL; a page may occur more than once.
    images: Vec<(Pgno, Page)>,
    bytes: usize,
    /// Numbers of all pages, if there are too many for images.
    numbers: PageSet,
}

impl OpenPages {
    /// Whether there are no pages.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.images.is_empty() && self.numbers.is_empty()
    }

    /// Number of images, or of pages if there are too many for images.
    #[must_use]
    pub fn len(&self) -> usize {
        self.images.len() + self.numbers.len()
    }

    /// Bytes of images held.
    #[cfg(feature = "internals")]
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a newer image of a page.
    pub fn push(&mut self, pgno: Pgno, page: &[u8]) {
        self.push_with(pgno, page.len(), || Page::from(page));
    }

    /// As [`push`](OpenPages::push), for an image that is shared instead of copied.
    pub fn push_shared(&mut self, pgno: Pgno, page: &Page) {
        self.push_with(pgno, page.len(), || Arc::clone(page));
    }

    fn push_with(&mut self, pgno: Pgno, len: usize, page: impl FnOnce() -> Page) {
        if self.numbers.is_empty() && self.bytes + len <= limits::OPEN_BYTES {
            self.images.push((pgno, page()));
            self.bytes += len;
            return;
        }
        // Frees the memory of the images.
        let images = std::mem::take(&mut self.images);
        images.iter().for_each(|(p, _)| self.numbers.insert(*p));
        self.bytes = 0;
        self.numbers.insert(pgno);
    }

    /// Removes all pages.
    pub fn clear(&mut self) {
        self.images.clear();
        (self.bytes, self.numbers) = (0, PageSet::default());
    }
}

/// The pages that one replica still has to store, each once, as of the last captured commit.
///
/// Images are kept up to [`limits::PENDING_BYTES`]. Beyond that only the numbers stay, and the
/// pages are read from the database and its WAL when the batch is made. Nothing is lost by that: a
/// batch holds only the last image of each page anyway.
#[derive(Debug, Default)]
pub struct Pending {
    images: HashMap<Pgno, Page, BuildHasherDefault<PgnoHasher>>,
    bytes: usize,
    /// Pages of which only the number is known.
    numbers: PageSet,
    /// The bound was reached: only numbers are added until the batch is made.
    full: bool,
    since: Option<Instant>,
    /// Captured commits that changed something, for log output and status.
    commits: u64,
}

impl Pending {
    /// An empty set.
    #[must_use]
    pub fn new() -> Pending {
        Pending::default()
    }

    /// Whether there is nothing to store.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.images.is_empty() && self.numbers.is_empty()
    }

    /// Number of pages.
    #[must_use]
    pub fn len(&self) -> usize {
        self.images.len() + self.numbers.len()
    }

    /// Bytes of images held.
    #[cfg(feature = "internals")]
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Number of commits whose pages these are.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.commits
    }

    /// When the oldest page was added; `None` if there is none.
    #[must_use]
    pub fn since(&self) -> Option<Instant> {
        self.since
    }

    /// Whether only the number of some page is known.
    #[must_use]
    pub fn has_numbers_only(&self) -> bool {
        self.full || !self.numbers.is_empty()
    }

    /// Whether there is enough for a batch of its own, so that it need not wait for more.
    #[must_use]
    pub fn is_worth_a_batch(&self) -> bool {
        self.full || self.bytes >= limits::BATCH_BYTES
    }

    /// Adds `n` to the number of commits.
    pub fn add_commits(&mut self, n: u64) {
        self.commits += n;
    }

    /// Adds the newest image of a page.
    pub fn insert(&mut self, pgno: Pgno, page: &Page) {
        self.since.get_or_insert_with(Instant::now);
        if self.bytes >= limits::PENDING_BYTES {
            self.overflow();
        }
        if self.full {
            self.numbers.insert(pgno);
            return;
        }
        if !self.numbers.is_empty() {
            self.numbers.remove(pgno);
        }
        if let Some(old) = self.images.insert(pgno, Arc::clone(page)) {
            self.bytes -= old.len();
        }
        self.bytes += page.len();
    }

    /// Drops all images; from now on only numbers are added.
    fn overflow(&mut self) {
        self.full = true;
        self.bytes = 0;
        // Frees the memory of the table, too.
        let images = std::mem::take(&mut self.images);
        images.into_keys().for_each(|p| self.numbers.insert(p));
    }

    /// Adds the number of a changed page whose image is unknown.
    pub fn insert_number(&mut self, pgno: Pgno) {
        self.since.get_or_insert_with(Instant::now);
        if !self.images.contains_key(&pgno) {
            self.numbers.insert(pgno);
        }
    }

    /// Adds the pages of whole transactions, which are newer than those here.
    pub fn add(&mut self, pages: &OpenPages) {
        for (pgno, page) in &pages.images {
            self.insert(*pgno, page);
        }
        if !pages.numbers.is_empty() {
            self.since.get_or_insert_with(Instant::now);
            self.overflow();
            self.numbers.extend(&pages.numbers);
        }
    }

    /// Adds `newer`, which replaces what is here page by page.
    pub fn merge(&mut self, newer: Pending) {
        self.commits += newer.commits;
        if !newer.numbers.is_empty() {
            self.since.get_or_insert_with(Instant::now);
            let bytes = &mut self.bytes;
            self.images.retain(|pgno, page| {
                let keep = !newer.numbers.contains(*pgno);
                *bytes -= if keep { 0 } else { page.len() };
                keep
            });
            self.numbers.extend(&newer.numbers);
        }
        if newer.full {
            self.overflow();
        }
        for (pgno, page) in newer.images {
            self.insert(pgno, &page);
        }
    }

    /// The pages with their images, sorted, without those above `size_pages`. Every page must have
    /// an image.
    #[must_use]
    pub fn into_sorted(self, size_pages: u32) -> Vec<(Pgno, Page)> {
        assert!(self.numbers.is_empty(), "a batch of images has an image of each page");
        let mut pages: Vec<_> = self.images.into_iter().filter(|(p, _)| p.get() <= size_pages).collect();
        pages.sort_unstable_by_key(|(p, _)| *p);
        pages
    }

    /// The numbers of all pages.
    #[must_use]
    pub fn into_numbers(self) -> PageSet {
        let mut numbers = self.numbers;
        self.images.into_keys().for_each(|p| numbers.insert(p));
        numbers
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
        assert_eq!(sorted.iter().map(|(n, p)| (n.get(), p[0])).collect::<Vec<_>>(), [(1, 2), (3, 3)]);
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
        assert_eq!((p.len(), p.bytes()), (n as usize, 0));
        assert!(p.into_numbers().iter().map(Pgno::get).eq(1..=n));
    }

    #[test]
    fn a_newer_set_wins_page_by_page() {
        let (mut old, mut new) = (Pending::new(), Pending::new());
        old.insert(pg(1), &page(1, 512));
        old.insert(pg(2), &page(1, 512));
        new.insert(pg(2), &page(2, 512));
        new.insert_number(pg(3));
        old.merge(new);
        assert_eq!((old.bytes(), old.len()), (2 * 512, 3));
        assert!(old.has_numbers_only());
        let mut newer = Pending::new();
        newer.insert(pg(3), &page(3, 512));
        newer.insert_number(pg(1));
        old.merge(newer);
        assert_eq!((old.bytes(), old.len()), (2 * 512, 3), "an image for a number, a number for an image");
        let mut newest = Pending::new();
        newest.insert(pg(1), &page(4, 512));
        old.merge(newest);
        let got: Vec<_> = old.into_sorted(9).into_iter().map(|(n, p)| (n.get(), p[0])).collect();
        assert_eq!(got, [(1, 4), (2, 2), (3, 3)]);
    }

    /// A transaction of 400 MB took 413 MB: its images were kept until the commit was read.
    #[test]
    fn a_transaction_of_any_length_holds_a_bounded_number_of_bytes() {
        let (mut open, page) = (OpenPages::default(), vec![1; 4096]);
        let pages = (4 * limits::OPEN_BYTES / page.len()) as u32;
        for n in 1..=pages {
            // A page that was spilled, taken back and written again is there more than once.
            open.push(pg(n), &page);
            open.push(pg(n), &page);
            assert!(open.bytes() <= limits::OPEN_BYTES, "{} bytes after {n} pages", open.bytes());
        }
        assert_eq!((open.len(), open.bytes()), (pages as usize, 0));
        let mut pending = Pending::new();
        pending.insert(pg(7), &Page::from(&page[..]));
        pending.insert(pg(pages + 1), &Page::from(&page[..]));
        pending.add(&open);
        assert!(pending.has_numbers_only() && pending.is_worth_a_batch());
        assert_eq!((pending.len(), pending.bytes()), (pages as usize + 1, 0));
        open.clear();
        open.push(pg(3), &page);
        assert_eq!((open.len(), open.bytes()), (1, 4096), "the next transaction has images again");
        pending.add(&open);
        assert!(pending.into_numbers().iter().map(Pgno::get).eq(1..=pages + 1));
    }
}
