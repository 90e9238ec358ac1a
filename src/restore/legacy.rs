//! Restores a replica of Litestream 0.3: downloads its files in order, and one thread applies them.

use std::io::{self, Read};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use tokio::sync::mpsc;

use super::RestoreError;
use super::blocking::join_error;
use super::fetch::{self, Part};
use super::object::Wanted;
use super::progress::Progress;
use crate::io::File;
use crate::legacy::{Applied, Apply, ApplyError, LegacyFile, LegacyPlan};
use crate::store::Store;

/// The files that the pages are written to.
pub(super) struct OutputFolder {
    pub(super) database: File,
    /// Holds one WAL at a time.
    pub(super) scratch: File,
    /// Path of `database`, for messages.
    pub(super) path: std::path::PathBuf,
    /// Path of the output, for messages.
    pub(super) output: std::path::PathBuf,
}

/// Downloads, proves and writes all pages.
pub(super) async fn pages(
    store: &Arc<dyn Store>,
    plan: &LegacyPlan,
    place: OutputFolder,
    parallel: usize,
    progress: &dyn Progress,
) -> Result<Applied, RestoreError> {
    let (sender, parts) = mpsc::channel(1);
    let files: Vec<LegacyFile> = plan.files().copied().collect();
    let wanted: Vec<Wanted> = files.iter().map(Wanted::from).collect();
    let url = store.url().to_owned();
    let applied = tokio::task::spawn_blocking(move || apply(&url, &files, &place, parts));
    // Ends when the other thread drops the receiver.
    let fetched = fetch::fetch(store, &wanted, parallel, sender, progress).await;
    match (fetched, applied.await.map_err(join_error)?) {
        (Err(e), Err(RestoreError::Interrupted)) => Err(e),
        (_, applied) => applied,
    }
}

fn apply(
    url: &str,
    files: &[LegacyFile],
    place: &OutputFolder,
    mut parts: mpsc::Receiver<Part>,
) -> Result<Applied, RestoreError> {
    let mut apply = Apply::new(place.database.clone(), place.scratch.clone());
    let failed = |file: &LegacyFile, e| match e {
        ApplyError::Read(_) => RestoreError::Interrupted,
        ApplyError::Write(e) => RestoreError::output("write", &place.path, 0, e),
        ApplyError::NoRoom { need, free } => RestoreError::NoRoom { path: place.output.clone(), need, free },
        cause => RestoreError::LegacyFile { object: file.name, url: url.to_owned(), cause },
    };
    for (number, file) in files.iter().enumerate() {
        let packed = Content { number, parts: &mut parts, bytes: Bytes::new(), hold: None, ended: false };
        match file.name.is_snapshot() {
            true => apply.snapshot(packed),
            false => apply.segment(file.name, packed),
        }
        .map_err(|e| failed(file, e))?;
    }
    let last = files.last().expect("a plan has a snapshot");
    apply.finish().map_err(|e| failed(last, e))
}

/// One file, read from its parts as they arrive.
struct Content<'a> {
    number: usize,
    parts: &'a mut mpsc::Receiver<Part>,
    bytes: Bytes,
    hold: Option<Arc<tokio::sync::OwnedSemaphorePermit>>,
    ended: bool,
}

impl Read for Content<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.bytes.is_empty() {
            self.hold = None;
            if self.ended || buf.is_empty() {
                return Ok(0);
            }
            // The fetcher's error says why there are no more parts.
            let part = self.parts.blocking_recv().ok_or(io::ErrorKind::BrokenPipe)?;
            assert!(part.file == self.number, "parts come in order: file {} in {}", part.file, self.number);
            (self.bytes, self.hold, self.ended) = (part.bytes, Some(part.hold), part.is_last);
        }
        let n = buf.len().min(self.bytes.len());
        self.bytes.copy_to_slice(&mut buf[..n]);
        Ok(n)
    }
}
