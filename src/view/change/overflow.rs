//! Changed overflow pages: which rows they belong to.
//!
//! SQLite writes only those overflow pages of a row whose bytes change. So a row can change without
//! its cell, and nothing in an overflow page names the row.

use std::collections::HashSet;

use super::found::{Effort, Found, Sides};
use super::pairs::Pair;
use crate::view::btree::{BtreeError, Pointer, Row, State, Walk, pointer};

/// The changed pages that may be overflow pages of rows whose cells did not change.
pub(super) struct Unclear {
    /// The pages that no row explains yet.
    pub(super) pages: HashSet<u32>,
    /// Pages that are known to be overflow pages.
    pub(super) explained: usize,
    /// Rows on changed pages whose cells did not change.
    suspects: Vec<(Pair, Row, Row)>,
}

impl Unclear {
    pub(super) fn new(pages: HashSet<u32>) -> Unclear {
        Unclear { pages, explained: 0, suspects: Vec::new() }
    }

    /// Takes out the overflow pages of a row that is compared in full.
    ///
    /// # Errors
    /// [`BtreeError`], if one of them is damaged or could not be had.
    pub(super) fn explain(&mut self, sides: &Sides<'_>, row: Option<&Row>) -> Result<(), BtreeError> {
        if let Some(row) = row.filter(|row| row.cell.overflow != 0 && !self.pages.is_empty()) {
            self.take(&row.overflow_pages(&sides.new)?);
        }
        Ok(())
    }

    /// Takes out overflow pages of an index, whose first one is `first`. All of them are written
    /// with their entry.
    ///
    /// # Errors
    /// [`BtreeError`], if one of them could not be had.
    pub(super) fn explain_index(&mut self, state: &State<'_>, first: u32) -> Result<(), BtreeError> {
        let mut number = first;
        while self.pages.remove(&number) {
            self.explained += 1;
            number = state.page(number)?.first_chunk().map_or(0, |b| u32::from_be_bytes(*b));
        }
        Ok(())
    }

    fn take(&mut self, pages: &[u32]) -> bool {
        let taken = pages.iter().filter(|n| self.pages.remove(n)).count();
        self.explained += taken;
        taken > 0
    }

    /// Keeps a row whose cell did not change, until it is known whether an overflow page of such a
    /// row changed.
    pub(super) fn suspect(&mut self, pair: Pair, old: &Row, new: &Row) {
        if !self.pages.is_empty() {
            self.suspects.push((pair, old.clone(), new.clone()));
        }
    }

    /// Finds the rows of the pages that are left, and reports those that differ.
    ///
    /// # Errors
    /// [`BtreeError`], if a page is damaged or could not be had.
    pub(super) fn resolve(
        &mut self,
        sides: &Sides<'_>,
        found: &mut Found<'_>,
        pairs: &[Pair],
        effort: Effort,
    ) -> Result<(), BtreeError> {
        for (pair, old, new) in std::mem::take(&mut self.suspects) {
            if self.pages.is_empty() {
                return Ok(());
            }
            self.check(sides, found, pair, (&old, &new))?;
        }
        for number in self.pages.clone() {
            if self.pages.contains(&number)
                && let Some((pair, row)) = owner(sides, pairs, number)?
            {
                self.check(sides, found, pair, (&row, &row))?;
            }
        }
        if effort == Effort::Read {
            self.search(sides, found, pairs)?;
        }
        Ok(())
    }

    /// Reports a row if one of the pages is an overflow page of it and its payload differs.
    fn check(
        &mut self,
        sides: &Sides<'_>,
        found: &mut Found<'_>,
        pair: Pair,
        rows: (&Row, &Row),
    ) -> Result<(), BtreeError> {
        if self.take(&rows.1.overflow_pages(&sides.new)?)
            && rows.0.payload(&sides.old)? != rows.1.payload(&sides.new)?
        {
            found.pair = pair;
            found.report(Some(rows.0), Some(rows.1))?;
        }
        Ok(())
    }

    /// Reads all rows with overflow pages until each page is explained. Their cells did not change.
    fn search(&mut self, sides: &Sides<'_>, found: &mut Found<'_>, pairs: &[Pair]) -> Result<(), BtreeError> {
        for pair in pairs {
            let (Some(_), Some(table)) = pair.tables(sides.old_schema, sides.new_schema) else { continue };
            let mut walk = Walk::new(sides.new, table.root);
            while !self.pages.is_empty()
                && let Some(row) = walk.next_row()?
            {
                if row.cell.overflow != 0 {
                    self.check(sides, found, *pair, (&row, &row))?;
                }
            }
        }
        Ok(())
    }
}

/// The row that an overflow page continues, by the pointer map.
fn owner(sides: &Sides<'_>, pairs: &[Pair], number: u32) -> Result<Option<(Pair, Row)>, BtreeError> {
    let state = &sides.new;
    let mut first = number;
    let mut steps = 0;
    let leaf = loop {
        match pointer(state, first)? {
            Some(Pointer::Overflow(before)) if steps < state.page_count() => first = before,
            Some(Pointer::FirstOverflow(leaf)) => break leaf,
            _ => return Ok(None),
        }
        steps += 1;
    };
    let mut root = leaf;
    steps = 0;
    loop {
        match pointer(state, root)? {
            Some(Pointer::Child(parent)) if steps < state.page_count() => root = parent,
            Some(Pointer::Root) => break,
            _ => return Ok(None),
        }
        steps += 1;
    }
    let is_it = |pair: &&Pair| {
        pair.tables(sides.old_schema, sides.new_schema).1.is_some_and(|table| table.root == root)
    };
    let Some(pair) = pairs.iter().find(is_it).filter(|pair| pair.old.is_some()) else { return Ok(None) };
    let page = state.btree(leaf)?;
    for i in 0..page.cells() {
        let row = Row::of(&page, i)?;
        if row.cell.overflow == first {
            return Ok(Some((*pair, row)));
        }
    }
    Ok(None)
}
