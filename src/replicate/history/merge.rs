//! Merges files of a level, or all files that an image needs, into one. A worker thread reads,
//! merges and compresses them; the result is uploaded in parts.
//!
//! Memory is bounded: [`limits::MERGE_BYTES`] of inputs and one page of each, some blocks of
//! [`BLOCK_BYTES`], the parts of the upload, and [`limits::INDEX_BYTES`] of the page index.
//!
//! # Cancellation
//!
//! Dropping the future stops the worker thread at its next piece. Until the upload is finished
//! nothing is visible.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};

use super::HistoryError;
use super::cache::ReplicaCache;
use super::inputs::{Input, Inputs};
use super::inventory::Stored;
use crate::base::clock::Millis;
use crate::base::{LtxId, limits};
use crate::ltx::{BlockBuilder, Encoder, Header, LtxReader, Merge, encoded_len_max};
use crate::store::{PutOptions, Store};

/// Bytes of compressed pages after which a block is sent on.
const BLOCK_BYTES: usize = 1 << 20;

/// Blocks that may wait to be uploaded.
const BLOCKS: usize = 2;

const _: () = assert!(
    limits::MERGE_BYTES + (BLOCKS + 2) * BLOCK_BYTES + limits::UPLOAD_BYTES + limits::INDEX_BYTES
        <= limits::LARGE_MERGE_BYTES,
    "the blocks are part of the bound"
);

/// Lower bound of a frame's length in bytes: a header and an LZ4 block of the smallest page.
const FRAME_BYTES_MIN: u64 = 16;

/// The result of a merge.
pub(super) struct Merged {
    /// The output as the inventory knows it.
    pub stored: Stored,
    /// Bytes of the file, if it is short enough for the cache.
    pub bytes: Option<Bytes>,
}

/// A merge to be done.
pub(super) struct MergeJob<'a> {
    /// The store of the inputs and the output.
    pub store: &'a Arc<dyn Store>,
    /// Files in memory.
    pub cache: &'a ReplicaCache,
    /// The inputs, in order and without gaps.
    pub inputs: &'a [Stored],
    /// Name of the output.
    pub to: LtxId,
    /// Timestamp of the output, if it is not that of the last input.
    pub created: Option<Millis>,
    /// Folder for a temporary file with a large page index.
    pub spill: Option<PathBuf>,
    /// The only input has all pages of the database, which is checked, and the output begins at
    /// TXID 1.
    pub whole: bool,
}

enum Piece {
    Begin(Header),
    Bytes(Bytes),
    End(Result<(), HistoryError>),
}

impl MergeJob<'_> {
    /// Does the merge. Until the store has answered, nothing is visible.
    ///
    /// # Errors
    /// Any error of the store, or a damaged input.
    pub(super) async fn run(self, now: Millis) -> Result<Merged, HistoryError> {
        // Dropped with this future; the thread then stops reading.
        let (_wants, wanted) = watch::channel(());
        let inputs = Inputs::begin(self.store, self.cache, self.inputs, &wanted).await?;
        let (send, mut pieces) = mpsc::channel(BLOCKS);
        let url = self.store.url().to_owned();
        let (to, created, spill) = (self.to, self.created, self.spill.clone());
        let whole = self.whole;
        let work = tokio::task::spawn_blocking(move || {
            let made =
                inputs.into_readers().and_then(|readers| {
                    produce(readers, (to, whole), created, spill, &send)
                        .map_err(|source| HistoryError::Merge { to, url, source })
                });
            // The receiver is gone if the upload has failed.
            let _ = send.blocking_send(Piece::End(made));
        });
        let header = match pieces.recv().await {
            Some(Piece::Begin(header)) => header,
            Some(Piece::End(Err(e))) => return Err(e),
            _ => return Err(HistoryError::Worker("it ended before it began".to_owned())),
        };
        let frames_max = self.inputs.iter().map(|s| s.size).sum::<u64>() / FRAME_BYTES_MIN;
        let pages_max = usize::try_from(frames_max.min(u64::from(header.commit))).unwrap_or(usize::MAX);
        let size_max = encoded_len_max(header.page_size, pages_max) as u64;
        let options = PutOptions { created: header.timestamp, create_only: false };
        let mut upload = self.store.upload(self.to, size_max, options).await?;
        let mut size = 0;
        let mut kept = Some(Vec::new());
        let made = loop {
            match pieces.recv().await {
                Some(Piece::Bytes(bytes)) => {
                    size += bytes.len() as u64;
                    if size > limits::CACHE_OBJECT_BYTES as u64 {
                        kept = None;
                    }
                    if let Some(kept) = &mut kept {
                        kept.extend_from_slice(&bytes);
                    }
                    if let Err(e) = upload.write(bytes).await {
                        break Err(e.into());
                    }
                }
                Some(Piece::End(made)) => break made,
                Some(Piece::Begin(_)) | None => break Err(HistoryError::Worker("it ended early".to_owned())),
            }
        };
        drop(pieces);
        if let Err(e) = made {
            upload.abort().await;
            return Err(e);
        }
        work.await.map_err(|e| HistoryError::Worker(e.to_string()))?;
        upload.finish().await?;
        let created = header.timestamp;
        let stored = Stored { id: self.to, size, created, seen: created.min(now), exact: true };
        Ok(Merged { stored, bytes: kept.map(Bytes::from) })
    }
}

/// Reads, merges and compresses, on a thread that may block.
fn produce(
    readers: Vec<LtxReader<Input>>,
    (to, whole): (LtxId, bool),
    created: Option<Millis>,
    spill: Option<PathBuf>,
    send: &mpsc::Sender<Piece>,
) -> Result<(), crate::ltx::LtxError> {
    // Sending fails if the receiver is gone: the upload has failed and reports why.
    let give = |piece| send.blocking_send(piece).is_ok();
    let mut merge = Merge::new(readers)?;
    let mut header = *merge.header();
    header.timestamp = created.unwrap_or(header.timestamp);
    if whole {
        header.min = to.min;
    }
    assert_eq!((header.min, header.max), (to.min, to.max), "the inputs were chosen for this output");
    let (mut encoder, head) = Encoder::spilling(header, spill)?;
    if !give(Piece::Begin(header)) || !give(Piece::Bytes(head)) {
        return Ok(());
    }
    let mut block = BlockBuilder::new(header.page_size);
    while let Some((pgno, page)) = merge.next_page()? {
        block.push(pgno, page)?;
        if block.bytes() >= BLOCK_BYTES {
            let full = std::mem::replace(&mut block, BlockBuilder::new(header.page_size));
            if !give(Piece::Bytes(encoder.push(full.finish())?)) {
                return Ok(());
            }
        }
    }
    if !give(Piece::Bytes(encoder.push(block.finish())?)) {
        return Ok(());
    }
    let mut ending = encoder.end()?;
    while let Some(piece) = ending.piece()? {
        if !give(Piece::Bytes(piece)) {
            return Ok(());
        }
    }
    Ok(())
}
