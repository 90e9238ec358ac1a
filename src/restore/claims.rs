//! Which pages have already been found in a file.
//!
//! A restore reads files from the newest to the oldest, so the first file that has a page has its
//! newest image. One bit per page is all that has to be remembered.

use crate::base::{PageSize, Pgno};

/// The pages of the new database. Each is claimed once.
#[derive(Debug)]
pub(super) struct Claims {
    words: Vec<u64>,
    commit: u32,
    page_size: PageSize,
    lock: Pgno,
    /// Number of pages not claimed yet.
    open: u32,
    /// The files read so far end the database here. Older images of pages above it do not count.
    limit: u32,
}

impl Claims {
    /// Creates the claims for a database of `commit` pages.
    pub(super) fn new(commit: u32, page_size: PageSize) -> Claims {
        let lock = page_size.lock_page();
        let open = commit - u32::from(lock.get() <= commit);
        Claims { words: vec![0; commit.div_ceil(64) as usize], commit, page_size, lock, open, limit: commit }
    }

    /// Bytes per page of the database.
    pub(super) fn page_size(&self) -> PageSize {
        self.page_size
    }

    /// Moves on to an older file, after which the database had `commit` pages.
    pub(super) fn next_file(&mut self, commit: u32) {
        self.limit = self.limit.min(commit);
    }

    /// Whether to write the image of `pgno` in the current file. True at most once per page.
    pub(super) fn claim(&mut self, pgno: Pgno) -> bool {
        if pgno.get() > self.limit || pgno == self.lock {
            return false;
        }
        let word = &mut self.words[pgno.index() / 64];
        let bit = 1 << (pgno.index() % 64);
        let fresh = *word & bit == 0;
        *word |= bit;
        self.open -= u32::from(fresh);
        fresh
    }

    /// The first page that is not claimed; `None` when all are.
    pub(super) fn missing(&self) -> Option<Pgno> {
        self.missing_above(0)
    }

    /// The first page above `floor` that is not claimed.
    pub(super) fn missing_above(&self, floor: u32) -> Option<Pgno> {
        if self.open == 0 {
            return None;
        }
        (floor.saturating_add(1)..=self.commit)
            .filter_map(Pgno::new)
            .find(|p| *p != self.lock && self.words[p.index() / 64] & (1 << (p.index() % 64)) == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(n: u32) -> Pgno {
        Pgno::new(n).unwrap()
    }

    #[test]
    fn the_first_claim_wins_and_all_must_be_claimed() {
        let mut claims = Claims::new(130, PageSize::new(4096).unwrap());
        claims.next_file(130);
        assert!(claims.claim(p(130)) && claims.claim(p(64)) && !claims.claim(p(64)));
        assert_eq!(claims.missing(), Some(p(1)));
        for n in (1..130).filter(|n| *n != 64 && *n != 65) {
            assert!(claims.claim(p(n)), "{n}");
        }
        assert_eq!(claims.missing(), Some(p(65)));
        assert!(claims.claim(p(65)));
        assert_eq!(claims.missing(), None);
        assert!(!claims.claim(p(131)));
    }

    /// 10 pages, shrunk to 4, grown to 8: pages 5 and above of the oldest file are gone, whatever
    /// came later.
    #[test]
    fn no_page_comes_back_from_before_a_shrink() {
        let mut claims = Claims::new(8, PageSize::new(512).unwrap());
        claims.next_file(8);
        assert!([5, 6, 8].into_iter().all(|n| claims.claim(p(n))));
        claims.next_file(4);
        claims.next_file(10);
        assert!((1..=4).all(|n| claims.claim(p(n))));
        assert!(!claims.claim(p(7)));
        assert_eq!(claims.missing(), Some(p(7)));
    }

    #[test]
    fn the_lock_page_is_nobodys() {
        let size = PageSize::MAX;
        let mut claims = Claims::new(size.lock_page().get() + 1, size);
        assert!(!claims.claim(size.lock_page()));
        for n in (1..=size.lock_page().get() + 1).filter(|n| *n != size.lock_page().get()) {
            assert!(claims.claim(p(n)));
        }
        assert_eq!(claims.missing(), None);
        assert_eq!(Claims::new(0, size).missing(), None);
    }
}
