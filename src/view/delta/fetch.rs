//! Fetches the pages that differ into a file without a name, and proves them.
//!
//! Nothing of the database is touched meanwhile: an error of the store, a signal or a crash costs
//! nothing but what was fetched. The kernel frees the nameless file with its last descriptor.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::plan::DeltaPlan;
use crate::base::checksum::page_hash;
use crate::base::{DatabaseChecksum, Pgno};
use crate::io::File;
use crate::io::durable::Pending;
use crate::ltx::IndexEntry;
use crate::restore::{Progress, RestoreError, Stage, blocking};
use crate::view::stored_file::{self, StoredFile};

/// Mode of the nameless file: it holds pages of the database.
const MODE: u32 = 0o600;

/// A fetched page.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spooled {
    pub(super) pgno: Pgno,
    /// Its place in the nameless file, in pages.
    pub(super) slot: u64,
    pub(super) hash: u64,
}

/// The pages that make a database file the wanted state, proven and at hand.
#[derive(Debug)]
pub struct Fetched {
    pub(super) plan: DeltaPlan,
    /// The pages, in a file without a name.
    pub(super) spool: File,
    /// In ascending order.
    pub(super) pages: Vec<Spooled>,
}

impl DeltaPlan {
    /// Fetches the pages and compares what they make of the database with the wanted state.
    ///
    /// # Errors
    /// [`RestoreError`]. The database is as it was. [`RestoreError::Checksum`] and damaged files
    /// leave a restore of the whole database, which finds other files.
    pub async fn fetch(self, progress: &dyn Progress) -> Result<Fetched, RestoreError> {
        progress.planned(self.found.frames.len(), self.bytes());
        progress.stage(Stage::Pages);
        let size = u64::from(self.found.header.page_size.get());
        let name = format!("the fetched pages next to {}", self.local.path.display());
        let spool_name = Arc::new(PathBuf::from(name));
        let need = self.found.wanted.len() as u64 * size;
        let failed = |e| RestoreError::output("write", &spool_name, need, e);
        let spool = {
            let pending = Pending::create_beside(&self.local.path, MODE).map_err(failed)?;
            pending.file().clone()
        };
        let requests = self.found.frames.iter().flat_map(|(file, frames)| {
            stored_file::reads(frames).into_iter().map(move |read| (Arc::clone(file), read))
        });
        let (mut waiting, mut next_slot) = (requests, 0);
        let mut under_way = JoinSet::new();
        let mut pages: Vec<Spooled> = Vec::with_capacity(self.found.wanted.len());
        loop {
            while under_way.len() < self.options.parallel.max(1)
                && let Some((file, frames)) = waiting.next()
            {
                let (store, spool, slot) = (Arc::clone(&self.store), spool.clone(), next_slot);
                let spool_name = Arc::clone(&spool_name);
                next_slot += frames.len() as u64;
                under_way.spawn(async move {
                    let bytes = frames.iter().map(|frame| u64::from(frame.len)).sum::<u64>();
                    let read = file.read(&*store, &frames).await?;
                    let kept = blocking(move || {
                        keep(&spool, &file, &frames, &read, (slot, size))
                            .map_err(|e| RestoreError::output("write", &spool_name, need, e))
                    });
                    Ok::<_, RestoreError>((bytes, kept.await?))
                });
            }
            let Some(done) = under_way.join_next().await else { break };
            let (bytes, kept) = done.map_err(|_| RestoreError::Interrupted)??;
            progress.fetched(bytes);
            pages.extend(kept);
        }
        drop(waiting);
        pages.sort_unstable_by_key(|page| page.pgno);
        assert_eq!(pages.len(), self.found.wanted.len(), "each page is fetched once");
        let found = self.sum_with(pages.iter().map(|page| (page.pgno, page.hash)));
        if found != self.found.sum {
            let (url, txid, expected) = (self.store.url().to_owned(), self.txid(), self.found.sum);
            return Err(RestoreError::Checksum { url, txid, expected, found });
        }
        Ok(Fetched { plan: self, spool, pages })
    }

    /// Checksum of the wanted state, if these pages replace those of the file.
    pub(super) fn sum_with(&self, pages: impl Iterator<Item = (Pgno, u64)>) -> DatabaseChecksum {
        let mut sum = self.local.sum;
        self.replaced().for_each(|pgno| sum.toggle(self.local.hash(pgno).unwrap_or_default()));
        pages.for_each(|(_, hash)| sum.toggle(hash));
        sum
    }
}

/// Writes pages to the nameless file, from a slot on.
fn keep(
    spool: &File,
    file: &StoredFile,
    frames: &[IndexEntry],
    read: &[(u32, Arc<[u8]>)],
    (slot, size): (u64, u64),
) -> std::io::Result<Vec<Spooled>> {
    assert_eq!(frames.len(), read.len(), "{} has the frames of its index", file.entry().id);
    let mut kept = Vec::with_capacity(read.len());
    for ((frame, (_, page)), slot) in frames.iter().zip(read).zip(slot..) {
        spool.pwrite_all(page, slot * size)?;
        kept.push(Spooled { pgno: frame.pgno, slot, hash: page_hash(frame.pgno, page) });
    }
    Ok(kept)
}
