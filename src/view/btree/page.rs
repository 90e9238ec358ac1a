//! One page of a b-tree and its cells.
//!
//! Header of the page, at offset 100 on page 1 and 0 elsewhere, big-endian:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 1 | kind: 2 interior and 10 leaf of an index, 5 interior and 13 leaf of a table |
//! | 1 | 2 | first free block |
//! | 3 | 2 | number of cells |
//! | 5 | 2 | where the cells begin |
//! | 7 | 1 | fragmented free bytes |
//! | 8 | 4 | rightmost child; interior pages only |
//!
//! The offsets of the cells follow, 2 bytes each. A cell:
//!
//! | part | table leaf | table interior | index leaf | index interior |
//! |---|---|---|---|---|
//! | left child, 4 bytes | | yes | | yes |
//! | bytes of the payload, varint | yes | | yes | yes |
//! | rowid, varint | yes | yes | | |
//! | payload, or its first part | yes | | yes | yes |
//! | first overflow page, 4 bytes, if the payload goes on | yes | | yes | yes |

use std::ops::Range;
use std::sync::Arc;

use super::BtreeError;

/// Bytes of one row. SQLite's own limit is 2^31 - 1; a longer row is damaged.
const ROW_BYTES_MAX: u64 = (1 << 31) - 1;

/// Bytes of the database header, before the b-tree header of page 1.
pub(super) const HEADER_BYTES: usize = 100;

/// What a page of a b-tree holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Children of an index b-tree, and the entries between them.
    IndexInterior,
    /// Children of a table b-tree, and the rowids between them.
    TableInterior,
    /// Entries of an index b-tree.
    IndexLeaf,
    /// Rows of a table b-tree.
    TableLeaf,
}

impl Kind {
    /// The kind that the first byte of the page's header says.
    #[must_use]
    pub fn of(byte: u8) -> Option<Kind> {
        match byte {
            2 => Some(Kind::IndexInterior),
            5 => Some(Kind::TableInterior),
            10 => Some(Kind::IndexLeaf),
            13 => Some(Kind::TableLeaf),
            _ => None,
        }
    }

    /// Whether the page has children.
    #[must_use]
    pub fn is_interior(self) -> bool {
        matches!(self, Kind::IndexInterior | Kind::TableInterior)
    }

    /// Whether the page belongs to a table b-tree, whose keys are rowids.
    #[must_use]
    pub fn is_table(self) -> bool {
        matches!(self, Kind::TableInterior | Kind::TableLeaf)
    }
}

/// Where the parts of a cell are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// The child with smaller keys; 0 on a leaf.
    pub left: u32,
    /// The rowid; 0 in an index b-tree.
    pub rowid: i64,
    /// Bytes of the whole payload.
    pub payload_bytes: u64,
    /// The part of the payload that is in this page.
    pub local: Range<usize>,
    /// The page with the rest of the payload; 0 if there is none.
    pub overflow: u32,
}

/// A page of a b-tree whose header is valid.
#[derive(Debug, Clone)]
pub struct BtreePage {
    pub number: u32,
    /// What it holds.
    pub kind: Kind,
    image: Arc<[u8]>,
    usable: usize,
    base: usize,
    cells: usize,
}

/// Offsets in the header of a page.
const CELLS: usize = 3;
const RIGHT: usize = 8;

impl BtreePage {
    /// Checks the header of a page. `usable` is at most its length.
    ///
    /// # Errors
    /// [`BtreeError::Damaged`], if it is not a page of a b-tree.
    pub fn parse(number: u32, image: Arc<[u8]>, usable: usize) -> Result<BtreePage, BtreeError> {
        let base = if number == 1 { HEADER_BYTES } else { 0 };
        let damaged = |what| BtreeError::damaged(number, what);
        let kind = image.get(base).and_then(|b| Kind::of(*b));
        let kind = kind.ok_or(damaged("it is not a page of a b-tree"))?;
        let cells = usize::from(be16(&image, base + CELLS).ok_or(damaged("its header is cut off"))?);
        let page = BtreePage { number, kind, image, usable, base, cells };
        if page.pointers() + 2 * cells > usable.min(page.image.len()) {
            return Err(damaged("it has more cells than fit"));
        }
        Ok(page)
    }

    fn pointers(&self) -> usize {
        self.base + if self.kind.is_interior() { RIGHT + 4 } else { RIGHT }
    }

    fn damaged(&self, what: &'static str) -> BtreeError {
        BtreeError::damaged(self.number, what)
    }

    /// Number of cells.
    #[must_use]
    pub fn cells(&self) -> usize {
        self.cells
    }

    /// The bytes of the page.
    #[must_use]
    pub fn image(&self) -> &Arc<[u8]> {
        &self.image
    }

    /// The rightmost child of an interior page.
    ///
    /// # Errors
    /// [`BtreeError::Damaged`], if it is a leaf.
    pub fn right(&self) -> Result<u32, BtreeError> {
        if !self.kind.is_interior() {
            return Err(self.damaged("it is a leaf where an interior page is expected"));
        }
        be32(&self.image, self.base + RIGHT).ok_or_else(|| self.damaged("its header is cut off"))
    }

    /// All children of an interior page in order; none of a leaf.
    ///
    /// # Errors
    /// [`BtreeError::Damaged`], if a cell is outside the page.
    pub fn children(&self) -> Result<Vec<u32>, BtreeError> {
        if !self.kind.is_interior() {
            return Ok(Vec::new());
        }
        let mut children = Vec::with_capacity(self.cells + 1);
        for i in 0..self.cells {
            let child = self.offset(i).and_then(|at| be32(&self.image, at));
            children.push(child.ok_or_else(|| self.damaged("a cell is outside the page"))?);
        }
        children.push(self.right()?);
        Ok(children)
    }

    /// Offset of a cell, if it is where cells can be.
    fn offset(&self, i: usize) -> Option<usize> {
        let at = usize::from(be16(&self.image, self.pointers() + 2 * i)?);
        (i < self.cells && at >= self.pointers() + 2 * self.cells && at < self.usable).then_some(at)
    }

    /// The cell with this index, from 0.
    ///
    /// # Errors
    /// [`BtreeError::Damaged`], if there is no such cell, or if it is not inside the page.
    pub fn cell(&self, i: usize) -> Result<Cell, BtreeError> {
        self.try_cell(i).ok_or_else(|| self.damaged("a cell is not inside the page"))
    }

    fn try_cell(&self, i: usize) -> Option<Cell> {
        let bytes = self.image.get(..self.usable)?;
        let mut at = self.offset(i)?;
        let mut left = 0;
        if self.kind.is_interior() {
            left = be32(bytes, at)?;
            at += 4;
        }
        if self.kind == Kind::TableInterior {
            let (rowid, _) = varint(bytes, at)?;
            return Some(Cell {
                left,
                rowid: rowid.cast_signed(),
                payload_bytes: 0,
                local: at..at,
                overflow: 0,
            });
        }
        let (payload_bytes, n) = varint(bytes, at)?;
        at += n;
        let mut rowid = 0;
        if self.kind == Kind::TableLeaf {
            let (value, n) = varint(bytes, at)?;
            rowid = value.cast_signed();
            at += n;
        }
        if payload_bytes > ROW_BYTES_MAX {
            return None;
        }
        let local = at..at + local_bytes(self.usable, self.kind.is_table(), payload_bytes);
        bytes.get(local.clone())?;
        let overflow = if (local.len() as u64) < payload_bytes { be32(bytes, local.end)? } else { 0 };
        Some(Cell { left, rowid, payload_bytes, local, overflow })
    }
}

/// Bytes of a payload that are in the page of its cell.
fn local_bytes(usable: usize, table: bool, payload_bytes: u64) -> usize {
    // Usable is at least 480, so no difference is below 0.
    let max = if table { usable - 35 } else { (usable - 12) * 64 / 255 - 23 };
    let Ok(payload) = usize::try_from(payload_bytes) else { return usable };
    if payload <= max {
        return payload;
    }
    let min = (usable - 12) * 32 / 255 - 23;
    let fits = min + (payload - min) % (usable - 4);
    if fits <= max { fits } else { min }
}

/// The 16-bit number at an offset.
pub(super) fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|b| u16::from_be_bytes(*b))
}

/// The 32-bit number at an offset.
pub(super) fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|b| u32::from_be_bytes(*b))
}

/// The variable-length number at an offset, and its length: 7 bits a byte while the top bit is set,
/// most significant first; a ninth byte has 8 bits.
pub(super) fn varint(bytes: &[u8], at: usize) -> Option<(u64, usize)> {
    let mut value = 0u64;
    for n in 0..8 {
        let byte = *bytes.get(at + n)?;
        value = value << 7 | u64::from(byte & 0x7f);
        if byte < 0x80 {
            return Some((value, n + 1));
        }
    }
    let byte = *bytes.get(at + 8)?;
    Some((value << 8 | u64::from(byte), 9))
}
