//! Decodes a file as a stream, in pieces cut anywhere.
//!
//! The decoder reads nothing ahead, and allocates nothing because a length in the file says so. It
//! keeps one page and at most one partial frame of the input. It hashes what follows the
//! terminator, but interprets only the trailer in the last 16 bytes.

use super::frame;
use super::header::{HEADER_LEN, Header, TRAILER_LEN, Trailer};
use super::order::PageOrder;
use super::shape::{HEAD_SHORT, Look, Shape};
use super::{CHECKSUM_FLAG, LtxError};
use crate::base::Pgno;
use crate::base::crc64::Crc64;

/// The result of a call of [`Decoder::step`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The input is used up. Call again with the bytes that follow, or call [`Decoder::finish`] at
    /// the end of the file.
    NeedInput,
    /// The header is complete and valid; see [`Decoder::header`].
    Header,
    /// A page is complete; see [`Decoder::page`]. It is proven only once [`Decoder::finish`]
    /// succeeds.
    Page(Pgno),
}

#[derive(Debug)]
enum State {
    Header,
    Frames(Open),
    Tail(Open, Window),
    Failed,
}

/// State from the end of the header on.
#[derive(Debug)]
struct Open {
    header: Header,
    order: PageOrder,
    page: Vec<u8>,
    /// XOR of the page checksums, if the file has a database checksum that can be verified.
    database: Option<u64>,
}

/// The last bytes read, which may be the trailer.
#[derive(Debug, Default)]
struct Window {
    bytes: [u8; TRAILER_LEN],
    len: usize,
}

/// Decodes one file that is fed in pieces.
///
/// ```
/// # use lsfast::ltx::{Decoder, Step, LtxError};
/// fn pages(mut pieces: impl Iterator<Item = Vec<u8>>) -> Result<u32, LtxError> {
///     let (mut decoder, mut pages) = (Decoder::new(), 0);
///     for piece in pieces {
///         let mut input = &piece[..];
///         loop {
///             match decoder.step(&mut input)? {
///                 Step::NeedInput => break,
///                 Step::Header => {}
///                 Step::Page(_) => pages += 1,
///             }
///         }
///     }
///     decoder.finish()?;
///     Ok(pages)
/// }
/// # assert!(pages([vec![1, 2, 3]].into_iter()).is_err());
/// ```
#[derive(Debug)]
pub struct Decoder {
    state: State,
    /// The beginning of a header or a frame that continues in the next piece.
    carry: Vec<u8>,
    crc: Crc64,
    /// Number of bytes of the file that were read.
    taken: u64,
}

impl Default for Decoder {
    fn default() -> Self {
        Decoder::new()
    }
}

impl Decoder {
    /// Creates a decoder that expects the first byte of a file.
    #[must_use]
    pub fn new() -> Decoder {
        Decoder { state: State::Header, carry: Vec::new(), crc: Crc64::new(), taken: 0 }
    }

    /// The header, from [`Step::Header`] on.
    #[must_use]
    pub fn header(&self) -> Option<&Header> {
        match &self.state {
            State::Frames(open) | State::Tail(open, _) => Some(&open.header),
            State::Header | State::Failed => None,
        }
    }

    /// The page of the last [`Step::Page`]; empty before the first.
    #[must_use]
    pub fn page(&self) -> &[u8] {
        match &self.state {
            State::Frames(open) | State::Tail(open, _) => &open.page,
            State::Header | State::Failed => &[],
        }
    }

    /// Takes what the next step needs from the front of `input`.
    ///
    /// # Errors
    /// Any damage of the file. The decoder cannot be used afterwards.
    pub fn step(&mut self, input: &mut &[u8]) -> Result<Step, LtxError> {
        let result = self.try_step(input);
        if result.is_err() {
            self.state = State::Failed;
        }
        result
    }

    /// Verifies the checksums at the end of the file.
    ///
    /// # Errors
    /// [`LtxError::Truncated`] if the file is incomplete, or a checksum that does not match.
    pub fn finish(self) -> Result<Trailer, LtxError> {
        let part = match self.state {
            State::Failed => return Err(LtxError::AlreadyFailed),
            State::Header => "header",
            State::Frames(_) => "pages",
            State::Tail(_, Window { len, .. }) if len < TRAILER_LEN => "trailer",
            State::Tail(open, window) => {
                let trailer = Trailer::parse(&window.bytes);
                let mut crc = self.crc;
                crc.update(&window.bytes[..8]);
                trailer.verify(&open.header, crc.value(), open.database.unwrap_or(0))?;
                return Ok(trailer);
            }
        };
        Err(LtxError::Truncated { len: self.taken, part })
    }

    fn try_step(&mut self, input: &mut &[u8]) -> Result<Step, LtxError> {
        match &mut self.state {
            State::Failed => Err(LtxError::AlreadyFailed),
            State::Header => self.step_header(input),
            State::Frames(_) => self.step_frame(input),
            State::Tail(_, window) => {
                self.taken += input.len() as u64;
                window.slide(std::mem::take(input), &mut self.crc);
                Ok(Step::NeedInput)
            }
        }
    }

    fn step_header(&mut self, input: &mut &[u8]) -> Result<Step, LtxError> {
        if !self.fill(input, HEADER_LEN) {
            return Ok(Step::NeedInput);
        }
        let bytes = self.carry.first_chunk().expect("just filled");
        let header = Header::parse(bytes)?;
        self.crc.update(bytes);
        self.carry.clear();
        let page = vec![0; header.page_size.bytes()];
        let database = (!header.no_checksum && header.is_snapshot()).then_some(0);
        let order = PageOrder::new(&header);
        self.state = State::Frames(Open { header, order, page, database });
        Ok(Step::Header)
    }

    fn step_frame(&mut self, input: &mut &[u8]) -> Result<Step, LtxError> {
        let State::Frames(open) = &mut self.state else { unreachable!("called for frames only") };
        let page_size = open.header.page_size;
        // A frame that is complete in the input is decoded in place.
        if self.carry.is_empty() {
            match frame::look(input, page_size)? {
                Look::Frame(shape) => {
                    open.take(shape, &input[..shape.len], &mut self.crc)?;
                    *input = &input[shape.len..];
                    self.taken += shape.len as u64;
                    return Ok(Step::Page(shape.pgno));
                }
                Look::Need(_) | Look::Terminator => {}
            }
        }
        loop {
            let State::Frames(open) = &mut self.state else { unreachable!("called for frames only") };
            match frame::look(&self.carry, page_size)? {
                Look::Need(n) => {
                    if !self.fill(input, n) {
                        return Ok(Step::NeedInput);
                    }
                }
                Look::Frame(shape) => {
                    open.take(shape, &self.carry, &mut self.crc)?;
                    self.carry.clear();
                    return Ok(Step::Page(shape.pgno));
                }
                Look::Terminator => {
                    self.crc.update(&self.carry[..HEAD_SHORT]);
                    self.carry.clear();
                    return self.begin_tail(input);
                }
            }
        }
    }

    fn begin_tail(&mut self, input: &mut &[u8]) -> Result<Step, LtxError> {
        let State::Frames(open) = std::mem::replace(&mut self.state, State::Failed) else {
            unreachable!("called for frames only")
        };
        open.order.finish()?;
        self.state = State::Tail(open, Window::default());
        self.try_step(input)
    }

    /// Moves input to `carry` until it holds `n` bytes. False if the input has too few.
    fn fill(&mut self, input: &mut &[u8], n: usize) -> bool {
        let (part, rest) = input.split_at(input.len().min(n.saturating_sub(self.carry.len())));
        self.carry.extend_from_slice(part);
        self.taken += part.len() as u64;
        *input = rest;
        self.carry.len() >= n
    }
}

impl Open {
    /// Decodes one complete frame.
    fn take(&mut self, shape: Shape, bytes: &[u8], crc: &mut Crc64) -> Result<(), LtxError> {
        self.order.accept(shape.pgno)?;
        frame::unpack(shape, bytes, &mut self.page)?;
        crc.update(&bytes[..shape.head]);
        crc.update(&self.page);
        if let Some(database) = &mut self.database {
            *database ^= page_checksum(shape.pgno, &self.page);
        }
        Ok(())
    }
}

impl Window {
    /// Appends `input` and hashes the bytes that can no longer belong to the trailer.
    fn slide(&mut self, input: &[u8], crc: &mut Crc64) {
        let over = (self.len + input.len()).saturating_sub(TRAILER_LEN);
        let old = over.min(self.len);
        crc.update(&self.bytes[..old]);
        self.bytes.copy_within(old..self.len, 0);
        self.len -= old;
        let (hashed, kept) = input.split_at(over - old);
        crc.update(hashed);
        self.bytes[self.len..self.len + kept.len()].copy_from_slice(kept);
        self.len += kept.len();
    }
}

/// Checksum of one page, as it enters the database checksum.
pub(super) fn page_checksum(pgno: Pgno, page: &[u8]) -> u64 {
    let mut crc = Crc64::new();
    crc.update(&pgno.get().to_be_bytes());
    crc.update(page);
    crc.value() | CHECKSUM_FLAG
}
