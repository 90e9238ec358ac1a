//! A row: its cell, and the overflow pages that continue it.
//!
//! An overflow page begins with the number of the next one, 0 at the last; the rest is payload.

use std::borrow::Cow;
use std::sync::Arc;

use super::page::be32;
use super::{BtreeError, BtreePage, Cell, State};

/// A row of a table, or an entry of an index b-tree, as its cell says.
#[derive(Debug, Clone)]
pub struct Row {
    /// The page of the cell.
    pub page: u32,
    /// Where the parts of the cell are.
    pub cell: Cell,
    image: Arc<[u8]>,
}

impl Row {
    /// The row of a cell.
    ///
    /// # Errors
    /// [`BtreeError::Damaged`], if the cell is not inside the page.
    pub fn of(page: &BtreePage, i: usize) -> Result<Row, BtreeError> {
        Ok(Row { page: page.number, cell: page.cell(i)?, image: Arc::clone(page.image()) })
    }

    /// The part of the payload that is in the page of the cell.
    #[must_use]
    pub fn local(&self) -> &[u8] {
        // The range was checked when the cell was read.
        self.image.get(self.cell.local.clone()).unwrap_or_default()
    }

    /// Whether two rows have the same bytes in their cells, apart from the left child.
    #[must_use]
    pub fn same_cell(&self, other: &Row) -> bool {
        self.cell.payload_bytes == other.cell.payload_bytes
            && self.cell.overflow == other.cell.overflow
            && self.local() == other.local()
    }

    /// The numbers of the overflow pages, in order.
    ///
    /// # Errors
    /// [`BtreeError`], if the chain is shorter than the payload, or a page could not be had.
    pub fn overflow_pages(&self, state: &State<'_>) -> Result<Vec<u32>, BtreeError> {
        let mut pages = Vec::new();
        self.follow(state, |number, _| pages.push(number))?;
        Ok(pages)
    }

    /// The whole payload.
    ///
    /// # Errors
    /// [`BtreeError`], if the chain is shorter than the payload, or a page could not be had.
    pub fn payload(&self, state: &State<'_>) -> Result<Cow<'_, [u8]>, BtreeError> {
        if self.cell.overflow == 0 {
            return Ok(Cow::Borrowed(self.local()));
        }
        let mut payload = self.local().to_vec();
        self.follow(state, |_, bytes| payload.extend_from_slice(bytes))?;
        Ok(Cow::Owned(payload))
    }

    fn follow(&self, state: &State<'_>, mut visit: impl FnMut(u32, &[u8])) -> Result<(), BtreeError> {
        let mut left = self.cell.payload_bytes - self.cell.local.len() as u64;
        let each = (state.usable - 4) as u64;
        if left.div_ceil(each) > u64::from(state.page_count()) {
            return Err(BtreeError::damaged(self.page, "a row is longer than the database"));
        }
        let mut number = self.cell.overflow;
        while left > 0 {
            let image = state.page(number)?;
            let here = left.min(each);
            let bytes = usize::try_from(here).ok().and_then(|n| image.get(4..4 + n));
            visit(number, bytes.ok_or(BtreeError::damaged(number, "an overflow page is cut off"))?);
            left -= here;
            number = be32(&image, 0).unwrap_or(0);
        }
        Ok(())
    }
}
