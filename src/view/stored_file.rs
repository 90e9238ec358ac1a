//! One LTX file of which parts are read.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::task::JoinSet;

use crate::base::{Pgno, limits};
use crate::ltx::{
    FileCheck, FileEnd, FrameWalk, HEADER_LEN, Header, IndexEntry, LtxError, Next, Tail, TailState,
    decode_frames, shape::HEAD_SHORT,
};
use crate::restore::damage::of_read;
use crate::restore::{Object, RestoreError};
use crate::store::{Entry, Store};

/// A page with its number.
pub(super) type Numbered = (u32, Arc<[u8]>);

/// A file whose header and page index are known.
#[derive(Debug)]
pub(super) struct StoredFile {
    entry: Entry,
    header: Header,
    /// Where the frame of each page is, in the order of page numbers.
    index: Vec<IndexEntry>,
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

    /// The numbers of the pages of the file, ascending.
    pub(super) fn numbers(&self) -> Vec<u32> {
        self.index.iter().map(|e| e.pgno.get()).collect()
    }

    /// Where the frame of a page is; `None` if the file does not have the page.
    pub(super) fn locate(&self, number: u32) -> Option<IndexEntry> {
        let at = self.index.binary_search_by_key(&number, |e| e.pgno.get()).ok()?;
        Some(self.index[at])
    }

    /// The frames that follow `entry` in the file, up to `bytes` of them.
    pub(super) fn run(&self, entry: IndexEntry, bytes: u64) -> Vec<IndexEntry> {
        let Ok(at) = self.index.binary_search_by_key(&entry.pgno, |e| e.pgno) else { return vec![entry] };
        let near = |e: &&IndexEntry| e.pgno == entry.pgno || e.end() <= entry.offset + bytes;
        self.index[at..].iter().take_while(near).copied().collect()
    }

    pub(super) fn take_first_pages(&self) -> Vec<Numbered> {
        std::mem::take(&mut *self.first_pages.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads frames that follow each other in the file.
    pub(super) async fn read(
        &self,
        store: &dyn Store,
        frames: &[IndexEntry],
    ) -> Result<Vec<Numbered>, RestoreError> {
        let (Some(first), Some(last)) = (frames.first(), frames.last()) else { return Ok(Vec::new()) };
        let range = first.offset..last.end();
        let bytes = match &self.whole {
            Some(whole) => whole.slice(range.start as usize..range.end as usize),
            None => get(store, &self.entry, range).await?,
        };
        pages(&self.header, &bytes, frames).map_err(|cause| corrupt(store, &self.entry, cause))
    }
}

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
        return Ok(StoredFile { entry, header, index, whole: Some(bytes), first_pages });
    }
    let (head, end) = tokio::try_join!(
        get(store, &entry, 0..limits::VIEW_HEAD_BYTES),
        get(store, &entry, entry.size - limits::VIEW_END_BYTES..entry.size),
    )?;
    let header = header(store, &entry, &head)?;
    let damaged = |cause| corrupt(store, &entry, cause);
    let mut end = end;
    let tail = loop {
        match Tail::parse(entry.size, &end).map_err(damaged)? {
            TailState::Parsed(tail) => break tail,
            TailState::NeedMore(need) => end = get(store, &entry, entry.size - need..entry.size).await?,
        }
    };
    let whole_frames = |e: &&IndexEntry| e.end() <= head.len() as u64;
    let first: Vec<IndexEntry> = tail.index.iter().take_while(whole_frames).copied().collect();
    let frames = head.slice(HEADER_LEN..);
    let first_pages = Mutex::new(pages(&header, &frames, &first).map_err(damaged)?);
    Ok(StoredFile { entry, header, index: tail.index, whole: None, first_pages })
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
