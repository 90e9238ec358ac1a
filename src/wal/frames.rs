//! Which frames of a log count: salts, checksum chain, commit marks.
//!
//! A frame is *valid* if its salts are those of the log's header, its page number is not 0, and its
//! checksum continues the chain. The log ends before the first frame that is not valid. A frame is
//! *committed* if a valid frame with a commit mark follows it, or if it carries the mark itself.
//! All else is nothing, even with a perfect checksum: a transaction that spilled and rolled back
//! stays where it is until the next one overwrites it.
//!
//! # The limit
//!
//! A running transaction may rewrite frames that it appended before, and repairs the chain only
//! when it commits. So a checksum taken beyond the last commit may be void a moment later. Frames
//! up to the `mxFrame` that the wal-index publishes don't change any more (while the log is not
//! restarted); scanning with that as the limit makes every result final, [`Scanned::after_valid`]
//! included, and a transaction of any length can be read in pieces:
//!
//! ```
//! # use lsfast::base::FrameNo;
//! # use lsfast::wal::frames::{Chain, End};
//! # fn follow(mut chain: Chain, mx_frame: FrameNo, mut read_at: impl FnMut(u64) -> Vec<u8>) -> Option<Chain> {
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
//! Without a limit (recovery, or the rest of an old generation) only what [`CommittedRun`]s gave
//! may be kept.

use super::checksum::{self, Sum};
use super::format::{self, FRAME_HEADER_BYTES, FrameHeader, SUMMED_BYTES, WalHeader};
use crate::base::{FrameNo, PageSize, Pgno, Salts};

/// No limit: every frame that the bytes hold.
pub const UNLIMITED: FrameNo = FrameNo(u32::MAX);

/// A position in a log with all that proves what follows: which frame is next, and the checksum
/// before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain {
    /// Bytes in a page.
    pub page_size: PageSize,
    /// Whether checksum input is read as big-endian words.
    pub big_endian: bool,
    /// The generation of the log.
    pub salts: Salts,
    /// The next frame to read.
    pub next: FrameNo,
    /// The running checksum of the frame before, or of the header if frame 1 is next.
    pub sum: Sum,
}

impl Chain {
    /// Before frame 1.
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

    /// In the same generation after frame `last`, whose running checksum was `sum`. Frame 0 stands
    /// for the header.
    ///
    /// Nothing is proved by that; see [`Chain::continues`].
    #[must_use]
    pub const fn resume(header: &WalHeader, last: FrameNo, sum: Sum) -> Chain {
        Chain { next: FrameNo(last.0.saturating_add(1)), sum, ..Chain::start(header) }
    }

    /// The frame before [`Chain::next`]; 0 at the start of the log.
    #[must_use]
    pub const fn last(&self) -> FrameNo {
        FrameNo(self.next.0.saturating_sub(1))
    }

    /// Where in the file the next frame begins.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        format::frame_offset(self.page_size, self.next)
    }

    /// Whether `last`, read anew from the place of frame [`Chain::last`], is still the frame that
    /// this chain ended with. After a crash a log can be shorter, and other transactions with
    /// the same salts take the same offsets.
    #[must_use]
    pub fn continues(&self, last: &FrameHeader) -> bool {
        last.salts == self.salts && last.sum == self.sum
    }

    /// After a frame that this chain proved.
    #[must_use]
    const fn after(&self, frame: &ValidFrame<'_>) -> Chain {
        Chain { next: FrameNo(self.next.0 + 1), sum: frame.sum, ..*self }
    }

    /// Walks the whole frames in `bytes`, the first of which is frame [`Chain::next`], up to and
    /// including frame `limit`. `bytes` may end anywhere.
    ///
    /// The answer yields the committed runs one by one; then [`Scan::finish`] tells how the walk
    /// ended.
    #[must_use]
    pub const fn scan<'a>(&self, bytes: &'a [u8], limit: FrameNo) -> Scan<'a> {
        Scan { chain: *self, bytes, open_bytes: 0, limit, committed: None, end: None }
    }
}

/// 24 bytes and a page. Nothing is proved.
#[derive(Clone, Copy)]
pub struct RawFrame<'a> {
    header: FrameHeader,
    /// The bytes that the checksum runs over before the page.
    summed: &'a [u8],
    page: &'a [u8],
}

impl<'a> RawFrame<'a> {
    /// The frame at the start of `bytes`, or `None` if it is not all there.
    #[must_use]
    pub fn first(page_size: PageSize, bytes: &'a [u8]) -> Option<RawFrame<'a>> {
        let (header, rest) = bytes.split_first_chunk::<FRAME_HEADER_BYTES>()?;
        let page = rest.get(..page_size.bytes())?;
        Some(RawFrame { header: FrameHeader::parse(header), summed: &header[..SUMMED_BYTES], page })
    }

    /// What its header claims.
    #[must_use]
    pub const fn header(&self) -> &FrameHeader {
        &self.header
    }

    /// Proves that this is frame `chain.next` of the generation of `chain`.
    ///
    /// # Errors
    /// [`End`], the reason why the log ends before this frame.
    pub fn prove(&self, chain: &Chain) -> Result<ValidFrame<'a>, End> {
        let FrameHeader { pgno, commit, salts, sum: stored } = self.header;
        if salts != chain.salts {
            return Err(if salts == Salts::default() { End::ZeroSalts } else { End::OtherSalts(salts) });
        }
        let pgno = pgno.ok_or(End::ZeroPage)?;
        let head = checksum::plain(chain.big_endian, chain.sum, self.summed);
        let computed = checksum::sum(chain.big_endian, head, self.page);
        if stored != computed {
            return Err(End::BrokenChain { stored, computed });
        }
        Ok(ValidFrame { no: chain.next, pgno, commit, page: self.page, sum: stored })
    }
}

/// A frame with the right salts and a checksum that continues the chain. It need not be committed.
#[derive(Clone, Copy)]
pub struct ValidFrame<'a> {
    no: FrameNo,
    pgno: Pgno,
    commit: u32,
    page: &'a [u8],
    sum: Sum,
}

impl<'a> ValidFrame<'a> {
    /// Its number in the log.
    #[must_use]
    pub const fn no(&self) -> FrameNo {
        self.no
    }

    /// Which page it holds.
    #[must_use]
    pub const fn pgno(&self) -> Pgno {
        self.pgno
    }

    /// Pages in the database after the transaction if this is its last frame.
    #[must_use]
    pub const fn commit(&self) -> Option<u32> {
        if self.commit == 0 { None } else { Some(self.commit) }
    }

    /// The page.
    #[must_use]
    pub const fn page(&self) -> &'a [u8] {
        self.page
    }
}

/// Why a walk over frames ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Fewer bytes than a frame were left. If the file ends there, so does the log (a torn tail is
    /// normal).
    NeedBytes {
        /// Bytes of the next frame that were there.
        have: usize,
    },
    /// The frame with the number of the limit has been taken.
    Limit,
    /// A frame of another generation: of an older one if these salts are not those of the file's
    /// present header.
    OtherSalts(Salts),
    /// Both salts are 0: never written, or a transaction is rewriting its own frames.
    ZeroSalts,
    /// The right salts and page number 0, which no valid frame has.
    ZeroPage,
    /// The right salts, but the checksum does not continue the chain: left over from a rolled back
    /// transaction, or being written.
    BrokenChain {
        /// What the frame says.
        stored: Sum,
        /// What the chain gives.
        computed: Sum,
    },
}

/// Frames one behind the other whose last carries a commit mark: one transaction, or the rest of
/// one whose first frames were in an earlier piece.
#[derive(Clone)]
pub struct CommittedRun<'a> {
    /// Pages in the database after the transaction. Frames of higher pages don't count.
    pub size_pages: u32,
    /// The position after the commit frame.
    pub end: Chain,
    frames: Frames<'a>,
}

impl<'a> CommittedRun<'a> {
    /// The frames in the order of the log. A page may occur more than once: the last one counts.
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

/// Valid frames, one behind the other, as number, page number and page; from both ends, since the
/// last image of a page counts.
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

/// A walk over frames that yields the committed runs; made by [`Chain::scan`]. It allocates
/// nothing.
#[derive(Clone)]
pub struct Scan<'a> {
    /// After the last valid frame.
    chain: Chain,
    /// From the first frame after the last commit on.
    bytes: &'a [u8],
    /// So many of `bytes` are valid frames.
    open_bytes: usize,
    limit: FrameNo,
    committed: Option<Chain>,
    end: Option<End>,
}

/// How a walk ended.
pub struct Scanned<'a> {
    /// Why it ended before the next frame.
    pub end: End,
    /// The valid frames after the last commit. They count only if a later piece brings their
    /// commit.
    pub open: Frames<'a>,
    /// The position after the last valid frame, committed or not. Void if the walk had no proper
    /// limit and there are `open` frames.
    pub after_valid: Chain,
    /// The position after the last commit frame, if the walk met one.
    pub committed: Option<Chain>,
}

impl<'a> Scan<'a> {
    fn step(&self) -> Result<ValidFrame<'a>, End> {
        if self.chain.next > self.limit || self.chain.next == UNLIMITED {
            return Err(End::Limit);
        }
        let rest = &self.bytes[self.open_bytes..];
        let frame = RawFrame::first(self.chain.page_size, rest).ok_or(End::NeedBytes { have: rest.len() })?;
        frame.prove(&self.chain)
    }

    /// Cuts off the valid frames since the last commit.
    fn take_open(&mut self) -> Frames<'a> {
        let (open, rest) = self.bytes.split_at(self.open_bytes);
        let frames = open.len() / format::frame_bytes(self.chain.page_size);
        (self.bytes, self.open_bytes) = (rest, 0);
        Frames::new(self.chain.page_size, FrameNo(self.chain.next.0 - frames as u32), open)
    }

    /// All runs that are left, as one, and their number. A page that several of them changed then
    /// occurs several times: the last one counts.
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

    /// How the walk ended.
    ///
    /// # Panics
    /// If there are runs that have not been taken: they would be lost.
    #[must_use]
    pub fn finish(mut self) -> Scanned<'a> {
        let end = self.end.expect("all committed runs are taken before the walk is finished");
        Scanned { end, open: self.take_open(), after_valid: self.chain, committed: self.committed }
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
                self.committed = Some(self.chain);
                return Some(CommittedRun { size_pages, end: self.chain, frames: self.take_open() });
            }
        }
    }
}

impl std::iter::FusedIterator for Scan<'_> {}

#[cfg(test)]
mod tests;
