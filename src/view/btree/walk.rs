//! All rows of a tree in order.

use super::find::DEPTH_MAX;
use super::{BtreeError, BtreePage, Kind, Row, State};

/// All rows of a tree in order. Reads at most as many pages as the database has.
pub struct Walk<'a> {
    state: State<'a>,
    table: Option<bool>,
    /// The pages from the root to the current one, with the next place in each: on a leaf a cell,
    /// on an interior page twice the cell, and one more after its left child.
    stack: Vec<(BtreePage, usize)>,
    next: Option<u32>,
    read: u32,
}

impl<'a> Walk<'a> {
    /// Begins at the first row of the tree with this root. A root of 0 is a tree without rows.
    #[must_use]
    pub fn new(state: State<'a>, root: u32) -> Walk<'a> {
        Walk { state, table: None, stack: Vec::new(), next: (root != 0).then_some(root), read: 0 }
    }

    /// The next row, or `None` after the last one.
    ///
    /// # Errors
    /// [`BtreeError`], if a page is damaged or could not be had.
    pub fn next_row(&mut self) -> Result<Option<Row>, BtreeError> {
        loop {
            if let Some(number) = self.next.take() {
                self.enter(number)?;
            }
            let Some((page, at)) = self.stack.last_mut() else { return Ok(None) };
            let place = *at;
            *at += 1;
            if !page.kind.is_interior() {
                if place < page.cells() {
                    return Ok(Some(Row::of(page, place)?));
                }
                self.stack.pop();
                continue;
            }
            let cell = place / 2;
            if cell >= page.cells() {
                if place == 2 * page.cells() {
                    self.next = Some(page.right()?);
                } else {
                    self.stack.pop();
                }
            } else if place % 2 == 0 {
                self.next = Some(page.cell(cell)?.left);
            } else if page.kind == Kind::IndexInterior {
                return Ok(Some(Row::of(page, cell)?));
            }
        }
    }

    fn enter(&mut self, number: u32) -> Result<(), BtreeError> {
        if self.stack.len() > DEPTH_MAX || self.read >= self.state.page_count() {
            return Err(BtreeError::damaged(number, "the tree that it is in is too deep or has a loop"));
        }
        self.read += 1;
        let page = self.state.btree(number)?;
        if *self.table.get_or_insert(page.kind.is_table()) != page.kind.is_table() {
            return Err(BtreeError::damaged(number, "it is in a tree of another kind"));
        }
        if page.kind.is_interior() {
            self.state.soon(&page.children()?);
        }
        self.stack.push((page, 0));
        Ok(())
    }
}
