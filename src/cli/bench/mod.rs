//! `lsfast bench [URL]`: what a commit costs here, and whether it comes back.
//!
//! ```text
//! writer (thread)       commits at random gaps, notes when COMMIT returned
//! replicate::run        the real pipeline, to a store that notes when it answered
//! measure               reads from each stored object which commits it holds; then puts the same bytes once more,
//!                       beside the replica: the floor for an upload of that size at that moment
//! restore, compare      page by page
//! ```

mod compare;
mod measure;
mod place;
mod stats;
mod timed;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;
use tokio::sync::mpsc;

use super::report::print_line;
use super::setup::{self, Setup};
use super::{Global, signals};
use crate::base::limits;
use crate::config::parse_duration;
use crate::io::Engine;
use crate::replicate::{self, DatabaseOptions, Options, ReplicaOptions, Stop};
use crate::restore::{self, RestoreOptions, Silent};
use crate::store::Store;
use measure::Measured;
use place::Place;
use stats::Summary;
use timed::TimedStore;

/// How long the last commits may take to be stored after the writer has ended.
const LAST_UPLOADS: Duration = Duration::from_secs(60);

/// Measure how fast a commit is safe here, then restore and compare.
///
/// Makes a temporary database and a writer that commits at random gaps, replicates it to a temporary directory or
/// to URL, and prints the time from COMMIT's return to the store's answer beside that of a raw PUT of the same bytes.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Where to: s3://BUCKET/PREFIX or file:///DIR; a scratch prefix below it is used and removed afterwards.
    /// Without one, a temporary directory
    #[arg(value_name = "URL")]
    pub url: Option<String>,
    /// How long the writer writes
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    pub duration: Duration,
    /// Average gap between two commits
    #[arg(long, value_name = "DURATION", default_value = "50ms", value_parser = parse_duration)]
    pub gap: Duration,
    /// As for replicate, where the default is 1s; 0 measures the pipeline and not the spacing
    #[arg(long, value_name = "DURATION", default_value = "0", value_parser = parse_duration)]
    pub sync_interval: Duration,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

/// What a run found.
#[derive(Debug, Serialize)]
struct Outcome {
    replica: String,
    io: String,
    duration_ms: u64,
    gap_ms: f64,
    sync_interval_ms: u64,
    commits: usize,
    uploads: usize,
    upload_bytes: u64,
    commit_to_stored: Summary,
    raw_put: Summary,
    restore_ms: f64,
    pages: u32,
    page_size: u32,
    pages_differing: usize,
}

/// Runs the command.
pub(super) fn run(global: &Global, setup: &mut Setup, args: &BenchArgs) -> anyhow::Result<()> {
    let (stopper, interrupted) = replicate::stop();
    signals::watch(stopper).context("signals cannot be caught")?;
    let engine = setup::engine(global)?;
    let place = Place::new(setup, args.url.as_deref())?;
    let event_loop = setup::event_loop()?;
    let local = tokio::task::LocalSet::new();
    let outcome = local.block_on(&event_loop, async {
        let outcome = bench(args, &engine, &place, interrupted).await;
        // In any case nothing is left behind; what went wrong first is the error.
        let cleaned = place.clean().await;
        outcome.and_then(|o| cleaned.map(|()| o))
    })?;
    let text = if args.json { serde_json::to_string(&outcome)? } else { outcome.to_string() };
    print_line(&text)?;
    match outcome.pages_differing {
        0 => Ok(()),
        n => anyhow::bail!("{n} of {} restored pages differ from the database", outcome.pages),
    }
}

async fn bench(
    args: &BenchArgs,
    engine: &Engine,
    place: &Place,
    interrupted: Stop,
) -> anyhow::Result<Outcome> {
    let db = place.local.join("bench.db");
    writer::create(&db)?;
    let measured = replicated(args, engine, place, &db, interrupted).await?;
    let out = place.local.join("restored.db");
    let report = restore::run(place.replica.clone(), engine, RestoreOptions::new(&out), &Silent).await?;
    let pages_differing = compare::differing_pages(&db, &out, report.page_size)?;
    let nothing = "nothing was stored: let the bench run longer (--duration)";
    Ok(Outcome {
        replica: place.name.clone(),
        io: engine.kind().to_string(),
        duration_ms: whole_ms(args.duration),
        gap_ms: args.gap.as_secs_f64() * 1e3,
        sync_interval_ms: whole_ms(args.sync_interval),
        commits: measured.latencies.len(),
        uploads: measured.raw.len(),
        upload_bytes: measured.upload_bytes,
        commit_to_stored: Summary::of(&measured.latencies).context(nothing)?,
        raw_put: Summary::of(&measured.raw).context(nothing)?,
        restore_ms: report.time.as_secs_f64() * 1e3,
        pages: report.pages,
        page_size: report.page_size.get(),
        pages_differing,
    })
}

/// Runs writer, pipeline and measurement, and ends them in that order.
async fn replicated(
    args: &BenchArgs,
    engine: &Engine,
    place: &Place,
    db: &Path,
    interrupted: Stop,
) -> anyhow::Result<Measured> {
    let (answers, mut stored) = mpsc::unbounded_channel();
    let (made, mut commits) = mpsc::unbounded_channel();
    let store: Arc<dyn Store> = Arc::new(TimedStore::new(place.replica.clone(), answers));
    let (stopper, stop) = replicate::stop();
    let options = Options {
        databases: vec![DatabaseOptions::new(
            db,
            vec![ReplicaOptions {
                store,
                sync_interval: args.sync_interval,
                history: replicate::HistoryOptions::off(),
            }],
        )],
        directories: Vec::new(),
        once: None,
        safety_tick: limits::SAFETY_TICK,
        engine: engine.clone(),
        shutdown_timeout: LAST_UPLOADS,
        observer: Arc::new(|_| {}),
        vitals: Arc::default(),
    };
    let mut pipeline = tokio::task::spawn_local(replicate::run(options, stop));
    let ended = |r: Result<Result<(), _>, tokio::task::JoinError>| match r {
        Ok(Ok(())) => anyhow::anyhow!("replication ended by itself"),
        Ok(Err(e)) => anyhow::Error::from(e),
        Err(e) => std::panic::resume_unwind(e.into_panic()),
    };
    tokio::select! {
        // When both are ready, the pipeline's own error says more.
        biased;
        r = &mut pipeline => return Err(ended(r)),
        Some(_) = stored.recv() => {}
    }
    let halt = Arc::new(AtomicBool::new(false));
    let writing = {
        let (db, halt, gap) = (db.to_path_buf(), Arc::clone(&halt), args.gap);
        let end = Instant::now() + args.duration;
        tokio::task::spawn_blocking(move || writer::write(&db, end, gap, &halt, &made))
    };
    let measured = tokio::select! {
        biased;
        r = &mut pipeline => Err(ended(r)),
        m = measure::measure(&mut commits, &mut stored, place.raw.as_ref(), LAST_UPLOADS) => m,
        () = interrupted.asked() => Err(anyhow::anyhow!("interrupted: nothing was measured to its end")),
    };
    halt.store(true, Ordering::Relaxed);
    drop(commits);
    let written = writing.await?;
    stopper.ask();
    if !pipeline.is_finished() {
        pipeline.await??;
    }
    written?;
    measured
}

fn whole_ms(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Outcome { replica, io, commits, uploads, upload_bytes, pages, page_size, .. } = self;
        writeln!(f, "to {replica}, files by {io}")?;
        writeln!(
            f,
            "{commits} commits at random gaps of {} ms on average, {uploads} uploads, {upload_bytes} bytes, sync interval {} ms",
            self.gap_ms, self.sync_interval_ms
        )?;
        writeln!(f, "\n{}", stats::HEADING)?;
        writeln!(f, "{}", self.commit_to_stored.row("commit -> stored"))?;
        writeln!(f, "{}\n", self.raw_put.row("raw PUT, same bytes"))?;
        let verdict = match self.pages_differing {
            0 => format!("all {pages} pages of {page_size} bytes are equal"),
            n => format!("{n} OF {pages} PAGES DIFFER"),
        };
        write!(f, "restored in {:.0} ms: {verdict}", self.restore_ms)
    }
}
