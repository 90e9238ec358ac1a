//! Reads a WAL as it grows: frame after frame, generation after generation.
//!
//! # Overview
//!
//! [`Tail`] knows the last frame that it read and the checksum chain at that frame.
//! [`Tail::read_to`] reads what the wal-index has published and nothing beyond it. Two functions
//! read other frames: [`Tail::walk_on`] reads the rest of an old generation, and [`Tail::peek`]
//! reads a transaction that is being committed.
//!
//! # Limits
//!
//! This module does not know whether a new generation can be entered without having missed a frame.
//! `sqlite::guard` decides that.

use std::io;

use super::checksum::Sum;
use super::format::{self, HEADER_BYTES, WalError, WalHeader};
use super::frames::{Chain, CommittedRun, End, Frames, UNLIMITED};
use super::index::WalIndexHeader;
use crate::base::{FrameNo, PageSize, Salts, limits};
use crate::io::File;

/// Why the WAL could not be read as the wal-index says.
#[derive(Debug, thiserror::Error)]
pub enum TailError {
    /// An I/O error of the read.
    #[error("cannot read the WAL: {0}")]
    Io(#[from] io::Error),
    /// The header of the WAL is not valid.
    #[error("the header of the WAL is not as the wal-index says: {0}")]
    Header(#[from] WalError),
    /// The WAL belongs to another generation than the wal-index.
    #[error("the WAL has salts {found}, the wal-index says {expected}")]
    Salts {
        /// Salts in the wal-index.
        expected: Salts,
        /// Salts in the WAL's header.
        found: Salts,
    },
    /// A published frame is not valid.
    #[error("frame {frame} of {published} published frames is not valid: {end:?}")]
    Frame {
        /// Number of the first frame that is not valid.
        frame: u32,
        /// `mxFrame` of the wal-index.
        published: u32,
        /// Why the frame is not valid.
        end: End,
    },
    /// The published frames do not end with a commit, or their checksum is not the published one.
    #[error("the published frames up to {published} do not end as the wal-index says")]
    Published {
        /// `mxFrame` of the wal-index.
        published: u32,
    },
    /// The wal-index has fewer frames than were read before.
    #[error("the wal-index says {published} frames, but {read} were there before")]
    Shorter {
        /// `mxFrame` of the wal-index.
        published: u32,
        /// Number of the last frame read before.
        read: u32,
    },
}

impl TailError {
    /// Whether the content of the WAL is damaged. `false` for I/O errors other than `EIO`.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            TailError::Io(e) => e.raw_os_error() == Some(libc::EIO),
            _ => true,
        }
    }
}

/// The position of a reader in the WAL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WalPos {
    /// Salts of the generation.
    pub salts: Salts,
    /// The last frame read; 0 before the first.
    pub frame: FrameNo,
    /// Running checksum of that frame.
    pub sum: Sum,
}

/// Frames that one read found, in the order of the WAL.
pub enum Found<'a> {
    /// Frames of a transaction whose commit frame comes in a later piece.
    Open(Frames<'a>),
    /// Number of transactions that are now complete, and their frames in succession. The first of
    /// these transactions may have begun in `Open` frames.
    Committed(u32, CommittedRun<'a>),
}

/// Result of a walk through the rest of an old generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Walk {
    /// Number of complete transactions found.
    pub commits: u32,
    /// Whether the end of the walk proves that nothing more followed.
    pub proven: bool,
}

/// A piece of the WAL that was read before it was needed.
#[derive(Debug)]
pub struct Ahead {
    offset: u64,
    wanted: usize,
    bytes: Vec<u8>,
}

impl Ahead {
    /// Reads about `wanted` bytes of whole frames that follow frame `after`.
    ///
    /// # Errors
    /// Any I/O error of the read.
    pub fn read(wal: &File, page_size: PageSize, after: FrameNo, wanted: usize) -> io::Result<Ahead> {
        let frame_bytes = format::frame_bytes(page_size);
        let wanted = (wanted / frame_bytes).max(1) * frame_bytes;
        let offset = format::frame_end(page_size, after);
        let mut bytes = Vec::new();
        let have = fill(&mut bytes, wal, wanted, offset)?.len();
        bytes.truncate(have);
        Ok(Ahead { offset, wanted, bytes })
    }

    /// The bytes that were read from file offset `offset` on, and how many were requested from
    /// there on.
    fn from(&self, offset: u64) -> Option<(&[u8], usize)> {
        let skip = usize::try_from(offset.checked_sub(self.offset)?).ok()?;
        let bytes = self.bytes.get(skip..).filter(|b| !b.is_empty())?;
        Some((bytes, self.wanted - skip))
    }
}

/// What follows the published frames.
#[derive(Debug, PartialEq, Eq)]
pub enum Peeked<T> {
    /// No frame that continues the chain.
    Nothing,
    /// Some frames of a transaction, without its commit frame.
    Begun,
    /// At least as many frames without a commit as the caller allowed to read.
    Long,
    /// A complete transaction, and what the caller made of it.
    Whole(T),
}

/// The state of reading one WAL.
#[derive(Debug)]
pub struct Tail {
    wal: File,
    page_size: PageSize,
    salts: Salts,
    /// `None` before the first frame of the generation.
    chain: Option<Chain>,
    buffer: Vec<u8>,
}

impl Tail {
    /// A tail before the first frame of the generation `salts`, which the wal-index names.
    #[must_use]
    pub fn new(wal: File, page_size: PageSize, salts: Salts) -> Tail {
        Tail { wal, page_size, salts, chain: None, buffer: Vec::new() }
    }

    /// A tail after the last published frame, which is not read. The wal-index publishes the
    /// checksum of that frame, which proves the frames that follow.
    #[must_use]
    pub fn behind(wal: File, page_size: PageSize, header: &WalIndexHeader) -> Tail {
        let chain = Chain {
            page_size,
            big_endian: header.big_endian,
            salts: header.salts,
            next: FrameNo(header.mx_frame.0.saturating_add(1)),
            sum: header.frame_sum,
        };
        let chain = (header.mx_frame.0 > 0).then_some(chain);
        Tail { chain, ..Tail::new(wal, page_size, header.salts) }
    }

    /// The salts of the current generation.
    #[must_use]
    pub fn salts(&self) -> Salts {
        self.salts
    }

    /// The last frame read; 0 before the first.
    #[must_use]
    pub fn last(&self) -> FrameNo {
        self.chain.map_or(FrameNo(0), |c| c.last())
    }

    /// The position after the last frame read.
    #[must_use]
    pub fn pos(&self) -> WalPos {
        WalPos { salts: self.salts, frame: self.last(), sum: self.chain.map_or(Sum::ZERO, |c| c.sum) }
    }

    /// Moves to the start of another generation.
    pub fn enter(&mut self, salts: Salts) {
        self.salts = salts;
        self.chain = None;
    }

    fn read_header(&self, salts: Salts) -> Result<Chain, TailError> {
        let mut bytes = [0; HEADER_BYTES];
        let have = self.wal.pread(&mut bytes, 0)?;
        let header = WalHeader::parse(&bytes[..have])?;
        if header.salts != salts {
            return Err(TailError::Salts { expected: salts, found: header.salts });
        }
        Ok(Chain::start(&header))
    }

    /// Reads frames up to `limit`, at most `bytes_max` bytes of them, and passes them to `found`.
    /// `limit` must be published in this generation and must be a commit frame. Returns `Ok(true)`
    /// when `limit` is reached.
    ///
    /// Published frames do not change, so a transaction longer than `bytes_max` can be read in
    /// several pieces.
    ///
    /// # Errors
    /// [`TailError`]. What `found` received before stays valid, and the tail is positioned after
    /// it.
    pub fn read_to(
        &mut self,
        limit: FrameNo,
        bytes_max: usize,
        mut found: impl FnMut(Found<'_>),
    ) -> Result<bool, TailError> {
        if limit <= self.last() {
            return Ok(true);
        }
        let mut chain = match self.chain {
            Some(chain) => chain,
            None => self.read_header(self.salts)?,
        };
        let frame_bytes = format::frame_bytes(self.page_size);
        let mut budget = bytes_max.max(frame_bytes);
        while chain.last() < limit && budget >= frame_bytes {
            let frames = (limit.0 - chain.last().0) as usize;
            let piece = (limits::TAIL_READ_BYTES.min(budget) / frame_bytes).clamp(1, frames) * frame_bytes;
            budget = budget.saturating_sub(piece);
            let bytes = fill(&mut self.buffer, &self.wal, piece, chain.offset())?;
            // I3: nothing beyond `limit`, which is published, is scanned.
            let mut scan = chain.scan(bytes, limit);
            if let Some((commits, run)) = scan.next_all() {
                found(Found::Committed(commits, run));
            }
            let scanned = scan.finish();
            let reached = scanned.after_valid.last() == limit;
            let open = scanned.open.len();
            if open > 0 {
                found(Found::Open(scanned.open));
            }
            chain = scanned.after_valid;
            self.chain = Some(chain);
            let whole = matches!(scanned.end, End::NeedBytes { have: 0 }) && bytes.len() == piece;
            if !(reached || whole) {
                let frame = chain.next.0;
                return Err(TailError::Frame { frame, published: limit.0, end: scanned.end });
            }
            // I3: what was read must end with a commit frame.
            if reached && open > 0 {
                return Err(TailError::Published { published: limit.0 });
            }
        }
        Ok(chain.last() == limit)
    }

    /// Checks the checksum after a read up to `header.mx_frame`: it must be the one that the
    /// wal-index publishes.
    ///
    /// # Errors
    /// [`TailError::Published`] if it differs.
    pub fn check_published(&self, header: &WalIndexHeader) -> Result<(), TailError> {
        match self.chain {
            Some(c) if c.last() == header.mx_frame && c.sum != header.frame_sum => {
                Err(TailError::Published { published: header.mx_frame.0 })
            }
            _ => Ok(()),
        }
    }

    /// Whether the last frame read is still in the file, so that what follows it continues the
    /// chain.
    ///
    /// # Errors
    /// Any I/O error of the read.
    pub fn stands(&self) -> io::Result<bool> {
        let Some(chain) = self.chain else { return Ok(true) };
        let mut bytes = [0; format::FRAME_HEADER_BYTES];
        let at = format::frame_offset(self.page_size, chain.last());
        if chain.last().0 == 0 || self.wal.pread(&mut bytes, at)? < bytes.len() {
            return Ok(false);
        }
        Ok(chain.continues(&format::FrameHeader::parse(&bytes)))
    }

    /// Reads whole transactions of the old generation that follow the position of this tail, after
    /// the WAL was restarted with the salts `new`. Each of them was committed before the restart.
    /// Bytes in `ahead` are not read again: when they were read, less of the WAL was overwritten.
    ///
    /// # Errors
    /// Any I/O error of the read.
    pub fn walk_on(
        &mut self,
        new: Salts,
        ahead: Option<&Ahead>,
        found: impl FnMut(Found<'_>),
    ) -> io::Result<Walk> {
        let walk = self.walk(new, ahead, found);
        if self.buffer.len() > limits::TAIL_READ_BYTES {
            // A long walk is rare, and nothing else needs that much memory.
            self.buffer = Vec::new();
        }
        walk
    }

    fn walk(
        &mut self,
        new: Salts,
        ahead: Option<&Ahead>,
        mut found: impl FnMut(Found<'_>),
    ) -> io::Result<Walk> {
        let Some(chain) = self.chain else {
            // No frame of the old generation was read, so there is no chain to continue.
            return Ok(Walk { commits: 0, proven: false });
        };
        let frame_bytes = format::frame_bytes(self.page_size);
        let mut ahead = ahead.and_then(|a| a.from(chain.offset()));
        let mut piece =
            ahead.map_or((limits::TAIL_READ_BYTES / frame_bytes).max(1) * frame_bytes, |(_, wanted)| wanted);
        loop {
            let bytes = match ahead.take() {
                Some((bytes, _)) => bytes,
                None => fill(&mut self.buffer, &self.wal, piece, chain.offset())?,
            };
            let mut scan = chain.scan(bytes, UNLIMITED);
            let runs = scan.next_all();
            let scanned = scan.finish();
            let end_of_file = bytes.len() < piece;
            if matches!(scanned.end, End::NeedBytes { .. }) && !end_of_file {
                if piece >= limits::WALK_BYTES {
                    return Ok(Walk { commits: 0, proven: false });
                }
                piece *= 4;
                continue;
            }
            let proven = match scanned.end {
                End::BrokenChain { .. } | End::ZeroPage => true,
                End::OtherSalts(salts) => salts != new,
                // The end of the file proves nothing: a TRUNCATE checkpoint or a size limit may
                // have cut it.
                End::NeedBytes { .. } | End::ZeroSalts | End::Limit => false,
            };
            let Some((commits, run)) = runs else { return Ok(Walk { commits: 0, proven }) };
            self.chain = Some(run.end);
            found(Found::Committed(commits, run));
            return Ok(Walk { commits, proven });
        }
    }

    /// The chain after the last frame read. Before the first frame it is the one that the WAL's
    /// header starts, or `None` if the header is not that of this generation.
    fn chain_to_peek(&self) -> io::Result<Option<Chain>> {
        match self.chain {
            Some(chain) => Ok(Some(chain)),
            None => match self.read_header(self.salts) {
                Ok(chain) => Ok(Some(chain)),
                Err(TailError::Io(e)) => Err(e),
                Err(_) => Ok(None),
            },
        }
    }

    /// Whether a frame of this generation follows the last one read. If so, a writer is committing,
    /// or has rolled back. `None` if the WAL does not have the header of this generation, so that
    /// it can't be known.
    ///
    /// # Errors
    /// Any I/O error of the read.
    pub fn is_followed(&self) -> io::Result<Option<bool>> {
        let Some(chain) = self.chain_to_peek()? else { return Ok(None) };
        let mut bytes = [0; format::FRAME_HEADER_BYTES];
        let have = self.wal.pread(&mut bytes, chain.offset())?;
        Ok(Some(have == bytes.len() && format::FrameHeader::parse(&bytes).salts == self.salts))
    }

    /// Reads at most `frames` frames beyond the published ones. If they contain a complete
    /// transaction, passes it with the position after it to `found`. The transaction does not count
    /// until the wal-index publishes that position with the same checksum.
    ///
    /// # Errors
    /// Any I/O error of the read.
    pub fn peek<T>(
        &mut self,
        frames: usize,
        found: impl FnOnce(CommittedRun<'_>) -> T,
    ) -> io::Result<Peeked<T>> {
        let Some(chain) = self.chain_to_peek()? else { return Ok(Peeked::Nothing) };
        let frame_bytes = format::frame_bytes(self.page_size);
        // Usually the next frame belongs to an older generation. So one frame is read first, and
        // more only after valid frames.
        let mut wanted = 1;
        loop {
            let piece = wanted * frame_bytes;
            let bytes = fill(&mut self.buffer, &self.wal, piece, chain.offset())?;
            let mut scan = chain.scan(bytes, UNLIMITED);
            if let Some(run) = scan.next() {
                return Ok(Peeked::Whole(found(run)));
            }
            let scanned = scan.finish();
            let goes_on = scanned.end == End::NeedBytes { have: 0 } && bytes.len() == piece;
            match (scanned.open.len(), goes_on) {
                (0, _) => return Ok(Peeked::Nothing),
                (_, false) => return Ok(Peeked::Begun),
                (valid, true) if valid == frames => return Ok(Peeked::Long),
                _ => wanted = (wanted * 4).min(frames),
            }
        }
    }

    /// Moves to the position that [`Tail::peek`] found, now that the wal-index has published it
    /// (I3).
    pub fn promote(&mut self, end: Chain) {
        assert_eq!(end.salts, self.salts, "a peeked transaction belongs to the generation it was found in");
        self.chain = Some(end);
    }
}

/// Reads up to `len` bytes at `offset` into `buffer`. Returns fewer only at the end of the file.
fn fill<'a>(buffer: &'a mut Vec<u8>, file: &File, len: usize, offset: u64) -> io::Result<&'a [u8]> {
    if buffer.len() < len {
        buffer.resize(len, 0);
    }
    let have = file.pread(&mut buffer[..len], offset)?;
    Ok(&buffer[..have])
}
