//! Restoring: from the files of a replica to one database file.
//!
//! One listing, a [`plan`], and each file of the plan once, in parts, several requests at once.
//! Files are read from the newest to the oldest, for three reasons: the newest header says how long
//! the database is; the first image of a page that comes along is the one to keep, so that one bit
//! for each page is all the memory it takes; and the young small files, which the replicator merges
//! and removes first, are in hand first.
//!
//! Every byte of every file has to come anyway, since the file checksum covers all pages, also
//! those that a newer file replaces. So the page index is of no use here and is not asked for:
//! [`walk`] finds the frames in the bytes as they come, and a file with a wrong index is no special
//! case.
//!
//! ```text
//!  fetch (async)          walk (1 thread)             decode (1 thread a core)
//!  ranged GETs, in order  frames, newest image wins   LZ4, CRC, one write at the final offset
//! ```
//!
//! What was written goes to the disk while other files still come, so that the flush at the end
//! finds little to do.
//!
//! Memory: [`limits::RESTORE_BYTES`] of files on the way, a write of
//! [`limits::RESTORE_WRITE_BYTES`] for each thread, and one bit for each page of the database.
//!
//! Nothing has the name of the output before it is whole: the pages go to a temporary file beside
//! it, which gets the name when each file is proven by its checksum, each page was written, the
//! file is flushed and SQLite found nothing wrong. See `target` for what happens to a database that
//! is replaced.
//!
//! Replicas of Litestream 0.3 go the same way but for the pages: a snapshot and pieces of logs are
//! applied in order by one thread (`legacy`), by way of a second temporary file as long as the
//! longest log.

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

/// Which state is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Selection {
    /// By TXID or time.
    pub until: Until,
    /// Of this generation of Litestream 0.3, whatever else is there.
    pub generation: Option<Generation>,
    /// At the end of this log of Litestream 0.3, whatever `until` says.
    pub index: Option<WalIndex>,
    /// The newest state before it is enough, where files that it needs are damaged or missing.
    pub salvage: bool,
}

impl From<Until> for Selection {
    fn from(until: Until) -> Selection {
        Selection { until, ..Selection::default() }
    }
}

/// What is wanted.
#[derive(Debug, Clone)]
pub struct RestoreOptions {
    /// Where the database goes.
    pub output: PathBuf,
    /// Replace what is there, once the new database is complete and verified.
    pub force: bool,
    /// How thoroughly SQLite looks at the result.
    pub integrity: Integrity,
    /// Which state.
    pub state: Selection,
    /// Requests under way at once.
    pub parallel: usize,
}

impl RestoreOptions {
    /// The newest state, quickly checked, into a file that is not there yet.
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

/// What a restore is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Getting and writing pages.
    Pages,
    /// Flushing to the disk, and SQLite's look at the result.
    Verify,
    /// Giving the file its name.
    Install,
}

/// Who wants to know how far it is. Called often; must not block.
pub trait Progress: Sync {
    /// The plan is made: so many files, so many bytes.
    fn planned(&self, files: usize, bytes: u64);
    /// So many more bytes have come.
    fn fetched(&self, bytes: u64);
    /// The next stage begins.
    fn stage(&self, stage: Stage);
}

/// Nobody.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Progress for Silent {
    fn planned(&self, _files: usize, _bytes: u64) {}
    fn fetched(&self, _bytes: u64) {}
    fn stage(&self, _stage: Stage) {}
}

/// What was restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The database, with links resolved.
    pub output: PathBuf,
    /// Its state: the last transaction id in it; 0 for a state of Litestream 0.3, which counts
    /// none.
    pub txid: Txid,
    /// The file that ends with that state; `None` for a state of Litestream 0.3.
    pub newest_file: Option<LtxId>,
    /// Generation and log, of a state of Litestream 0.3.
    pub legacy: Option<(Generation, WalIndex)>,
    /// When that state was stored.
    pub created: Millis,
    /// Nothing newer has been stored there.
    pub is_newest: bool,
    /// Files that were passed over because they are damaged, each with the reason.
    pub damaged: Vec<(LtxId, String)>,
    /// Bytes in a page.
    pub page_size: PageSize,
    /// Pages of the database.
    pub pages: u32,
    /// Files that were read.
    pub files: usize,
    /// Bytes of those files.
    pub fetched_bytes: u64,
    /// Bytes of the database.
    pub output_bytes: u64,
    /// What SQLite says.
    pub integrity: Verdict,
    /// Time until the pages were written, without flush and check.
    pub pages_time: Duration,
    /// Time in all.
    pub time: Duration,
}

/// Restores a database.
///
/// # Errors
/// See [`RestoreError`]. The output is then as it was, and no temporary file is left.
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
    // The check reads from the page cache while the disk is written to.
    let flush = engine.sync_all(pending.file());
    let path = pending.path().to_owned();
    let verdict = blocking(move || verify::check(&path, integrity)).await?;
    if let Some(write_back) = write_back {
        // Nobody may have the file open when this is over: see the rules of `io`.
        write_back.await.map_err(join_error)?;
    }
    flush.await.map_err(|e| RestoreError::output("flush", pending.path(), restored.bytes, e))?;
    let length = pending.file().len().map_err(|e| RestoreError::output("look at", pending.path(), 0, e))?;
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

/// The database in the temporary file.
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

/// Makes the database of the chosen files, in the temporary file.
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

/// Gets, proves and writes all pages. What it gives besides ends when the disk has begun with all
/// that it was told of.
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
        // Without all parts the decoder can only say that it was cut off.
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

/// An assertion that failed on another thread fails here too.
fn join_error(e: tokio::task::JoinError) -> RestoreError {
    match e.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => RestoreError::Interrupted,
    }
}
