//! Writing pages at their final offsets.
//!
//! Neighbouring pages are gathered into one write. Long runs go to the engine, so that decoding goes on while they
//! are written; single pages are written at once, for a system call costs less than a change of threads.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;

use crate::base::limits;
use crate::io::{Engine, File, wait};

type Written = Pin<Box<dyn Future<Output = (io::Result<()>, Vec<u8>)> + Send>>;

/// Writes for one decoding thread.
pub(super) struct Writer {
    engine: Engine,
    file: File,
    run: Vec<u8>,
    run_at: u64,
    under_way: VecDeque<Written>,
    written: u64,
}

impl Writer {
    pub(super) fn new(engine: Engine, file: File) -> Writer {
        let run = Vec::with_capacity(limits::RESTORE_WRITE_BYTES);
        Writer { engine, file, run, run_at: 0, under_way: VecDeque::new(), written: 0 }
    }

    /// Writes one page. An error may be that of an earlier one.
    pub(super) fn page(&mut self, offset: u64, page: &[u8]) -> io::Result<()> {
        let follows = offset == self.run_at + self.run.len() as u64;
        if !follows || self.run.len() + page.len() > limits::RESTORE_WRITE_BYTES {
            self.flush()?;
            self.run_at = offset;
        }
        self.run.extend_from_slice(page);
        Ok(())
    }

    /// Sends on what was gathered.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.written += self.run.len() as u64;
        if self.run.len() < limits::RESTORE_ENGINE_BYTES {
            self.file.pwrite_all(&self.run, self.run_at)?;
            self.run.clear();
            return Ok(());
        }
        let mut next = if self.under_way.len() < limits::RESTORE_WRITES {
            Vec::with_capacity(limits::RESTORE_WRITE_BYTES)
        } else {
            self.reap()?
        };
        next.clear();
        let run = std::mem::replace(&mut self.run, next);
        self.under_way.push_back(Box::pin(self.engine.write_all_at(&self.file, run, self.run_at)));
        Ok(())
    }

    /// Waits until all is written; the number of bytes.
    pub(super) fn finish(mut self) -> io::Result<u64> {
        self.flush()?;
        while !self.under_way.is_empty() {
            self.reap()?;
        }
        Ok(self.written)
    }

    fn reap(&mut self) -> io::Result<Vec<u8>> {
        let Some(oldest) = self.under_way.pop_front() else { return Ok(Vec::new()) };
        let (result, buffer) = wait(oldest);
        result.map(|()| buffer)
    }
}
