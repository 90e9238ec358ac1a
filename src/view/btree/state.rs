//! One state of a database: its header, and its pages by number.
//!
//! Fields of the header that are read here, big-endian:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 20 | 1 | unused bytes at the end of each page |
//! | 32 | 4 | first trunk page of the freelist |
//! | 36 | 4 | pages on the freelist |
//! | 52 | 4 | largest root page; 0 without auto-vacuum |
//! | 56 | 4 | text encoding: 1 UTF-8, 2 UTF-16le, 3 UTF-16be |

use std::sync::Arc;

use super::page::HEADER_BYTES;
use super::{BtreeError, BtreePage};
use crate::sqlite::header::MAGIC;

/// Where pages come from.
pub trait Source {
    /// Bytes in a page.
    fn page_size(&self) -> usize;
    /// Pages in the database.
    fn page_count(&self) -> u32;
    /// The page with this number, from 1 to the page count.
    ///
    /// # Errors
    /// [`BtreeError::Source`] if it could not be had.
    fn page(&self, number: u32) -> Result<Arc<[u8]>, BtreeError>;
    /// Says which pages are read next, so that they can be fetched at the same time.
    fn soon(&self, _numbers: &[u32]) {}
}

/// How text is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// UTF-8.
    Utf8,
    /// UTF-16, little-endian.
    Utf16Le,
    /// UTF-16, big-endian.
    Utf16Be,
}

impl Encoding {
    /// The text, if it is valid in this encoding.
    #[must_use]
    pub fn decode(self, bytes: &[u8]) -> Option<String> {
        let units = |read: fn([u8; 2]) -> u16| {
            let (pairs, rest) = bytes.as_chunks::<2>();
            if !rest.is_empty() {
                return None;
            }
            char::decode_utf16(pairs.iter().map(|pair| read(*pair))).collect::<Result<String, _>>().ok()
        };
        match self {
            Encoding::Utf8 => std::str::from_utf8(bytes).ok().map(str::to_owned),
            Encoding::Utf16Le => units(u16::from_le_bytes),
            Encoding::Utf16Be => units(u16::from_be_bytes),
        }
    }

    /// The text, with U+FFFD for what is not valid in this encoding.
    #[must_use]
    pub fn decode_lossy(self, bytes: &[u8]) -> String {
        let units = |read: fn([u8; 2]) -> u16| {
            let pairs = bytes.as_chunks::<2>().0;
            let chars = char::decode_utf16(pairs.iter().map(|pair| read(*pair)));
            chars.map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
        };
        match self {
            Encoding::Utf8 => String::from_utf8_lossy(bytes).into_owned(),
            Encoding::Utf16Le => units(u16::from_le_bytes),
            Encoding::Utf16Be => units(u16::from_be_bytes),
        }
    }
}

/// One state of a database. A state without pages is that of a database before its first write.
#[derive(Clone, Copy)]
pub struct State<'a> {
    source: &'a dyn Source,
    /// Bytes of each page that hold content.
    pub usable: usize,
    /// How text is stored.
    pub encoding: Encoding,
    /// First trunk page of the freelist, or 0.
    pub first_trunk: u32,
    /// Pages on the freelist.
    pub free: u32,
    /// Whether the database has pages of a pointer map.
    pub auto_vacuum: bool,
}

/// The fewest bytes of a page that SQLite can use.
const USABLE_MIN: usize = 480;

impl<'a> State<'a> {
    /// Reads the header of the database.
    ///
    /// # Errors
    /// [`BtreeError`], if there is none.
    pub fn open(source: &'a dyn Source) -> Result<State<'a>, BtreeError> {
        let size = source.page_size();
        let mut state = State {
            source,
            usable: size,
            encoding: Encoding::Utf8,
            first_trunk: 0,
            free: 0,
            auto_vacuum: false,
        };
        if source.page_count() == 0 {
            return Ok(state);
        }
        let page = state.page(1)?;
        let header = page.get(..HEADER_BYTES).ok_or(BtreeError::damaged(1, "it is shorter than a header"))?;
        if !header.starts_with(&MAGIC) {
            return Err(BtreeError::damaged(1, "it does not begin with the SQLite magic"));
        }
        let word = |at: usize| header[at..].first_chunk().map_or(0, |b| u32::from_be_bytes(*b));
        state.usable = size
            .checked_sub(usize::from(header[20]))
            .filter(|usable| *usable >= USABLE_MIN)
            .ok_or(BtreeError::damaged(1, "too many bytes of each page are reserved"))?;
        state.encoding = match word(56) {
            // 0: the database has no table yet.
            0 | 1 => Encoding::Utf8,
            2 => Encoding::Utf16Le,
            3 => Encoding::Utf16Be,
            _ => return Err(BtreeError::damaged(1, "its text encoding is unknown")),
        };
        state.first_trunk = word(32);
        state.free = word(36);
        state.auto_vacuum = word(52) != 0;
        Ok(state)
    }

    /// Pages in the database.
    #[must_use]
    pub fn page_count(&self) -> u32 {
        self.source.page_count()
    }

    /// Bytes in a page.
    #[must_use]
    pub fn page_size(&self) -> usize {
        self.source.page_size()
    }

    /// The page with this number.
    ///
    /// # Errors
    /// [`BtreeError`], if there is no such page, or if it could not be had.
    pub fn page(&self, number: u32) -> Result<Arc<[u8]>, BtreeError> {
        if number == 0 || number > self.source.page_count() {
            return Err(BtreeError::damaged(
                number,
                "a page refers to it, but the database has no such page",
            ));
        }
        let page = self.source.page(number)?;
        if page.len() != self.source.page_size() {
            return Err(BtreeError::damaged(number, "its length is not the page size"));
        }
        Ok(page)
    }

    /// The page with this number, which must be one of a b-tree.
    ///
    /// # Errors
    /// [`BtreeError`], if it is not, or if it could not be had.
    pub fn btree(&self, number: u32) -> Result<BtreePage, BtreeError> {
        BtreePage::parse(number, self.page(number)?, self.usable)
    }

    /// Says which pages are read next, so that they can be fetched at the same time.
    pub fn soon(&self, numbers: &[u32]) {
        if numbers.len() > 1 {
            self.source.soon(numbers);
        }
    }
}
