//! Runs one restore.

use std::sync::Arc;
use std::time::Instant;

use tokio::task::JoinHandle;

use super::blocking::{blocking, join_error};
use super::choose::{Choice, Files};
use super::decode::Decode;
use super::error::RestoreError;
use super::integrity::Integrity;
use super::object::Wanted;
use super::options::RestoreOptions;
use super::progress::{Progress, Stage};
use super::report::{ProvenBy, Report};
use super::target::Target;
use super::walk::Shape;
use super::write::PageFile;
use super::{fetch, integrity, legacy, search};
use crate::base::clock::Millis;
use crate::base::{DatabaseChecksum, PageSize, Txid};
use crate::io::Engine;
use crate::io::durable::Pending;
use crate::legacy::{Applied, Generation, LegacyPlan, WalIndex};
use crate::store::{Entry, Store};

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
        let output = Output { target: &target, pending: &begun, engine, integrity };
        let pages = files(&store, &choice, output, parallel, progress);
        // The headers that tell whether there are two histories are read while pages arrive.
        let (pages, odd) = tokio::join!(pages, search.odd_files(&choice));
        if !search.is_of_one_history(odd, &choice)? {
            continue;
        }
        match pages {
            Ok((restored, write_back)) => break (choice, begun, restored, write_back),
            Err(e) => search.around(e, &choice).await?,
        }
    };
    let created = search.created(&choice, restored.created).await?;
    let pages_time = start.elapsed();
    progress.stage(Stage::Verify);
    // The check reads from the page cache while the kernel writes to the disk.
    let flush = engine.sync_all(pending.file());
    let path = pending.path().to_owned();
    let check = integrity.given(restored.is_proven);
    let verdict = blocking(move || integrity::check(&path, check)).await?;
    if let Some(write_back) = write_back {
        // No task may still have the file open when the restore ends: see the rules of `io`.
        write_back.await.map_err(join_error)?;
    }
    flush.await.map_err(|e| RestoreError::output("flush", pending.path(), restored.bytes, e))?;
    let length = pending.file().len().map_err(|e| RestoreError::output("look at", pending.path(), 0, e))?;
    if check == Integrity::None {
        pending.file().forget_cached();
    }
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
        damaged: search.into_damaged(&choice),
        page_size: restored.page_size,
        pages: u32::try_from(pages).unwrap_or(u32::MAX),
        files: choice.wanted().len(),
        fetched_bytes: choice.bytes(),
        output_bytes: restored.bytes,
        checksum: restored.checksum,
        proof: ProvenBy::of(restored.is_proven, check, &verdict),
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
    checksum: Option<DatabaseChecksum>,
    /// The replica says that this was the checksum of the database.
    is_proven: bool,
}

impl Restored {
    /// Compares the checksum of what was written with the one that the newest file has.
    fn ltx(shape: Shape, found: DatabaseChecksum, url: &str) -> Result<Restored, RestoreError> {
        let Shape { header } = shape;
        let (txid, created, page_size) = (header.max, header.timestamp, header.page_size);
        let is_proven = match header.checksum {
            Some(expected) if expected != found => {
                return Err(RestoreError::Checksum { url: url.to_owned(), txid, expected, found });
            }
            expected => expected.is_some(),
        };
        let (bytes, checksum) = (shape.bytes(), Some(found));
        Ok(Restored { txid, legacy: None, created, page_size, bytes, checksum, is_proven })
    }

    fn legacy(plan: &LegacyPlan, applied: Applied) -> Restored {
        let Applied { page_size, bytes } = applied;
        let legacy = Some((plan.generation, plan.index()));
        let (txid, created) = (Txid::default(), plan.created());
        Restored { txid, legacy, created, page_size, bytes, checksum: None, is_proven: false }
    }
}

/// Where the database is written to, and how.
#[derive(Clone, Copy)]
struct Output<'a> {
    target: &'a Target,
    pending: &'a Pending,
    engine: &'a Engine,
    integrity: Integrity,
}

/// Writes the database from the chosen files into the temporary file.
async fn files(
    store: &Arc<dyn Store>,
    choice: &Choice,
    output: Output<'_>,
    parallel: usize,
    progress: &dyn Progress,
) -> Result<(Restored, Option<JoinHandle<()>>), RestoreError> {
    match &choice.files {
        Files::Ltx(files) => {
            let files: Vec<Entry> = files.iter().rev().copied().collect();
            let (shape, found, under_way) = pages(store, (&files, output), parallel, progress).await?;
            Ok((Restored::ltx(shape, found, store.url())?, Some(under_way)))
        }
        Files::Legacy(plan) => {
            let (scratch, place) = output.target.scratch(output.pending)?;
            let applied = legacy::pages(store, plan, place, parallel, progress).await?;
            drop(scratch);
            Ok((Restored::legacy(plan, applied), None))
        }
    }
}

/// Downloads, proves and writes all pages, and computes their checksum. Also returns a task that
/// ends once the kernel has started writing all of it back.
async fn pages(
    store: &Arc<dyn Store>,
    (files, output): (&[Entry], Output<'_>),
    parallel: usize,
    progress: &dyn Progress,
) -> Result<(Shape, DatabaseChecksum, JoinHandle<()>), RestoreError> {
    let (sender, parts) = tokio::sync::mpsc::channel(1);
    let (ready, told) = std::sync::mpsc::sync_channel(1);
    let wanted: Vec<_> = files.iter().map(Wanted::from).collect();
    let Output { target, pending, engine, integrity } = output;
    let file = Arc::new(PageFile::new(pending.file(), pending.direct(), engine));
    let decode = Arc::new(Decode {
        url: store.url().to_owned(),
        files: files.to_vec(),
        pages: Arc::clone(&file),
        integrity,
        path: pending.path().to_owned(),
        output: target.path().to_owned(),
        failed: tokio::sync::Notify::new(),
    });
    let write_back = tokio::task::spawn_blocking(move || file.write_back(&told));
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
        (_, decoded) => decoded.map(|(shape, found)| (shape, found, write_back)),
    }
}
