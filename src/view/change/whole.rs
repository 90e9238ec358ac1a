//! Compares whole tables, row by row in the order of their keys.

use std::cmp::Ordering;

use super::found::{Found, Sides};
use super::keyed;
use crate::view::btree::{BtreeError, Row, State, Table, Walk, compare_keys, parse_record};

/// Reports the rows of a table that differ.
///
/// # Errors
/// [`BtreeError`], if a page is damaged or could not be had.
pub(super) fn compare(
    sides: &Sides<'_>,
    found: &mut Found<'_>,
    old: Option<&Table>,
    new: Option<&Table>,
) -> Result<(), BtreeError> {
    let key = new.or(old).and_then(|t| t.key.as_ref());
    let roots = (old.map_or(0, |t| t.root), new.map_or(0, |t| t.root));
    if let Some(key) = key.filter(|key| !key.is_ordered()) {
        let old = keyed::all_rows(&sides.old, roots.0)?;
        return keyed::report(sides, found, key, old, keyed::all_rows(&sides.new, roots.1)?);
    }
    let mut before = Ordered { state: sides.old, walk: Walk::new(sides.old, roots.0), last: None };
    let mut after = Ordered { state: sides.new, walk: Walk::new(sides.new, roots.1), last: None };
    let order = |a: &Item, b: &Item| match key {
        None => a.row.cell.rowid.cmp(&b.row.cell.rowid),
        Some(key) => {
            let values = |item: &Item| item.payload.clone();
            let (x, y) = (values(a), values(b));
            match (parse_record(&x), parse_record(&y)) {
                (Some(x), Some(y)) => compare_keys(key, sides.new.encoding, &x, &y),
                _ => Ordering::Equal,
            }
        }
    };
    let keyed = key.is_some();
    let (mut a, mut b) = (before.next(keyed, &order)?, after.next(keyed, &order)?);
    loop {
        let side = match (&a, &b) {
            (None, None) => return Ok(()),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(a), Some(b)) => order(a, b),
        };
        let old = a.as_ref().filter(|_| side != Ordering::Greater).map(|item| &item.row);
        let new = b.as_ref().filter(|_| side != Ordering::Less).map(|item| &item.row);
        let same = match (old, new) {
            (Some(old), Some(new)) => found.same_whole(sides, old, new)?,
            _ => false,
        };
        if !same {
            found.report(old, new)?;
        }
        if side != Ordering::Greater {
            a = before.next(keyed, &order)?;
        }
        if side != Ordering::Less {
            b = after.next(keyed, &order)?;
        }
    }
}

/// A row, with its payload if the key is in it.
#[derive(Clone)]
struct Item {
    row: Row,
    payload: Vec<u8>,
}

/// The rows of a tree, whose order is checked.
struct Ordered<'a> {
    state: State<'a>,
    walk: Walk<'a>,
    last: Option<Item>,
}

impl Ordered<'_> {
    fn next(
        &mut self,
        keyed: bool,
        order: &impl Fn(&Item, &Item) -> Ordering,
    ) -> Result<Option<Item>, BtreeError> {
        let Some(row) = self.walk.next_row()? else { return Ok(None) };
        let payload = if keyed { row.payload(&self.state)?.into_owned() } else { Vec::new() };
        if keyed && parse_record(&payload).is_none() {
            return Err(BtreeError::damaged(row.page, "a record is damaged"));
        }
        let item = Item { row, payload };
        if self.last.as_ref().is_some_and(|last| order(last, &item) != Ordering::Less) {
            return Err(BtreeError::damaged(item.row.page, "its keys are not in order"));
        }
        self.last = Some(item.clone());
        Ok(Some(item))
    }
}
