//! The checksum of the database after a batch, from the one before it.
//!
//! # Overview
//!
//! The page hashes have the published hash of each stored page. The hashes of the pages that a
//! batch changes, or that a shrink cuts off, are taken out of the checksum; those of its pages are
//! added. So a batch costs its own pages and no others. An image begins with an empty database.
//!
//! A wrong checksum is worse than none. Where the hash of one such page is not known, or a database
//! that grew has a page that is not in the batch, the checksum is not known either. The next full
//! comparison or image makes it known again.

use super::page_hashes::{PageHashes, published};
use crate::base::{DatabaseChecksum, PageSize, Pgno};

/// Most pages cut off by a shrink whose hashes are read on the thread of the pipeline: 1 MiB.
const CUT_INLINE: u32 = 1 << 16;

/// The checksum of the database after a batch whose pages are being hashed.
#[derive(Debug)]
pub struct NextChecksum {
    /// `None` once it cannot be known.
    sum: Option<DatabaseChecksum>,
    /// Hashes of the pages before the batch; `None` for an image.
    before: Option<PageHashes>,
    lock_page: Pgno,
    /// Pages in the database before the batch.
    size_before: u32,
    /// Pages in the database after the batch.
    size_after: u32,
    /// Pages of the batch that the database did not have before.
    new: u32,
}

impl NextChecksum {
    /// That of an image: all pages will be given.
    #[must_use]
    pub fn of_image(page_size: PageSize, size_pages: u32) -> NextChecksum {
        NextChecksum {
            sum: Some(DatabaseChecksum::default()),
            before: None,
            lock_page: page_size.lock_page(),
            size_before: 0,
            size_after: size_pages,
            new: 0,
        }
    }

    /// That of a batch on a database of `size_before` pages with the checksum `sum`, whose page
    /// hashes are `before`.
    #[must_use]
    pub(super) fn of_batch(
        sum: DatabaseChecksum,
        before: PageHashes,
        page_size: PageSize,
        (size_before, size_after): (u32, u32),
    ) -> NextChecksum {
        let (sum, before, lock_page) = (Some(sum), Some(before), page_size.lock_page());
        NextChecksum { sum, before, lock_page, size_before, size_after, new: 0 }
    }

    /// Whether [`NextChecksum::finish`] reads much, so that it belongs on a worker thread.
    #[must_use]
    pub fn is_long(&self) -> bool {
        self.size_before.saturating_sub(self.size_after) > CUT_INLINE
    }

    /// Takes entries of pages of the batch, ascending. The page hashes must still have the entries
    /// from before the batch.
    pub fn take(&mut self, entries: &[(Pgno, u128)]) {
        let Some(mut sum) = self.sum else { return };
        let counted = || entries.iter().filter(|(p, _)| *p != self.lock_page && p.get() <= self.size_after);
        for (pgno, entry) in counted() {
            sum.toggle(published(*entry));
            self.new += u32::from(pgno.get() > self.size_before);
        }
        let old = counted().map(|(p, _)| *p).filter(|p| p.get() <= self.size_before);
        self.sum = self.without(sum, old);
    }

    /// The checksum, once all pages of the batch were taken; `None` if it is not known.
    #[must_use]
    pub fn finish(self) -> Option<DatabaseChecksum> {
        let not_lock = |p: &Pgno| *p != self.lock_page;
        let cut = (self.size_after..self.size_before).filter_map(|n| Pgno::new(n + 1)).filter(not_lock);
        let sum = self.without(self.sum?, cut)?;
        let mut grown = self.size_after.saturating_sub(self.size_before);
        if (self.size_before + 1..=self.size_after).contains(&self.lock_page.get()) {
            grown -= 1;
        }
        (self.new == grown).then_some(sum)
    }

    /// Takes the hashes of pages from before the batch out of `sum`.
    fn without(
        &self,
        mut sum: DatabaseChecksum,
        pages: impl Iterator<Item = Pgno>,
    ) -> Option<DatabaseChecksum> {
        let Some(before) = &self.before else { return Some(sum) };
        let mut known = true;
        let read = before.visit(pages, |entry| {
            known &= entry != 0;
            sum.toggle(published(entry));
        });
        // An entry that cannot be read is not known.
        (read.is_ok() && known).then_some(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replicate::state::page_hashes::hash_page;

    const PAGE: usize = 512;

    fn page_size() -> PageSize {
        PageSize::new(PAGE as u32).unwrap()
    }

    /// A database in memory, with the hashes of its pages.
    struct Model {
        pages: Vec<u8>,
        hashes: PageHashes,
    }

    impl Model {
        fn size(&self) -> u32 {
            (self.pages.len() / PAGE) as u32
        }

        fn sum(&self) -> DatabaseChecksum {
            DatabaseChecksum::of(page_size(), &self.pages)
        }

        /// A batch that changes these pages and sets the size; the pages' entries.
        fn change(&mut self, numbers: &[u32], size: u32, fill: u8) -> Vec<(Pgno, u128)> {
            self.pages.resize(size as usize * PAGE, 0);
            let change = |n: &u32| {
                let (pgno, at) = (Pgno::new(*n).unwrap(), (*n as usize - 1) * PAGE);
                self.pages[at..at + PAGE].fill(fill);
                (pgno, hash_page(7, pgno, &self.pages[at..at + PAGE]))
            };
            numbers.iter().map(change).collect()
        }

        fn next(&self, sum: DatabaseChecksum, size_after: u32) -> NextChecksum {
            NextChecksum::of_batch(sum, self.hashes.clone(), page_size(), (self.size(), size_after))
        }
    }

    #[test]
    fn it_is_that_of_the_whole_database_after_every_kind_of_batch() {
        let dir = tempfile::tempdir().unwrap();
        let hashes = PageHashes::begin_new(dir.path(), 7).unwrap();
        let mut model = Model { pages: Vec::new(), hashes };
        let all: Vec<u32> = (1..=700).collect();
        let mut image = NextChecksum::of_image(page_size(), 700);
        let entries = model.change(&all, 700, 1);
        entries.chunks(100).for_each(|c| image.take(c));
        let mut sum = image.finish().unwrap();
        assert_eq!(sum, model.sum());
        model.hashes.write(entries).unwrap();
        let mut random = fastrand::Rng::with_seed(5);
        for round in 0..200u8 {
            let before = model.size();
            let size = random.u32(1..=900);
            let mut numbers: Vec<u32> =
                (0..random.usize(..40)).map(|_| random.u32(1..=size)).chain(before + 1..=size).collect();
            numbers.sort_unstable();
            numbers.dedup();
            let mut next = model.next(sum, size);
            let entries = model.change(&numbers, size, round);
            entries.chunks(17).for_each(|c| next.take(c));
            sum = next.finish().expect("all is known");
            assert_eq!(sum, model.sum(), "round {round}: {before} to {size} pages");
            model.hashes.shrink(size).unwrap();
            model.hashes.write(entries).unwrap();
        }
    }

    #[test]
    fn what_is_not_known_makes_no_checksum() {
        let dir = tempfile::tempdir().unwrap();
        let hashes = PageHashes::begin_new(dir.path(), 7).unwrap();
        let mut model = Model { pages: Vec::new(), hashes };
        let entries = model.change(&[1, 2, 3, 4], 4, 1);
        model.hashes.write(entries).unwrap();
        let sum = model.sum();
        let mut after = |forgotten: u32, numbers: &[u32], size: u32| {
            let mut next = model.next(sum, size);
            let was = model.hashes.read(Pgno::new(forgotten).unwrap(), 1).unwrap()[0];
            model.hashes.write([(Pgno::new(forgotten).unwrap(), 0)]).unwrap();
            let (pages, entries) = (model.pages.clone(), model.change(numbers, size, 9));
            next.take(&entries);
            model.pages = pages;
            let found = next.finish();
            model.hashes.write([(Pgno::new(forgotten).unwrap(), was)]).unwrap();
            found
        };
        assert!(after(3, &[2], 4).is_some(), "page 3 stays");
        assert_eq!(after(2, &[2], 4), None, "page 2 changes");
        assert_eq!(after(4, &[2], 3), None, "page 4 is cut off");
        assert!(after(4, &[5, 6], 6).is_some());
        assert_eq!(after(4, &[6], 6), None, "page 5 is not in the batch");
        let mut image = NextChecksum::of_image(page_size(), 4);
        image.take(&model.change(&[1, 2, 4], 4, 1));
        assert_eq!(image.finish(), None, "page 3 is missing");
    }

    /// The lock page of pages of 512 bytes is at 1 GiB. SQLite never writes it, and no file has it.
    #[test]
    fn the_lock_page_does_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let hashes = PageHashes::begin_new(dir.path(), 7).unwrap();
        let lock = page_size().lock_page().get();
        let pg = |n| Pgno::new(n).unwrap();
        let entry = |n| (pg(n), hash_page(7, pg(n), &[1; PAGE]));
        let sum = DatabaseChecksum(5);
        let next = |sizes| NextChecksum::of_batch(sum, hashes.clone(), page_size(), sizes);
        let mut grow = next((lock - 2, lock + 1));
        let entries = [entry(lock - 1), entry(lock + 1)];
        grow.take(&entries);
        let grown = grow.finish().unwrap();
        hashes.write(entries).unwrap();
        let sizes = (lock + 1, lock - 2);
        let shrink = NextChecksum::of_batch(grown, hashes.clone(), page_size(), sizes);
        assert_eq!(shrink.finish(), Some(sum));
    }
}
