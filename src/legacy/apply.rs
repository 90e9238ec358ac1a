//! From a snapshot and pieces of logs to a database file.
//!
//! The pieces of one log are put together in a scratch file, and each frame is proven as in
//! SQLite's recovery: salts, page number, checksum chain. At the end of the log the last committed
//! image of each page goes to the database, which then gets the length of the last commit. That is
//! what a checkpoint does, so the result is the same, page for page.
//!
//! Memory: a piece of [`limits::LEGACY_READ_BYTES`], and for each page in a log the number of its
//! last frame.

use std::collections::BTreeMap;
use std::io::{self, Read};

use super::{LegacyName, Unpacked, WalIndex};
use crate::base::{FrameNo, PageSize, Pgno, limits};
use crate::io::File;
use crate::wal::format::{self, HEADER_BYTES, WalError, WalHeader};
use crate::wal::frames::{Chain, End, UNLIMITED};

/// Where a database says how many pages it has.
const PAGE_COUNT: std::ops::Range<usize> = 28..32;

/// What is wrong with a file, or with reading or writing.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// the file cannot be read
    #[error("{0}")]
    Read(#[source] io::Error),
    /// the file is damaged
    #[error("{0}")]
    Damaged(String),
    /// the bytes before a segment are missing
    #[error(
        "the log reaches offset {reached:08x}, and this piece begins at {found:08x}: what is between them is missing"
    )]
    Gap {
        /// Where the pieces so far end.
        reached: u64,
        /// Where this one begins.
        found: u64,
    },
    /// the output cannot be written
    #[error("{0}")]
    Write(#[source] io::Error),
    /// there is not enough room for the output
    #[error("the database has {need} bytes, and {free} bytes are free")]
    NoRoom {
        /// Bytes of the database, by its own header.
        need: u64,
        /// Bytes that may be written.
        free: u64,
    },
}

/// The database after all pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// Bytes in a page.
    pub page_size: PageSize,
    /// Length of the file.
    pub bytes: u64,
}

/// A database under construction.
pub struct Apply {
    /// `None` when only the proof is wanted.
    output: Option<Files>,
    page_size: Option<PageSize>,
    bytes: u64,
    log: Option<Log>,
    buffer: Vec<u8>,
}

/// Where the pages go.
struct Files {
    database: File,
    /// The present log, as far as it is known.
    scratch: File,
}

/// One log, put together.
struct Log {
    index: WalIndex,
    /// Bytes so far.
    len: u64,
    chain: Option<Chain>,
    /// Last committed frame of each page.
    committed: BTreeMap<Pgno, FrameNo>,
    /// Frames since the last commit.
    open: Vec<(Pgno, FrameNo)>,
    /// Pages after the last commit.
    size: Option<u32>,
}

impl Apply {
    /// Into `database` and by way of `scratch`, both empty.
    #[must_use]
    pub fn new(database: File, scratch: File) -> Apply {
        Apply { output: Some(Files { database, scratch }), ..Apply::prove() }
    }

    /// Proves all files and writes nothing.
    #[must_use]
    pub fn prove() -> Apply {
        Apply {
            output: None,
            page_size: None,
            bytes: 0,
            log: None,
            buffer: vec![0; limits::LEGACY_READ_BYTES],
        }
    }

    /// Writes the snapshot, which comes first.
    ///
    /// # Errors
    /// [`ApplyError`]; the database is then void.
    pub fn snapshot(&mut self, packed: impl Read) -> Result<(), ApplyError> {
        let mut content = Unpacked::new(packed);
        loop {
            let n = content.fill(&mut self.buffer).map_err(read_error)?;
            if n == 0 {
                break;
            }
            if self.bytes == 0 {
                self.page_size = page_size(&self.buffer[..n])?;
                self.has_room(n)?;
            }
            if let Some(output) = &self.output {
                output.database.pwrite_all(&self.buffer[..n], self.bytes).map_err(ApplyError::Write)?;
            }
            self.bytes += n as u64;
        }
        match self.page_size {
            Some(size) if !self.bytes.is_multiple_of(u64::from(size.get())) => Err(ApplyError::Damaged(
                format!("it has {} bytes, which is no whole number of pages of {size} bytes", self.bytes),
            )),
            _ => Ok(()),
        }
    }

    /// Looks at the first `n` bytes of a database how long it is, before any of it is written.
    fn has_room(&self, n: usize) -> Result<(), ApplyError> {
        let count =
            self.buffer[..n].get(PAGE_COUNT).and_then(|b| b.first_chunk()).map(|b| u32::from_be_bytes(*b));
        let (Some(size), Some(count), Some(output)) = (self.page_size, count, &self.output) else {
            return Ok(());
        };
        let need = u64::from(count) * u64::from(size.get());
        match output.database.free_space() {
            Some(free) if free < need => Err(ApplyError::NoRoom { need, free }),
            _ => Ok(()),
        }
    }

    /// Adds a segment; they come in the order of the plan.
    ///
    /// # Errors
    /// [`ApplyError`]; the database is then void.
    pub fn segment(&mut self, name: LegacyName, packed: impl Read) -> Result<(), ApplyError> {
        let LegacyName::Segment { index, offset, .. } = name else { unreachable!("a plan has one snapshot") };
        if self.log.as_ref().is_some_and(|log| log.index != index) {
            self.end_log()?;
        }
        let log = self.log.get_or_insert_with(|| Log {
            index,
            len: 0,
            chain: None,
            committed: BTreeMap::new(),
            open: Vec::new(),
            size: None,
        });
        if offset != log.len {
            return Err(ApplyError::Gap { reached: log.len, found: offset });
        }
        let mut content = Unpacked::new(packed);
        if log.len == 0 {
            let header = &mut self.buffer[..HEADER_BYTES];
            let n = content.fill(header).map_err(read_error)?;
            log.len = n as u64;
            match WalHeader::parse(&header[..n]) {
                // Nothing has been written to this log.
                Err(WalError::Short { .. }) => return Ok(()),
                Err(e) => return Err(ApplyError::Damaged(e.to_string())),
                Ok(header) if self.page_size.is_some_and(|size| size != header.page_size) => {
                    let (found, size) = (header.page_size, self.page_size.expect("just seen"));
                    return Err(ApplyError::Damaged(format!(
                        "it has pages of {found} bytes, the database of {size}"
                    )));
                }
                Ok(header) => {
                    self.page_size = Some(header.page_size);
                    log.chain = Some(Chain::start(&header));
                }
            }
        }
        let frame_bytes = format::frame_bytes(self.page_size.expect("a log has a page size"));
        let whole = self.buffer.len() / frame_bytes * frame_bytes;
        loop {
            let n = content.fill(&mut self.buffer[..whole]).map_err(read_error)?;
            if n == 0 {
                return Ok(());
            }
            let piece = &self.buffer[..n];
            log.scan(piece)?;
            if let Some(output) = &self.output {
                output.scratch.pwrite_all(piece, log.len).map_err(ApplyError::Write)?;
            }
            log.len += n as u64;
        }
    }

    /// Applies what is open and says what the database is.
    ///
    /// # Errors
    /// [`ApplyError::Write`], and [`ApplyError::Damaged`] for a database without pages.
    pub fn finish(mut self) -> Result<Applied, ApplyError> {
        self.end_log()?;
        if let Some(output) = &self.output {
            output.database.std().set_len(self.bytes).map_err(ApplyError::Write)?;
        }
        let page_size = self.page_size.ok_or_else(|| ApplyError::Damaged("it has no pages at all".into()))?;
        Ok(Applied { page_size, bytes: self.bytes })
    }

    /// Moves the committed images of the present log to the database.
    fn end_log(&mut self) -> Result<(), ApplyError> {
        let Some(Log { committed, size: Some(pages), .. }) = self.log.take() else { return Ok(()) };
        let size = self.page_size.expect("a log with frames has a page size");
        self.bytes = u64::from(pages) * u64::from(size.get());
        let Some(Files { database, scratch }) = &self.output else { return Ok(()) };
        let page = &mut self.buffer[..size.bytes()];
        let last = Pgno::new(pages).expect("a commit mark is not 0");
        for (pgno, frame) in committed.range(..=last) {
            let at = format::frame_offset(size, *frame) + format::FRAME_HEADER_BYTES as u64;
            scratch.pread_exact(page, at).map_err(ApplyError::Write)?;
            database.pwrite_all(page, pgno.offset(size)).map_err(ApplyError::Write)?;
        }
        // Also when it shrank: what a later log does not write must come out as zeros, not as old pages.
        database.std().set_len(self.bytes).map_err(ApplyError::Write)
    }
}

impl Log {
    /// Proves the next frames. A segment holds whole frames of one chain, and nothing else.
    fn scan(&mut self, piece: &[u8]) -> Result<(), ApplyError> {
        let at = self.len;
        let chain =
            self.chain.as_mut().ok_or_else(|| ApplyError::Damaged("it continues an empty log".into()))?;
        let mut scan = chain.scan(piece, UNLIMITED);
        for run in scan.by_ref() {
            self.committed.extend(self.open.drain(..));
            self.committed.extend(run.frames().map(|(no, pgno, _)| (pgno, no)));
            self.size = Some(run.size_pages);
        }
        let scanned = scan.finish();
        self.open.extend(scanned.open.map(|(no, pgno, _)| (pgno, no)));
        *chain = scanned.after_valid;
        match scanned.end {
            End::NeedBytes { have: 0 } => Ok(()),
            End::NeedBytes { have } => Err(ApplyError::Damaged(format!(
                "it ends {have} bytes into frame {} of its log",
                chain.next.0
            ))),
            end => {
                let offset = chain.offset().max(at);
                let why = match end {
                    End::OtherSalts(_) | End::ZeroSalts => "it belongs to another log",
                    End::ZeroPage => "it has no page number",
                    _ => "its checksum does not continue the chain",
                };
                Err(ApplyError::Damaged(format!(
                    "frame {} at offset {offset:08x} is not valid: {why}",
                    chain.next.0
                )))
            }
        }
    }
}

fn read_error(e: io::Error) -> ApplyError {
    match e.kind() {
        io::ErrorKind::InvalidData => ApplyError::Damaged(e.to_string()),
        _ => ApplyError::Read(e),
    }
}

/// Of a database file that begins with these bytes.
fn page_size(first: &[u8]) -> Result<Option<PageSize>, ApplyError> {
    let size = first.get(16..18).map(|b| u16::from_be_bytes([b[0], b[1]]));
    match size.map(PageSize::from_u16) {
        Some(Ok(size)) if first.starts_with(b"SQLite format 3\0") => Ok(Some(size)),
        _ => Err(ApplyError::Damaged("it is not a database file".into())),
    }
}

#[cfg(test)]
mod tests;
