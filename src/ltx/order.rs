//! Which page numbers a file may have, and in which order. Encoder, decoder and parallel check
//! share this rule.

use super::{Header, LtxError};
use crate::base::Pgno;

/// Follows the page numbers of one file.
#[derive(Debug, Clone, Copy)]
pub(super) struct PageOrder {
    commit: u32,
    lock: Pgno,
    snapshot: bool,
    last: Option<Pgno>,
}

impl PageOrder {
    /// Starts before the first page.
    pub(super) fn new(header: &Header) -> PageOrder {
        PageOrder {
            commit: header.commit,
            lock: header.page_size.lock_page(),
            snapshot: header.is_snapshot(),
            last: None,
        }
    }

    /// Starts at `first`, whatever page that is. For the inside of a range whose beginning is
    /// checked elsewhere.
    pub(super) fn within(header: &Header, first: Pgno) -> Result<PageOrder, LtxError> {
        let mut order = PageOrder::new(header);
        order.bounds(first)?;
        order.last = Some(first);
        Ok(order)
    }

    /// Accepts `pgno` as the next page of the file.
    pub(super) fn accept(&mut self, pgno: Pgno) -> Result<(), LtxError> {
        if let Some(last) = self.last
            && pgno <= last
        {
            return Err(LtxError::PageOrder { last, found: pgno });
        }
        self.bounds(pgno)?;
        if self.snapshot && pgno.get() != self.due() {
            return Err(LtxError::SnapshotGap { missing: self.due(), commit: self.commit });
        }
        self.last = Some(pgno);
        Ok(())
    }

    /// Accepts a whole range from `first` to `last`, whose inner order has already been checked.
    pub(super) fn accept_range(&mut self, first: Pgno, last: Pgno) -> Result<(), LtxError> {
        self.accept(first)?;
        self.last = Some(last);
        Ok(())
    }

    /// Checks that no page is missing at the end of the file.
    pub(super) fn finish(&self) -> Result<(), LtxError> {
        if self.snapshot && self.due() <= self.commit && self.due() != 0 {
            return Err(LtxError::SnapshotGap { missing: self.due(), commit: self.commit });
        }
        Ok(())
    }

    fn bounds(&self, pgno: Pgno) -> Result<(), LtxError> {
        if pgno.get() > self.commit {
            return Err(LtxError::PageBeyondCommit { found: pgno, commit: self.commit });
        }
        if pgno == self.lock { Err(LtxError::LockPage(pgno)) } else { Ok(()) }
    }

    /// The next page of a snapshot; 0 after the last possible one.
    fn due(&self) -> u32 {
        let next = self.last.map_or(1, |p| p.get().wrapping_add(1));
        if next == self.lock.get() { next.wrapping_add(1) } else { next }
    }
}
