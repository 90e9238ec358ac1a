//! Builds a database file from a snapshot and pieces of WALs.
//!
//! # Overview
//!
//! The pieces of one WAL are joined in a scratch file, and each frame is proven as in SQLite's
//! recovery: salts, page number, checksum chain. At the end of the WAL, the last committed image of
//! each page goes to the database, which then gets the length of the last commit. That is what a
//! checkpoint does, so the result is the same, page for page.
//!
//! # Memory
//!
//! One piece of [`limits::LEGACY_READ_BYTES`], and for each page in a WAL the number of its last
//! frame.

use std::collections::BTreeMap;
use std::io::{self, Read};

use super::{LegacyName, Unpacked, WalIndex};
use crate::base::{FrameNo, PageSize, Pgno, limits};
use crate::io::File;
use crate::sqlite::header::MAGIC;
use crate::wal::format::{self, HEADER_BYTES, WalError, WalHeader};
use crate::wal::frames::{Chain, End, UNLIMITED};

/// Byte range in the database header of the page count.
const PAGE_COUNT: std::ops::Range<usize> = 28..32;

/// Damage of a file, or an I/O error.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The file cannot be read.
    #[error("{0}")]
    Read(#[source] io::Error),
    /// The content of the file is damaged.
    #[error("{0}")]
    Damaged(String),
    /// The part of the WAL before a segment is missing.
    #[error(
        "the WAL reaches offset {reached:08x}, and this piece begins at {found:08x}: what is between them is missing"
    )]
    Gap {
        /// Offset at which the pieces so far end.
        reached: u64,
        /// Offset at which this piece begins.
        found: u64,
    },
    /// The output cannot be written.
    #[error("{0}")]
    Write(#[source] io::Error),
    /// The file system has less free space than the database needs.
    #[error("the database has {need} bytes, and {free} bytes are free")]
    NoRoom {
        /// Length of the database in bytes, by its own header.
        need: u64,
        /// Free bytes.
        free: u64,
    },
}

/// The database after all pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// Page size of the database.
    pub page_size: PageSize,
    /// Length of the file in bytes.
    pub bytes: u64,
}

/// A database under construction.
pub struct Apply {
    /// `None` if the files are only proven.
    output: Option<Files>,
    page_size: Option<PageSize>,
    bytes: u64,
    log: Option<Log>,
    buffer: Vec<u8>,
}

/// The output files.
struct Files {
    database: File,
    /// The current WAL, as much of it as has been read.
    scratch: File,
}

/// One WAL, joined from its pieces.
struct Log {
    index: WalIndex,
    /// Number of bytes read so far.
    len: u64,
    chain: Option<Chain>,
    /// Last committed frame of each page.
    committed: BTreeMap<Pgno, FrameNo>,
    /// Frames since the last commit.
    open: Vec<(Pgno, FrameNo)>,
    /// Length of the database in pages after the last commit.
    size: Option<u32>,
}

impl Apply {
    /// Writes to `database` and uses `scratch` for WALs. Both files must be empty.
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
    /// [`ApplyError`]. The database is not usable then.
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
                format!("it has {} bytes, which is not a whole number of pages of {size} bytes", self.bytes),
            )),
            _ => Ok(()),
        }
    }

    /// Reads the length of the database from its first `n` bytes and checks that the file system
    /// has room for it, before anything is written.
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

    /// Adds a segment. Segments come in the order of the plan.
    ///
    /// # Errors
    /// [`ApplyError`]. The database is not usable then.
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
                // This WAL has no frames.
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
        let frame_bytes = format::frame_bytes(self.page_size.expect("a WAL has a page size"));
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

    /// Applies the last WAL and returns the shape of the database.
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

    /// Copies the committed images of the current WAL to the database.
    fn end_log(&mut self) -> Result<(), ApplyError> {
        let Some(Log { committed, size: Some(pages), .. }) = self.log.take() else { return Ok(()) };
        let size = self.page_size.expect("a WAL with frames has a page size");
        self.bytes = u64::from(pages) * u64::from(size.get());
        let Some(Files { database, scratch }) = &self.output else { return Ok(()) };
        let page = &mut self.buffer[..size.bytes()];
        let last = Pgno::new(pages).expect("a commit mark is not 0");
        for (pgno, frame) in committed.range(..=last) {
            let at = format::frame_offset(size, *frame) + format::FRAME_HEADER_BYTES as u64;
            scratch.pread_exact(page, at).map_err(ApplyError::Write)?;
            database.pwrite_all(page, pgno.offset(size)).map_err(ApplyError::Write)?;
        }
        // Also needed after a shrink: pages that a later WAL does not write must be zeros, not old
        // pages.
        database.std().set_len(self.bytes).map_err(ApplyError::Write)
    }
}

impl Log {
    /// Proves the next frames. A segment consists of whole frames of one chain.
    fn scan(&mut self, piece: &[u8]) -> Result<(), ApplyError> {
        let at = self.len;
        let chain =
            self.chain.as_mut().ok_or_else(|| ApplyError::Damaged("it continues an empty WAL".into()))?;
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
                "it ends {have} bytes into frame {} of its WAL",
                chain.next.0
            ))),
            end => {
                let offset = chain.offset().max(at);
                let why = match end {
                    End::OtherSalts(_) | End::ZeroSalts => "it belongs to another WAL",
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

/// Page size of a database file that begins with `first`.
fn page_size(first: &[u8]) -> Result<Option<PageSize>, ApplyError> {
    let size = first.get(16..18).map(|b| u16::from_be_bytes([b[0], b[1]]));
    match size.map(PageSize::from_u16) {
        Some(Ok(size)) if first.starts_with(&MAGIC) => Ok(Some(size)),
        _ => Err(ApplyError::Damaged("it is not a database file".into())),
    }
}

#[cfg(test)]
#[path = "apply_tests.rs"]
mod tests;
