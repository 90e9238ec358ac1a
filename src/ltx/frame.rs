//! The frame of one page in a file.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | page number, from 1 |
//! | 4 | 2 | flags: 1 = a length follows; no other is known |
//! | 6 | 4 | length of the payload, only with flag 1 |
//! | 10 | | payload: one LZ4 block that decompresses to exactly one page |
//!
//! Without flag 1 (Litestream before 0.5.16), an LZ4 frame follows the flags, and its length is not
//! stored. Six zero bytes end the frames. Incompressible pages have no form of their own: their
//! block is longer than the page.

use super::shape::{HEAD_SHORT, Look, Shape, payload_len_max};
use super::{LtxError, legacy};
use crate::base::fields::Fields;
use crate::base::{PageSize, Pgno};

/// Length in bytes of a page header with the payload length.
pub const HEAD: usize = 10;

/// The six bytes after the last frame.
pub const TERMINATOR: [u8; HEAD_SHORT] = [0; HEAD_SHORT];

const FLAG_LENGTH: u16 = 1;

/// Length in bytes of the longest frame of a page, in either form.
#[must_use]
pub const fn frame_len_max(page_size: PageSize) -> usize {
    HEAD_SHORT + legacy::OVERHEAD_MAX + payload_len_max(page_size)
}

/// Examines `bytes`, which begin with a frame or the terminator and may be cut anywhere.
pub(super) fn look(bytes: &[u8], page_size: PageSize) -> Result<Look, LtxError> {
    let Some(head) = bytes.first_chunk::<HEAD_SHORT>() else { return Ok(Look::Need(HEAD_SHORT)) };
    let mut fields = Fields::new(head);
    let (pgno, flags) = (fields.be32(), fields.be16());
    if flags & !FLAG_LENGTH != 0 || (pgno == 0 && flags != 0) {
        return Err(LtxError::PageFlags { pgno, flags });
    }
    let Some(pgno) = Pgno::new(pgno) else { return Ok(Look::Terminator) };
    if flags == 0 {
        return legacy::look(pgno, bytes, page_size);
    }
    let Some([.., a, b, c, d]) = bytes.first_chunk::<HEAD>() else { return Ok(Look::Need(HEAD)) };
    let payload = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
    let max = payload_len_max(page_size);
    if payload == 0 || payload > max {
        return Err(LtxError::PayloadLength { pgno, found: payload as u64, max });
    }
    let len = HEAD + payload;
    if bytes.len() < len { Ok(Look::Need(len)) } else { Ok(Look::Frame(Shape { pgno, head: HEAD, len })) }
}

/// The page header as this program writes it.
pub(super) fn head(pgno: Pgno, payload: usize) -> [u8; HEAD] {
    let payload = u32::try_from(payload).expect("a compressed page is short");
    let mut out = [0; HEAD];
    out[..4].copy_from_slice(&pgno.get().to_be_bytes());
    out[4..6].copy_from_slice(&FLAG_LENGTH.to_be_bytes());
    out[6..].copy_from_slice(&payload.to_be_bytes());
    out
}

/// Decompresses the whole frame `bytes`, whose extent is `shape`, into `page`, which is one page
/// long.
pub(super) fn unpack(shape: Shape, bytes: &[u8], page: &mut [u8]) -> Result<(), LtxError> {
    let payload = &bytes[shape.head..shape.len];
    if shape.head == HEAD_SHORT {
        return legacy::unpack(shape.pgno, payload, page);
    }
    match lz4_flex::block::decompress_into(payload, page) {
        Ok(n) if n == page.len() => Ok(()),
        Ok(_) => Err(LtxError::Payload { pgno: shape.pgno, reason: "too short" }),
        Err(_) => Err(LtxError::Payload { pgno: shape.pgno, reason: "not an LZ4 block of that size" }),
    }
}
