//! Which page numbers a file may have, in which order. Encoder, decoder and parallel check share
//! this rule.

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
    /// Before the first page.
    pub(super) fn new(header: &Header) -> PageOrder {
        PageOrder {
            commit: header.commit,
            lock: header.page_size.lock_page(),
            snapshot: header.is_snapshot(),
            last: None,
        }
    }

    /// At `first`, wherever that is: for the inside of a range whose beginning is checked by
    /// somebody else.
    pub(super) fn within(header: &Header, first: Pgno) -> Result<PageOrder, LtxError> {
        let mut order = PageOrder::new(header);
        order.bounds(first)?;
        order.last = Some(first);
        Ok(order)
    }

    /// The next page of the file is `pgno`.
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

    /// A whole range from `first`, whose order inside has been checked, ends with `last`.
    pub(super) fn accept_range(&mut self, first: Pgno, last: Pgno) -> Result<(), LtxError> {
        self.accept(first)?;
        self.last = Some(last);
        Ok(())
    }

    /// There are no more pages.
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

    /// The page that comes next in a snapshot; 0 after the last possible one.
    fn due(&self) -> u32 {
        let next = self.last.map_or(1, |p| p.get().wrapping_add(1));
        if next == self.lock.get() { next.wrapping_add(1) } else { next }
    }
}
