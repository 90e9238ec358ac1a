//! Proves one LTX file.

use std::sync::Arc;

use super::stream::{self, Pace, Parts};
use crate::base::checksum::page_hash;
use crate::base::{DatabaseChecksum, Pgno, limits};
use crate::ltx::shape::HEAD_SHORT;
use crate::ltx::{
    FileCheck, FileEnd, FrameWalk, HEADER_LEN, Header, IndexCheck, IndexEntry, LtxError, Next, decode_frames,
};
use crate::restore::RestoreError;
use crate::restore::claims::Claims;
use crate::restore::object::Wanted;
use crate::store::{Entry, Store};

/// How many frames are decoded together.
const BATCH_FRAMES: usize = 256;

/// A proven file: its content is what its name says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Checked {
    pub(super) header: Header,
    pub(super) index_is_right: bool,
}

/// The pages of a state whose files are read newest first.
#[derive(Default)]
pub(super) struct Pages {
    /// The pages found so far; created with the first file.
    pub(super) claims: Option<Claims>,
    /// The checksum of the pages found so far.
    pub(super) sum: DatabaseChecksum,
    /// A hash of each page, by its index; `None` if the caller needs none.
    pub(super) hashes: Option<Vec<u64>>,
    /// The pages found so far, each with its hash; `None` if the caller needs none, or there are
    /// more than [`VERIFY_BATCH_PAGES`](limits::VERIFY_BATCH_PAGES).
    pub(super) list: Option<Vec<(Pgno, u64)>>,
}

/// Reads and proves one file. If `pages` is given, claims its pages and returns it.
///
/// The outer error is a defect or the end of this program; the inner one is about the file or the
/// store.
pub(super) async fn check(
    store: &Arc<dyn Store>,
    entry: Entry,
    pace: &Pace,
    pages: Option<Pages>,
) -> Result<(Result<Checked, RestoreError>, Option<Pages>), RestoreError> {
    let url = store.url().to_owned();
    let work = move |parts| {
        let mut pages = pages;
        let checked = Walk::new(parts, entry, pages.as_mut()).run();
        (checked, pages)
    };
    let ((checked, pages), fed) = stream::through(&**store, Wanted::from(&entry), pace, work).await?;
    let object = entry.id;
    let checked = match (fed, checked) {
        (Err(e), _) => Err(e),
        (Ok(()), Ok(checked)) => Ok(checked),
        (Ok(()), Err(Fault::Ltx(cause))) => Err(RestoreError::Corrupt { object, url, cause }),
        (Ok(()), Err(Fault::Name(header))) => {
            let found = format!("{}-{}", header.min, header.max);
            Err(RestoreError::Misnamed { object, url, found })
        }
        (Ok(()), Err(Fault::PageSize(found, expected))) => {
            Err(RestoreError::PageSize { object, url, found, expected })
        }
    };
    Ok((checked, pages))
}

enum Fault {
    Ltx(LtxError),
    Name(Box<Header>),
    PageSize(crate::base::PageSize, crate::base::PageSize),
}

impl From<LtxError> for Fault {
    fn from(e: LtxError) -> Fault {
        Fault::Ltx(e)
    }
}

/// One walk through a file.
struct Walk<'a> {
    parts: Parts,
    entry: Entry,
    pages: Option<&'a mut Pages>,
    /// Bytes not processed yet; `offset` is where they begin in the file.
    bytes: Vec<u8>,
    offset: u64,
}

impl<'a> Walk<'a> {
    fn new(parts: Parts, entry: Entry, pages: Option<&'a mut Pages>) -> Walk<'a> {
        Walk { parts, entry, pages, bytes: Vec::new(), offset: 0 }
    }

    fn more(&mut self, part: &'static str) -> Result<(), LtxError> {
        let Some(bytes) = self.parts.next() else {
            return Err(LtxError::Truncated { len: self.offset + self.bytes.len() as u64, part });
        };
        self.bytes.extend_from_slice(&bytes);
        Ok(())
    }

    fn used(&mut self, n: usize) {
        self.bytes.drain(..n);
        self.offset += n as u64;
    }

    fn run(mut self) -> Result<Checked, Fault> {
        while self.bytes.len() < HEADER_LEN {
            self.more("header")?;
        }
        let mut check = FileCheck::new(self.bytes.first_chunk().expect("just read"))?;
        self.used(HEADER_LEN);
        let header = *check.header();
        if (header.min, header.max) != (self.entry.id.min, self.entry.id.max) {
            return Err(Fault::Name(Box::new(header)));
        }
        if let Some(pages) = &mut self.pages {
            let claims = pages.claims.get_or_insert_with(|| Claims::new(header.commit, header.page_size));
            if claims.page_size() != header.page_size {
                return Err(Fault::PageSize(header.page_size, claims.page_size()));
            }
            claims.next_file(header.commit);
        }
        let mut index = IndexCheck::default();
        let walk = self.frames(&header, &mut check, &mut index)?;
        let mut end = FileEnd::new(&walk);
        end.push(&self.bytes);
        index.push(&self.bytes);
        while let Some(bytes) = self.parts.next() {
            end.push(&bytes);
            index.push(&bytes);
        }
        check.finish_in_order(end)?;
        Ok(Checked { header, index_is_right: index.is_right() })
    }

    /// Walks all frames and the terminator after them.
    fn frames(
        &mut self,
        header: &Header,
        check: &mut FileCheck,
        index: &mut IndexCheck,
    ) -> Result<FrameWalk, Fault> {
        let mut walk = FrameWalk::new(header);
        let mut batch: Vec<IndexEntry> = Vec::with_capacity(BATCH_FRAMES);
        // For each frame of the batch, whether it is the newest image of its page.
        let mut newest: Vec<bool> = Vec::with_capacity(BATCH_FRAMES);
        // A file that begins at TXID 1 has all pages, and so proves its own checksum.
        let stored = header.checksum.filter(|_| header.is_snapshot());
        let mut own = DatabaseChecksum::default();
        let mut used = 0;
        loop {
            let next = walk.step(&self.bytes[used..])?;
            if let Next::Frame(frame) = next {
                used += frame.len as usize;
                index.frame(&frame);
                newest.push(self.claim(frame.pgno));
                batch.push(frame);
            }
            if batch.len() == BATCH_FRAMES || !matches!(next, Next::Frame(_)) {
                let mut pages = self.pages.as_mut();
                let mut newest = newest.drain(..);
                let part = decode_frames(header, &self.bytes, self.offset, &batch, |pgno, page| {
                    let counts = newest.next() == Some(true);
                    if !counts && stored.is_none() {
                        return;
                    }
                    let hash = page_hash(pgno, page);
                    own.toggle(hash);
                    if let Some(pages) = pages.as_mut().filter(|_| counts) {
                        pages.sum.toggle(hash);
                        if let Some(hashes) = &mut pages.hashes {
                            // A claimed page is within the database, so `hashes` cannot outgrow it.
                            hashes.resize(hashes.len().max(pgno.index() + 1), 0);
                            hashes[pgno.index()] = hash;
                        }
                        pages.list.take_if(|list| list.len() == limits::VERIFY_BATCH_PAGES);
                        if let Some(list) = &mut pages.list {
                            list.push((pgno, hash));
                        }
                    }
                })?;
                check.add(&part)?;
                drop(newest);
                batch.clear();
                self.used(used);
                used = 0;
            }
            match next {
                Next::Frame(_) => {}
                Next::Need(_) => self.more("pages")?,
                Next::End => {
                    if let Some(stored) = stored.filter(|stored| *stored != own) {
                        return Err(Fault::Ltx(LtxError::Pages { stored, computed: own }));
                    }
                    self.used(HEAD_SHORT);
                    return Ok(walk);
                }
            }
        }
    }

    fn claim(&mut self, pgno: Pgno) -> bool {
        let claims = self.pages.as_mut().and_then(|p| p.claims.as_mut());
        claims.is_some_and(|claims| claims.claim(pgno))
    }
}
