//! One LTX file of which parts are read.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::task::JoinSet;

use super::page_index::{Lookup, PageIndex, Parts, lock};
use crate::base::{Pgno, limits};
use crate::ltx::index_part::parse_part;
use crate::ltx::shape::HEAD_SHORT;
use crate::ltx::{
    FileCheck, FileEnd, FrameWalk, HEADER_LEN, Header, IndexEntry, LtxError, Next, TRAILER_LEN, Tail,
    TailState, decode_frames,
};
use crate::restore::damage::of_read;
use crate::restore::{Object, RestoreError};
use crate::store::{Entry, Store};

/// A page with its number.
pub(super) type Numbered = (u32, Arc<[u8]>);

/// A file whose header is known, and at least a part of its page index.
#[derive(Debug)]
pub(super) struct StoredFile {
    entry: Entry,
    header: Header,
    /// Where the frame of each page is.
    index: PageIndex,
    /// The whole file, if it is short. Its checksum is proven.
    whole: Option<Bytes>,
    /// Pages that were read together with the header.
    first_pages: Mutex<Vec<Numbered>>,
}

impl StoredFile {
    pub(super) fn entry(&self) -> Entry {
        self.entry
    }

    pub(super) fn header(&self) -> &Header {
        &self.header
    }

    pub(super) fn index(&self) -> &PageIndex {
        &self.index
    }

    /// The numbers of the pages of the file, ascending. Reads a long index whole.
    pub(super) async fn numbers(&self, store: &dyn Store) -> Result<Vec<u32>, RestoreError> {
        Ok(self.entries(store).await?.iter().map(|e| e.pgno.get()).collect())
    }

    /// Where the frame of each page is. Reads a long index whole.
    pub(super) async fn entries(&self, store: &dyn Store) -> Result<Cow<'_, [IndexEntry]>, RestoreError> {
        match &self.index {
            PageIndex::Whole(all) => Ok(Cow::Borrowed(all)),
            PageIndex::Parts(parts) => {
                let frames_end = lock(parts).frames_end;
                let bytes = get(store, &self.entry, frames_end..self.entry.size).await?;
                match Tail::parse(self.entry.size, &bytes).map_err(|e| corrupt(store, &self.entry, e))? {
                    TailState::Parsed(tail) => Ok(Cow::Owned(tail.index)),
                    TailState::NeedMore(_) => Err(corrupt(store, &self.entry, BAD_INDEX)),
                }
            }
        }
    }

    /// Where the frame of a page is; `None` if the file does not have the page. Reads parts of the
    /// index until that is known.
    pub(super) async fn locate(
        &self,
        store: &dyn Store,
        number: u32,
    ) -> Result<Option<IndexEntry>, RestoreError> {
        for _ in 0..limits::VIEW_INDEX_READS {
            let (part, aligned) = match self.index.look(number) {
                Lookup::Found(entry) => return Ok(Some(entry)),
                Lookup::Absent => return Ok(None),
                Lookup::Unknown(part, aligned) => (part, aligned),
            };
            let PageIndex::Parts(parts) = &self.index else { break };
            let (start, frames_end) = {
                let parts = lock(parts);
                (parts.start, parts.frames_end)
            };
            let bytes = get(store, &self.entry, start + part.start..start + part.end).await?;
            match parse_part(&bytes, frames_end, aligned) {
                Some(found) if !found.entries.is_empty() => lock(parts).add(part.start, found),
                _ => break,
            }
        }
        Err(corrupt(store, &self.entry, BAD_INDEX))
    }

    /// Bytes of content in memory.
    pub(super) fn held_bytes(&self) -> usize {
        self.whole.as_ref().map_or(0, Bytes::len)
    }

    /// The file without its content, which is then read again where it is wanted.
    pub(super) fn without_content(self) -> StoredFile {
        StoredFile { whole: None, ..self }
    }

    pub(super) fn take_first_pages(&self) -> Vec<Numbered> {
        std::mem::take(&mut *self.first_pages.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads frames that are near each other, in the order of the file, by one request.
    pub(super) async fn read(
        &self,
        store: &dyn Store,
        frames: &[IndexEntry],
    ) -> Result<Vec<Numbered>, RestoreError> {
        let (Some(first), Some(last)) = (frames.first(), frames.last()) else { return Ok(Vec::new()) };
        let bytes = match &self.whole {
            Some(whole) => whole.slice(first.offset as usize..last.end() as usize),
            None => get(store, &self.entry, first.offset..last.end()).await?,
        };
        let mut found = Vec::with_capacity(frames.len());
        for frame in frames {
            let at = (frame.offset - first.offset) as usize;
            let page = pages(&self.header, &bytes[at..], std::slice::from_ref(frame));
            found.extend(page.map_err(|cause| corrupt(store, &self.entry, cause))?);
        }
        Ok(found)
    }
}

/// Cuts frames in the order of the file into those that are read together.
pub(super) fn reads(frames: &[IndexEntry]) -> Vec<Vec<IndexEntry>> {
    let mut reads: Vec<Vec<IndexEntry>> = Vec::new();
    for frame in frames {
        match reads.last_mut() {
            Some(read)
                if read.last().is_some_and(|last| frame.offset - last.end() <= limits::VIEW_GAP_BYTES)
                    && read.first().is_some_and(|f| frame.end() - f.offset <= limits::VIEW_READ_BYTES) =>
            {
                read.push(*frame);
            }
            _ => reads.push(vec![*frame]),
        }
    }
    reads
}

const BAD_INDEX: LtxError = LtxError::Index("its entries are not in order");

/// Opens files, several at the same time. The result has their order.
pub(super) async fn open(store: &Arc<dyn Store>, entries: &[Entry]) -> Result<Vec<StoredFile>, RestoreError> {
    let mut waiting = entries.iter().copied().enumerate();
    let mut under_way = JoinSet::new();
    let mut opened = Vec::new();
    loop {
        while under_way.len() < limits::VIEW_TRANSFERS
            && let Some((at, entry)) = waiting.next()
        {
            let store = Arc::clone(store);
            under_way.spawn(async move { (at, open_one(&*store, entry).await) });
        }
        let Some(done) = under_way.join_next().await else { break };
        let (at, file) = done.map_err(|_| RestoreError::Interrupted)?;
        opened.push((at, file?));
    }
    opened.sort_unstable_by_key(|(at, _)| *at);
    Ok(opened.into_iter().map(|(_, file)| file).collect())
}

async fn open_one(store: &dyn Store, entry: Entry) -> Result<StoredFile, RestoreError> {
    if entry.size <= limits::VIEW_WHOLE_BYTES {
        let bytes = get(store, &entry, 0..entry.size).await?;
        let header = header(store, &entry, &bytes)?;
        let (index, pages) = prove(&bytes).map_err(|cause| corrupt(store, &entry, cause))?;
        let first_pages = Mutex::new(pages);
        let (index, whole) = (PageIndex::Whole(index), Some(bytes));
        return Ok(StoredFile { entry, header, index, whole, first_pages });
    }
    let (head, end) = tokio::try_join!(
        get(store, &entry, 0..limits::VIEW_HEAD_BYTES),
        get(store, &entry, entry.size - limits::VIEW_END_BYTES..entry.size),
    )?;
    let header = header(store, &entry, &head)?;
    let damaged = |cause| corrupt(store, &entry, cause);
    let first = first_frames(&header, &head).map_err(damaged)?;
    let first_pages = Mutex::new(pages(&header, &head[HEADER_LEN..], &first).map_err(damaged)?);
    let index = match index(store, &entry, &header, (end, first)).await? {
        Some(index) => index,
        // Litestream restores a file whose index is wrong, so it is not damaged yet.
        None => PageIndex::Whole(walk(store, &entry, &header).await?),
    };
    Ok(StoredFile { entry, header, index, whole: None, first_pages })
}

/// The page index, or the parts of it that are known. `None` if it cannot be right.
async fn index(
    store: &dyn Store,
    entry: &Entry,
    header: &Header,
    (end, first): (Bytes, Vec<IndexEntry>),
) -> Result<Option<PageIndex>, RestoreError> {
    let fits = |index: &[IndexEntry]| index.get(..first.len()) == Some(&first[..]);
    let need = match Tail::parse(entry.size, &end) {
        Ok(TailState::Parsed(tail)) => return Ok(fits(&tail.index).then_some(PageIndex::Whole(tail.index))),
        Ok(TailState::NeedMore(need)) => need,
        Err(_) => return Ok(None),
    };
    if need <= limits::VIEW_INDEX_BYTES {
        let end = get(store, entry, entry.size - need..entry.size).await?;
        return Ok(match Tail::parse(entry.size, &end) {
            Ok(TailState::Parsed(tail)) if fits(&tail.index) => Some(PageIndex::Whole(tail.index)),
            _ => None,
        });
    }
    let frames_end = entry.size - need;
    let after_index = (8 + TRAILER_LEN) as u64;
    // Without its end mark, which is one byte.
    let (start, len) = (frames_end + HEAD_SHORT as u64, need - HEAD_SHORT as u64 - after_index - 1);
    let mut parts = Parts::new((start, len), frames_end, header.commit);
    let last = end.slice(..end.len() - after_index as usize - 1);
    let offset = len - last.len() as u64;
    let Some(part) = parse_part(&last, frames_end, false).filter(|part| part.end == last.len()) else {
        return Ok(None);
    };
    parts.add_first(first);
    parts.add(offset, part);
    Ok(Some(PageIndex::Parts(Mutex::new(parts))))
}

/// The frames that are whole in the beginning of a file.
fn first_frames(header: &Header, head: &[u8]) -> Result<Vec<IndexEntry>, LtxError> {
    let mut walk = FrameWalk::new(header);
    let mut frames = Vec::new();
    while let Some(rest) = usize::try_from(walk.offset()).ok().and_then(|at| head.get(at..))
        && let Next::Frame(frame) = walk.step(rest)?
    {
        frames.push(frame);
    }
    Ok(frames)
}

/// Finds all frames without the index, by reading the whole file.
async fn walk(store: &dyn Store, entry: &Entry, header: &Header) -> Result<Vec<IndexEntry>, RestoreError> {
    let damaged = |cause| corrupt(store, entry, cause);
    let mut walk = FrameWalk::new(header);
    let mut frames: Vec<IndexEntry> = Vec::new();
    let mut bytes = Bytes::new();
    // Offset in the file of `bytes`.
    let mut start = walk.offset();
    loop {
        let at = usize::try_from(walk.offset() - start).unwrap_or(usize::MAX);
        match walk.step(bytes.get(at..).unwrap_or_default()).map_err(damaged)? {
            Next::Frame(frame) if frames.last().is_none_or(|last| last.pgno < frame.pgno) => {
                frames.push(frame);
            }
            Next::Frame(frame) => {
                let last = frames.last().map_or(frame.pgno, |last| last.pgno);
                return Err(damaged(LtxError::PageOrder { last, found: frame.pgno }));
            }
            Next::End => return Ok(frames),
            Next::Need(_) if start + bytes.len() as u64 >= entry.size => {
                return Err(damaged(LtxError::Truncated { len: entry.size, part: "pages" }));
            }
            Next::Need(_) => {
                start = walk.offset();
                let end = entry.size.min(start + limits::GET_PART_BYTES);
                bytes = get(store, entry, start..end).await?;
            }
        }
    }
}

/// Reads a range that the file has by its listing.
async fn get(store: &dyn Store, entry: &Entry, range: Range<u64>) -> Result<Bytes, RestoreError> {
    let object = Object::Ltx(entry.id);
    let bytes = store.get(entry.id, range.clone()).await.map_err(|e| of_read(store, object, e))?;
    let found = range.start + bytes.len() as u64;
    if found != range.end {
        let url = store.url().to_owned();
        return Err(RestoreError::Short { object, url, expected: entry.size, found });
    }
    Ok(bytes)
}

fn corrupt(store: &dyn Store, entry: &Entry, cause: LtxError) -> RestoreError {
    RestoreError::Corrupt { object: entry.id, url: store.url().to_owned(), cause }
}

/// The header at the beginning of `bytes`, whose TXIDs must be those of the name.
fn header(store: &dyn Store, entry: &Entry, bytes: &[u8]) -> Result<Header, RestoreError> {
    let parsed = match bytes.first_chunk::<HEADER_LEN>() {
        Some(bytes) => Header::parse(bytes),
        None => Err(LtxError::Truncated { len: bytes.len() as u64, part: "header" }),
    };
    let header = parsed.map_err(|cause| corrupt(store, entry, cause))?;
    if (header.min, header.max) != (entry.id.min, entry.id.max) {
        let (url, found) = (store.url().to_owned(), format!("{}-{}", header.min, header.max));
        return Err(RestoreError::Misnamed { object: entry.id, url, found });
    }
    Ok(header)
}

/// Decodes frames that follow each other. `bytes` begins with the first of them.
fn pages(header: &Header, bytes: &[u8], frames: &[IndexEntry]) -> Result<Vec<Numbered>, LtxError> {
    let first = frames.first().map_or(0, |e| e.offset);
    let mut pages = Vec::with_capacity(frames.len());
    decode_frames(header, bytes, first, frames, |pgno, page| pages.push((pgno.get(), Arc::from(page))))?;
    Ok(pages)
}

/// Proves a whole file by its checksum. Its index does not count, so a wrong one does no harm.
fn prove(bytes: &Bytes) -> Result<(Vec<IndexEntry>, Vec<Numbered>), LtxError> {
    let cut = |part| LtxError::Truncated { len: bytes.len() as u64, part };
    let mut check = FileCheck::new(bytes.first_chunk().ok_or(cut("header"))?)?;
    let header = *check.header();
    let mut walk = FrameWalk::new(&header);
    let mut index: Vec<IndexEntry> = Vec::new();
    loop {
        let at = usize::try_from(walk.offset()).unwrap_or(usize::MAX);
        match walk.step(bytes.get(at..).unwrap_or_default())? {
            Next::Frame(frame) => index.push(frame),
            Next::Need(_) => return Err(cut("pages")),
            Next::End => break,
        }
    }
    let mut found: Vec<Numbered> = Vec::with_capacity(index.len());
    let sink = |pgno: Pgno, page: &[u8]| found.push((pgno.get(), Arc::from(page)));
    check.add(&decode_frames(&header, &bytes[HEADER_LEN..], HEADER_LEN as u64, &index, sink)?)?;
    let mut end = FileEnd::new(&walk);
    let mut rest = bytes.slice(index.last().map_or(HEADER_LEN, |e| e.end() as usize)..);
    drop(rest.split_to(HEAD_SHORT));
    end.push(&rest);
    check.finish_in_order(end)?;
    Ok((index, found))
}
