//! `lsfast restore [-o OUT] URL`

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::signal::unix::{SignalKind, signal};

use super::setup::{self, Setup, Target};
use super::{Global, choose, report};
use crate::base::limits;
use crate::restore::{
    self, Integrity, Progress, Report, RestoreError, RestoreOptions, Selection, Stage, Verdict,
};

/// Lines about the progress are this far apart where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Restore a database from a replica.
///
/// The newest state goes to a temporary file beside OUT, which gets its name when every checksum has been verified,
/// the file is flushed to the disk and SQLite finds nothing wrong. On any error OUT is as it was.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// A database of the config file by its path, or a replica: s3://BUCKET/PREFIX or file:///DIR
    #[arg(value_name = "DB|URL")]
    pub url: String,
    /// The replica to restore from, by its name in the config file; without it, the one that has most
    #[arg(long, value_name = "NAME")]
    pub replica: Option<String>,
    /// The database file to make; without it, DB, or the last part of the URL's path in the present directory
    #[arg(short, long, value_name = "OUT")]
    pub output: Option<PathBuf>,
    /// Replace OUT once the new database is complete and verified; a database in use is never replaced
    #[arg(long)]
    pub force: bool,
    /// What SQLite checks before OUT gets its name
    #[arg(long, value_name = "CHECK", default_value = "quick")]
    pub integrity_check: IntegrityCheck,
    /// Do nothing, successfully, if OUT exists
    #[arg(long)]
    pub if_db_not_exists: bool,
    /// Do nothing, successfully, if there is no replica at URL
    #[arg(long)]
    pub if_replica_exists: bool,
    /// Requests under way at once
    #[arg(long, value_name = "N", default_value_t = limits::TRANSFERS, value_parser = parallelism)]
    pub parallelism: usize,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

/// What SQLite checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum IntegrityCheck {
    /// Nothing; checksums are verified all the same.
    None,
    /// Pages and records: PRAGMA `quick_check`.
    Quick,
    /// Indexes against tables too: PRAGMA `integrity_check`.
    Full,
}

fn parallelism(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if (1..=limits::RESTORE_TRANSFERS_MAX).contains(&n) => Ok(n),
        _ => Err(format!("write a number from 1 to {}", limits::RESTORE_TRANSFERS_MAX)),
    }
}

/// Runs the command.
pub(super) fn run(global: &Global, setup: &mut Setup, args: RestoreArgs) -> anyhow::Result<()> {
    let engine = setup::engine(global)?;
    let event_loop = setup::event_loop()?;
    let (location, default) = match setup.target(&args.url, "restore")? {
        Target::Replica(location) => {
            let output = if args.url.contains("://") {
                default_output(&location.url)
            } else {
                Ok(PathBuf::from(&args.url))
            };
            (*location, output)
        }
        Target::Database(database) => {
            let location = event_loop.block_on(choose::newest(setup, &database, args.replica.as_deref()))?;
            (location, Ok(database.path.value.clone()))
        }
    };
    let output = match args.output {
        Some(output) => output,
        None => default?,
    };
    if args.if_db_not_exists && output.exists() {
        return nothing_done(args.json, &format!("{} exists: nothing to do", output.display()));
    }
    let options = RestoreOptions {
        output,
        force: args.force,
        integrity: match args.integrity_check {
            IntegrityCheck::None => Integrity::None,
            IntegrityCheck::Quick => Integrity::Quick,
            IntegrityCheck::Full => Integrity::Full,
        },
        state: Selection::default(),
        parallel: args.parallelism,
    };
    let watcher = Watcher::new(std::io::stderr().is_terminal());
    let outcome = event_loop.block_on(async {
        let store = setup.open(&location)?;
        let mut interrupt = signal(SignalKind::interrupt()).context("signals cannot be caught")?;
        let mut terminate = signal(SignalKind::terminate()).context("signals cannot be caught")?;
        // A restore that is dropped removes its temporary file.
        tokio::select! {
            outcome = restore::run(store, &engine, options, &watcher) => Ok(outcome?),
            _ = interrupt.recv() => Err(RestoreError::Interrupted.into()),
            _ = terminate.recv() => Err(RestoreError::Interrupted.into()),
        }
    });
    // What still runs on other threads after an interruption has lost its file.
    event_loop.shutdown_background();
    watcher.finish();
    let is_empty =
        |e: &anyhow::Error| matches!(e.downcast_ref::<RestoreError>(), Some(RestoreError::Empty { .. }));
    match outcome {
        Ok(report) => print(&report, &location.url, args.json),
        Err(e) if args.if_replica_exists && is_empty(&e) => {
            nothing_done(args.json, &format!("no replica at {}: nothing restored", location.url))
        }
        Err(e) => Err(e),
    }
}

/// The last part of the URL's path, without the `-replica` that a default replica ends in.
fn default_output(url: &str) -> anyhow::Result<PathBuf> {
    let path = url.split_once("://").map_or(url, |(_, rest)| rest).trim_end_matches('/');
    let name = path.split_once('/').and_then(|(_, path)| path.rsplit('/').next()).unwrap_or_default();
    let name = name.strip_suffix("-replica").unwrap_or(name);
    if name.is_empty() || name == "." || name == ".." {
        anyhow::bail!("{url} does not say what the database is called: name the file to make with -o OUT");
    }
    Ok(PathBuf::from(name))
}

fn nothing_done(json: bool, reason: &str) -> anyhow::Result<()> {
    let line = if json {
        serde_json::json!({ "restored": false, "reason": reason }).to_string()
    } else {
        reason.into()
    };
    Ok(report::print_line(&line)?)
}

fn print(report: &Report, url: &str, json: bool) -> anyhow::Result<()> {
    let line = if json { json_line(report, url) } else { text_line(report, url) };
    Ok(report::print_line(&line)?)
}

fn text_line(report: &Report, url: &str) -> String {
    let Report { output, txid, created, page_size, pages, integrity, time, output_bytes, .. } = report;
    let checked = match integrity {
        Verdict::Skipped => String::new(),
        Verdict::Ok => ", SQLite finds nothing wrong".to_owned(),
        Verdict::NotChecked(why) => format!(", not checked by SQLite ({why})"),
    };
    let rate = *output_bytes as f64 / 1e6 / time.as_secs_f64().max(1e-6);
    format!(
        "restored {} from {url}: {pages} pages of {page_size} bytes, TXID {txid} of {created}, in {:.2} s \
         ({rate:.0} MB/s){checked}",
        output.display(),
        time.as_secs_f64(),
    )
}

fn json_line(report: &Report, url: &str) -> String {
    let integrity = match &report.integrity {
        Verdict::Skipped => "skipped".to_owned(),
        Verdict::Ok => "ok".to_owned(),
        Verdict::NotChecked(why) => format!("not checked: {why}"),
    };
    serde_json::json!({
        "restored": true,
        "url": url,
        "output": absolute(&report.output).to_string_lossy(),
        "txid": report.txid.to_string(),
        "created": report.created.to_rfc3339(),
        "page_size": report.page_size.get(),
        "pages": report.pages,
        "bytes": report.output_bytes,
        "files": report.files,
        "fetched_bytes": report.fetched_bytes,
        "integrity": integrity,
        "seconds": report.time.as_secs_f64(),
    })
    .to_string()
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Shows how far it is: a bar on a terminal, else a line in the log now and then.
struct Watcher {
    bar: Option<ProgressBar>,
    lines: Mutex<Lines>,
}

struct Lines {
    begun: Instant,
    last: Instant,
    bytes: u64,
    of: u64,
}

impl Watcher {
    fn new(terminal: bool) -> Watcher {
        let now = Instant::now();
        let lines = Mutex::new(Lines { begun: now, last: now, bytes: 0, of: 0 });
        Watcher { bar: terminal.then(ProgressBar::no_length), lines }
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Progress for Watcher {
    fn planned(&self, files: usize, bytes: u64) {
        match &self.bar {
            Some(bar) => {
                bar.set_length(bytes);
                let form = "{wide_bar} {percent}%  {bytes} of {total_bytes}  {bytes_per_sec}  {eta} left";
                if let Ok(style) = ProgressStyle::with_template(form) {
                    bar.set_style(style);
                }
                bar.enable_steady_tick(Duration::from_millis(200));
            }
            None => tracing::info!(files, bytes, "restore begins"),
        }
        self.lines.lock().unwrap_or_else(std::sync::PoisonError::into_inner).of = bytes;
    }

    fn fetched(&self, bytes: u64) {
        if let Some(bar) = &self.bar {
            return bar.inc(bytes);
        }
        let mut lines = self.lines.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        lines.bytes += bytes;
        if lines.last.elapsed() >= LINE_EVERY {
            lines.last = Instant::now();
            let rate = lines.bytes as f64 / lines.begun.elapsed().as_secs_f64();
            let left = (lines.of.saturating_sub(lines.bytes)) as f64 / rate.max(1.0);
            tracing::info!(
                bytes = lines.bytes,
                of = lines.of,
                megabytes_per_second = (rate / 1e6) as u64,
                seconds_left = left as u64,
                "restoring"
            );
        }
    }

    fn stage(&self, stage: Stage) {
        let Some(bar) = &self.bar else { return };
        match stage {
            Stage::Pages => {}
            Stage::Verify | Stage::Install => {
                if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}  {elapsed}") {
                    bar.set_style(style);
                }
                bar.set_message(if stage == Stage::Verify { "verifying" } else { "finishing" });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_output_is_the_last_part_of_the_path() {
        for (url, name) in [
            ("s3://bucket/apps/app.db", "app.db"),
            ("s3://bucket/app.db/", "app.db"),
            ("file:///backups/app.db-replica", "app.db"),
        ] {
            assert_eq!(default_output(url).expect("a name"), Path::new(name));
        }
        for url in ["s3://bucket", "s3://bucket/", "file:///", "file:///-replica"] {
            let e = default_output(url).expect_err("no name").to_string();
            assert!(e.contains("-o OUT"), "{e}");
        }
    }
}
