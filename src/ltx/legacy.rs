//! Pages as Litestream 0.5.0 to 0.5.15 wrote them: one complete LZ4 frame each. They are read,
//! never written.
//!
//! | offset | size | field (little-endian) |
//! |---|---|---|
//! | 0 | 4 | magic 0x184D2204 |
//! | 4 | 1 | FLG: version 1 in the top two bits; 0x20 independent blocks, 0x10 block checksums, |
//! | | | 0x08 content size, 0x04 content checksum, 0x01 dictionary |
//! | 5 | 1 | BD: block maximum |
//! | 6 | 0 or 8 | content size |
//! | | 1 | header check: second byte of XXH32 of FLG to here |
//! | | | blocks: 4 bytes length (top bit: stored raw), data, 4 bytes checksum if asked for |
//! | | 4 | end mark, zeros |
//! | | 4 | XXH32 of the content, if asked for |
//!
//! Those versions always set FLG to 0x64. The length of a frame is known only after a walk over its
//! blocks.

use xxhash_rust::xxh32::xxh32;

use super::LtxError;
use super::shape::{HEAD_SHORT, Look, Shape, payload_len_max};
use crate::base::{PageSize, Pgno};

/// How many bytes an LZ4 frame may have around and between the LZ4 blocks of one page. Those
/// versions needed 19 bytes.
pub(super) const OVERHEAD_MAX: usize = 128;

const MAGIC: [u8; 4] = 0x184D_2204_u32.to_le_bytes();
const RAW: u32 = 1 << 31;
const FLG_AT: usize = 4;

/// The FLG byte of an LZ4 frame.
#[derive(Clone, Copy)]
struct Flags(u8);

impl Flags {
    fn parse(pgno: Pgno, flg: u8) -> Result<Flags, LtxError> {
        let bad = |reason| Err(LtxError::Payload { pgno, reason });
        match flg {
            _ if flg >> 6 != 1 => bad("unknown version of LZ4 frame"),
            _ if flg & 0x20 == 0 => bad("LZ4 frame with linked blocks"),
            _ if flg & 0x03 != 0 => bad("LZ4 frame with a dictionary"),
            _ => Ok(Flags(flg)),
        }
    }

    /// Length in bytes of the part before the first block.
    const fn head(self) -> usize {
        if self.0 & 0x08 != 0 { 15 } else { 7 }
    }

    /// Length in bytes of the checksum after each block.
    const fn block_checksum(self) -> usize {
        if self.0 & 0x10 != 0 { 4 } else { 0 }
    }

    /// Length in bytes of the checksum after the end mark.
    const fn content_checksum(self) -> usize {
        if self.0 & 0x04 != 0 { 4 } else { 0 }
    }
}

/// Finds the extent of the frame of `pgno` at the beginning of `bytes`, page header included.
pub(super) fn look(pgno: Pgno, bytes: &[u8], page_size: PageSize) -> Result<Look, LtxError> {
    let max = payload_len_max(page_size) + OVERHEAD_MAX;
    let payload = &bytes[HEAD_SHORT..];
    let need = |n: usize| {
        if n > max {
            return Err(LtxError::PayloadLength { pgno, found: n as u64, max });
        }
        Ok(Look::Need(HEAD_SHORT + n))
    };
    let Some(start) = payload.first_chunk::<{ FLG_AT + 1 }>() else { return need(7 + 4) };
    if start[..FLG_AT] != MAGIC {
        return Err(LtxError::Payload { pgno, reason: "not an LZ4 frame" });
    }
    let flags = Flags::parse(pgno, start[FLG_AT])?;
    let mut at = flags.head();
    loop {
        let Some(size) = le32(payload, at) else { return need(at + 4) };
        at += 4;
        if size == 0 {
            break;
        }
        at += (size & !RAW) as usize + flags.block_checksum();
        if at > max {
            return need(at);
        }
    }
    at += flags.content_checksum();
    if at > max || payload.len() < at {
        return need(at);
    }
    Ok(Look::Frame(Shape { pgno, head: HEAD_SHORT, len: HEAD_SHORT + at }))
}

/// Decompresses one complete LZ4 frame, whose extent [`look`] has found, into `page`.
pub(super) fn unpack(pgno: Pgno, frame: &[u8], page: &mut [u8]) -> Result<(), LtxError> {
    let bad = |reason| LtxError::Payload { pgno, reason };
    let cut = || bad("LZ4 frame is cut");
    let flags = Flags::parse(pgno, *frame.get(FLG_AT).ok_or_else(cut)?)?;
    let descriptor = frame.get(FLG_AT..flags.head()).ok_or_else(cut)?;
    let (check, described) = descriptor.split_last().ok_or_else(cut)?;
    if (xxh32(described, 0) >> 8) as u8 != *check {
        return Err(bad("LZ4 frame header is damaged"));
    }
    let (mut at, mut done) = (flags.head(), 0);
    loop {
        let size = le32(frame, at).ok_or_else(cut)?;
        at += 4;
        if size == 0 {
            break;
        }
        let (raw, size) = (size & RAW != 0, (size & !RAW) as usize);
        let block = frame.get(at..).and_then(|b| b.get(..size)).ok_or_else(cut)?;
        at += size;
        if flags.block_checksum() != 0 {
            if le32(frame, at).ok_or_else(cut)? != xxh32(block, 0) {
                return Err(bad("LZ4 block checksum differs"));
            }
            at += 4;
        }
        let rest = &mut page[done..];
        done += if raw {
            rest.get_mut(..size).ok_or_else(|| bad("too long"))?.copy_from_slice(block);
            size
        } else {
            lz4_flex::block::decompress_into(block, rest).map_err(|_| bad("not an LZ4 block of that size"))?
        };
    }
    if done != page.len() {
        return Err(bad("too short"));
    }
    if flags.content_checksum() != 0 {
        if le32(frame, at).ok_or_else(cut)? != xxh32(page, 0) {
            return Err(bad("LZ4 content checksum differs"));
        }
        at += 4;
    }
    if at == frame.len() { Ok(()) } else { Err(bad("bytes after the LZ4 frame")) }
}

fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|b| u32::from_le_bytes(*b))
}
