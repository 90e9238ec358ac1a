//! The freelist and the pointer map.
//!
//! A trunk page of the freelist: the next trunk (4 bytes), the number of leaves (4 bytes), their
//! page numbers (4 bytes each), big-endian. The content of a leaf is of no meaning.
//!
//! A page of the pointer map has 5 bytes for each of the pages that follow it: a kind and a page
//! number. The first one is page 2.

use std::collections::HashSet;

use super::page::be32;
use super::{BtreeError, State};

/// Trunk pages of a freelist that are read to tell free pages from others. Each lists about 1,000
/// pages of 4 KiB; pages on later ones are counted as not attributed.
const TRUNKS_MAX: usize = 4096;

/// Offset of SQLite's lock bytes. The page that contains it never carries data.
const LOCK_BYTE: u64 = 0x4000_0000;

/// The pages on the freelist, trunks included, or those on its first [`TRUNKS_MAX`]
/// trunks.
///
/// # Errors
/// [`BtreeError`], if a trunk is damaged or could not be had.
pub fn free_pages(state: &State<'_>) -> Result<HashSet<u32>, BtreeError> {
    let mut free = HashSet::new();
    let mut trunk = state.first_trunk;
    let mut trunks = 0;
    while trunk != 0 && trunks < TRUNKS_MAX {
        if !free.insert(trunk) {
            return Err(BtreeError::damaged(trunk, "the freelist has a loop"));
        }
        trunks += 1;
        let image = state.page(trunk)?;
        let leaves = be32(&image, 4).unwrap_or(0) as usize;
        if leaves > state.usable / 4 - 2 {
            return Err(BtreeError::damaged(trunk, "it is a page of the freelist with too many leaves"));
        }
        free.extend((0..leaves).filter_map(|i| be32(&image, 8 + 4 * i)));
        trunk = be32(&image, 0).unwrap_or(0);
    }
    Ok(free)
}

/// What the pointer map says about a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pointer {
    /// The root of a tree.
    Root,
    /// A page of the freelist.
    Free,
    /// The first overflow page of a cell in this page.
    FirstOverflow(u32),
    /// An overflow page after this one.
    Overflow(u32),
    /// A page of a tree below this one.
    Child(u32),
}

/// Number of the page of the pointer map that is about page `number`.
fn map_page(state: &State<'_>, number: u32) -> u32 {
    // As `ptrmapPageno` of SQLite.
    let each = (state.usable / 5 + 1) as u64;
    let group = u64::from(number.saturating_sub(2)) / each;
    let page = group * each + 2;
    let lock = LOCK_BYTE / state.page_size() as u64 + 1;
    u32::try_from(if page == lock { page + 1 } else { page }).unwrap_or(0)
}

/// Whether a page is one of the pointer map.
#[must_use]
pub fn is_pointer_map(state: &State<'_>, number: u32) -> bool {
    state.auto_vacuum && number >= 2 && map_page(state, number) == number
}

/// What the pointer map says about a page; `None` without auto-vacuum, or if it says nothing valid.
///
/// # Errors
/// [`BtreeError`], if the page of the pointer map could not be had.
pub fn pointer(state: &State<'_>, number: u32) -> Result<Option<Pointer>, BtreeError> {
    let map = map_page(state, number);
    if !state.auto_vacuum || number < 3 || map >= number {
        return Ok(None);
    }
    let image = state.page(map)?;
    let at = 5 * (number - map - 1) as usize;
    let (Some(kind), Some(parent)) = (image.get(at), be32(&image, at + 1)) else { return Ok(None) };
    Ok(match kind {
        1 => Some(Pointer::Root),
        2 => Some(Pointer::Free),
        3 => Some(Pointer::FirstOverflow(parent)),
        4 => Some(Pointer::Overflow(parent)),
        5 => Some(Pointer::Child(parent)),
        _ => None,
    })
}
