//! Merging files of a level, or all that an image needs, into one: read, merged and compressed on a
//! worker thread, sent in parts.
//!
//! Memory: [`limits::MERGE_BYTES`] of inputs and one page for each, some blocks of [`BLOCK_BYTES`],
//! the parts of the upload, and [`limits::INDEX_BYTES`] of the page index.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};

use super::HistoryError;
use super::cache::Shelved;
use super::inputs::{Input, Inputs};
use super::inventory::Stored;
use crate::base::clock::Millis;
use crate::base::{LtxId, limits};
use crate::ltx::{BlockBuilder, Encoder, Header, LtxReader, Merge, encoded_len_max};
use crate::store::{PutOptions, Store};

/// Compressed bytes after which a block is sent on.
const BLOCK_BYTES: usize = 1 << 20;

/// Blocks that wait to be sent.
const BLOCKS: usize = 2;

/// No frame is shorter: a header and an LZ4 block of the smallest page.
const FRAME_BYTES_MIN: u64 = 16;

/// What came of it.
pub(super) struct Merged {
    /// As it is stored now.
    pub stored: Stored,
    /// The file, if it is short enough to be remembered.
    pub bytes: Option<Bytes>,
}

/// A merge to be done.
pub(super) struct MergeJob<'a> {
    /// Where inputs are, and the output goes.
    pub store: &'a Arc<dyn Store>,
    /// Files in memory.
    pub cache: &'a Shelved,
    /// In order, without gaps.
    pub inputs: &'a [Stored],
    /// The output.
    pub to: LtxId,
    /// Time of the output, if it is not that of the last input.
    pub created: Option<Millis>,
    /// Where a large page index may go.
    pub spill: Option<PathBuf>,
    /// The only input has all pages of the database, which is proven, and the output begins at TXID
    /// 1.
    pub whole: bool,
}

enum Piece {
    Begin(Header),
    Bytes(Bytes),
    End(Result<(), HistoryError>),
}

impl MergeJob<'_> {
    /// Does it. Until the store has answered nothing is visible.
    ///
    /// # Errors
    /// The store, or an input that is damaged.
    pub(super) async fn run(self, now: Millis) -> Result<Merged, HistoryError> {
        // Dropped with this future: the thread then stops reading.
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
            // Nobody listens any more if the upload has failed.
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
    // An error here means that nobody listens any more: the upload has failed and says why.
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
        if block.len() >= BLOCK_BYTES {
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
