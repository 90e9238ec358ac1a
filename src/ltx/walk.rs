//! Walks a file in order without decoding it, and finds where its frames begin and end.
//!
//! This is for files that are fetched in order and decoded on many cores. [`FrameWalk`] finds the
//! frames in the bytes as they arrive. It needs no index, so a file with a wrong index needs no
//! special case. The ranges that it finds pass through [`decode_frames`](super::decode_frames). The
//! bytes after the frames pass through [`FileEnd`], which keeps only the last of them: an index is
//! as long as the file has pages.

use super::frame::{self, TERMINATOR};
use super::header::{HEADER_LEN, Header, TRAILER_LEN, Trailer};
use super::index::put_varint;
use super::shape::{HEAD_SHORT, Look};
use super::{IndexEntry, LtxError};
use crate::base::PageSize;
use crate::base::crc64::Crc64;

/// The next part of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// A frame, complete within the given bytes.
    Frame(IndexEntry),
    /// At least this many bytes are needed to decide; never more than one frame can have.
    Need(usize),
    /// The terminator: no more frames follow. The bytes after it belong to [`FileEnd`].
    End,
}

/// Finds one frame after the other. Page numbers are not checked here but where the frames are
/// decoded.
#[derive(Debug, Clone)]
pub struct FrameWalk {
    page_size: PageSize,
    offset: u64,
}

impl FrameWalk {
    /// Starts at the first frame, right after the header.
    #[must_use]
    pub fn new(header: &Header) -> FrameWalk {
        FrameWalk { page_size: header.page_size, offset: HEADER_LEN as u64 }
    }

    /// Offset in the file of the next part.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Examines `bytes`, which begin at [`FrameWalk::offset`] in the file and may be cut anywhere.
    /// Moves on if they contain a complete frame or the terminator.
    ///
    /// # Errors
    /// The bytes cannot be the beginning of a frame.
    pub fn step(&mut self, bytes: &[u8]) -> Result<Next, LtxError> {
        Ok(match frame::look(bytes, self.page_size)? {
            Look::Need(n) => Next::Need(n),
            Look::Terminator => {
                self.offset += HEAD_SHORT as u64;
                Next::End
            }
            Look::Frame(shape) => {
                let len = u32::try_from(shape.len).expect("a frame is short");
                let entry = IndexEntry { pgno: shape.pgno, offset: self.offset, len };
                self.offset += u64::from(len);
                Next::Frame(entry)
            }
        })
    }
}

/// The bytes after the frames of a file, taken in pieces cut anywhere.
#[derive(Debug, Clone)]
pub struct FileEnd {
    /// Offset of the terminator.
    pub(super) frames_end: u64,
    crc: Crc64,
    crc_len: u64,
    /// The last bytes seen, which are not in `crc` yet.
    last: Vec<u8>,
}

impl FileEnd {
    /// Starts right after the terminator, which `walk` has just passed.
    #[must_use]
    pub fn new(walk: &FrameWalk) -> FileEnd {
        let mut crc = Crc64::new();
        crc.update(&TERMINATOR);
        let frames_end = walk.offset.saturating_sub(HEAD_SHORT as u64);
        FileEnd { frames_end, crc, crc_len: HEAD_SHORT as u64, last: Vec::with_capacity(2 * TRAILER_LEN) }
    }

    /// Takes the next bytes of the file.
    pub fn push(&mut self, bytes: &[u8]) {
        let (before, last) = bytes.split_at(bytes.len().saturating_sub(TRAILER_LEN));
        let leaves = (self.last.len() + bytes.len()).saturating_sub(TRAILER_LEN).min(self.last.len());
        self.crc.update(&self.last[..leaves]);
        self.last.drain(..leaves);
        self.crc.update(before);
        self.crc_len += (leaves + before.len()) as u64;
        self.last.extend_from_slice(last);
    }

    /// The trailer, and CRC and length of the bytes after the frames that the file checksum covers.
    pub(super) fn finish(mut self) -> Result<(Trailer, u64, u64), LtxError> {
        let Some(last) = self.last.first_chunk::<TRAILER_LEN>() else {
            let len = self.frames_end + self.crc_len + self.last.len() as u64;
            return Err(LtxError::Truncated { len, part: "trailer" });
        };
        let trailer = Trailer::parse(last);
        self.crc.update(&last[..8]);
        Ok((trailer, self.crc.value(), self.crc_len + 8))
    }
}

/// Checks that the index of a file that is read in order matches its frames. Keeps no index in
/// memory.
#[derive(Debug, Clone, Default)]
pub struct IndexCheck {
    /// CRC of the varints that the index must have.
    expected: Crc64,
    expected_len: u64,
    /// CRC of the index bytes seen so far.
    found: Crc64,
    found_len: u64,
    /// The bytes after the varints: end mark, index length and trailer.
    end: Vec<u8>,
}

impl IndexCheck {
    /// Takes the next frame of the file.
    pub fn frame(&mut self, entry: &IndexEntry) {
        let mut varints = Vec::with_capacity(super::index::ENTRY_LEN_MAX);
        put_varint(&mut varints, u64::from(entry.pgno.get()));
        put_varint(&mut varints, entry.offset);
        put_varint(&mut varints, u64::from(entry.len));
        self.expected.update(&varints);
        self.expected_len += varints.len() as u64;
    }

    /// Takes the next bytes after the terminator, once all frames are known.
    pub fn push(&mut self, bytes: &[u8]) {
        let left = usize::try_from(self.expected_len - self.found_len).unwrap_or(usize::MAX);
        let (index, end) = bytes.split_at(bytes.len().min(left));
        self.found.update(index);
        self.found_len += index.len() as u64;
        let room = 1 + 8 + TRAILER_LEN + 1 - self.end.len();
        self.end.extend_from_slice(&end[..end.len().min(room)]);
    }

    /// Whether the index matches, once the file has been read to its end.
    #[must_use]
    pub fn is_right(&self) -> bool {
        self.found_len == self.expected_len
            && self.found.value() == self.expected.value()
            && self.end.len() == 1 + 8 + TRAILER_LEN
            && self.end[0] == 0
            && self.end[1..9] == (self.expected_len + 1).to_be_bytes()
    }
}
