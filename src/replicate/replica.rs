//! The pipeline of one replica: from pending pages to a durable position. One upload is under way at a time.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::board::{Board, Mark, Pin};
use super::hashes::{PageHashes, hash_page};
use super::local::Local;
use super::pace::Pace;
use super::pending::{Page, Pending};
use super::remote::{self, Remote, RemoteError, Start};
use super::source::PageSource;
use super::state::Point;
use super::stream::{Stream, StreamError, differing};
use super::{Event, Observer};
use crate::base::clock::Millis;
use crate::base::{FrameNo, LtxId, Pgno, Salts, Txid, limits};
use crate::io::Engine;
use crate::ltx::{Header, LtxError, WalRange, encode_file};
use crate::sqlite::database::Database;
use crate::store::{ErrorKind, PutOptions, Store, StoreError};
use crate::wal::format;

/// A batch with more pages than this is compressed on a worker thread.
const INLINE_PAGES: usize = 64;

/// First wait after a failed upload; it doubles up to [`limits::RETRY_WAIT_MAX`].
const RETRY_WAIT_MIN: Duration = Duration::from_millis(100);

/// Why a replica has stopped for good.
#[derive(Debug, thiserror::Error)]
pub enum ReplicaError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What the store has.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The pages.
    #[error("cannot make a batch: {0}")]
    Ltx(#[from] LtxError),
    /// The state beside the database.
    #[error("cannot write local state: {0}")]
    Local(std::io::Error),
    /// The database can't be read any more.
    #[error("capture of the database has ended")]
    CaptureEnded,
}

/// One replica of one database.
pub struct Replica {
    /// Its number on the board.
    pub index: usize,
    /// Its store.
    pub store: Arc<dyn Store>,
    /// File work.
    pub engine: Engine,
    /// What capture knows.
    pub board: Rc<Board>,
    /// The database.
    pub db: Arc<Database>,
    /// State beside the database.
    pub local: Local,
    /// What the log says about the state: `Ok` if everything since its durable point is pending.
    pub continuity: Result<(), String>,
    /// When batches may leave.
    pub pace: Pace,
    /// Who wants to know.
    pub observer: Observer,
    /// Whether a store that refuses at the first contact ends the replica.
    pub strict: bool,
}

/// A batch whose pages are all in memory.
struct Batch {
    id: LtxId,
    point: Point,
    mark: Mark,
    created: Millis,
    bytes: Bytes,
    pages: Vec<(Pgno, Page)>,
}

impl Replica {
    fn db_name(&self) -> std::path::Display<'_> {
        self.db.path().display()
    }

    /// Runs until the stop is asked for and everything captured by then is stored, or until it can't go on.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub async fn run(mut self) -> Result<(), ReplicaError> {
        let remote = self.first_contact().await?;
        let start = self.decide(&remote).await?;
        let mut next = self.next_txid(&remote);
        match start {
            Start::Follow => {
                tracing::info!(db = %self.db_name(), replica = self.store.url(), txid = %Txid(next.0 - 1), "going on from the log");
            }
            Start::Repair(reason) => self.repair(&mut next, &reason).await?,
            Start::Image(reason) => self.image(&mut next, &reason).await?,
        }
        loop {
            if let Some(reason) = self.board.slot(self.index, |s| s.gap.clone()) {
                self.repair(&mut next, &reason).await?;
                continue;
            }
            let waiting = self.board.slot(self.index, |s| !s.pending.is_empty());
            let stopping = self.board.is_closing();
            if waiting {
                if !stopping && !self.wait_for_pace().await {
                    continue;
                }
                self.store_pending(&mut next).await?;
                continue;
            }
            if stopping {
                return self.finish().await;
            }
            self.wait_for_work().await;
        }
    }

    async fn finish(&mut self) -> Result<(), ReplicaError> {
        self.local.sync(&self.engine).await.map_err(ReplicaError::Local)?;
        let txid = self.local.state().durable.txid;
        tracing::info!(db = %self.db_name(), replica = self.store.url(), txid = %txid, "everything is stored");
        Ok(())
    }

    async fn wait_for_work(&mut self) {
        let due = self.local.sync_due().map(Instant::from_std);
        tokio::select! {
            () = self.board.changed(self.index) => {}
            () = self.board.closing() => {}
            () = sleep_until(due), if due.is_some() => {
                if let Err(e) = self.local.sync(&self.engine).await {
                    tracing::warn!(db = %self.db_name(), error = %e, "cannot flush page hashes to the disk");
                }
            }
        }
    }

    /// Waits until a batch may leave; false if the wait was cut short.
    async fn wait_for_pace(&mut self) -> bool {
        let at = self.pace.ready_at(Instant::now());
        if at <= Instant::now() {
            return true;
        }
        self.board.begin_upload();
        let waited = tokio::select! {
            () = tokio::time::sleep_until(at) => true,
            () = self.board.closing() => false,
        };
        self.board.end_upload();
        waited
    }

    /// Asks the store what it has, for as long as it takes.
    async fn first_contact(&mut self) -> Result<Remote, ReplicaError> {
        let mut trouble = Trouble::default();
        loop {
            // Not cut short by a stop: what was committed until then has to be stored all the same.
            match remote::look(&*self.store).await {
                Ok(remote) => {
                    trouble.over(self);
                    self.store.prewarm().await;
                    return Ok(remote);
                }
                Err(e) if self.strict && !e.is_transient() => return Err(e.into()),
                Err(e) => trouble.wait(self, &e).await,
            }
        }
    }

    async fn decide(&mut self, remote: &Remote) -> Result<Start, ReplicaError> {
        let mut trouble = Trouble::default();
        loop {
            let size = self.db.page_size();
            match remote::decide(&*self.store, remote, &mut self.local, &self.continuity, size).await {
                Ok(start) => return Ok(start),
                Err(RemoteError::Store(e)) if e.is_transient() => trouble.wait(self, &e).await,
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// The TXID after everything that the store or the local state knows.
    fn next_txid(&self, remote: &Remote) -> Txid {
        remote.newest.max(self.local.state().durable.txid).next()
    }

    /// The part of the log between the durable point and `mark`.
    fn wal_range(&self, mark: &Mark) -> WalRange {
        let size = self.db.page_size();
        let before = self.local.state().durable.pos;
        let same = before.salts == mark.pos.salts
            && before.salts != Salts::default()
            && before.frame <= mark.pos.frame;
        let offset = format::frame_end(size, if same { before.frame } else { FrameNo(0) });
        WalRange { offset, size: format::frame_end(size, mark.pos.frame) - offset, salts: mark.pos.salts }
    }

    /// Stores what is pending as the next batch.
    async fn store_pending(&mut self, next: &mut Txid) -> Result<(), ReplicaError> {
        if self.board.slot(self.index, |s| s.pending.has_numbers_only()) {
            return self.store_numbers(next).await;
        }
        let mark = self.board.mark();
        let pending = self.board.slot(self.index, |s| std::mem::take(&mut s.pending));
        let Some(batch) = self.encode(*next, mark, pending).await? else { return Ok(()) };
        self.pace.spend(Instant::now());
        self.local.intend(batch.point).map_err(ReplicaError::Local)?;
        self.put(&batch).await?;
        let seed = self.local.seed();
        let hashes = batch.pages.iter().map(|(p, page)| (*p, hash_page(seed, page)));
        self.local.acknowledge(batch.point, hashes).map_err(ReplicaError::Local)?;
        self.report(&batch.mark, batch.point.txid, batch.bytes.len() as u64, batch.pages.len());
        *next = next.next();
        Ok(())
    }

    async fn encode(
        &mut self,
        txid: Txid,
        mark: Mark,
        pending: Pending,
    ) -> Result<Option<Batch>, ReplicaError> {
        let pages: Vec<(Pgno, Page)> = pending
            .into_sorted(mark.size_pages)
            .into_iter()
            .filter_map(|(p, page)| Some((p, page?)))
            .collect();
        if mark.size_pages == 0 {
            return Ok(None);
        }
        let created = self.local.next_timestamp();
        let range = self.wal_range(&mark);
        let header = Header::new(self.db.page_size(), mark.size_pages, (txid, txid), created, range);
        let point = Point { txid, pos: mark.pos, size_pages: mark.size_pages };
        let encode =
            move |pages: &[(Pgno, Page)]| encode_file(&header, pages.iter().map(|(p, page)| (*p, &**page)));
        let (bytes, pages) = if pages.len() <= INLINE_PAGES {
            (encode(&pages)?, pages)
        } else {
            let encoded = tokio::task::spawn_blocking(move || encode(&pages).map(|bytes| (bytes, pages)));
            encoded.await.map_err(|e| ReplicaError::Local(std::io::Error::other(e)))??
        };
        Ok(Some(Batch { id: LtxId::raw(txid), point, mark, created, bytes: bytes.into(), pages }))
    }

    /// Puts the same bytes under the same name until the store answers.
    async fn put(&mut self, batch: &Batch) -> Result<(), ReplicaError> {
        let options = PutOptions { created: batch.created, create_only: true };
        let mut trouble = Trouble::default();
        self.board.begin_upload();
        let result = loop {
            match self.store.put(batch.id, vec![batch.bytes.clone()], options).await {
                Ok(()) => break Ok(()),
                Err(e) if e.kind() == ErrorKind::Conflict => break Err(e.into()),
                Err(e) => trouble.wait(self, &e).await,
            }
        };
        self.board.end_upload();
        trouble.over(self);
        result
    }

    /// Stores a batch of which only the page numbers are known.
    async fn store_numbers(&mut self, next: &mut Txid) -> Result<(), ReplicaError> {
        loop {
            let pin = self.pin().await?;
            let mark = self.board.mark();
            let pending = self.board.slot(self.index, |s| std::mem::take(&mut s.pending));
            let numbers: Vec<Pgno> =
                pending.into_sorted(mark.size_pages).into_iter().map(|(p, _)| p).collect();
            if self.store_pages(next, &pin, mark, &numbers).await? {
                return Ok(());
            }
            self.put_back(&numbers);
        }
    }

    /// Pages that could not be stored are pending again.
    fn put_back(&self, numbers: &[Pgno]) {
        self.board.slot(self.index, |s| {
            let mut again = Pending::new();
            numbers.iter().for_each(|p| again.insert_number(*p));
            again.merge(std::mem::take(&mut s.pending));
            s.pending = again;
        });
    }

    async fn pin(&self) -> Result<Pin, ReplicaError> {
        self.board.pin().await.ok_or(ReplicaError::CaptureEnded)
    }

    async fn source(&self, mark: Mark) -> Result<Arc<PageSource>, StreamError> {
        let db = Arc::clone(&self.db);
        let source = tokio::task::spawn_blocking(move || PageSource::new(&db, &mark)).await;
        Ok(Arc::new(source.map_err(std::io::Error::other)??))
    }

    /// Reads the pages at `mark` under the pin and stores them as the next batch. `Ok(false)` if that has to be done anew.
    async fn store_pages(
        &mut self,
        next: &mut Txid,
        pin: &Pin,
        mark: Mark,
        pages: &[Pgno],
    ) -> Result<bool, ReplicaError> {
        let source = match self.source(mark).await {
            Ok(source) => source,
            Err(e) => return self.retry_stream(e).await.map(|()| false),
        };
        let mut hashes = Vec::new();
        let numbers = pages.iter().copied().filter(|p| p.get() <= source.size_pages());
        let sent = self.send(*next, mark, pin, &source, numbers, pages.len(), &mut hashes, None).await;
        match sent {
            Ok((point, size)) => {
                self.local.acknowledge(point, hashes).map_err(ReplicaError::Local)?;
                self.report(&mark, point.txid, size, pages.len());
                *next = next.next();
                Ok(true)
            }
            Err(e) => self.retry_stream(e).await.map(|()| false),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "one call site each for images and for sets of pages")]
    async fn send(
        &mut self,
        txid: Txid,
        mark: Mark,
        pin: &Pin,
        source: &Arc<PageSource>,
        pages: impl Iterator<Item = Pgno>,
        count: usize,
        hashes: &mut Vec<(Pgno, u128)>,
        hash_file: Option<&PageHashes>,
    ) -> Result<(Point, u64), StreamError> {
        let size_pages = source.size_pages();
        let created = self.local.next_timestamp();
        let header =
            Header::new(source.page_size(), size_pages, (txid, txid), created, self.wal_range(&mark));
        let point = Point { txid, pos: mark.pos, size_pages };
        self.local.intend(point)?;
        let id = LtxId::raw(txid);
        let stream = Stream {
            store: &*self.store,
            engine: &self.engine,
            source: Arc::clone(source),
            header,
            id,
            options: PutOptions { created, create_only: true },
            pin,
        };
        self.board.begin_upload();
        let sent = stream.send(pages, count, hashes, hash_file, self.local.seed()).await;
        self.board.end_upload();
        match sent {
            Ok(size) => Ok((point, size)),
            Err(StreamError::Finish { source, size }) => {
                self.was_kept(id, size, source).await.map(|()| (point, size))
            }
            Err(e) => Err(e),
        }
    }

    /// The answer to the last request of an upload was lost: the object may be there all the same.
    async fn was_kept(&self, id: LtxId, size: u64, cause: StoreError) -> Result<(), StreamError> {
        if !cause.is_transient() {
            return Err(cause.into());
        }
        let mut trouble = Trouble::default();
        loop {
            match self.store.head(id).await {
                Ok(Some(entry)) if entry.size == size => return Ok(()),
                Ok(_) => return Err(cause.into()),
                Err(e) if e.is_transient() => trouble.wait(self, &e).await,
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Waits before a large batch is tried again, or ends the replica if that can't help.
    async fn retry_stream(&self, e: StreamError) -> Result<(), ReplicaError> {
        match e {
            StreamError::Store(e) | StreamError::Finish { source: e, .. } => {
                if e.kind() == ErrorKind::Conflict {
                    return Err(e.into());
                }
                Trouble::default().wait(self, &e).await;
                Ok(())
            }
            StreamError::Read(e) => {
                tracing::warn!(db = %self.db_name(), error = %e, "cannot read the database for a batch; trying again");
                tokio::time::sleep(RETRY_WAIT_MIN).await;
                Ok(())
            }
            StreamError::Void => Ok(()),
            StreamError::Ltx(e) => Err(e.into()),
        }
    }

    /// Uploads the whole database as the next batch.
    async fn image(&mut self, next: &mut Txid, reason: &str) -> Result<(), ReplicaError> {
        tracing::info!(db = %self.db_name(), replica = self.store.url(), reason, "storing an image of the whole database");
        let start = Instant::now();
        loop {
            let pin = self.pin().await?;
            let mark = self.take_over();
            match self.image_once(*next, mark, &pin).await {
                Ok((point, size, hashes)) => {
                    self.local.acknowledge_image(point, hashes).map_err(ReplicaError::Local)?;
                    self.report(&mark, point.txid, size, point.size_pages as usize);
                    let ms = start.elapsed().as_millis();
                    tracing::info!(db = %self.db_name(), replica = self.store.url(), txid = %point.txid, bytes = size, ms, "image stored");
                    *next = next.next();
                    return Ok(());
                }
                Err(e) => self.retry_stream(e).await?,
            }
        }
    }

    /// Everything before this moment will be in the state that is read now: nothing is pending, no gap counts.
    fn take_over(&self) -> Mark {
        self.board.slot(self.index, |s| {
            s.pending = Pending::new();
            s.gap = None;
        });
        self.board.mark()
    }

    async fn image_once(
        &mut self,
        txid: Txid,
        mark: Mark,
        pin: &Pin,
    ) -> Result<(Point, u64, PageHashes), StreamError> {
        let source = self.source(mark).await?;
        let hashes = self.local.begin_hashes()?;
        let count = source.size_pages() as usize;
        let pages = source.all_pages();
        let (point, size) =
            self.send(txid, mark, pin, &source, pages, count, &mut Vec::new(), Some(&hashes)).await?;
        Ok((point, size, hashes))
    }

    /// Compares page hashes with the database and stores the pages that differ.
    async fn repair(&mut self, next: &mut Txid, reason: &str) -> Result<(), ReplicaError> {
        loop {
            let Some(hashes) = self.local.hashes().cloned() else {
                return self.image(next, reason).await;
            };
            let pin = self.pin().await?;
            let mark = self.take_over();
            let compared = match self.source(mark).await {
                Ok(source) => differing(&self.engine, &source, &hashes)
                    .await
                    .map_err(StreamError::from)
                    .map(|d| (source, d)),
                Err(e) => Err(e),
            };
            let (source, differ) = match compared {
                Ok(compared) => compared,
                Err(e) => {
                    self.board.slot(self.index, |s| s.gap = Some(reason.to_owned()));
                    self.retry_stream(e).await?;
                    continue;
                }
            };
            if !pin.held() {
                continue;
            }
            let shrunk = source.size_pages() < self.local.state().durable.size_pages;
            tracing::info!(
                db = %self.db_name(), replica = self.store.url(), reason, pages = differ.len(), of = source.size_pages(),
                "compared page hashes; storing the pages that differ"
            );
            if differ.is_empty() && !shrunk {
                let point = Point { pos: mark.pos, ..self.local.state().durable };
                self.local.acknowledge(point, []).map_err(ReplicaError::Local)?;
                self.report(&mark, point.txid, 0, 0);
                return Ok(());
            }
            if self.store_pages(next, &pin, mark, &differ).await? {
                return Ok(());
            }
            self.board.slot(self.index, |s| s.gap = Some(reason.to_owned()));
        }
    }

    fn report(&self, mark: &Mark, txid: Txid, bytes: u64, pages: usize) {
        tracing::debug!(db = %self.db_name(), replica = self.store.url(), txid = %txid, pages, bytes, "stored");
        (self.observer)(&Event::Durable {
            db: self.db.path(),
            replica: self.index,
            txid,
            change: mark.change,
            bytes,
            pages,
        });
    }
}

async fn sleep_until(at: Option<Instant>) {
    if let Some(at) = at {
        tokio::time::sleep_until(at).await;
    }
}

/// A store that does not answer: said once, said again when the reason changes, and when it is over.
#[derive(Debug, Default)]
struct Trouble {
    said: Option<String>,
    tries: u32,
}

impl Trouble {
    async fn wait(&mut self, replica: &Replica, e: &StoreError) {
        let message = e.to_string();
        if self.said.as_ref() != Some(&message) {
            let (db, url) = (replica.db_name(), replica.store.url());
            if e.is_transient() {
                tracing::warn!(db = %db, replica = url, error = %message, "the store does not take it; trying on");
            } else {
                tracing::error!(db = %db, replica = url, error = %message, "the store refuses; trying on");
            }
            self.said = Some(message);
        }
        let wait = RETRY_WAIT_MIN.saturating_mul(1 << self.tries.min(10)).min(limits::RETRY_WAIT_MAX);
        self.tries += 1;
        let wait = e.retry_after().unwrap_or(wait).mul_f64(0.5 + fastrand::f64() / 2.0);
        tokio::time::sleep(wait).await;
    }

    fn over(&mut self, replica: &Replica) {
        if self.said.take().is_some() {
            tracing::info!(db = %replica.db_name(), replica = replica.store.url(), "the store is back");
        }
        self.tries = 0;
    }
}
