//! Writes pages at their final offsets, and gets them to the disk while more are arriving.
//!
//! The thread that decoded neighbouring pages also gathers them into one write: they are still in
//! the cache of its processor.
//!
//! By itself, the kernel leaves the disk idle until more data is waiting than most databases have,
//! and the flush at the end would start with all of it. So whenever another
//! [`limits::RESTORE_WRITEBACK_BYTES`] are written, a thread that may block asks the kernel to
//! start writing back.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};

use crate::base::limits;
use crate::io::File;

/// The write buffer of one decoding thread.
pub(super) struct Writer<'a> {
    file: &'a File,
    /// Bytes written by all threads.
    written: &'a AtomicU64,
    /// Wakes [`write_back`].
    ready: SyncSender<()>,
    run: Vec<u8>,
    run_at: u64,
}

impl<'a> Writer<'a> {
    pub(super) fn new(file: &'a File, written: &'a AtomicU64, ready: SyncSender<()>) -> Writer<'a> {
        Writer { file, written, ready, run: Vec::with_capacity(limits::RESTORE_WRITE_BYTES), run_at: 0 }
    }

    /// Writes one page, at the latest with the next [`Writer::flush`]. An error may be about an
    /// earlier page.
    pub(super) fn page(&mut self, offset: u64, page: &[u8]) -> io::Result<()> {
        let follows = offset == self.run_at + self.run.len() as u64;
        if !follows || self.run.len() + page.len() > limits::RESTORE_WRITE_BYTES {
            self.flush()?;
            self.run_at = offset;
        }
        self.run.extend_from_slice(page);
        Ok(())
    }

    /// Writes the gathered pages.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.file.pwrite_all(&self.run, self.run_at)?;
        let bytes = self.run.len() as u64;
        self.run.clear();
        let before = self.written.fetch_add(bytes, Ordering::Relaxed);
        let steps = |bytes: u64| bytes / limits::RESTORE_WRITEBACK_BYTES;
        if steps(before) != steps(before + bytes) {
            // If the channel is full, the other thread is still at work and will include these
            // bytes. The final flush covers the rest in any case.
            let _ = self.ready.try_send(());
        }
        Ok(())
    }
}

/// Starts writing back whenever a message arrives, until all senders are dropped. Blocks its thread
/// if the disk is slower than the replica.
pub(super) fn write_back(file: &File, wanted: &Receiver<()>) {
    while wanted.recv().is_ok() {
        file.start_writeback(0, 0);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;

    #[test]
    fn each_page_lands_in_its_place_and_the_disk_is_told_in_steps() {
        const PAGE: usize = 64 << 10;
        let dir = tempfile::tempdir().unwrap();
        let file = File::create_new(&dir.path().join("pages"), 0o600).unwrap();
        let pages = 2 * limits::RESTORE_WRITEBACK_BYTES / PAGE as u64 + 5;
        let content = |n: u64| [&n.to_be_bytes()[..], &[n as u8; PAGE - 8]].concat();
        let (written, (ready, told)) = (AtomicU64::new(0), sync_channel(10));
        let mut writer = Writer::new(&file, &written, ready);
        for n in (7..pages).chain(0..7) {
            writer.page(n * PAGE as u64, &content(n)).unwrap();
        }
        writer.flush().unwrap();
        drop(writer);
        assert_eq!(written.into_inner(), pages * PAGE as u64);
        assert_eq!(told.try_iter().count(), 2, "once for each step");
        let mut page = vec![0; PAGE];
        for n in 0..pages {
            file.pread_exact(&mut page, n * PAGE as u64).unwrap();
            assert!(page == content(n), "page {n}");
        }
        // Ends, because all senders are dropped.
        write_back(&file, &told);
    }
}
