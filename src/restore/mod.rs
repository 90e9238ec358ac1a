//! Restore: from the files of a replica to one database file.
//!
//! # Overview
//!
//! A restore lists the replica once, makes a [`plan`], and reads each file of the plan once, in
//! parts, with several requests in flight. It reads files from the newest to the oldest, for three
//! reasons:
//!
//! - The newest header says how long the database is.
//! - The first image of a page that arrives is the one to keep, so one bit per page is all that has
//!   to be remembered.
//! - The replicator merges and removes the young, small files first, so they are downloaded first.
//!
//! Every byte of every file has to be downloaded anyway: the file checksum covers all pages, also
//! those that a newer file replaces. So a restore does not use the page index. [`walk`] finds the
//! frames in the bytes as they arrive, and a file with a wrong index needs no special case.
//!
//! ```text
//!  fetch (async)          walk (1 thread)             decode (1 thread per core)
//!  ranged GETs, in order  frames, newest image wins   LZ4, CRC, one write at the final offset
//! ```
//!
//! Written pages go to the disk while other files are still being downloaded, so the flush at the
//! end has little left to do.
//!
//! Replicas of Litestream 0.3 take the same way except for the pages: one thread (`legacy`) applies
//! a snapshot and pieces of WALs in order. It uses a second temporary file that is as long as the
//! longest WAL.
//!
//! # Memory
//!
//! A restore holds at most [`limits::RESTORE_BYTES`] of files in flight, one write buffer of
//! [`limits::RESTORE_WRITE_BYTES`] per thread, and one bit per page of the database.
//!
//! # Failure and crash
//!
//! No file has the name of the output before it is complete. The pages go to a temporary file next
//! to the output. That file is renamed only after each source file is proven by its checksum, each
//! page is written, the file is flushed and SQLite found no damage (I5). See `target` for what
//! happens to a database that is replaced.

mod choose;
mod claims;
pub mod damage;
mod decode;
mod error;
mod fetch;
pub mod follow;
mod legacy;
mod place;
pub mod plan;
mod points;
mod proof;
mod prove;
mod search;
mod target;
mod times;
mod verify;
mod walk;
mod write;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

pub use choose::{Choice, Files, choose};
pub use error::RestoreError;
pub use fetch::{Object, requests};
pub use place::{is_there, resolve};
pub use plan::{PlanError, Until};
pub use points::{Point, PointState, object_name, points};
pub use prove::lost_states;
pub use prove::one as prove_file;
pub use prove::{
    CompareError, Compared, Damage, Health, Meter, Newest, VerifyOptions, VerifyReport, verify_replica,
};
pub use verify::{Integrity, Verdict};

use crate::base::clock::Millis;
use crate::base::{LtxId, PageSize, Txid, limits};
use crate::io::Engine;
use crate::io::durable::Pending;
use crate::legacy::{Applied, Generation, LegacyPlan, WalIndex};
use crate::store::{Entry, Store};
use decode::Decode;
use target::Target;
use walk::Shape;

/// Selects the state to restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Selection {
    /// The newest state, a TXID or a time.
    pub until: Until,
    /// Restrict the restore to this generation of Litestream 0.3, even if the replica holds newer
    /// states.
    pub generation: Option<Generation>,
    /// Restore the state at the end of this WAL of Litestream 0.3; takes precedence over `until`.
    pub index: Option<WalIndex>,
    /// If files that the state needs are damaged or missing, accept the newest state before it.
    pub salvage: bool,
}

impl From<Until> for Selection {
    fn from(until: Until) -> Selection {
        Selection { until, ..Selection::default() }
    }
}

/// Options of a restore.
#[derive(Debug, Clone)]
pub struct RestoreOptions {
    /// Path of the restored database.
    pub output: PathBuf,
    /// Replace an existing database once the new one is complete and verified.
    pub force: bool,
    /// How thoroughly SQLite checks the result.
    pub integrity: Integrity,
    /// The state to restore.
    pub state: Selection,
    /// How many requests may be in flight at the same time.
    pub parallel: usize,
}

impl RestoreOptions {
    /// Restores the newest state to a path where no file exists yet, with a quick check.
    #[must_use]
    pub fn new(output: impl Into<PathBuf>) -> RestoreOptions {
        RestoreOptions {
            output: output.into(),
            force: false,
            integrity: Integrity::default(),
            state: Selection::default(),
            parallel: limits::RESTORE_TRANSFERS,
        }
    }
}

/// The stage that a restore is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Downloading and writing pages.
    Pages,
    /// Flushing to the disk, and SQLite's check of the result.
    Verify,
    /// Renaming the temporary file to the output.
    Install,
}

/// Receives the progress of a restore. Its methods are called often and must not block.
pub trait Progress: Sync {
    /// The plan is made: it reads `files` files of `bytes` bytes in all.
    fn planned(&self, files: usize, bytes: u64);
    /// Another `bytes` bytes have arrived.
    fn fetched(&self, bytes: u64);
    /// The restore enters `stage`.
    fn stage(&self, stage: Stage);
}

/// A [`Progress`] that ignores everything.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Progress for Silent {
    fn planned(&self, _files: usize, _bytes: u64) {}
    fn fetched(&self, _bytes: u64) {}
    fn stage(&self, _stage: Stage) {}
}

/// The result of a restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Path of the database, with links resolved.
    pub output: PathBuf,
    /// The last TXID of the restored state; 0 for a state of Litestream 0.3, which has no TXIDs.
    pub txid: Txid,
    /// The file that ends with that state; `None` for a state of Litestream 0.3.
    pub newest_file: Option<LtxId>,
    /// Generation and WAL, for a state of Litestream 0.3.
    pub legacy: Option<(Generation, WalIndex)>,
    /// When that state was stored.
    pub created: Millis,
    /// Whether the replica holds no newer state.
    pub is_newest: bool,
    /// Files that the restore left out because they are damaged, each with the reason.
    pub damaged: Vec<(LtxId, String)>,
    /// Bytes per page.
    pub page_size: PageSize,
    /// Number of pages in the database.
    pub pages: u32,
    /// Number of files that were read.
    pub files: usize,
    /// Total bytes of those files.
    pub fetched_bytes: u64,
    /// Length of the database file in bytes.
    pub output_bytes: u64,
    /// The verdict of SQLite's check.
    pub integrity: Verdict,
    /// Time until all pages were written, without flush and check.
    pub pages_time: Duration,
    /// Total time.
    pub time: Duration,
}

/// Restores a database.
///
/// # Errors
/// See [`RestoreError`]. On an error the output is unchanged and no temporary file is left.
pub async fn run(
    store: Arc<dyn Store>,
    engine: &Engine,
    options: RestoreOptions,
    progress: &dyn Progress,
) -> Result<Report, RestoreError> {
    let start = Instant::now();
    let RestoreOptions { output, force, integrity, state, parallel } = options;
    let target = Arc::new(blocking(move || Target::examine(&output, force)).await?);
    let parallel = parallel.max(1);
    let mut search = search::Search::begin(&store, state).await?;
    let (choice, pending, restored, write_back) = loop {
        let choice = search.next().await?;
        progress.planned(choice.wanted().len(), choice.bytes());
        progress.stage(Stage::Pages);
        let begun = {
            let target = Arc::clone(&target);
            blocking(move || target.begin()).await?
        };
        match files(&store, &choice, (&target, &begun), parallel, progress).await {
            Ok((restored, write_back)) => break (choice, begun, restored, write_back),
            Err(e) => search.around(e).await?,
        }
    };
    let created = search.created(&choice, restored.created).await?;
    let pages_time = start.elapsed();
    progress.stage(Stage::Verify);
    // The check reads from the page cache while the kernel writes to the disk.
    let flush = engine.sync_all(pending.file());
    let path = pending.path().to_owned();
    let verdict = blocking(move || verify::check(&path, integrity)).await?;
    if let Some(write_back) = write_back {
        // No task may still have the file open when the restore ends: see the rules of `io`.
        write_back.await.map_err(join_error)?;
    }
    flush.await.map_err(|e| RestoreError::output("flush", pending.path(), restored.bytes, e))?;
    let length = pending.file().len().map_err(|e| RestoreError::output("look at", pending.path(), 0, e))?;
    // I5: a database that is shorter or longer than its header says is never installed.
    assert_eq!(length, restored.bytes, "the database has the length that its replica says");
    progress.stage(Stage::Install);
    let target = blocking(move || target.install(pending).map(|()| target)).await?;
    let pages = restored.bytes / u64::from(restored.page_size.get());
    Ok(Report {
        output: target.path().to_owned(),
        txid: restored.txid,
        newest_file: match &choice.files {
            Files::Ltx(files) => files.last().map(|f| f.id),
            Files::Legacy(_) => None,
        },
        legacy: restored.legacy,
        created,
        is_newest: choice.is_newest,
        damaged: search.into_damaged(),
        page_size: restored.page_size,
        pages: u32::try_from(pages).unwrap_or(u32::MAX),
        files: choice.wanted().len(),
        fetched_bytes: choice.bytes(),
        output_bytes: restored.bytes,
        integrity: verdict,
        pages_time,
        time: start.elapsed(),
    })
}

/// Describes the complete database in the temporary file.
struct Restored {
    txid: Txid,
    legacy: Option<(Generation, WalIndex)>,
    created: Millis,
    page_size: PageSize,
    bytes: u64,
}

impl Restored {
    fn ltx(shape: Shape) -> Restored {
        let Shape { header } = shape;
        let (txid, created, page_size) = (header.max, header.timestamp, header.page_size);
        Restored { txid, legacy: None, created, page_size, bytes: shape.bytes() }
    }

    fn legacy(plan: &LegacyPlan, applied: Applied) -> Restored {
        let Applied { page_size, bytes } = applied;
        let legacy = Some((plan.generation, plan.index()));
        Restored { txid: Txid::default(), legacy, created: plan.created(), page_size, bytes }
    }
}

/// Writes the database from the chosen files into the temporary file.
async fn files(
    store: &Arc<dyn Store>,
    choice: &Choice,
    (target, pending): (&Target, &Pending),
    parallel: usize,
    progress: &dyn Progress,
) -> Result<(Restored, Option<JoinHandle<()>>), RestoreError> {
    match &choice.files {
        Files::Ltx(files) => {
            let files: Vec<Entry> = files.iter().rev().copied().collect();
            let (shape, under_way) =
                pages(store, (&files, pending, target.path()), parallel, progress).await?;
            Ok((Restored::ltx(shape), Some(under_way)))
        }
        Files::Legacy(plan) => {
            let (scratch, place) = target.scratch(pending)?;
            let applied = legacy::pages(store, plan, place, parallel, progress).await?;
            drop(scratch);
            Ok((Restored::legacy(plan, applied), None))
        }
    }
}

/// Downloads, proves and writes all pages. Also returns a task that ends once the kernel has
/// started writing all of it back.
async fn pages(
    store: &Arc<dyn Store>,
    (files, pending, output): (&[Entry], &Pending, &std::path::Path),
    parallel: usize,
    progress: &dyn Progress,
) -> Result<(Shape, JoinHandle<()>), RestoreError> {
    let (sender, parts) = tokio::sync::mpsc::channel(1);
    let (ready, told) = std::sync::mpsc::sync_channel(1);
    let wanted: Vec<_> = files.iter().map(fetch::Wanted::from).collect();
    let decode = Arc::new(Decode {
        url: store.url().to_owned(),
        files: files.to_vec(),
        file: pending.file().clone(),
        path: pending.path().to_owned(),
        output: output.to_owned(),
        failed: tokio::sync::Notify::new(),
    });
    let write_back = {
        let file = pending.file().clone();
        tokio::task::spawn_blocking(move || write::write_back(&file, &told))
    };
    let decoded = {
        let decode = Arc::clone(&decode);
        tokio::task::spawn_blocking(move || decode.run(parts, ready))
    };
    let fetched = tokio::select! {
        fetched = fetch::fetch(store, &wanted, parallel, sender, progress) => fetched,
        () = decode.failed.notified() => Ok(()),
    };
    let decoded = decoded.await.map_err(join_error)?;
    match (fetched, decoded) {
        // Without all parts the decoder can only report that it was cut off.
        (Err(e), Err(RestoreError::Interrupted)) => Err(e),
        (_, decoded) => decoded.map(|shape| (shape, write_back)),
    }
}

/// Runs `work` on a blocking thread.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RestoreError> + Send + 'static,
) -> Result<T, RestoreError> {
    tokio::task::spawn_blocking(work).await.map_err(join_error)?
}

/// Repeats the panic of a failed assertion on this thread.
fn join_error(e: tokio::task::JoinError) -> RestoreError {
    match e.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => RestoreError::Interrupted,
    }
}
