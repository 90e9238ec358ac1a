//! Compares the moved rows of a table with rowids.

use std::cmp::Ordering;

use super::found::{Found, Sides};
use super::overflow::Unclear;
use crate::view::btree::{BtreeError, Row, State};

/// The rows of some leaf pages of a tree, in order of their rowids.
struct Rows<'a> {
    state: &'a State<'a>,
    /// First rowid and number of each page, last one first.
    pages: Vec<(i64, u32)>,
    page: Vec<Row>,
    last: Option<i64>,
}

impl<'a> Rows<'a> {
    fn new(state: &'a State<'a>, numbers: &[u32]) -> Result<Rows<'a>, BtreeError> {
        let mut pages = Vec::new();
        state.soon(numbers);
        for number in numbers {
            let page = state.btree(*number)?;
            if !page.kind.is_table() {
                return Err(BtreeError::damaged(*number, "it is in a tree of another kind"));
            }
            if !page.kind.is_interior() && page.cells() > 0 {
                pages.push((page.cell(0)?.rowid, *number));
            }
        }
        pages.sort_unstable_by(|a, b| b.cmp(a));
        Ok(Rows { state, pages, page: Vec::new(), last: None })
    }

    fn next(&mut self) -> Result<Option<Row>, BtreeError> {
        while self.page.is_empty() {
            let Some((_, number)) = self.pages.pop() else { return Ok(None) };
            let page = self.state.btree(number)?;
            for i in (0..page.cells()).rev() {
                self.page.push(Row::of(&page, i)?);
            }
        }
        let row = self.page.pop();
        if let Some(row) = &row {
            if self.last.is_some_and(|last| last >= row.cell.rowid) {
                return Err(BtreeError::damaged(row.page, "its rowids are not in order"));
            }
            self.last = Some(row.cell.rowid);
        }
        Ok(row)
    }
}

/// Reports the rows that differ, and keeps those in `unclear` whose cells are equal but whose
/// overflow pages may differ.
///
/// # Errors
/// [`BtreeError`], if a page is damaged or could not be had.
pub(super) fn compare(
    sides: &Sides<'_>,
    found: &mut Found<'_>,
    unclear: &mut Unclear,
    pages: (&[u32], &[u32]),
) -> Result<(), BtreeError> {
    let mut before = Rows::new(&sides.old, pages.0)?;
    let mut after = Rows::new(&sides.new, pages.1)?;
    let (mut old, mut new) = (before.next()?, after.next()?);
    loop {
        let order = match (&old, &new) {
            (None, None) => return Ok(()),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(a), Some(b)) => a.cell.rowid.cmp(&b.cell.rowid),
        };
        match order {
            Ordering::Less => {
                found.report(old.as_ref(), None)?;
                old = before.next()?;
            }
            Ordering::Greater => {
                unclear.explain(sides, new.as_ref())?;
                found.report(None, new.as_ref())?;
                new = after.next()?;
            }
            Ordering::Equal => {
                if let (Some(a), Some(b)) = (&old, &new) {
                    match found.same(sides, a, b)? {
                        Some(true) if b.cell.overflow == 0 => {}
                        // Its overflow pages were moved, or its record was written in another way.
                        Some(true) => unclear.explain(sides, new.as_ref())?,
                        Some(false) => {
                            unclear.explain(sides, new.as_ref())?;
                            found.report(old.as_ref(), new.as_ref())?;
                        }
                        None => unclear.suspect(found.pair, a, b),
                    }
                }
                (old, new) = (before.next()?, after.next()?);
            }
        }
    }
}
