//! Following one log: frame after frame, generation after generation.
//!
//! [`Tail`] knows how far it has read and the checksum chain there. It reads what the wal-index has
//! published and nothing else, with two exceptions that have functions of their own: the rest of an
//! old generation ([`Tail::walk_on`]) and a look at what is being committed ([`Tail::peek`]).
//!
//! Whether a new generation may be entered without having missed a frame is not known here: see
//! `replicate::guard`.

use std::io;

use super::checksum::Sum;
use super::format::{self, HEADER_BYTES, WalError, WalHeader};
use super::frames::{Chain, CommittedRun, End, Frames, UNLIMITED};
use crate::base::{FrameNo, PageSize, Salts, limits};
use crate::io::File;
use crate::sqlite::walindex::WalIndexHeader;

/// Bytes that one walk through an old generation holds at most. A longer one ends without a proof.
const WALK_BYTES_MAX: usize = 16 << 20;

/// Why the log could not be read as the wal-index promised.
#[derive(Debug, thiserror::Error)]
pub enum TailError {
    /// The operating system.
    #[error("cannot read the log: {0}")]
    Io(#[from] io::Error),
    /// Its header.
    #[error("the header of the log is not as the wal-index says: {0}")]
    Header(#[from] WalError),
    /// Another generation than the wal-index says.
    #[error("the log has salts {found}, the wal-index says {expected}")]
    Salts {
        /// Of the wal-index.
        expected: Salts,
        /// Of the file.
        found: Salts,
    },
    /// A published frame is not there.
    #[error("frame {frame} of {published} published frames is not valid: {end:?}")]
    Frame {
        /// The first one that is not valid.
        frame: u32,
        /// `mxFrame`.
        published: u32,
        /// Why it is not.
        end: End,
    },
    /// The published frames do not end with a commit, or their checksum is not the published one.
    #[error("the published frames up to {published} do not end as the wal-index says")]
    Published {
        /// `mxFrame`.
        published: u32,
    },
    /// The wal-index says less than was read.
    #[error("the wal-index says {published} frames, but {read} were there before")]
    Shorter {
        /// `mxFrame`.
        published: u32,
        /// Frames read before.
        read: u32,
    },
}

impl TailError {
    /// Whether the bytes of the log are to blame, not the way to them.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            TailError::Io(e) => e.raw_os_error() == Some(libc::EIO),
            _ => true,
        }
    }
}

/// Where a reader of the log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WalPos {
    /// The generation.
    pub salts: Salts,
    /// The last frame read.
    pub frame: FrameNo,
    /// Running checksum of that frame.
    pub sum: Sum,
}

/// What a reading found, in order.
pub enum Found<'a> {
    /// Frames of a transaction whose commit comes in a later piece.
    Open(Frames<'a>),
    /// The frames of so many transactions, one behind the other, which are now whole; the first of
    /// them may have begun in `Open` frames.
    Committed(u32, CommittedRun<'a>),
}

/// How a walk through the rest of an old generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Walk {
    /// Whole transactions found.
    pub commits: u32,
    /// Whether the end of the walk shows that there was nothing more.
    pub proven: bool,
}

/// A piece of the log that was read before it was needed.
#[derive(Debug)]
pub struct Ahead {
    offset: u64,
    wanted: usize,
    bytes: Vec<u8>,
}

impl Ahead {
    /// Reads about `wanted` bytes of whole frames behind frame `after`.
    ///
    /// # Errors
    /// The operating system.
    pub fn read(wal: &File, page_size: PageSize, after: FrameNo, wanted: usize) -> io::Result<Ahead> {
        let frame_bytes = format::frame_bytes(page_size);
        let wanted = (wanted / frame_bytes).max(1) * frame_bytes;
        let offset = format::frame_end(page_size, after);
        let mut bytes = Vec::new();
        let have = fill(&mut bytes, wal, wanted, offset)?.len();
        bytes.truncate(have);
        Ok(Ahead { offset, wanted, bytes })
    }

    /// What was read from an offset on, and how much was asked for.
    fn from(&self, offset: u64) -> Option<(&[u8], usize)> {
        let skip = usize::try_from(offset.checked_sub(self.offset)?).ok()?;
        let bytes = self.bytes.get(skip..).filter(|b| !b.is_empty())?;
        Some((bytes, self.wanted - skip))
    }
}

/// What stands behind the published frames.
#[derive(Debug, PartialEq, Eq)]
pub enum Peeked<T> {
    /// No frame that continues the log.
    Nothing,
    /// The beginning of a transaction.
    Begun,
    /// More frames of a transaction than were to be looked at.
    Long,
    /// A whole transaction, and what was made of it.
    Whole(T),
}

/// The state of following one log file.
#[derive(Debug)]
pub struct Tail {
    wal: File,
    page_size: PageSize,
    salts: Salts,
    /// `None` as long as the generation has no committed frame.
    chain: Option<Chain>,
    buffer: Vec<u8>,
}

impl Tail {
    /// Before the first frame of the generation that the wal-index names.
    #[must_use]
    pub fn new(wal: File, page_size: PageSize, salts: Salts) -> Tail {
        Tail { wal, page_size, salts, chain: None, buffer: Vec::new() }
    }

    /// Behind the last published frame, which is not read: the checksum that the wal-index
    /// publishes with it proves what follows.
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

    /// The generation.
    #[must_use]
    pub fn salts(&self) -> Salts {
        self.salts
    }

    /// The last frame read.
    #[must_use]
    pub fn last(&self) -> FrameNo {
        self.chain.map_or(FrameNo(0), |c| c.last())
    }

    /// Where it is.
    #[must_use]
    pub fn pos(&self) -> WalPos {
        WalPos { salts: self.salts, frame: self.last(), sum: self.chain.map_or(Sum::ZERO, |c| c.sum) }
    }

    /// Goes to the start of another generation.
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

    /// Reads frames up to `limit`, which must be published in this generation and end a
    /// transaction, at most `bytes_max` of them, and hands over what they are. `Ok(true)` when
    /// `limit` is reached.
    ///
    /// Frames up to `mxFrame` do not change, so a transaction longer than `bytes_max` is taken in
    /// pieces.
    ///
    /// # Errors
    /// [`TailError`]; what was handed over before stays valid, and the tail stands after it.
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
            if reached && open > 0 {
                return Err(TailError::Published { published: limit.0 });
            }
        }
        Ok(chain.last() == limit)
    }

    /// Checks that reading up to `header.mx_frame` ended with the checksum that the wal-index
    /// publishes.
    ///
    /// # Errors
    /// [`TailError::Published`] if not.
    pub fn check_published(&self, header: &WalIndexHeader) -> Result<(), TailError> {
        match self.chain {
            Some(c) if c.last() == header.mx_frame && c.sum != header.frame_sum => {
                Err(TailError::Published { published: header.mx_frame.0 })
            }
            _ => Ok(()),
        }
    }

    /// Whether the frame where this tail stands is still in the file, so that what follows it
    /// continues the chain.
    ///
    /// # Errors
    /// The operating system.
    pub fn stands(&self) -> io::Result<bool> {
        let Some(chain) = self.chain else { return Ok(true) };
        let mut bytes = [0; format::FRAME_HEADER_BYTES];
        let at = format::frame_offset(self.page_size, chain.last());
        if chain.last().0 == 0 || self.wal.pread(&mut bytes, at)? < bytes.len() {
            return Ok(false);
        }
        Ok(chain.continues(&format::FrameHeader::parse(&bytes)))
    }

    /// Takes whole transactions of the present (old) generation that lie behind the place of this
    /// tail, after the log has been restarted with `new` salts. Each was committed before the
    /// restart. What of it was read `ahead`, while less was written over it, is not read again.
    ///
    /// # Errors
    /// The operating system.
    pub fn walk_on(
        &mut self,
        new: Salts,
        ahead: Option<&Ahead>,
        found: impl FnMut(Found<'_>),
    ) -> io::Result<Walk> {
        let walk = self.walk(new, ahead, found);
        if self.buffer.len() > limits::TAIL_READ_BYTES {
            // A long walk is rare, and its memory is needed for nothing else.
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
            // No frame of the old generation was ever read, so there is no chain to walk on.
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
                if piece >= WALK_BYTES_MAX {
                    return Ok(Walk { commits: 0, proven: false });
                }
                piece *= 4;
                continue;
            }
            let proven = match scanned.end {
                End::BrokenChain { .. } | End::ZeroPage => true,
                End::OtherSalts(salts) => salts != new,
                // The end of the file proves nothing: a TRUNCATE checkpoint or a size limit may have cut it.
                End::NeedBytes { .. } | End::ZeroSalts | End::Limit => false,
            };
            let Some((commits, run)) = runs else { return Ok(Walk { commits: 0, proven }) };
            self.chain = Some(run.end);
            found(Found::Committed(commits, run));
            return Ok(Walk { commits, proven });
        }
    }

    /// The chain after the last frame read; of a generation whose first frame is still to come, if
    /// its header is in the log.
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

    /// Whether a frame of this generation stands behind the last one read: somebody is committing,
    /// or did and took it back. `None` if that can't be told, because the log does not have its
    /// header.
    ///
    /// # Errors
    /// The operating system.
    pub fn is_followed(&self) -> io::Result<Option<bool>> {
        let Some(chain) = self.chain_to_peek()? else { return Ok(None) };
        let mut bytes = [0; format::FRAME_HEADER_BYTES];
        let have = self.wal.pread(&mut bytes, chain.offset())?;
        Ok(Some(have == bytes.len() && format::FrameHeader::parse(&bytes).salts == self.salts))
    }

    /// Reads what is being committed beyond the published frames: at most `frames` of them. If they
    /// are a whole transaction, hands it over with the position after it. Nothing of it counts
    /// until the wal-index publishes that position with the same checksum.
    ///
    /// # Errors
    /// The operating system.
    pub fn peek<T>(
        &mut self,
        frames: usize,
        found: impl FnOnce(CommittedRun<'_>) -> T,
    ) -> io::Result<Peeked<T>> {
        let Some(chain) = self.chain_to_peek()? else { return Ok(Peeked::Nothing) };
        let frame_bytes = format::frame_bytes(self.page_size);
        // Mostly what is there belongs to an older generation, as its first frame shows: more is read only
        // behind valid frames.
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

    /// Takes over the position that [`Tail::peek`] found, now that the wal-index has published it.
    pub fn promote(&mut self, end: Chain) {
        assert_eq!(end.salts, self.salts, "a peeked transaction belongs to the generation it was found in");
        self.chain = Some(end);
    }
}

/// Reads up to `len` bytes at `offset` into `buffer`; fewer only at the end of the file.
fn fill<'a>(buffer: &'a mut Vec<u8>, file: &File, len: usize, offset: u64) -> io::Result<&'a [u8]> {
    if buffer.len() < len {
        buffer.resize(len, 0);
    }
    let have = file.pread(&mut buffer[..len], offset)?;
    Ok(&buffer[..have])
}
