//! The way from the root of a tree to the page that holds a key.

use std::cmp::Ordering;

use super::{BtreeError, BtreePage, Key, Row, State, Value, compare_keys, parse_record};

/// Levels of a b-tree. SQLite's own limit; a deeper tree is damaged.
pub(super) const DEPTH_MAX: usize = 20;

/// The interior pages from the root downwards, and the page where the way ends: a leaf, or the page
/// that was looked for.
pub struct Way {
    /// The interior pages above `end`, root first.
    pub above: Vec<BtreePage>,
    /// The last page.
    pub end: BtreePage,
}

/// The way to the place of a rowid. It ends early at the page `stop`.
///
/// # Errors
/// [`BtreeError`], if a page on the way is damaged or could not be had.
pub fn find_rowid(state: &State<'_>, root: u32, rowid: i64, stop: u32) -> Result<Way, BtreeError> {
    descend(state, root, stop, |page| first_not_less(page, |i| Ok(page.cell(i)?.rowid.cmp(&rowid))))
}

/// The way to the place of a key. It ends early at the page `stop`, and at an interior page that
/// holds the key.
///
/// # Errors
/// [`BtreeError`], if a page on the way is damaged or could not be had.
pub fn find_key(
    state: &State<'_>,
    root: u32,
    key: &Key,
    values: &[Value<'_>],
    stop: u32,
) -> Result<Way, BtreeError> {
    descend(state, root, stop, |page| {
        first_not_less(page, |i| {
            let row = Row::of(page, i)?;
            let payload = row.payload(state)?;
            let here =
                parse_record(&payload).ok_or(BtreeError::damaged(page.number, "a record is damaged"))?;
            Ok(compare_keys(key, state.encoding, &here, values))
        })
    })
}

/// The first cell that does not compare as less.
fn first_not_less(
    page: &BtreePage,
    compare: impl Fn(usize) -> Result<Ordering, BtreeError>,
) -> Result<usize, BtreeError> {
    let (mut low, mut high) = (0, page.cells());
    while low < high {
        let middle = low + (high - low) / 2;
        if compare(middle)? == Ordering::Less {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

/// Goes down. `choose` returns the first cell whose key is not smaller than the one looked for.
fn descend(
    state: &State<'_>,
    root: u32,
    stop: u32,
    choose: impl Fn(&BtreePage) -> Result<usize, BtreeError>,
) -> Result<Way, BtreeError> {
    let mut above = Vec::new();
    let mut page = state.btree(root)?;
    while page.kind.is_interior() && page.number != stop {
        if above.len() >= DEPTH_MAX {
            return Err(BtreeError::damaged(root, "the tree below it is too deep"));
        }
        let i = choose(&page)?;
        let child = if i < page.cells() { page.cell(i)?.left } else { page.right()? };
        let next = state.btree(child)?;
        if next.kind.is_table() != page.kind.is_table() {
            return Err(BtreeError::damaged(child, "it is in a tree of another kind"));
        }
        above.push(page);
        page = next;
    }
    Ok(Way { above, end: page })
}
