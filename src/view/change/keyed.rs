//! Compares the moved rows of a table without rowids, whose b-tree has rows on interior pages too.

use std::cmp::Ordering;
use std::collections::HashMap;

use super::found::{Found, Sides};
use super::overflow::Unclear;
use crate::view::btree::{BtreeError, Key, Row, State, compare_keys, parse_record};

/// A row with its whole payload.
pub(super) struct Whole {
    row: Row,
    payload: Vec<u8>,
}

/// The rows of some pages.
fn rows(state: &State<'_>, numbers: &[u32]) -> Result<Vec<Whole>, BtreeError> {
    let mut rows = Vec::new();
    state.soon(numbers);
    for number in numbers {
        let page = state.btree(*number)?;
        if page.kind.is_table() {
            return Err(BtreeError::damaged(*number, "it is in a tree of another kind"));
        }
        for i in 0..page.cells() {
            let row = Row::of(&page, i)?;
            let payload = row.payload(state)?.into_owned();
            if parse_record(&payload).is_none() {
                return Err(BtreeError::damaged(*number, "a record is damaged"));
            }
            rows.push(Whole { row, payload });
        }
    }
    Ok(rows)
}

/// Reports the rows that differ.
///
/// # Errors
/// [`BtreeError`], if a page is damaged or could not be had.
pub(super) fn compare(
    sides: &Sides<'_>,
    found: &mut Found<'_>,
    unclear: &mut Unclear,
    key: &Key,
    pages: (&[u32], &[u32]),
) -> Result<(), BtreeError> {
    let (old, new) = (rows(&sides.old, pages.0)?, rows(&sides.new, pages.1)?);
    for whole in &new {
        unclear.explain(sides, Some(&whole.row))?;
    }
    report(sides, found, key, old, new)
}

/// Reports the rows that are in one of the lists only, those with the same key together.
///
/// # Errors
/// [`BtreeError`], if an overflow page is damaged or could not be had.
pub(super) fn report(
    sides: &Sides<'_>,
    found: &mut Found<'_>,
    key: &Key,
    mut old: Vec<Whole>,
    mut new: Vec<Whole>,
) -> Result<(), BtreeError> {
    let encoding = sides.new.encoding;
    remove_common(&mut old, &mut new);
    let order = |a: &Whole, b: &Whole| {
        let values = |w: &Whole| parse_record(&w.payload).map(|v| v.len()).unwrap_or_default();
        match (parse_record(&a.payload), parse_record(&b.payload)) {
            (Some(x), Some(y)) => compare_keys(key, encoding, &x, &y),
            // Each record was parsed when it was read.
            _ => values(a).cmp(&values(b)),
        }
    };
    old.sort_by(order);
    new.sort_by(order);
    let (mut before, mut after) = (old.iter().peekable(), new.iter().peekable());
    loop {
        let side = match (before.peek(), after.peek()) {
            (None, None) => return Ok(()),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(a), Some(b)) => order(a, b),
        };
        let a = if side == Ordering::Greater { None } else { before.next() };
        let b = if side == Ordering::Less { None } else { after.next() };
        if let (Some(a), Some(b)) = (a, b)
            && found.same(sides, &a.row, &b.row)? == Some(true)
        {
            continue;
        }
        found.report(a.map(|w| &w.row), b.map(|w| &w.row))?;
    }
}

/// Removes rows that are in both lists with the same bytes: they only moved.
fn remove_common(old: &mut Vec<Whole>, new: &mut Vec<Whole>) {
    let mut known: HashMap<&[u8], bool> = old.iter().map(|w| (&w.payload[..], false)).collect();
    let in_old: Vec<bool> =
        new.iter().map(|w| known.get_mut(&w.payload[..]).map(|seen| *seen = true).is_some()).collect();
    let in_new: Vec<bool> = old.iter().map(|w| known.get(&w.payload[..]) == Some(&true)).collect();
    let mut keep = in_new.iter().map(|common| !common);
    old.retain(|_| keep.next().unwrap_or(true));
    let mut keep = in_old.iter().map(|common| !common);
    new.retain(|_| keep.next().unwrap_or(true));
}

/// All rows of a tree, for a key whose order is not known.
///
/// # Errors
/// [`BtreeError`], if a page is damaged or could not be had.
pub(super) fn all_rows(state: &State<'_>, root: u32) -> Result<Vec<Whole>, BtreeError> {
    let mut rows = Vec::new();
    let mut walk = crate::view::btree::Walk::new(*state, root);
    while let Some(row) = walk.next_row()? {
        let payload = row.payload(state)?.into_owned();
        if parse_record(&payload).is_none() {
            return Err(BtreeError::damaged(row.page, "a record is damaged"));
        }
        rows.push(Whole { row, payload });
    }
    Ok(rows)
}
