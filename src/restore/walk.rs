//! Cuts the incoming bytes into batches of frames and decides which images are written.
//!
//! One thread does this in order, at some ten nanoseconds per frame. So the decision needs no locks
//! and no index. The slow work, decompressing and writing, is done in any order by other threads.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use super::RestoreError;
use super::claims::Claims;
use super::fetch::Part;
use super::proof::Proof;
use crate::base::{PageSize, Txid, limits};
use crate::ltx::{FileCheck, FileEnd, FrameWalk, HEADER_LEN, Header, IndexEntry, LtxError, Next};
use crate::store::Entry;

/// Frames that are decoded together, and their place in the file.
pub(super) struct Batch {
    /// The shape of the new database.
    pub(super) shape: Shape,
    pub(super) header: Header,
    pub(super) proof: Arc<Proof>,
    pub(super) number: u64,
    pub(super) bytes: Bytes,
    /// Offset of `bytes` in the file.
    pub(super) offset: u64,
    pub(super) frames: Vec<IndexEntry>,
    /// For each frame, whether its page is written.
    pub(super) wanted: Vec<bool>,
    /// Counts `bytes` against the memory budget.
    pub(super) hold: Arc<OwnedSemaphorePermit>,
}

/// The shape of the database, from the newest file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) header: Header,
}

impl Shape {
    /// Length of the database file in bytes.
    pub(super) fn bytes(&self) -> u64 {
        u64::from(self.header.commit) * u64::from(self.header.page_size.get())
    }
}

/// Where in a file the walk is.
enum WalkPosition {
    /// Before the end of the header.
    Header,
    Frames(Open, FrameWalk),
    End(Open, Box<FileEnd>),
}

struct Open {
    shape: Shape,
    header: Header,
    proof: Arc<Proof>,
    batches: u64,
}

/// Walks through all files, newest first.
pub(super) struct Walk<'a> {
    url: &'a str,
    files: &'a [Entry],
    place: WalkPosition,
    /// The beginning of a header or a frame that continues in the next part.
    carry: Vec<u8>,
    /// Number of files that were read to their end.
    begun: usize,
    shape: Option<Shape>,
    claims: Option<Claims>,
    proofs: Vec<Arc<Proof>>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(url: &'a str, files: &'a [Entry]) -> Walk<'a> {
        let (carry, proofs) = (Vec::new(), Vec::new());
        Walk { url, files, place: WalkPosition::Header, carry, begun: 0, shape: None, claims: None, proofs }
    }

    /// Takes the next part and passes its batches to `send`, which returns whether it accepts more.
    pub(super) fn part(
        &mut self,
        part: Part,
        mut send: impl FnMut(Batch) -> bool,
    ) -> Result<(), RestoreError> {
        let Part { file, mut bytes, is_last, hold } = part;
        assert!(file == self.begun, "parts come in order: file {file} while in {}", self.begun);
        let entry = &self.files[file];
        self.take(entry, &mut bytes, &hold, &mut send).map_err(|e| e.into_error(self.url, entry))?;
        if is_last {
            self.end_file(entry)?;
        }
        Ok(())
    }

    /// The shape of the database, as soon as the header of the newest file has arrived.
    pub(super) fn shape(&self) -> Option<Shape> {
        self.shape
    }

    /// Ends the walk after all parts. Returns the proofs, which are complete once all batches are
    /// decoded.
    pub(super) fn finish(self) -> Result<Vec<Arc<Proof>>, RestoreError> {
        if self.begun != self.files.len() {
            return Err(RestoreError::Interrupted);
        }
        // I5: each page of the state has to be in one of the files.
        match (self.claims.as_ref().and_then(Claims::missing), self.shape) {
            (Some(missing), Some(shape)) => {
                let commit = shape.header.commit;
                Err(RestoreError::MissingPage { missing, commit, url: self.url.to_owned() })
            }
            _ => Ok(self.proofs),
        }
    }

    fn take(
        &mut self,
        entry: &Entry,
        bytes: &mut Bytes,
        hold: &Arc<OwnedSemaphorePermit>,
        send: &mut impl FnMut(Batch) -> bool,
    ) -> Result<(), Wrong> {
        if matches!(self.place, WalkPosition::Header) {
            if !self.fill(bytes, HEADER_LEN) {
                return Ok(());
            }
            self.begin_file(entry)?;
        }
        while let WalkPosition::Frames(..) = self.place {
            let more = if self.carry.is_empty() {
                self.frames_in_place(bytes, hold, send)?
            } else {
                self.frame_across_parts(bytes, hold, send)?
            };
            if !more {
                return Ok(());
            }
        }
        if let WalkPosition::End(_, end) = &mut self.place {
            end.push(bytes);
        }
        Ok(())
    }

    fn begin_file(&mut self, entry: &Entry) -> Result<(), Wrong> {
        let check = FileCheck::new(self.carry.first_chunk().expect("just filled"))?;
        self.carry.clear();
        let header = *check.header();
        if (header.min, header.max) != (entry.id.min, entry.id.max) {
            return Err(Wrong::Name(header.min, header.max));
        }
        let shape = *self.shape.get_or_insert(Shape { header });
        if header.page_size != shape.header.page_size {
            return Err(Wrong::PageSize(header.page_size, shape.header.page_size));
        }
        let claims = self.claims.get_or_insert_with(|| Claims::new(header.commit, header.page_size));
        claims.next_file(header.commit);
        let proof = Arc::new(Proof::new(entry.id, check));
        self.proofs.push(Arc::clone(&proof));
        self.place = WalkPosition::Frames(Open { shape, header, proof, batches: 0 }, FrameWalk::new(&header));
        Ok(())
    }

    /// Takes the frames that lie whole in `bytes`. A partial frame at the end goes to `carry`.
    /// False if the walk needs more bytes.
    fn frames_in_place(
        &mut self,
        bytes: &mut Bytes,
        hold: &Arc<OwnedSemaphorePermit>,
        send: &mut impl FnMut(Batch) -> bool,
    ) -> Result<bool, Wrong> {
        let WalkPosition::Frames(open, walk) = &mut self.place else {
            unreachable!("called among frames only")
        };
        let claims = self.claims.as_mut().expect("made with the first file");
        let batch_frames = (limits::RESTORE_BATCH_BYTES / open.header.page_size.bytes()).max(1);
        let (mut frames, mut wanted) = (Vec::new(), Vec::new());
        let offset = walk.offset();
        let mut used = 0;
        let next = loop {
            match walk.step(&bytes[used..])? {
                Next::Frame(frame) => {
                    used += frame.len as usize;
                    wanted.push(claims.claim(frame.pgno));
                    frames.push(frame);
                    if frames.len() == batch_frames {
                        break None;
                    }
                }
                other => break Some(other),
            }
        };
        if !frames.is_empty() {
            let batch = open.batch(bytes.split_to(used), offset, (frames, wanted), hold);
            if !send(batch) {
                return Err(Wrong::Stopped);
            }
        }
        match next {
            None => {}
            Some(Next::End) => self.begin_end(bytes),
            Some(_) => {
                self.carry.extend_from_slice(bytes);
                bytes.clear();
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Takes the frame or the terminator that begins in `carry`.
    fn frame_across_parts(
        &mut self,
        bytes: &mut Bytes,
        hold: &Arc<OwnedSemaphorePermit>,
        send: &mut impl FnMut(Batch) -> bool,
    ) -> Result<bool, Wrong> {
        loop {
            let WalkPosition::Frames(open, walk) = &mut self.place else {
                unreachable!("called among frames only")
            };
            let offset = walk.offset();
            match walk.step(&self.carry)? {
                Next::Need(n) => {
                    if !self.fill(bytes, n) {
                        return Ok(false);
                    }
                }
                Next::End => {
                    self.carry.clear();
                    self.begin_end(&mut Bytes::new());
                    return Ok(true);
                }
                Next::Frame(frame) => {
                    let claims = self.claims.as_mut().expect("made with the first file");
                    let wanted = claims.claim(frame.pgno);
                    let whole = Bytes::from(std::mem::take(&mut self.carry));
                    let batch = open.batch(whole, offset, (vec![frame], vec![wanted]), hold);
                    return if send(batch) { Ok(true) } else { Err(Wrong::Stopped) };
                }
            }
        }
    }

    /// Called just after the terminator. `bytes` still begins with it, unless it is empty.
    fn begin_end(&mut self, bytes: &mut Bytes) {
        let WalkPosition::Frames(open, walk) = std::mem::replace(&mut self.place, WalkPosition::Header)
        else {
            unreachable!("called among frames only")
        };
        drop(bytes.split_to(bytes.len().min(crate::ltx::shape::HEAD_SHORT)));
        self.place = WalkPosition::End(open, Box::new(FileEnd::new(&walk)));
    }

    fn end_file(&mut self, entry: &Entry) -> Result<(), RestoreError> {
        let cut = |part| Wrong::Ltx(LtxError::Truncated { len: entry.size, part });
        let ended = match std::mem::replace(&mut self.place, WalkPosition::Header) {
            WalkPosition::Header => Err(cut("header")),
            WalkPosition::Frames(..) => Err(cut("pages")),
            WalkPosition::End(open, end) => open.proof.end(open.batches, *end).map_err(Wrong::Ltx),
        };
        self.begun += 1;
        ended.map_err(|e| e.into_error(self.url, entry))
    }

    /// Fills `carry` up to `n` bytes. False if `bytes` has too few.
    fn fill(&mut self, bytes: &mut Bytes, n: usize) -> bool {
        let take = n.saturating_sub(self.carry.len()).min(bytes.len());
        self.carry.extend_from_slice(&bytes.split_to(take));
        self.carry.len() >= n
    }
}

impl Open {
    fn batch(
        &mut self,
        bytes: Bytes,
        offset: u64,
        (frames, wanted): (Vec<IndexEntry>, Vec<bool>),
        hold: &Arc<OwnedSemaphorePermit>,
    ) -> Batch {
        let number = self.batches;
        self.batches += 1;
        let (proof, hold) = (Arc::clone(&self.proof), Arc::clone(hold));
        Batch { shape: self.shape, header: self.header, proof, number, bytes, offset, frames, wanted, hold }
    }
}

/// What is wrong with a file, before its name is added.
enum Wrong {
    Ltx(LtxError),
    /// TXIDs in the header.
    Name(Txid, Txid),
    /// Page size of this file and that of the newer ones.
    PageSize(PageSize, PageSize),
    Stopped,
}

impl From<LtxError> for Wrong {
    fn from(e: LtxError) -> Wrong {
        Wrong::Ltx(e)
    }
}

impl Wrong {
    fn into_error(self, url: &str, entry: &Entry) -> RestoreError {
        let (object, url) = (entry.id, url.to_owned());
        match self {
            Wrong::Ltx(cause) => RestoreError::Corrupt { object, url, cause },
            Wrong::Name(min, max) => RestoreError::Misnamed { object, url, found: format!("{min}-{max}") },
            Wrong::PageSize(found, expected) => RestoreError::PageSize { object, url, found, expected },
            Wrong::Stopped => RestoreError::Interrupted,
        }
    }
}
