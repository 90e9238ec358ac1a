//! Large batches: images, and sets of pages that are not held in memory. Worker threads read the
//! pages from a pinned database and compress them; they are uploaded in parts. Memory is bounded by
//! [`IN_FLIGHT`] chunks and the parts of the upload.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::task::{JoinHandle, spawn_blocking};

use super::progress::Work;
use super::source::PageSource;
use crate::base::buffer_pool::{Spare, Spares};
use crate::base::checksum::page_hash;
use crate::base::pages::PageSet;
use crate::base::{DatabaseChecksum, LtxId, PageSize, Pgno, limits};
use crate::ltx::{Encoder, FrameBlock, Header, LtxError, encoded_len_max};
use crate::replicate::handoff::Pin;
use crate::replicate::state::next_checksum::NextChecksum;
use crate::replicate::state::page_hashes::{Gathered, PageHashes, entry, hash_page, published};
use crate::store::{PutOptions, Store, StoreError, Upload};

/// Bytes of uncompressed pages in one chunk.
const CHUNK_BYTES: usize = 1 << 20;

/// Most chunks that are read or compressed at once.
const IN_FLIGHT: usize = 4;

/// Buffers of compressed chunks that are kept for reuse. This number holds the parts of an upload
/// that are in memory, if chunks compress to half their size.
const BLOCKS: usize = 2 * (limits::TRANSFERS + 2) * limits::PART_BYTES as usize / CHUNK_BYTES;

const _: () = assert!(
    limits::UPLOAD_BYTES + (IN_FLIGHT + 2) * CHUNK_BYTES <= limits::IMAGE_BYTES,
    "the chunks are part of the bound"
);

/// Why a large batch could not be stored.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// Reading the database, or writing the state next to it, failed.
    #[error("cannot read the database: {0}")]
    Read(#[from] io::Error),
    /// The pages do not fit the header.
    #[error(transparent)]
    Ltx(#[from] LtxError),
    /// A request failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The pin was voided: the pages may belong to two states.
    #[error("the WAL was rebuilt while the database was read")]
    Void,
    /// The answer to the last request was lost, and the object is not there, or is not the one that
    /// was sent. The wait before the next attempt is over.
    #[error("the upload was not stored")]
    Lost,
    /// The last request failed, and the process ends before the object can be looked for again.
    #[error("{0}")]
    Unstored(StoreError),
    /// The last request failed after everything was sent: the object may exist.
    #[error("{source}")]
    Finish {
        /// The error of the request.
        source: StoreError,
        /// What was sent.
        sent: Sent,
    },
}

/// What was sent as one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// Bytes of the object.
    pub size: u64,
    /// The checksum in its header.
    pub checksum: Option<DatabaseChecksum>,
}

/// Consecutive pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    first: Pgno,
    count: usize,
}

/// Cuts ascending page numbers into runs of at most one chunk.
fn runs(page_size: PageSize, pages: impl Iterator<Item = Pgno>) -> impl Iterator<Item = Run> {
    let max = (CHUNK_BYTES / page_size.bytes()).max(1);
    let mut pages = pages.peekable();
    std::iter::from_fn(move || {
        let first = pages.next()?;
        let mut count = 1;
        while count < max && pages.next_if(|p| p.get() == first.get() + count as u32).is_some() {
            count += 1;
        }
        Some(Run { first, count })
    })
}

/// The result of one chunk.
struct Chunk {
    block: FrameBlock,
    hashes: Vec<(Pgno, u128)>,
}

/// A batch to be streamed.
pub struct Stream<'a> {
    /// The store of the replica.
    pub store: &'a dyn Store,
    /// The pinned state.
    pub source: Arc<PageSource>,
    /// Header of the file.
    pub header: Header,
    /// Name of the object.
    pub id: LtxId,
    /// Options of the upload.
    pub options: PutOptions,
    /// Keeps the source readable.
    pub pin: &'a Pin,
    /// Directory for a temporary file with a large page index; `None` keeps it in memory.
    pub spill: Option<PathBuf>,
}

/// Where the hashes of the pages go.
pub enum Hashes<'a> {
    /// Nowhere.
    None,
    /// Into memory or a temporary file; computed with this seed.
    Gather(&'a mut Gathered, u64),
    /// Into a file that is not used before the upload has succeeded.
    File(&'a PageHashes),
}

impl Hashes<'_> {
    fn seed(&self) -> Option<u64> {
        match self {
            Hashes::None => None,
            Hashes::Gather(_, seed) => Some(*seed),
            Hashes::File(file) => Some(file.seed()),
        }
    }

    fn take(&mut self, hashes: Vec<(Pgno, u128)>) -> io::Result<()> {
        match self {
            Hashes::None => {}
            Hashes::Gather(gathered, _) => gathered.take(hashes),
            Hashes::File(file) => file.write(hashes)?,
        }
        Ok(())
    }
}

impl Stream<'_> {
    /// Stores `pages`, ascending, and notes their hashes. If the checksum of the database follows
    /// from them, by `checksum`, it replaces that in the header.
    ///
    /// # Errors
    /// [`StreamError`]. After [`StreamError::Finish`] the object may exist.
    pub async fn send(
        &self,
        pages: impl Iterator<Item = Pgno>,
        count: usize,
        hashes: Hashes<'_>,
        checksum: Option<NextChecksum>,
    ) -> Result<Sent, StreamError> {
        let size_max = encoded_len_max(self.header.page_size, count) as u64;
        let mut upload = self.store.upload(self.id, size_max, self.options).await?;
        let work = Work::begin(count as u64 * u64::from(self.header.page_size.get()));
        match self.parts(&mut *upload, pages, hashes, checksum, work).await {
            // All pages have been read: no later change affects them.
            Ok(_) if !self.pin.held() => {
                upload.abort().await;
                Err(StreamError::Void)
            }
            Ok(sent) => match upload.finish().await {
                Ok(()) => Ok(sent),
                Err(source) => Err(StreamError::Finish { source, sent }),
            },
            Err(e) => {
                upload.abort().await;
                Err(e)
            }
        }
    }

    async fn parts(
        &self,
        upload: &mut dyn Upload,
        pages: impl Iterator<Item = Pgno>,
        mut hashes: Hashes<'_>,
        mut checksum: Option<NextChecksum>,
        mut work: Work,
    ) -> Result<Sent, StreamError> {
        // Without a seed only the published half of a page's hash is needed, if any.
        let seed = hashes.seed().map(Some).or(checksum.as_ref().map(|_| None));
        let (pages_spare, blocks_spare) = (Spares::new(IN_FLIGHT), Spares::new(BLOCKS));
        let (mut encoder, head) = Encoder::spilling(self.header, self.spill.clone())?;
        if checksum.is_some() {
            upload.hold_start();
        }
        upload.write(head).await?;
        let mut runs = runs(self.header.page_size, pages);
        let mut in_flight: VecDeque<(usize, JoinHandle<Result<Chunk, StreamError>>)> = VecDeque::new();
        loop {
            while in_flight.len() < IN_FLIGHT
                && let Some(run) = runs.next()
            {
                in_flight
                    .push_back((run.count, self.begin(run, seed, pages_spare.clone(), blocks_spare.take())));
            }
            let Some((count, chunk)) = in_flight.pop_front() else { break };
            let chunk = chunk.await.map_err(io::Error::other)??;
            if !self.pin.held() {
                return Err(StreamError::Void);
            }
            if let Some(checksum) = &mut checksum {
                checksum.take(&chunk.hashes);
            }
            hashes.take(chunk.hashes)?;
            upload.write(encoder.push(chunk.block)?).await?;
            work.add((count * self.header.page_size.bytes()) as u64);
        }
        let checksum = match checksum {
            Some(next) => spawn_blocking(|| next.finish()).await.map_err(io::Error::other)?,
            None => None,
        };
        if let Some(checksum) = checksum {
            upload.replace_start(encoder.set_checksum(checksum)).await?;
        }
        let mut ending = encoder.end()?;
        while let Some(piece) = ending.piece()? {
            upload.write(piece).await?;
        }
        Ok(Sent { size: ending.size(), checksum: checksum.or(self.header.checksum) })
    }

    fn begin(
        &self,
        run: Run,
        seed: Option<Option<u64>>,
        spares: Spares,
        block: Spare,
    ) -> JoinHandle<Result<Chunk, StreamError>> {
        let source = Arc::clone(&self.source);
        spawn_blocking(move || {
            let mut bytes = spares.take();
            read_run(&source, run, &mut bytes)?;
            let page_size = source.page_size();
            let pages = || pages(run, page_size, &bytes);
            let block = FrameBlock::encode_in(block, page_size, pages())?;
            let hashes = match seed {
                Some(Some(seed)) => pages().map(|(p, page)| (p, hash_page(seed, p, page))).collect(),
                Some(None) => pages().map(|(p, page)| (p, entry(0, page_hash(p, page)))).collect(),
                None => Vec::new(),
            };
            Ok(Chunk { block, hashes })
        })
    }
}

/// Reads the pages of a run, as of the source's state, into `bytes`. Runs on the thread that then
/// compresses or hashes them, so that they are in its cache. What the application has in the page
/// cache stays there.
fn read_run(source: &PageSource, run: Run, bytes: &mut Vec<u8>) -> io::Result<()> {
    let page_size = source.page_size();
    bytes.resize(run.count * page_size.bytes(), 0);
    let have = source.file().pread_passing(bytes, run.first.offset(page_size))?;
    source.overlay(run.first, bytes, have)
}

/// Reads all pages of the source, and makes something of each run on worker threads. `take` gets
/// the results in order. Incomplete if the pin was voided.
async fn each_run<T: Send + 'static>(
    source: &Arc<PageSource>,
    pin: &Pin,
    make: impl Fn(Run, &[u8]) -> io::Result<T> + Send + Sync + 'static,
    mut take: impl FnMut(T) -> io::Result<()>,
) -> io::Result<()> {
    let (spares, make) = (Spares::new(IN_FLIGHT), Arc::new(make));
    let page_bytes = source.page_size().bytes();
    let mut work = Work::begin(u64::from(source.size_pages()) * page_bytes as u64);
    let mut runs = runs(source.page_size(), source.all_pages());
    let mut in_flight: VecDeque<(usize, JoinHandle<io::Result<T>>)> = VecDeque::new();
    loop {
        while in_flight.len() < IN_FLIGHT
            && pin.held()
            && let Some(run) = runs.next()
        {
            let (source, make, spares) = (Arc::clone(source), Arc::clone(&make), spares.clone());
            let made = spawn_blocking(move || {
                let mut bytes = spares.take();
                read_run(&source, run, &mut bytes)?;
                make(run, &bytes)
            });
            in_flight.push_back((run.count, made));
        }
        let Some((count, made)) = in_flight.pop_front() else { return Ok(()) };
        take(made.await.map_err(io::Error::other)??)?;
        work.add((count * page_bytes) as u64);
    }
}

/// The pages of a run.
fn pages(run: Run, page_size: PageSize, bytes: &[u8]) -> impl Iterator<Item = (Pgno, &[u8])> {
    (run.first.get()..).filter_map(Pgno::new).zip(bytes.chunks_exact(page_size.bytes()))
}

/// Writes the hashes of all pages of the source into `hashes`, and returns the checksum of the
/// database. Both are incomplete if the pin was voided.
///
/// # Errors
/// Any I/O error of reading the database or writing the hashes.
pub async fn hash_all(
    source: &Arc<PageSource>,
    hashes: &PageHashes,
    pin: &Pin,
) -> io::Result<DatabaseChecksum> {
    let (page_size, seed) = (source.page_size(), hashes.seed());
    let mut sum = DatabaseChecksum::default();
    let make = move |run, bytes: &[u8]| {
        Ok(pages(run, page_size, bytes).map(|(p, page)| (p, hash_page(seed, p, page))).collect::<Vec<_>>())
    };
    let take = |entries: Vec<(Pgno, u128)>| {
        entries.iter().for_each(|(_, entry)| sum.toggle(published(*entry)));
        hashes.write(entries)
    };
    each_run(source, pin, make, take).await?;
    Ok(sum)
}

/// Numbers of the source's pages whose hash is not the kept one, and the checksum of the database.
/// Both are incomplete if the pin was voided.
///
/// # Errors
/// Any I/O error of reading the database or the hashes.
pub async fn differing(
    source: &Arc<PageSource>,
    hashes: &PageHashes,
    pin: &Pin,
) -> io::Result<(PageSet, DatabaseChecksum)> {
    let (page_size, hashes) = (source.page_size(), hashes.clone());
    let (mut differ, mut sum) = (PageSet::default(), DatabaseChecksum::default());
    let take = |(numbers, part): (Vec<Pgno>, DatabaseChecksum)| {
        numbers.into_iter().for_each(|p| differ.insert(p));
        sum.toggle(part.0);
        Ok(())
    };
    each_run(source, pin, move |run, bytes| compare(&hashes, run, page_size, bytes), take).await?;
    Ok((differ, sum))
}

/// The pages of a run whose hash is not the kept one, and the checksum of the run.
fn compare(
    hashes: &PageHashes,
    run: Run,
    page_size: PageSize,
    bytes: &[u8],
) -> io::Result<(Vec<Pgno>, DatabaseChecksum)> {
    let kept = hashes.read(run.first, run.count)?;
    let (mut differ, mut sum) = (Vec::new(), DatabaseChecksum::default());
    for ((pgno, page), kept) in pages(run, page_size, bytes).zip(kept) {
        let entry = hash_page(hashes.seed(), pgno, page);
        sum.toggle(published(entry));
        if kept == 0 || kept != entry {
            differ.push(pgno);
        }
    }
    Ok((differ, sum))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_consecutive_and_bounded() {
        let size = PageSize::new(65536).unwrap();
        let pages = (1..=20).chain([22, 30]).filter_map(Pgno::new);
        let got: Vec<_> = runs(size, pages).map(|r| (r.first.get(), r.count)).collect();
        assert_eq!(got, [(1, 16), (17, 4), (22, 1), (30, 1)]);
    }

    /// An image of a database that is larger than what the application uses of it.
    #[test]
    fn what_the_application_has_cached_stays_cached() {
        use std::io::IoSliceMut;

        use rustix::io::{ReadWriteFlags, preadv2};

        use crate::replicate::database::attach::{Opened, open};
        use crate::sqlite::database::Database;

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.db");
        let app = rusqlite::Connection::open(&path).unwrap();
        app.execute_batch(
            "PRAGMA journal_mode=wal; CREATE TABLE t(x); \
             INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 3000) \
             SELECT randomblob(3900) FROM n; PRAGMA wal_checkpoint(TRUNCATE); CREATE TABLE u(x)",
        )
        .unwrap();
        let db = Arc::new(Database::open(&path).unwrap());
        let Opened { guard: _guard, mark, .. } = open(&db, &[]).unwrap();
        let source = PageSource::new(&db, &mark).unwrap();
        db.file().sync_data().unwrap();
        let len = db.file().len().unwrap() as usize;
        let flag = ReadWriteFlags::from_bits_retain(0x80);
        let mut room = [0; 512];
        let one = preadv2(db.file(), &mut [IoSliceMut::new(&mut room)], 0, flag);
        let spared = crate::io::spares_page_cache() && one.is_ok();
        if !spared || !db.file().cool(len) {
            eprintln!("not tested: the file system or the kernel keeps all that is read or written");
            return;
        }
        let used = 5 << 20;
        // Without what the kernel would read ahead.
        rustix::fs::fadvise(db.file(), 0, None, rustix::fs::Advice::Random).unwrap();
        db.file().pread(&mut [0; 4096], used).unwrap();
        rustix::fs::fadvise(db.file(), 0, None, rustix::fs::Advice::Normal).unwrap();
        let mut bytes = Vec::new();
        for run in runs(source.page_size(), source.all_pages()) {
            read_run(&source, run, &mut bytes).unwrap();
        }
        let pages = db.file().cached_pages(len);
        assert!(pages[used as usize / (len / pages.len())], "what was there stays");
        let cached = pages.iter().filter(|page| **page).count();
        assert!(cached < pages.len() / 2, "{cached} of {} pages came into the cache", pages.len());
    }
}
