//! Restoring: from the files of a replica to one database file.
//!
//! One listing, a [`plan`], and each file of the plan once, in parts, several requests at once. Files are read from
//! the newest to the oldest, for three reasons: the newest header says how long the database is; the first image of a
//! page that comes along is the one to keep, so that one bit for each page is all the memory it takes; and the young
//! small files, which the replicator merges and removes first, are in hand first.
//!
//! Every byte of every file has to come anyway, since the file checksum covers all pages, also those that a newer
//! file replaces. So the page index is of no use here and is not asked for: [`walk`] finds the frames in the bytes as
//! they come, and a file with a wrong index is no special case.
//!
//! ```text
//!  fetch (async)          walk (1 thread)             decode (1 thread a core)
//!  ranged GETs, in order  frames, newest image wins   LZ4, CRC, one write at the final offset
//! ```
//!
//! Memory: [`limits::RESTORE_BYTES`] of files on the way, [`limits::RESTORE_WRITES`] + 1 writes of
//! [`limits::RESTORE_WRITE_BYTES`] a thread, and one bit for each page of the database.
//!
//! Nothing has the name of the output before it is whole: the pages go to a temporary file beside it, which gets the
//! name when each file is proven by its checksum, each page was written, the file is flushed and SQLite found nothing
//! wrong. See `target` for what happens to a database that is replaced.

mod claims;
mod decode;
mod error;
mod fetch;
pub mod plan;
mod proof;
mod target;
mod verify;
mod walk;
mod write;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use error::RestoreError;
pub use plan::{PlanError, Until};
pub use verify::{Integrity, Verdict};

use crate::base::clock::Millis;
use crate::base::{PageSize, Txid, limits};
use crate::io::Engine;
use crate::io::durable::Pending;
use crate::ltx::LtxError;
use crate::ltx::index::FILE_LEN_MIN;
use crate::store::{Entry, Scope, Store};
use decode::Decode;
use target::Target;
use walk::Shape;

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
    pub until: Until,
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
            until: Until::default(),
            parallel: limits::TRANSFERS,
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
    /// Its state: the last transaction id in it.
    pub txid: Txid,
    /// When that state was stored.
    pub created: Millis,
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
    let RestoreOptions { output, force, integrity, until, parallel } = options;
    let target = blocking(move || Target::examine(&output, force)).await?;
    let files = newest_first(&*store, until).await?;
    let fetched_bytes = files.iter().map(|e| e.size).sum();
    progress.planned(files.len(), fetched_bytes);
    progress.stage(Stage::Pages);
    let (target, pending) = blocking(move || target.begin().map(|pending| (target, pending))).await?;
    let shape = pages(&store, engine, (&files, &pending), parallel.max(1), progress).await?;
    let pages_time = start.elapsed();
    progress.stage(Stage::Verify);
    // The check reads from the page cache while the disk is written to.
    let flush = engine.sync_all(pending.file());
    let path = pending.path().to_owned();
    let verdict = blocking(move || verify::check(&path, integrity)).await?;
    flush.await.map_err(|e| RestoreError::output("flush", pending.path(), shape.bytes(), e))?;
    let length = pending.file().len().map_err(|e| RestoreError::output("look at", pending.path(), 0, e))?;
    assert_eq!(length, shape.bytes(), "the database has the length that its header says");
    progress.stage(Stage::Install);
    let target = blocking(move || target.install(pending).map(|()| target)).await?;
    let header = shape.header;
    Ok(Report {
        output: target.path().to_owned(),
        txid: header.max,
        created: header.timestamp,
        page_size: header.page_size,
        pages: header.commit,
        files: files.len(),
        fetched_bytes,
        output_bytes: shape.bytes(),
        integrity: verdict,
        pages_time,
        time: start.elapsed(),
    })
}

/// Lists once and plans; the newest file comes first.
async fn newest_first(store: &dyn Store, until: Until) -> Result<Vec<Entry>, RestoreError> {
    let url = || store.url().to_owned();
    let entries = store.list(Scope::All).await?;
    let mut files = plan::plan(&entries, until).map_err(|cause| match cause {
        PlanError::Empty => RestoreError::Empty { url: url() },
        cause => RestoreError::Plan { url: url(), cause },
    })?;
    if let Some(short) = files.iter().find(|e| e.size < FILE_LEN_MIN) {
        let cause = LtxError::Truncated { len: short.size, part: "first part" };
        return Err(RestoreError::Corrupt { object: short.id, url: url(), cause });
    }
    files.reverse();
    Ok(files)
}

/// Gets, proves and writes all pages.
async fn pages(
    store: &Arc<dyn Store>,
    engine: &Engine,
    (files, pending): (&[Entry], &Pending),
    parallel: usize,
    progress: &dyn Progress,
) -> Result<Shape, RestoreError> {
    let (sender, parts) = tokio::sync::mpsc::channel(1);
    let decode = Arc::new(Decode {
        url: store.url().to_owned(),
        files: files.to_vec(),
        engine: engine.clone(),
        file: pending.file().clone(),
        path: pending.path().to_owned(),
        failed: tokio::sync::Notify::new(),
    });
    let decoded = {
        let decode = Arc::clone(&decode);
        tokio::task::spawn_blocking(move || decode.run(parts))
    };
    let fetched = tokio::select! {
        fetched = fetch::fetch(store, files, parallel, sender, progress) => fetched,
        () = decode.failed.notified() => Ok(()),
    };
    let decoded = decoded.await.map_err(join_error)?;
    match (fetched, decoded) {
        // Without all parts the decoder can only say that it was cut off.
        (Err(e), Err(RestoreError::Interrupted)) => Err(e),
        (_, decoded) => decoded,
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
