//! Stores what is too large to hold in memory: images, repairs, and batches of which only the page
//! numbers are known.
//!
//! # Overview
//!
//! Each of them reads the database under a pin, and streams the pages into one object. An *image*
//! stores every page; a *repair* compares page hashes and stores the pages that differ.
//!
//! # Failure and crash
//!
//! If the pin was voided, or the store or the database fails, the attempt begins again from the
//! newest commit. The pin is dropped before any wait (I6). What was taken from the handoff for a
//! failed attempt is pending again, or the slot has a gap, so that no change is forgotten.

use std::sync::Arc;

use tokio::time::Instant;

use super::error::ReplicaError;
use super::resume;
use super::task::Replica;
use crate::base::pages::PageSet;
use crate::base::{DatabaseChecksum, LtxId, Pgno, Txid};
use crate::ltx::Header;
use crate::replicate::handoff::Pin;
use crate::replicate::image::source::PageSource;
use crate::replicate::image::stream::{Hashes, Sent, Stream, StreamError, differing};
use crate::replicate::pending::{Mark, Pending};
use crate::replicate::remote::RemoteError;
use crate::replicate::state::next_checksum::NextChecksum;
use crate::replicate::state::page_hashes::{Gathered, PageHashes};
use crate::replicate::state::{Point, print_of};
use crate::replicate::vitals::ReplicaPhase;
use crate::store::{ErrorKind, PutOptions, StoreError};

/// The checksum of the database after a batch.
enum Checksum {
    /// All pages of the database were read.
    Known(DatabaseChecksum),
    /// It follows from the pages of the batch; `None` if it cannot be known.
    Next(Option<NextChecksum>),
}

impl Replica {
    /// Stores a batch of which only the page numbers are known.
    pub(super) async fn store_numbers(&mut self, next: &mut Txid) -> Result<(), ReplicaError> {
        loop {
            let pin = self.pin().await?;
            if self.has_gap() {
                // These pages without the missed ones would make a state that never existed.
                return Ok(());
            }
            let mark = self.handoff.mark();
            let pending = self.handoff.slot(self.index, |s| std::mem::take(&mut s.pending));
            self.vitals().take();
            let numbers = pending.into_numbers();
            if self.store_pages(next, pin, mark, &numbers, None).await? {
                return Ok(());
            }
            self.put_back(&numbers);
        }
    }

    /// Whether frames were missed, so that the pending pages are not all that changed.
    pub(super) fn has_gap(&self) -> bool {
        self.handoff.slot(self.index, |s| s.gap.is_some())
    }

    /// Makes pages that could not be stored pending again.
    fn put_back(&self, numbers: &PageSet) {
        self.handoff.slot(self.index, |s| {
            let mut again = Pending::new();
            numbers.iter().for_each(|p| again.insert_number(p));
            again.merge(std::mem::take(&mut s.pending));
            s.pending = again;
        });
    }

    pub(super) async fn pin(&self) -> Result<Pin, ReplicaError> {
        self.handoff.pin().await.ok_or(ReplicaError::CaptureEnded)
    }

    pub(super) async fn source(&self, mark: Mark) -> Result<Arc<PageSource>, StreamError> {
        let db = Arc::clone(&self.db);
        let source = tokio::task::spawn_blocking(move || PageSource::new(&db, &mark)).await;
        let source = source.map_err(std::io::Error::other)??;
        if source.size_pages() == 0 {
            let why = "the database file is empty: another program has cut it, or is copying over it";
            return Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, why).into());
        }
        Ok(Arc::new(source))
    }

    /// Reads the pages at `mark` under the pin, and stores them as the next batch. The pin is
    /// dropped as soon as all is sent. `known` is the checksum of the database at `mark`, if all of
    /// it was read. `Ok(false)` if the attempt failed and may be repeated.
    async fn store_pages(
        &mut self,
        next: &mut Txid,
        pin: Pin,
        mark: Mark,
        pages: &PageSet,
        known: Option<DatabaseChecksum>,
    ) -> Result<bool, ReplicaError> {
        let begun = Instant::now();
        let source = match self.source(mark).await {
            Ok(source) => source,
            Err(e) => return self.retry_unpinned(pin, e, begun).await.map(|()| false),
        };
        let (mut hashes, seed) = (Gathered::new(self.local.dir()), self.local.seed());
        let size_pages = source.size_pages();
        let numbers = pages.iter().take_while(|p| p.get() <= size_pages);
        let checksum = match known {
            Some(known) => Checksum::Known(known),
            None => Checksum::Next(self.local.next_checksum(size_pages)),
        };
        let hashed = Hashes::Gather(&mut hashes, seed);
        let sent = self.send(*next, mark, pin, &source, numbers, pages.len(), hashed, checksum).await;
        match sent {
            Ok((point, size)) => {
                let begun = self.local.begin_hashes_of(point.txid);
                self.noted(begun);
                let noted = match self.local.hashes().cloned() {
                    Some(kept) => tokio::task::spawn_blocking(move || hashes.write_to(&kept))
                        .await
                        .map_err(std::io::Error::other)
                        .flatten(),
                    None => Ok(()),
                };
                self.noted(noted);
                self.local.note_stamp(self.handoff.stamp());
                // I1: the store has answered for the whole object.
                let noted = self.local.acknowledge(point, []);
                self.noted(noted);
                self.report(&mark, point.txid, size, pages.len(), None);
                *next = next.next();
                self.works();
                Ok(true)
            }
            Err(e) => self.retry_stream(e, begun).await.map(|()| false),
        }
    }

    /// Drops the pin before the wait, so that the WAL can start over meanwhile.
    pub(super) async fn retry_unpinned(
        &mut self,
        pin: Pin,
        e: StreamError,
        begun: Instant,
    ) -> Result<(), ReplicaError> {
        let e = unless_void(&pin, e);
        // I6: a failing store must not keep the WAL from starting over.
        drop(pin);
        self.retry_stream(e, begun).await
    }

    #[expect(clippy::too_many_arguments, reason = "one call site each for images and for sets of pages")]
    async fn send(
        &mut self,
        txid: Txid,
        mark: Mark,
        pin: Pin,
        source: &Arc<PageSource>,
        pages: impl Iterator<Item = Pgno>,
        count: usize,
        hashes: Hashes<'_>,
        checksum: Checksum,
    ) -> Result<(Point, u64), StreamError> {
        let size_pages = source.size_pages();
        let created = self.local.next_timestamp(self.history_options.clock.now());
        let mut header =
            Header::new(source.page_size(), size_pages, (txid, txid), created, self.wal_range(&mark));
        let next_checksum = match checksum {
            Checksum::Known(known) => {
                header.checksum = Some(known);
                None
            }
            Checksum::Next(next) => next,
        };
        let point = Point { txid, pos: mark.pos, size_pages, print: print_of(&header), checksum: None };
        self.intend(point);
        let id = LtxId::raw(txid);
        let stream = Stream {
            store: &*self.store,
            source: Arc::clone(source),
            header,
            id,
            options: PutOptions { created, create_only: true },
            pin: &pin,
            spill: Some(self.local.dir().to_owned()),
        };
        self.vigil.ask();
        self.handoff.begin_upload();
        let sent = stream.send(pages, count, hashes, next_checksum).await;
        self.handoff.end_upload();
        let sent = sent.map_err(|e| unless_void(&pin, e));
        // Nothing holds the WAL back while this waits, here or in the next attempt.
        drop(pin);
        let Sent { size, checksum } = match sent {
            Ok(sent) => sent,
            Err(StreamError::Finish { source, sent }) => {
                self.was_kept(&point, sent.size, source).await?;
                sent
            }
            Err(e) => return Err(e),
        };
        Ok((Point { checksum, ..point }, size))
    }

    /// Checks whether an upload exists, after the answer to its last request was lost. The first
    /// look follows the wait for that failure, so that it is not one more request in an outage.
    ///
    /// # Errors
    /// [`StreamError::Lost`] if the object of `point` is not there or is another,
    /// [`StreamError::Unstored`] if there is no time for another look, and any failure that does
    /// not heal by itself.
    async fn was_kept(&mut self, point: &Point, size: u64, cause: StoreError) -> Result<(), StreamError> {
        if !cause.is_transient() {
            return Err(cause.into());
        }
        self.vigil.outage();
        let (mut failed, id) = (cause, LtxId::raw(point.txid));
        loop {
            match self.wait_out(failed, Instant::now()).await {
                Ok(()) => {}
                Err(ReplicaError::Unstored(e)) => return Err(StreamError::Unstored(e)),
                Err(_) => return Err(StreamError::Lost),
            }
            failed = match self.store.head(id).await {
                Ok(Some(entry)) if entry.size == size => match resume::confirm(&*self.store, point).await {
                    Ok(None) => return Ok(()),
                    Ok(Some(_)) => return Err(StreamError::Lost),
                    Err(RemoteError::Store(e)) if e.is_transient() => e,
                    Err(_) => return Err(StreamError::Lost),
                },
                Ok(_) => return Err(StreamError::Lost),
                Err(e) if e.is_transient() => e,
                Err(e) => return Err(e.into()),
            };
        }
    }

    /// Checks that the replica is still ours, before another attempt at pages that are no longer
    /// pending. If it is not, they are noted as a gap.
    async fn still_ours_or_gap(&mut self) -> Result<(), ReplicaError> {
        let ours = self.still_ours().await;
        if let Err(e) = &ours {
            self.handoff.slot(self.index, |s| s.gap = Some(e.to_string()));
        }
        ours
    }

    /// Waits before a large batch is tried again, or returns the error if another attempt cannot
    /// help.
    async fn retry_stream(&mut self, e: StreamError, begun: Instant) -> Result<(), ReplicaError> {
        match e {
            StreamError::Store(e) | StreamError::Finish { source: e, .. } => {
                if e.kind() == ErrorKind::Conflict {
                    return self.taken(e).await;
                }
                self.vigil.outage();
                self.wait_out(e, begun).await?;
                self.still_ours_or_gap().await
            }
            StreamError::Lost => self.still_ours_or_gap().await,
            StreamError::Unstored(e) => Err(ReplicaError::Unstored(e)),
            StreamError::Read(e) => self.wait_out_read(e).await,
            StreamError::Void => Ok(()),
            StreamError::Ltx(e) => Err(e.into()),
        }
    }

    /// Uploads the whole database as the next batch.
    pub(super) async fn image(&mut self, next: &mut Txid, reason: &str) -> Result<(), ReplicaError> {
        tracing::info!(db = %self.db_name(), replica = self.store.url(), reason, "storing an image of the whole database");
        self.vitals().set_phase(ReplicaPhase::Image);
        let start = Instant::now();
        loop {
            let pin = self.pin().await?;
            let mark = self.take_over();
            let begun = Instant::now();
            match self.image_once(*next, mark, pin).await {
                Ok((point, size, hashes)) => {
                    self.local.note_stamp(self.handoff.stamp());
                    let noted = self.local.acknowledge_image(point, hashes);
                    self.noted(noted);
                    self.report(&mark, point.txid, size, point.size_pages as usize, None);
                    let ms = start.elapsed().as_millis();
                    tracing::info!(db = %self.db_name(), replica = self.store.url(), txid = %point.txid, bytes = size, ms, "image stored");
                    *next = next.next();
                    self.works();
                    return Ok(());
                }
                Err(e) => self.retry_stream(e, begun).await?,
            }
        }
    }

    /// Takes over everything before this moment, which is part of the state that is read now:
    /// nothing is pending, and no gap counts.
    pub(super) fn take_over(&self) -> Mark {
        self.handoff.slot(self.index, |s| {
            s.pending = Pending::new();
            s.gap = None;
        });
        self.vitals().take();
        self.handoff.mark()
    }

    async fn image_once(
        &mut self,
        txid: Txid,
        mark: Mark,
        pin: Pin,
    ) -> Result<(Point, u64, PageHashes), StreamError> {
        let source = self.source(mark).await.map_err(|e| unless_void(&pin, e))?;
        let hashes = self.local.begin_hashes()?;
        let count = source.size_pages() as usize;
        let pages = source.all_pages();
        let checksum = Some(NextChecksum::of_image(source.page_size(), source.size_pages()));
        let (hashed, checksum) = (Hashes::File(&hashes), Checksum::Next(checksum));
        let (point, size) = self.send(txid, mark, pin, &source, pages, count, hashed, checksum).await?;
        Ok((point, size, hashes))
    }

    /// Compares page hashes with the database, and stores the pages that differ.
    pub(super) async fn repair(&mut self, next: &mut Txid, reason: &str) -> Result<(), ReplicaError> {
        loop {
            let Some(hashes) = self.local.hashes().cloned() else {
                return self.image(next, reason).await;
            };
            self.vitals().set_phase(ReplicaPhase::Comparing);
            let pin = self.pin().await?;
            let mark = self.take_over();
            let compared = match self.source(mark).await {
                Ok(source) => {
                    differing(&source, &hashes, &pin).await.map_err(StreamError::from).map(|d| (source, d))
                }
                Err(e) => Err(e),
            };
            let (source, (differ, checksum)) = match compared {
                Ok(compared) => compared,
                Err(e) => {
                    self.handoff.slot(self.index, |s| s.gap = Some(reason.to_owned()));
                    self.retry_unpinned(pin, e, Instant::now()).await?;
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
                let point = Point { pos: mark.pos, checksum: Some(checksum), ..self.local.state().durable };
                self.local.note_stamp(self.handoff.stamp());
                let noted = self.local.acknowledge(point, []);
                self.noted(noted);
                self.report(&mark, point.txid, 0, 0, None);
                self.works();
                return Ok(());
            }
            if self.store_pages(next, pin, mark, &differ, Some(checksum)).await? {
                return Ok(());
            }
            self.handoff.slot(self.index, |s| s.gap = Some(reason.to_owned()));
        }
    }
}

/// A page may be missing because the checkpoint that voided the pin moved it.
fn unless_void(pin: &Pin, e: StreamError) -> StreamError {
    match e {
        StreamError::Read(_) if !pin.held() => StreamError::Void,
        e => e,
    }
}
