//! The page index and the other content at the end of a file.
//!
//! | bytes before the end | size | content |
//! |---|---|---|
//! | 24 + K + 6 | 6 | terminator of the frames |
//! | 24 + K | K | per frame: page number, offset, length as varints; then one zero byte |
//! | 24 | 8 | K |
//! | 16 | 16 | trailer |
//!
//! Varints are LEB128: 7 bits per byte, lowest group first, top bit set if more bytes follow, at
//! most 10 bytes.
//!
//! The index does not decide whether a file is valid: Litestream restores files whose index is
//! empty or wrong. So a reader that uses the index has to expect that it is
//! wrong, and then read from the beginning.

use std::io;
use std::path::PathBuf;

use super::LtxError;
use super::frame::{TERMINATOR, frame_len_max};
use super::header::{HEADER_LEN, TRAILER_LEN, Trailer};
use super::shape::HEAD_SHORT;
use crate::base::crc64::crc64;
use crate::base::fields::Fields;
use crate::base::{PageSize, Pgno, limits};
use crate::io::durable::{Pending, temporary_beside};

/// Length in bytes of the index length and the trailer.
const END_LEN: usize = 8 + TRAILER_LEN;

/// Length in bytes of the shortest file: no frames, and an index that is only its end mark.
pub const FILE_LEN_MIN: u64 = (HEADER_LEN + HEAD_SHORT + 1 + END_LEN) as u64;

/// Length in bytes of the longest index entry that can occur: 5 bytes page number, 10 offset, 3
/// length.
pub(super) const ENTRY_LEN_MAX: usize = 18;

/// The position of one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexEntry {
    /// Page number of the frame.
    pub pgno: Pgno,
    /// Offset of the frame's first byte in the file.
    pub offset: u64,
    /// Length of the frame in bytes, page header and payload.
    pub len: u32,
}

impl IndexEntry {
    /// Offset of the first byte after the frame.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.offset + self.len as u64
    }
}

/// The end of a file, from the terminator on: index and trailer.
///
/// The index in it is plausible but not proven: page numbers ascend, and frames follow each other
/// from the header to the terminator. [`decode_frames`](super::decode_frames) compares it with the
/// frames.
#[derive(Debug, Clone)]
pub struct Tail {
    /// Every frame, in the order of the file.
    pub index: Vec<IndexEntry>,
    /// Offset of the terminator, where the frames end.
    pub frames_end: u64,
    /// The trailer, not verified yet.
    pub trailer: Trailer,
    /// CRC of the bytes after the frames that the file checksum covers; `crc_len` is their number.
    pub(super) crc: u64,
    pub(super) crc_len: u64,
}

/// Result of [`Tail::parse`].
#[derive(Debug, Clone)]
pub enum TailState {
    /// This many bytes from the end of the file are needed; never more than the file has.
    NeedMore(u64),
    /// The end is complete.
    Parsed(Tail),
}

impl Tail {
    /// Parses the end of a file of `file_size` bytes. `last` has its last bytes.
    ///
    /// # Errors
    /// [`LtxError::Index`] if the index cannot be used.
    pub fn parse(file_size: u64, last: &[u8]) -> Result<TailState, LtxError> {
        if file_size < FILE_LEN_MIN {
            return Err(LtxError::Index("the file is too short to have one"));
        }
        let Some((before, end)) = last.split_last_chunk::<END_LEN>() else {
            return Ok(TailState::NeedMore(END_LEN as u64));
        };
        let mut fields = Fields::new(end);
        let index_len = fields.be64();
        let trailer = Trailer::parse(&fields.take());
        let room = file_size - (HEADER_LEN + HEAD_SHORT + END_LEN) as u64;
        if index_len == 0 || index_len > room {
            return Err(LtxError::Index("its length does not fit the file"));
        }
        let index_start = file_size - END_LEN as u64 - index_len;
        let frames_end = index_start - HEAD_SHORT as u64;
        let need = file_size - frames_end;
        let Some(skip) = (last.len() as u64).checked_sub(need) else {
            return Ok(TailState::NeedMore(need));
        };
        let tail = &last[usize::try_from(skip).expect("not more than the bytes given")..];
        if tail[..HEAD_SHORT] != TERMINATOR {
            return Err(LtxError::Index("it does not follow the end of the frames"));
        }
        let varints = &before[before.len() - (tail.len() - HEAD_SHORT - END_LEN)..];
        let index = parse_entries(varints, frames_end)?;
        let covered = &tail[..tail.len() - 8];
        Ok(TailState::Parsed(Tail {
            index,
            frames_end,
            trailer,
            crc: crc64(covered),
            crc_len: covered.len() as u64,
        }))
    }
}

/// Parses the entries of an index, whose last byte must be its end mark.
fn parse_entries(mut bytes: &[u8], frames_end: u64) -> Result<Vec<IndexEntry>, LtxError> {
    let len_max = frame_len_max(PageSize::MAX) as u64;
    let mut index = Vec::new();
    let (mut last, mut offset) = (0, HEADER_LEN as u64);
    loop {
        let pgno = varint(&mut bytes)?;
        if pgno == 0 {
            break;
        }
        let at = varint(&mut bytes)?;
        let len = varint(&mut bytes)?;
        let pgno = u32::try_from(pgno).ok().and_then(Pgno::new);
        let pgno =
            pgno.filter(|p| p.get() > last).ok_or(LtxError::Index("its page numbers do not ascend"))?;
        if at != offset || len <= HEAD_SHORT as u64 || len > len_max || len > frames_end - offset {
            return Err(LtxError::Index("its frames do not follow each other"));
        }
        index.push(IndexEntry { pgno, offset, len: len as u32 });
        last = pgno.get();
        offset += len;
    }
    if !bytes.is_empty() {
        return Err(LtxError::Index("it goes on after its end mark"));
    }
    if offset == frames_end { Ok(index) } else { Err(LtxError::Index("it does not cover all frames")) }
}

/// Takes one varint from the front of `bytes`.
pub(super) fn varint(bytes: &mut &[u8]) -> Result<u64, LtxError> {
    let mut value = 0u64;
    for (i, &b) in bytes.iter().enumerate().take(10) {
        let group = u64::from(b & 0x7f);
        if i == 9 && group > 1 {
            break;
        }
        value |= group << (7 * i);
        if b < 0x80 {
            *bytes = &bytes[i + 1..];
            return Ok(value);
        }
    }
    Err(LtxError::Index("it holds a number that is cut or too large"))
}

/// Appends one varint.
pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The varints of an index under construction. Beyond [`limits::INDEX_BYTES`] they go to a
/// temporary file, if there is a folder for it.
#[derive(Debug, Default)]
pub(super) struct IndexWriter {
    /// The varints that are not in the file.
    memory: Vec<u8>,
    /// Folder for the temporary file. `None` once writing has failed: then all of the index stays
    /// in memory.
    place: Option<PathBuf>,
    spilled: Option<Pending>,
    spilled_len: u64,
}

impl IndexWriter {
    /// Creates a writer that may create a file in `place`.
    pub(super) fn spilling(place: Option<PathBuf>) -> IndexWriter {
        IndexWriter { place, ..IndexWriter::default() }
    }

    pub(super) fn push(&mut self, pgno: Pgno, offset: u64, len: u32) {
        put_varint(&mut self.memory, u64::from(pgno.get()));
        put_varint(&mut self.memory, offset);
        put_varint(&mut self.memory, u64::from(len));
        if self.memory.len() >= limits::INDEX_BYTES && self.place.is_some() && self.spill().is_err() {
            // A full disk is no reason to give up the LTX file.
            self.place = None;
        }
    }

    fn spill(&mut self) -> io::Result<()> {
        let Some(place) = &self.place else { return Ok(()) };
        if self.spilled.is_none() {
            self.spilled = Some(Pending::create(temporary_beside(&place.join("index")), 0o600)?);
        }
        let Some(file) = &self.spilled else { return Ok(()) };
        file.file().pwrite_all(&self.memory, self.spilled_len)?;
        self.spilled_len += self.memory.len() as u64;
        self.memory.clear();
        Ok(())
    }

    /// Appends the end of a file up to the post-apply checksum: terminator, index, and length of
    /// the index.
    pub(super) fn finish(mut self, out: &mut Vec<u8>) {
        assert!(self.spilled.is_none(), "an index that may be in a file is read in pieces");
        self.memory.push(0);
        out.extend_from_slice(&TERMINATOR);
        out.extend_from_slice(&self.memory);
        out.extend_from_slice(&(self.memory.len() as u64).to_be_bytes());
    }

    /// Length of the index in bytes, without its end mark.
    pub(super) fn len(&self) -> u64 {
        self.spilled_len + self.memory.len() as u64
    }

    /// The next bytes of the index from `offset` on; empty at its end.
    pub(super) fn piece(&mut self, offset: u64) -> io::Result<Vec<u8>> {
        if offset >= self.spilled_len {
            return Ok(std::mem::take(&mut self.memory));
        }
        let len = (self.spilled_len - offset).min(limits::INDEX_BYTES as u64);
        let mut bytes = vec![0; usize::try_from(len).expect("a piece is short")];
        let file = self.spilled.as_ref().expect("there is a file if something is in it");
        file.file().pread_exact(&mut bytes, offset)?;
        Ok(bytes)
    }
}
