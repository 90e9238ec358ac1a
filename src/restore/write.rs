//! Writes pages at their final offsets, and gets them to the disk while more are arriving.
//!
//! The thread that decoded neighbouring pages also gathers them into one write: they are still in
//! the cache of its processor.
//!
//! Long runs of pages go straight from that memory to the disk ([`direct`]), several at once,
//! by the I/O engine. That saves a copy, and what other programs have in the page cache stays
//! there. The others are written into the page cache, from which the kernel makes longer writes:
//! short runs, the ends of a run that share a block with other pages, databases that SQLite reads
//! back to check them, and everything where the file system has no direct writes.
//!
//! By itself, the kernel leaves the disk idle until more data is waiting in the page cache than
//! most databases have, and the flush at the end would start with all of it. So whenever another
//! [`limits::RESTORE_WRITEBACK_BYTES`] are written there, a thread that may block asks the kernel
//! to start writing back.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};

use crate::base::limits;
use crate::io::direct::{self, Aligned, DirectFile};
use crate::io::{Engine, File, durable, wait};

const _: () = assert!(limits::RESTORE_DIRECT_BYTES <= Aligned::ROOM, "a write has room");

/// The file that all threads write pages to.
pub(super) struct PageFile {
    file: File,
    direct: Option<DirectFile>,
    engine: Engine,
    /// Whether long runs are written directly.
    is_direct: AtomicBool,
    /// Whether the file will not be read again.
    forget: AtomicBool,
    /// Bytes written.
    written: AtomicU64,
    /// Bytes of these that went into the page cache.
    cached: AtomicU64,
}

impl PageFile {
    /// `direct` is the same file.
    pub(super) fn new(file: &File, direct: Option<DirectFile>, engine: &Engine) -> PageFile {
        PageFile {
            file: file.clone(),
            direct,
            engine: engine.clone(),
            is_direct: AtomicBool::new(false),
            forget: AtomicBool::new(false),
            written: AtomicU64::new(0),
            cached: AtomicU64::new(0),
        }
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Makes the file `len` bytes long before the first page is written, so that no write has to
    /// extend it. The lock page is not written and stays zeros. A file that is not read again may
    /// be written directly, into blocks that are taken now.
    pub(super) fn begin(&self, len: u64, read_again: bool) -> io::Result<()> {
        self.file.set_len(len)?;
        self.forget.store(!read_again, Ordering::Relaxed);
        if read_again || self.direct.is_none() {
            return Ok(());
        }
        self.is_direct.store(true, Ordering::Relaxed);
        // A file system that may compress reports no room, and must not take all blocks.
        if self.file.free_space().is_some()
            && let Err(e) = direct::allocate(&self.file, len)
            && durable::is_full(&e)
        {
            return Err(e);
        }
        Ok(())
    }

    /// Bytes written.
    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    fn direct(&self) -> Option<&DirectFile> {
        self.direct.as_ref().filter(|_| self.is_direct.load(Ordering::Relaxed))
    }

    /// Starts writing back whenever a message arrives, until all senders are dropped. What the disk
    /// has then leaves the page cache, unless it is read again. Blocks its thread if the disk is
    /// slower than the replica.
    pub(super) fn write_back(&self, wanted: &Receiver<()>) {
        while wanted.recv().is_ok() {
            self.file.start_writeback(0, 0);
            if self.forget.load(Ordering::Relaxed) {
                self.file.forget_cached();
            }
        }
    }
}

/// The result of a direct write, and its memory.
type Written = (io::Result<()>, Option<Aligned>);

/// A direct write under way.
struct Flying {
    answer: Pin<Box<dyn Future<Output = Written>>>,
    /// Place of the bytes in the run.
    part: Range<usize>,
    offset: u64,
}

/// What one decoding thread writes.
pub(super) struct Writer<'a> {
    output: &'a PageFile,
    /// Writes under way at most.
    depth: usize,
    /// Wakes [`PageFile::write_back`].
    ready: SyncSender<()>,
    /// Neighbouring pages that are not written yet.
    run: Option<Aligned>,
    run_at: u64,
    /// Oldest first.
    flying: VecDeque<Flying>,
    spare: Option<Aligned>,
}

impl<'a> Writer<'a> {
    /// One of `threads` writers of the file.
    pub(super) fn new(output: &'a PageFile, threads: usize, ready: SyncSender<()>) -> Writer<'a> {
        let depth = (limits::RESTORE_WRITES / threads).max(1);
        Writer { output, depth, ready, run: None, run_at: 0, flying: VecDeque::new(), spare: None }
    }

    /// Makes room for a page of `len` bytes at `offset`. An error is about earlier pages.
    pub(super) fn make_room(&mut self, offset: u64, len: usize) -> io::Result<()> {
        let run_max = match self.output.direct() {
            Some(_) => limits::RESTORE_DIRECT_BYTES,
            None => limits::RESTORE_WRITE_BYTES,
        };
        let run = self.run.as_ref().map_or(0, Aligned::len);
        if offset != self.run_at + run as u64 || run + len > run_max {
            self.flush()?;
        }
        if self.run.is_none() {
            let mut run = self.memory()?;
            run.begin(offset);
            self.run_at = offset;
            self.run = Some(run);
        }
        Ok(())
    }

    /// The room that [`Writer::make_room`] has just made.
    pub(super) fn room(&mut self, len: usize) -> &mut [u8] {
        self.run.as_mut().expect("room is made first").room(len)
    }

    /// Writes the page in [`Writer::room`], at the latest with the next [`Writer::flush`].
    pub(super) fn add(&mut self, len: usize) {
        self.run.as_mut().expect("room is made first").grow(len);
    }

    /// Writes the gathered pages, or begins to. Where that fails, later calls report it.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        let Some(run) = self.run.take() else { return Ok(()) };
        let (output, at) = (self.output, self.run_at);
        let whole = output.direct().map_or(0..0, |direct| direct.whole_blocks(at, run.len()));
        let Some(direct) = output.direct().filter(|_| whole.len() >= limits::RESTORE_DIRECT_BYTES_MIN) else {
            let written = self.through_cache(run.bytes(), at);
            self.spare = Some(run);
            return written;
        };
        self.through_cache(&run.bytes()[..whole.start], at)?;
        self.through_cache(&run.bytes()[whole.end..], at + whole.end as u64)?;
        let offset = at + whole.start as u64;
        let answer = output.engine.write_run(direct.file(), run, whole.clone(), offset);
        self.flying.push_back(Flying { answer: Box::pin(answer), part: whole, offset });
        Ok(())
    }

    /// Writes what is gathered and waits for all writes, also after an error.
    pub(super) fn finish(mut self) -> io::Result<()> {
        let mut result = self.flush();
        while let Some(oldest) = self.flying.pop_front() {
            result = result.and(self.land(oldest).map(drop));
        }
        result
    }

    /// Memory for a run. Waits for the oldest write if there is no other.
    fn memory(&mut self) -> io::Result<Aligned> {
        if let Some(spare) = self.spare.take() {
            return Ok(spare);
        }
        if self.flying.len() < self.depth {
            return Aligned::new();
        }
        let oldest = self.flying.pop_front().expect("at least one is under way");
        self.land(oldest)
    }

    /// Waits for a write, and returns its memory.
    fn land(&self, flying: Flying) -> io::Result<Aligned> {
        let Flying { answer, part, offset } = flying;
        let (result, run) = wait(answer);
        match (result, run) {
            (Ok(()), Some(run)) => {
                self.output.written.fetch_add(part.len() as u64, Ordering::Relaxed);
                Ok(run)
            }
            (Err(e), Some(run)) if direct::is_refusal(&e) => {
                self.output.is_direct.store(false, Ordering::Relaxed);
                self.through_cache(&run.bytes()[part], offset)?;
                Ok(run)
            }
            (result, _) => Err(result.err().unwrap_or_else(|| io::ErrorKind::WriteZero.into())),
        }
    }

    fn through_cache(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if self.output.forget.load(Ordering::Relaxed) {
            self.output.file.pwrite_all_passing(bytes, offset)?;
        } else {
            self.output.file.pwrite_all(bytes, offset)?;
        }
        let bytes = bytes.len() as u64;
        self.output.written.fetch_add(bytes, Ordering::Relaxed);
        let before = self.output.cached.fetch_add(bytes, Ordering::Relaxed);
        let steps = |bytes: u64| bytes / limits::RESTORE_WRITEBACK_BYTES;
        if steps(before) != steps(before + bytes) {
            // If the channel is full, the other thread is still at work and will include these
            // bytes. The final flush covers the rest in any case.
            let _ = self.ready.try_send(());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;
    use crate::io::IoChoice;
    use crate::io::durable::Pending;

    /// A new file and its two descriptors.
    fn output(dir: &tempfile::TempDir, io: IoChoice) -> (Pending, PageFile) {
        let pending = Pending::create_beside(&dir.path().join("pages"), 0o600).unwrap();
        let engine = Engine::new(io).unwrap();
        let pages = PageFile::new(pending.file(), pending.direct(), &engine);
        (pending, pages)
    }

    fn content(page: u64, len: usize) -> Vec<u8> {
        page.to_be_bytes().into_iter().chain((0..len - 8).map(|i| (i as u64 * 7 + page) as u8)).collect()
    }

    fn put(writer: &mut Writer, offset: u64, page: &[u8]) -> io::Result<()> {
        writer.make_room(offset, page.len())?;
        writer.room(page.len()).copy_from_slice(page);
        writer.add(page.len());
        Ok(())
    }

    /// Writes 5 MiB of pages but for one, as a database is restored: short runs first, then what is
    /// between them, by two threads.
    fn write(pages: &PageFile, page: usize, ready: &SyncSender<()>) -> u64 {
        // Each waits for one write before it begins the next, and uses its memory again.
        let threads = limits::RESTORE_WRITES;
        let count = (5 << 20) / page as u64 + 3;
        let is_new = |n: &u64| (count / 8..count / 4).contains(n) && n % 9 < 2 || *n == 3;
        let lock = count / 2;
        let all = |numbers: &mut dyn Iterator<Item = u64>| {
            let mut writer = Writer::new(pages, threads, ready.clone());
            for n in numbers.filter(|n| *n != lock) {
                put(&mut writer, n * page as u64, &content(n, page))?;
            }
            writer.finish()
        };
        all(&mut (0..count).filter(is_new)).unwrap();
        std::thread::scope(|scope| {
            let part = |from, to| move || all(&mut (from..to).filter(|n| !is_new(n)));
            let cut = count / 3 + 1;
            let one = scope.spawn(part(0, cut));
            part(cut, count)().unwrap();
            one.join().unwrap().unwrap();
        });
        let mut found = vec![0; page];
        for n in 0..count {
            pages.file.pread_exact(&mut found, n * page as u64).unwrap();
            let expected = if n == lock { vec![0; page] } else { content(n, page) };
            assert!(found == expected, "page {n} of {page} bytes");
        }
        count - 1
    }

    #[test]
    fn each_page_lands_in_its_place_by_each_way() {
        let dir = tempfile::tempdir().unwrap();
        let (ready, _told) = sync_channel(1);
        for io in [IoChoice::Auto, IoChoice::Plain] {
            for page in [512, 1024, 2048, 4096, 8192, 16384, 32768, 65536] {
                for read_again in [false, true] {
                    let (_pending, pages) = output(&dir, io);
                    let len = ((5 << 20) / page as u64 + 3) * page as u64;
                    pages.begin(len, read_again).unwrap();
                    let written = write(&pages, page, &ready);
                    assert_eq!(pages.written(), written * page as u64, "pages of {page} bytes");
                    assert_eq!(pages.file.len().unwrap(), len);
                    let cached = pages.cached.load(Ordering::Relaxed);
                    if read_again {
                        assert_eq!(cached, pages.written(), "what is read again stays in the page cache");
                    } else if pages.direct().is_some() {
                        assert!(cached < pages.written() / 2, "{cached} of {} bytes", pages.written());
                    } else {
                        eprintln!("not tested: direct writes, which {} has not", dir.path().display());
                    }
                }
            }
        }
    }

    /// Some file systems open a file for direct writes, and refuse the writes.
    #[test]
    fn where_direct_writes_are_refused_the_page_cache_takes_all() {
        let dir = tempfile::tempdir().unwrap();
        let (ready, _told) = sync_channel(1);
        let (_pending, mut pages) = output(&dir, IoChoice::Auto);
        // It takes a number only, and says EINVAL to all else.
        let other = File::open_rw(std::path::Path::new("/proc/self/oom_score_adj")).unwrap();
        pages.direct = Some(DirectFile::made_of(other, 4096));
        let page = 2048;
        pages.begin(((5 << 20) / page as u64 + 3) * page as u64, false).unwrap();
        assert!(pages.direct().is_some());
        let written = write(&pages, page, &ready);
        assert_eq!(pages.written(), written * page as u64);
        assert!(pages.direct().is_none(), "after the first refusal no more are tried");
    }

    #[test]
    fn a_failed_write_is_reported_once_all_have_ended() {
        let dir = tempfile::tempdir().unwrap();
        let (ready, _told) = sync_channel(1);
        let (pending, mut pages) = output(&dir, IoChoice::Auto);
        // Not open for writing.
        let read_only = File::open(pending.path()).unwrap();
        pages.direct = Some(DirectFile::made_of(read_only, 4096));
        pages.begin(8 << 20, false).unwrap();
        let mut writer = Writer::new(&pages, 4, ready);
        let page = vec![7; 4096];
        let begun = (0..2048).try_for_each(|n| put(&mut writer, n * 4096, &page));
        let finished = writer.finish();
        let e = begun.and(finished).unwrap_err();
        assert_eq!(e.raw_os_error(), Some(libc::EBADF));
        assert!(pages.written() < 8 << 20);
    }

    #[test]
    fn the_disk_is_told_in_steps_of_what_the_page_cache_takes() {
        const PAGE: usize = 64 << 10;
        let dir = tempfile::tempdir().unwrap();
        let (_pending, pages) = output(&dir, IoChoice::Auto);
        let count = 2 * limits::RESTORE_WRITEBACK_BYTES / PAGE as u64 + 5;
        pages.begin(count * PAGE as u64, true).unwrap();
        let (ready, told) = sync_channel(10);
        let mut writer = Writer::new(&pages, 1, ready);
        for n in (7..count).chain(0..7) {
            put(&mut writer, n * PAGE as u64, &content(n, PAGE)).unwrap();
        }
        writer.finish().unwrap();
        assert_eq!(told.try_iter().count(), 2, "once for each step");
        // Ends, because all senders are dropped.
        pages.write_back(&told);
    }
}
