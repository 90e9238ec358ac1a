//! Proves a file that is read in ranges, in parallel.
//!
//! 1. [`Tail::parse`] finds the index in the last bytes of the file.
//! 2. Ranges of frames are fetched and pass through [`decode_frames`], on any core and in any
//!    order.
//! 3. [`FileCheck`] takes the results in the order of the file and compares them with the trailer.
//!    Only then are the pages proven.

use super::decode::page_checksum;
use super::frame;
use super::header::{HEADER_LEN, Header, Trailer};
use super::order::PageOrder;
use super::shape::Look;
use super::{FileEnd, IndexEntry, LtxError, Tail};
use crate::base::Pgno;
use crate::base::crc64::{Crc64, combine, crc64};

/// What one decoded range of frames contributes to the proof of its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartialCheck {
    start: u64,
    end: u64,
    /// First and last page of the range.
    pages: Option<(Pgno, Pgno)>,
    crc: u64,
    crc_len: u64,
    database: u64,
}

/// Where decoded pages go.
pub trait Pages {
    /// Memory for a page, as long as the page. Its content does not matter.
    fn room(&mut self, pgno: Pgno) -> &mut [u8];

    /// The page is complete in the memory that [`Pages::room`] has returned last.
    fn done(&mut self, pgno: Pgno);
}

/// Lends each page for the time of a call.
struct Lent<F> {
    page: Vec<u8>,
    sink: F,
}

impl<F: FnMut(Pgno, &[u8])> Pages for Lent<F> {
    fn room(&mut self, _pgno: Pgno) -> &mut [u8] {
        &mut self.page
    }

    fn done(&mut self, pgno: Pgno) {
        (self.sink)(pgno, &self.page);
    }
}

/// Decodes frames like [`decode_frames_into`], and lends each page to `sink`.
///
/// # Errors
/// The same as for [`decode_frames_into`].
pub fn decode_frames(
    header: &Header,
    bytes: &[u8],
    first_offset: u64,
    entries: &[IndexEntry],
    sink: impl FnMut(Pgno, &[u8]),
) -> Result<PartialCheck, LtxError> {
    let page = if entries.is_empty() { Vec::new() } else { vec![0; header.page_size.bytes()] };
    decode_frames_into(header, bytes, first_offset, entries, &mut Lent { page, sink })
}

/// Decodes the frames of `entries`, which are neighbours in the index, into the memory of `pages`.
///
/// `bytes` holds the bytes of the file from `first_offset` on.
///
/// # Errors
/// [`LtxError::IndexMismatch`] if a frame is not what the index says, otherwise any damage of a
/// frame.
///
/// If the index is wrong, the first error in the order of the file is a mismatch; a later range may
/// fail in any way. So a caller that decodes ranges in any order has to read the file from its
/// beginning after an error: a good file then turns out good, and a bad one shows the true reason.
pub fn decode_frames_into(
    header: &Header,
    bytes: &[u8],
    first_offset: u64,
    entries: &[IndexEntry],
    pages: &mut impl Pages,
) -> Result<PartialCheck, LtxError> {
    let start = entries.first().map_or(first_offset, |e| e.offset);
    let mut check = PartialCheck { start, end: start, pages: None, crc: 0, crc_len: 0, database: 0 };
    let Some(first) = entries.first() else { return Ok(check) };
    let mut order = None;
    let with_database = !header.no_checksum && header.is_snapshot();
    let mut crc = Crc64::new();
    for entry in entries {
        if entry.offset != check.end {
            return Err(LtxError::RangeOrder { expected: check.end, found: entry.offset });
        }
        let frame = slice(bytes, first_offset, entry)?;
        let shape = match frame::look(frame, header.page_size) {
            Ok(Look::Frame(shape)) if shape.len == frame.len() && shape.pgno == entry.pgno => shape,
            _ => return Err(LtxError::IndexMismatch { pgno: entry.pgno, offset: entry.offset }),
        };
        match &mut order {
            None => order = Some(PageOrder::within(header, entry.pgno)?),
            Some(order) => order.accept(entry.pgno)?,
        }
        let page = pages.room(entry.pgno);
        frame::unpack(shape, frame, page)?;
        crc.update(&frame[..shape.head]);
        crc.update(page);
        check.crc_len += (shape.head + page.len()) as u64;
        if with_database {
            check.database ^= page_checksum(entry.pgno, page);
        }
        check.pages = Some((first.pgno, entry.pgno));
        check.end = entry.end();
        pages.done(entry.pgno);
    }
    check.crc = crc.value();
    Ok(check)
}

fn slice<'a>(bytes: &'a [u8], first_offset: u64, entry: &IndexEntry) -> Result<&'a [u8], LtxError> {
    let from = entry.offset.checked_sub(first_offset).and_then(|n| usize::try_from(n).ok());
    let frame = from.and_then(|from| bytes.get(from..)).and_then(|b| b.get(..entry.len as usize));
    frame.ok_or(LtxError::Truncated { len: first_offset + bytes.len() as u64, part: "pages" })
}

/// Proves a file from its decoded ranges.
#[derive(Debug, Clone)]
pub struct FileCheck {
    header: Header,
    order: PageOrder,
    offset: u64,
    crc: u64,
    database: u64,
}

impl FileCheck {
    /// Starts with the header of the file.
    ///
    /// # Errors
    /// Those of [`Header::parse`].
    pub fn new(bytes: &[u8; HEADER_LEN]) -> Result<FileCheck, LtxError> {
        let header = Header::parse(bytes)?;
        let order = PageOrder::new(&header);
        Ok(FileCheck { header, order, offset: HEADER_LEN as u64, crc: crc64(bytes), database: 0 })
    }

    /// The parsed header.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Adds the next range of the file.
    ///
    /// # Errors
    /// [`LtxError::RangeOrder`] if the range is not the next one, or an error of page order if its
    /// pages do not follow those of the ranges before.
    pub fn add(&mut self, part: &PartialCheck) -> Result<(), LtxError> {
        if part.start != self.offset {
            return Err(LtxError::RangeOrder { expected: self.offset, found: part.start });
        }
        let Some((first, last)) = part.pages else { return Ok(()) };
        self.order.accept_range(first, last)?;
        self.crc = combine(self.crc, part.crc, part.crc_len);
        self.database ^= part.database;
        self.offset = part.end;
        Ok(())
    }

    /// Compares with the end of the file.
    ///
    /// # Errors
    /// Ranges or pages of a snapshot are missing, or a checksum does not match.
    pub fn finish(self, tail: &Tail) -> Result<Trailer, LtxError> {
        self.finish_with(tail.frames_end, (tail.trailer, tail.crc, tail.crc_len))
    }

    /// Compares with the end of a file that was read in order, whatever its index says.
    ///
    /// # Errors
    /// The same as for [`FileCheck::finish`].
    pub fn finish_in_order(self, end: FileEnd) -> Result<Trailer, LtxError> {
        let frames_end = end.frames_end;
        self.finish_with(frames_end, end.finish()?)
    }

    fn finish_with(
        self,
        frames_end: u64,
        (trailer, crc, crc_len): (Trailer, u64, u64),
    ) -> Result<Trailer, LtxError> {
        if self.offset != frames_end {
            return Err(LtxError::RangeOrder { expected: self.offset, found: frames_end });
        }
        self.order.finish()?;
        trailer.verify(&self.header, combine(self.crc, crc, crc_len), self.database)?;
        Ok(trailer)
    }
}
