//! The input files of a merge: from memory, or by GETs in pieces, so that all of them together hold
//! a bounded number of bytes.

use std::io::{self, BufRead, Read};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::HistoryError;
use super::cache::ReplicaCache;
use super::inventory::Stored;
use crate::base::{LtxId, limits};
use crate::ltx::LtxReader;
use crate::store::Store;

/// Shortest piece of a GET, in bytes.
const PIECE_BYTES_MIN: u64 = 64 << 10;

/// Longest piece of a GET, in bytes.
const PIECE_BYTES_MAX: u64 = 1 << 20;

/// A file that is read from beginning to end. For threads that may block.
pub(super) struct Input {
    store: Arc<dyn Store>,
    runtime: Handle,
    /// Closed when the merge has been given up.
    wanted: watch::Receiver<()>,
    id: LtxId,
    size: u64,
    piece_bytes: u64,
    /// Offset up to which pieces have come.
    at: u64,
    piece: Bytes,
}

/// Files that are ready to be read.
pub(super) struct Inputs(Vec<Input>);

impl Inputs {
    /// Begins to read `files`. Short ones that are not in memory are fetched completely, a bounded
    /// number at once. Reading ends with an error when the sender of `wanted` is dropped.
    ///
    /// # Errors
    /// Any error of a request, or a file that is shorter than its inventory says.
    pub(super) async fn begin(
        store: &Arc<dyn Store>,
        cache: &ReplicaCache,
        files: &[Stored],
        wanted: &watch::Receiver<()>,
    ) -> Result<Inputs, HistoryError> {
        let share = (limits::MERGE_BYTES / files.len().max(1)) as u64;
        let piece_bytes = share.clamp(PIECE_BYTES_MIN, PIECE_BYTES_MAX);
        let runtime = Handle::current();
        let input = |f: &Stored| Input {
            store: Arc::clone(store),
            runtime: runtime.clone(),
            wanted: wanted.clone(),
            id: f.id,
            size: f.size,
            piece_bytes,
            at: 0,
            piece: Bytes::new(),
        };
        let mut inputs: Vec<Input> = files.iter().map(input).collect();
        let mut missing: Vec<(usize, Stored)> = Vec::new();
        for (i, f) in files.iter().enumerate() {
            match cache.get(f.id) {
                Some(bytes) if bytes.len() as u64 == f.size => inputs[i].give(bytes),
                _ if f.size <= piece_bytes => missing.push((i, *f)),
                _ => {}
            }
        }
        let mut waiting = missing.into_iter();
        let mut flying = JoinSet::new();
        loop {
            while flying.len() < limits::HISTORY_TRANSFERS
                && let Some((i, f)) = waiting.next()
            {
                let store = Arc::clone(store);
                flying.spawn(async move { (i, store.get(f.id, 0..f.size).await) });
            }
            let Some(got) = flying.join_next().await else { break };
            let (i, bytes) = got.map_err(|e| HistoryError::Worker(e.to_string()))?;
            inputs[i].accept(bytes)?;
        }
        Ok(Inputs(inputs))
    }

    /// The readers, in order. Checks that each file's header fits its name.
    pub(super) fn into_readers(self) -> Result<Vec<LtxReader<Input>>, HistoryError> {
        let url = self.0.first().map(|i| i.store.url().to_owned()).unwrap_or_default();
        let mut readers = Vec::with_capacity(self.0.len());
        for input in self.0 {
            let id = input.id;
            let corrupt = |source| HistoryError::Input { id, url: url.clone(), source };
            let reader = LtxReader::new(input).map_err(corrupt)?;
            let header = crate::ltx::PageSource::header(&reader);
            if (header.min, header.max) != (id.min, id.max) {
                let found = format!("{}-{}", header.min, header.max);
                return Err(HistoryError::Misnamed { id, url, found });
            }
            readers.push(reader);
        }
        Ok(readers)
    }
}

impl Input {
    fn give(&mut self, bytes: Bytes) {
        self.at += bytes.len() as u64;
        self.piece = bytes;
    }

    fn accept(&mut self, answer: crate::store::Result<Bytes>) -> Result<(), HistoryError> {
        let bytes = answer.map_err(HistoryError::Store)?;
        if bytes.len() as u64 != (self.size - self.at).min(self.piece_bytes) {
            let (id, url) = (self.id, self.store.url().to_owned());
            let source = crate::ltx::LtxError::Truncated { len: self.at + bytes.len() as u64, part: "pages" };
            return Err(HistoryError::Input { id, url, source });
        }
        self.give(bytes);
        Ok(())
    }
}

impl Read for Input {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let have = self.fill_buf()?;
        let n = have.len().min(buf.len());
        buf[..n].copy_from_slice(&have[..n]);
        self.consume(n);
        Ok(n)
    }
}

impl BufRead for Input {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.piece.is_empty() && self.at < self.size {
            let range = self.at..self.size.min(self.at + self.piece_bytes);
            let (runtime, store, id) = (self.runtime.clone(), Arc::clone(&self.store), self.id);
            let wanted = &mut self.wanted;
            let answer = runtime.block_on(async {
                tokio::select! {
                    biased;
                    _ = wanted.changed() => None,
                    answer = store.get(id, range) => Some(answer),
                }
            });
            let answer = answer.ok_or(io::ErrorKind::BrokenPipe)?;
            self.accept(answer).map_err(io::Error::other)?;
        }
        Ok(&self.piece)
    }

    fn consume(&mut self, n: usize) {
        self.piece.advance(n);
    }
}
