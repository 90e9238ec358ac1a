//! SQLite's rollback journal, as SQLite itself would write it.
//!
//! | offset | size | field, big-endian |
//! |---|---|---|
//! | 0 | 8 | magic |
//! | 8 | 4 | number of records |
//! | 12 | 4 | nonce, the begin of each checksum |
//! | 16 | 4 | pages of the database before the transaction |
//! | 20 | 4 | sector size: the records begin at the next sector |
//! | 24 | 4 | page size |
//!
//! A record: page number (4), the page, checksum (4). The checksum is the nonce plus each 200th
//! byte of the page, counted from its end; see `pager_cksum` in SQLite's `pager.c`.
//!
//! A journal is hot if its first byte is not 0 and no process has a lock on the database. SQLite
//! then writes the pages of its records back and cuts the database to its old length. It stops at
//! the first record whose checksum is wrong, so the journal is flushed before it gets its name.

use crate::base::{PageSize, Pgno};

/// The first bytes of each journal.
const MAGIC: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];

/// Bytes of a sector. The header takes one. A connection with `psow=0` takes a journal that is
/// shorter than this for an empty one.
pub(super) const SECTOR: usize = 4096;
const _: () = assert!(SECTOR >= 4096, "the default sector of SQLite");

/// Bytes of a record besides its page.
pub(super) const RECORD: usize = 8;

/// Distance of the bytes of a page that count in its checksum.
const STRIDE: usize = 200;

/// The header of a journal with `records` records for a database of `pages` pages.
pub(super) fn header(records: u32, nonce: u32, pages: u32, page_size: PageSize) -> [u8; SECTOR] {
    let mut head = [0; SECTOR];
    head[..8].copy_from_slice(&MAGIC);
    let fields = [records, nonce, pages, SECTOR as u32, page_size.get()];
    for (at, field) in (8..).step_by(4).zip(fields) {
        head[at..at + 4].copy_from_slice(&field.to_be_bytes());
    }
    head
}

/// Appends the record of a page.
pub(super) fn record(out: &mut Vec<u8>, nonce: u32, pgno: Pgno, page: &[u8]) {
    out.extend(pgno.get().to_be_bytes());
    out.extend(page);
    out.extend(checksum(nonce, page).to_be_bytes());
}

fn checksum(nonce: u32, page: &[u8]) -> u32 {
    let counted = (1..).map(|n| n * STRIDE).take_while(|back| *back < page.len());
    counted.fold(nonce, |sum, back| sum.wrapping_add(u32::from(page[page.len() - back])))
}
