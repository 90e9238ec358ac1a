//! Turns parts of LTX files into pages of a database file, on all cores.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc as threads};

use tokio::sync::mpsc;

use super::RestoreError;
use super::fetch::{Part, decoders};
use super::integrity::Integrity;
use super::walk::{Batch, Shape, Walk};
use super::write::{PageFile, Writer};
use crate::base::checksum::page_hash;
use crate::base::{DatabaseChecksum, PageSize, Pgno};
use crate::ltx::{Pages, decode_frames_into};
use crate::store::Entry;

/// The inputs of the decoding threads.
pub(super) struct Decode {
    pub(super) url: String,
    /// The files of the plan, newest first.
    pub(super) files: Vec<Entry>,
    pub(super) pages: Arc<PageFile>,
    /// The check that SQLite makes afterwards, which reads the pages.
    pub(super) integrity: Integrity,
    /// Path of `pages`, for messages.
    pub(super) path: std::path::PathBuf,
    /// Path of the output, for messages.
    pub(super) output: std::path::PathBuf,
    /// Signals an error, after which no more parts are needed.
    pub(super) failed: tokio::sync::Notify,
}

/// State that the decoding threads share.
struct Crew<'a> {
    decode: &'a Decode,
    queue: Mutex<threads::Receiver<Batch>>,
    stop: AtomicBool,
    error: Mutex<Option<RestoreError>>,
    need: AtomicU64,
    /// XOR of the hashes of all pages that were written.
    sum: AtomicU64,
}

impl Decode {
    /// Takes all parts, decodes and proves them, and writes each page once. Returns the shape of
    /// the database and the checksum of its pages. `ready` wakes
    /// [`PageFile::write_back`] and is dropped at the end. Blocks its thread.
    pub(super) fn run(
        &self,
        mut parts: mpsc::Receiver<Part>,
        ready: threads::SyncSender<()>,
    ) -> Result<(Shape, DatabaseChecksum), RestoreError> {
        let cores = decoders();
        let (sender, queue) = threads::sync_channel(2 * cores);
        let crew = Crew {
            decode: self,
            queue: Mutex::new(queue),
            stop: AtomicBool::new(false),
            error: Mutex::new(None),
            need: AtomicU64::new(0),
            sum: AtomicU64::new(0),
        };
        let walked = std::thread::scope(|scope| {
            for n in 0..cores {
                let name = format!("lsfast-decode-{n}");
                let (crew, ready) = (&crew, ready.clone());
                let started = std::thread::Builder::new()
                    .name(name)
                    .spawn_scoped(scope, move || crew.work(cores, ready));
                if let Err(cause) = started {
                    crew.fail(RestoreError::output("start a thread for", &self.path, 0, cause));
                }
            }
            let walked = crew.walk(&mut parts, &sender);
            // The threads end when the queue is closed; the fetcher ends when `parts` is dropped.
            drop((sender, parts, ready));
            walked
        });
        if let Some(e) = crew.error.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(e);
        }
        let (shape, proofs) = walked?;
        // I5, the second check: a file counts only if it is proven to its last byte, and the
        // database only if each page of it was written.
        assert!(proofs.iter().all(|p| p.is_proven()) && proofs.len() == self.files.len());
        let lock = u64::from(shape.header.page_size.lock_page().get() <= shape.header.commit);
        let pages = shape.bytes() - lock * u64::from(shape.header.page_size.get());
        assert_eq!(self.pages.written(), pages, "each page is written exactly once");
        Ok((shape, DatabaseChecksum(crew.sum.into_inner())))
    }
}

impl Crew<'_> {
    fn walk(
        &self,
        parts: &mut mpsc::Receiver<Part>,
        sender: &threads::SyncSender<Batch>,
    ) -> Result<(Shape, Vec<Arc<super::proof::Proof>>), RestoreError> {
        let mut walk = Walk::new(&self.decode.url, &self.decode.files);
        let mut sized = false;
        while let Some(part) = parts.blocking_recv() {
            walk.part(part, |batch| {
                if !sized && !self.size(batch.shape) {
                    return false;
                }
                sized = true;
                !self.stop.load(Ordering::Relaxed) && sender.send(batch).is_ok()
            })?;
        }
        let shape = walk.shape().ok_or(RestoreError::Interrupted)?;
        let proofs = walk.finish()?;
        // If no file has a page, the database is empty.
        if !sized && !self.size(shape) {
            return Err(RestoreError::Interrupted);
        }
        Ok((shape, proofs))
    }

    /// Prepares the file for its pages. False if that fails.
    fn size(&self, shape: Shape) -> bool {
        let (need, pages) = (shape.bytes(), &self.decode.pages);
        self.need.store(need, Ordering::Relaxed);
        if let Some(free) = pages.file().free_space().filter(|free| *free < need) {
            self.fail(RestoreError::NoRoom { path: self.decode.output.clone(), need, free });
            return false;
        }
        let check = self.decode.integrity.given(shape.header.checksum.is_some());
        match pages.begin(need, check != Integrity::None) {
            Ok(()) => true,
            Err(e) => {
                self.fail(RestoreError::output("write", &self.decode.path, need, e));
                false
            }
        }
    }

    fn work(&self, threads: usize, ready: threads::SyncSender<()>) {
        let mut writer = Writer::new(&self.decode.pages, threads, ready);
        loop {
            let next = self.queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(batch) = next else { break };
            // After an error the threads still drain the queue, so that the sender never blocks on
            // a full one.
            if !self.stop.load(Ordering::Relaxed)
                && let Err(e) = self.batch(&mut writer, batch)
            {
                self.fail(e);
            }
        }
        if let Err(e) = writer.finish() {
            self.fail(self.not_written(e));
        }
    }

    fn batch(&self, writer: &mut Writer, batch: Batch) -> Result<(), RestoreError> {
        let Batch { shape: _, header, proof, number, bytes, offset, frames, wanted, hold } = batch;
        let mut rooms = Rooms::new(writer, header.page_size, wanted);
        let check = decode_frames_into(&header, &bytes, offset, &frames, &mut rooms);
        let (sum, written) = (rooms.sum, rooms.written);
        drop((bytes, hold));
        self.sum.fetch_xor(sum.0, Ordering::Relaxed);
        let object = proof.object;
        let corrupt = |cause| RestoreError::Corrupt { object, url: self.decode.url.clone(), cause };
        written.map_err(|e| self.not_written(e))?;
        proof.add(number, check.map_err(corrupt)?).map_err(corrupt)?;
        writer.flush().map_err(|e| self.not_written(e))
    }

    fn not_written(&self, e: std::io::Error) -> RestoreError {
        RestoreError::output("write", &self.decode.path, self.need.load(Ordering::Relaxed), e)
    }

    /// Keeps the first error and stops the other threads.
    fn fail(&self, e: RestoreError) {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(e);
        self.stop.store(true, Ordering::Relaxed);
        self.decode.failed.notify_one();
    }
}

/// Decodes pages into the memory that they are written from. Those that are not wanted go to
/// memory of their own.
struct Rooms<'w, 'a> {
    writer: &'w mut Writer<'a>,
    page_size: PageSize,
    /// For each frame, whether its page is written.
    wanted: std::vec::IntoIter<bool>,
    /// Whether the page under way is written.
    is_written: bool,
    unwanted: Vec<u8>,
    /// The first error of the writer. No more pages are written after it.
    written: std::io::Result<()>,
    /// XOR of the hashes of the pages that are written.
    sum: DatabaseChecksum,
}

impl<'w, 'a> Rooms<'w, 'a> {
    fn new(writer: &'w mut Writer<'a>, page_size: PageSize, wanted: Vec<bool>) -> Rooms<'w, 'a> {
        Rooms {
            writer,
            page_size,
            wanted: wanted.into_iter(),
            is_written: false,
            unwanted: Vec::new(),
            written: Ok(()),
            sum: DatabaseChecksum::default(),
        }
    }
}

impl Pages for Rooms<'_, '_> {
    fn room(&mut self, pgno: Pgno) -> &mut [u8] {
        let len = self.page_size.bytes();
        self.is_written = self.wanted.next() == Some(true) && self.written.is_ok();
        if self.is_written {
            self.written = self.writer.make_room(pgno.offset(self.page_size), len);
            self.is_written = self.written.is_ok();
        }
        if self.is_written {
            return self.writer.room(len);
        }
        self.unwanted.resize(len, 0);
        &mut self.unwanted
    }

    fn done(&mut self, pgno: Pgno) {
        if self.is_written {
            let len = self.page_size.bytes();
            self.sum.toggle(page_hash(pgno, self.writer.room(len)));
            self.writer.add(len);
        }
    }
}
