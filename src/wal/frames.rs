//! Decides which frames of a WAL count, by salts, checksum chain and commit marks.
//!
//! # Rules
//!
//! A frame is *valid* if its salts are those of the WAL's header, its page number is not 0, and its
//! checksum continues the chain. The WAL ends before the first frame that is not valid. A frame is
//! *committed* if it carries a commit mark, or if a valid frame with a commit mark follows it.
//! Every other frame counts as nothing, even with a correct checksum. For example, the frames of a
//! transaction that spilled and rolled back stay in the file until the next transaction overwrites
//! them.
//!
//! # The limit
//!
//! A running transaction may rewrite frames that it appended before, and repairs the chain only
//! when it commits. So a checksum read beyond the last commit may be wrong a moment later. Frames
//! up to the `mxFrame` that the wal-index publishes don't change until the WAL restarts. With
//! `mxFrame` as the limit of a scan every result is final, [`Scanned::after_valid`] included. A
//! transaction of any length can then be read in pieces:
//!
//! ```
//! # use lsfast::base::FrameNo;
//! # use lsfast::wal::frames::{Chain, End};
//! # fn follow(mut chain: Chain, mx_frame: FrameNo, mut read_at: impl FnMut(u64) -> Vec<u8>) ->
//! Option<Chain> {
//! let mut open = Vec::new(); // pages of a transaction that began in an earlier piece
//! loop {
//!     let piece = read_at(chain.offset());
//!     let mut scan = chain.scan(&piece, mx_frame);
//!     for run in &mut scan {
//!         open.extend(run.frames().map(|(_, pgno, page)| (pgno, page.to_vec())));
//!         // `open` is now one whole transaction, and the database has `run.size_pages` pages.
//!         open.clear();
//!     }
//!     let scanned = scan.finish();
//!     open.extend(scanned.open.map(|(_, pgno, page)| (pgno, page.to_vec())));
//!     chain = scanned.after_valid;
//!     match scanned.end {
//!         End::NeedBytes { .. } => continue,
//!         End::Limit if open.is_empty() => return Some(chain),
//!         _ => return None, // the log does not have what the wal-index promised
//!     }
//! }
//! # }
//! ```
//!
//! Without a limit (recovery, or the rest of an old generation) only the frames in
//! [`CommittedRun`]s may be kept.

use super::checksum::{self, Sum};
use super::format::{self, FRAME_HEADER_BYTES, FrameHeader, SUMMED_BYTES, WalHeader};
use crate::base::{FrameNo, PageSize, Pgno, Salts};

/// As a limit: scan every frame that the bytes hold.
pub const UNLIMITED: FrameNo = FrameNo(u32::MAX);

/// A position in a WAL with everything that validates the next frame: its number, and the checksum
/// before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain {
    /// Bytes in a page.
    pub page_size: PageSize,
    /// Whether checksums read big-endian words.
    pub big_endian: bool,
    /// The salts of the WAL's generation.
    pub salts: Salts,
    /// Number of the next frame to read.
    pub next: FrameNo,
    /// The running checksum of the frame before, or of the header if frame 1 is next.
    pub sum: Sum,
}

impl Chain {
    /// The position before frame 1.
    #[must_use]
    pub const fn start(header: &WalHeader) -> Chain {
        Chain {
            page_size: header.page_size,
            big_endian: header.big_endian,
            salts: header.salts,
            next: FrameNo(1),
            sum: header.sum,
        }
    }

    /// Number of the frame before [`Chain::next`]; 0 at the start of the WAL.
    #[must_use]
    pub const fn last(&self) -> FrameNo {
        FrameNo(self.next.0.saturating_sub(1))
    }

    /// Offset in the file at which the next frame begins.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        format::frame_offset(self.page_size, self.next)
    }

    /// Whether `last` is still the frame that this chain ended with. The caller reads it again from
    /// the offset of frame [`Chain::last`]. After a crash a WAL can be shorter, and other
    /// transactions with the same salts take the same offsets.
    #[must_use]
    pub fn continues(&self, last: &FrameHeader) -> bool {
        last.salts == self.salts && last.sum == self.sum
    }

    /// The position after a frame that this chain validated.
    #[must_use]
    const fn after(&self, frame: &ValidFrame) -> Chain {
        Chain { next: FrameNo(self.next.0 + 1), sum: frame.sum, ..*self }
    }

    /// Scans the whole frames in `bytes`, of which the first is frame [`Chain::next`], up to and
    /// including frame `limit`. `bytes` may end in the middle of a frame.
    ///
    /// The result yields the committed runs one by one. After the last of them [`Scan::finish`]
    /// returns how the scan ended.
    #[must_use]
    pub const fn scan<'a>(&self, bytes: &'a [u8], limit: FrameNo) -> Scan<'a> {
        Scan { chain: *self, bytes, open_bytes: 0, limit, end: None }
    }
}

/// A frame header and a page that are not validated.
#[derive(Clone, Copy)]
pub struct RawFrame<'a> {
    header: FrameHeader,
    /// The bytes of the header that the checksum covers.
    summed: &'a [u8],
    page: &'a [u8],
}

impl<'a> RawFrame<'a> {
    /// The frame at the start of `bytes`, or `None` if `bytes` holds less than a frame.
    #[must_use]
    pub fn first(page_size: PageSize, bytes: &'a [u8]) -> Option<RawFrame<'a>> {
        let (header, rest) = bytes.split_first_chunk::<FRAME_HEADER_BYTES>()?;
        let page = rest.get(..page_size.bytes())?;
        Some(RawFrame { header: FrameHeader::parse(header), summed: &header[..SUMMED_BYTES], page })
    }

    /// Validates that this is frame `chain.next` of the generation of `chain`.
    ///
    /// # Errors
    /// [`End`]: the reason why the WAL ends before this frame.
    pub fn prove(&self, chain: &Chain) -> Result<ValidFrame, End> {
        let FrameHeader { pgno, commit, salts, sum: stored } = self.header;
        if salts != chain.salts {
            return Err(if salts == Salts::default() { End::ZeroSalts } else { End::OtherSalts(salts) });
        }
        if pgno.is_none() {
            return Err(End::ZeroPage);
        }
        let head = checksum::plain(chain.big_endian, chain.sum, self.summed);
        let computed = checksum::sum(chain.big_endian, head, self.page);
        if stored != computed {
            return Err(End::BrokenChain { stored, computed });
        }
        Ok(ValidFrame { commit, sum: stored })
    }
}

/// Proof that a frame has the right salts and a checksum that continues the chain. It may be
/// uncommitted.
#[derive(Clone, Copy)]
pub struct ValidFrame {
    commit: u32,
    sum: Sum,
}

impl ValidFrame {
    /// Pages in the database after the transaction if this is its last frame.
    #[must_use]
    pub const fn commit(&self) -> Option<u32> {
        if self.commit == 0 { None } else { Some(self.commit) }
    }
}

/// Why a scan of frames ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Fewer bytes than a frame were left. At the end of the file this is the end of the WAL; a
    /// torn last frame is normal.
    NeedBytes {
        /// Bytes of the next frame that were left.
        have: usize,
    },
    /// The last frame scanned was the limit.
    Limit,
    /// The frame has these salts and belongs to another generation. That is an older one if they
    /// are not those of the file's present header.
    OtherSalts(Salts),
    /// Both salts are 0: the frame was never written, or a transaction is rewriting its own frames.
    ZeroSalts,
    /// The salts are right, but the page number is 0, which no valid frame has.
    ZeroPage,
    /// The salts are right, but the checksum does not continue the chain. The frame is left over
    /// from a rolled back transaction, or is being written.
    BrokenChain {
        /// The checksum in the frame's header.
        stored: Sum,
        /// The checksum computed by continuing the chain.
        computed: Sum,
    },
}

/// Successive frames of which the last carries a commit mark. They are one transaction, or the rest
/// of one whose first frames were in an earlier piece.
#[derive(Clone)]
pub struct CommittedRun<'a> {
    /// Pages in the database after the transaction. Frames of pages with higher numbers don't
    /// count.
    pub size_pages: u32,
    /// The position after the commit frame.
    pub end: Chain,
    frames: Frames<'a>,
}

impl<'a> CommittedRun<'a> {
    /// The frames in the order of the WAL. If a page occurs more than once, the last frame counts.
    #[must_use]
    pub fn frames(&self) -> Frames<'a> {
        self.frames.clone()
    }

    /// Number of the first frame.
    #[must_use]
    pub const fn first(&self) -> FrameNo {
        self.frames.first
    }

    /// Number of the commit frame.
    #[must_use]
    pub const fn last(&self) -> FrameNo {
        self.end.last()
    }
}

impl std::fmt::Debug for CommittedRun<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "frames {}..={}, {} pages after", self.first().0, self.last().0, self.size_pages)
    }
}

/// Iterates over successive valid frames as frame number, page number and page. It also runs
/// backwards, because the last image of a page counts.
#[derive(Clone)]
pub struct Frames<'a> {
    first: FrameNo,
    frames: std::slice::ChunksExact<'a, u8>,
}

impl<'a> Frames<'a> {
    fn new(page_size: PageSize, first: FrameNo, bytes: &'a [u8]) -> Frames<'a> {
        Frames { first, frames: bytes.chunks_exact(format::frame_bytes(page_size)) }
    }

    fn item(no: FrameNo, frame: &'a [u8]) -> (FrameNo, Pgno, &'a [u8]) {
        let (pgno, _) = frame.split_first_chunk::<4>().expect("a whole frame");
        let pgno = Pgno::new(u32::from_be_bytes(*pgno)).expect("a proven frame has a page number");
        (no, pgno, &frame[FRAME_HEADER_BYTES..])
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = (FrameNo, Pgno, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let frame = self.frames.next()?;
        let no = self.first;
        self.first.0 += 1;
        Some(Frames::item(no, frame))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.frames.size_hint()
    }
}

impl DoubleEndedIterator for Frames<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        let frame = self.frames.next_back()?;
        let no = FrameNo(self.first.0 + self.frames.len() as u32);
        Some(Frames::item(no, frame))
    }
}

impl ExactSizeIterator for Frames<'_> {}

/// A scan of frames that yields the committed runs; created by [`Chain::scan`]. It does not
/// allocate.
#[derive(Clone)]
pub struct Scan<'a> {
    /// The position after the last valid frame.
    chain: Chain,
    /// The bytes from the first frame after the last commit on.
    bytes: &'a [u8],
    /// Length of the valid frames at the start of `bytes`.
    open_bytes: usize,
    limit: FrameNo,
    end: Option<End>,
}

/// The result of a scan.
pub struct Scanned<'a> {
    /// Why the scan ended before the next frame.
    pub end: End,
    /// The valid frames after the last commit. They count only if a later piece contains their
    /// commit frame.
    pub open: Frames<'a>,
    /// The position after the last valid frame, committed or not. If the scan had no published
    /// limit and there are `open` frames, this position may not hold.
    pub after_valid: Chain,
}

impl<'a> Scan<'a> {
    fn step(&self) -> Result<ValidFrame, End> {
        if self.chain.next > self.limit || self.chain.next == UNLIMITED {
            return Err(End::Limit);
        }
        let rest = &self.bytes[self.open_bytes..];
        let frame = RawFrame::first(self.chain.page_size, rest).ok_or(End::NeedBytes { have: rest.len() })?;
        frame.prove(&self.chain)
    }

    /// Splits off the valid frames since the last commit.
    fn take_open(&mut self) -> Frames<'a> {
        let (open, rest) = self.bytes.split_at(self.open_bytes);
        let frames = open.len() / format::frame_bytes(self.chain.page_size);
        (self.bytes, self.open_bytes) = (rest, 0);
        Frames::new(self.chain.page_size, FrameNo(self.chain.next.0 - frames as u32), open)
    }

    /// All remaining runs as one, and their number. A page that several runs changed occurs several
    /// times; the last frame counts.
    pub fn next_all(&mut self) -> Option<(u32, CommittedRun<'a>)> {
        let (bytes, first) = (self.bytes, FrameNo(self.chain.next.0 - self.open_frames()));
        let mut last = self.next()?;
        let mut runs = 1;
        for run in self {
            last = run;
            runs += 1;
        }
        let page_size = last.end.page_size;
        let len = (last.end.next.0 - first.0) as usize * format::frame_bytes(page_size);
        let frames = Frames::new(page_size, first, &bytes[..len]);
        Some((runs, CommittedRun { frames, ..last }))
    }

    fn open_frames(&self) -> u32 {
        (self.open_bytes / format::frame_bytes(self.chain.page_size)) as u32
    }

    /// How the scan ended.
    ///
    /// # Panics
    /// If a committed run has not been taken, because it would be lost.
    #[must_use]
    pub fn finish(mut self) -> Scanned<'a> {
        let end = self.end.expect("all committed runs are taken before the walk is finished");
        Scanned { end, open: self.take_open(), after_valid: self.chain }
    }
}

impl<'a> Iterator for Scan<'a> {
    type Item = CommittedRun<'a>;

    fn next(&mut self) -> Option<CommittedRun<'a>> {
        if self.end.is_some() {
            return None;
        }
        loop {
            let frame = match self.step() {
                Ok(frame) => frame,
                Err(end) => {
                    self.end = Some(end);
                    return None;
                }
            };
            self.chain = self.chain.after(&frame);
            self.open_bytes += format::frame_bytes(self.chain.page_size);
            if let Some(size_pages) = frame.commit() {
                return Some(CommittedRun { size_pages, end: self.chain, frames: self.take_open() });
            }
        }
    }
}

impl std::iter::FusedIterator for Scan<'_> {}

#[cfg(test)]
#[path = "frames_tests.rs"]
mod tests;
