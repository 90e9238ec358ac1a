//! Runs `lsfast restore`.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::signal::unix::{SignalKind, signal};

use super::{print, standby};
use crate::base::clock::Millis;
use crate::base::{Txid, limits};
use crate::cli::args::Global;
use crate::cli::setup::{self, Setup, Target};
use crate::cli::{choose, flags, generations, report, when};
use crate::config::Location;
use crate::io::keep_heap;
use crate::legacy::{Generation, WalIndex};
use crate::restore::{self, Integrity, Progress, RestoreError, RestoreOptions, Selection, Stage, Until};

/// Lines about the progress are this far apart where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Restore a database from a replica.
///
/// The newest state goes to a temporary file next to OUT, which gets its name when every checksum
/// has been verified, the file is flushed to the disk and SQLite finds nothing wrong. On any error
/// OUT is as it was. Where a file of the replica is damaged or missing, others that cover it are
/// used; an older state than the wanted one is restored only with `--salvage`.
///
/// Exit codes: 0 restored; 1 an error; 2 usage; 4 the wanted state is lost: a file that nothing
/// else covers is damaged or missing.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// A database of the config file by its path, or a replica: s3://BUCKET/PREFIX or file:///DIR
    #[arg(value_name = "DB|URL", value_parser = flags::database_or_url)]
    pub url: String,
    /// The replica to restore from, by its name in the config file; without it, the one with the
    /// newest state
    #[arg(long, value_name = "NAME")]
    pub replica: Option<String>,
    /// The database file to make; without it, DB, or the last part of the URL's path in the present
    /// directory
    #[arg(short, long, value_name = "OUT")]
    pub output: Option<PathBuf>,
    /// Restore the newest state stored before this time: RFC 3339, a local time such as "2026-11-21
    /// 14:03" or "yesterday 14:03", or "2h30m ago"
    #[arg(long, value_name = "TIME", value_parser = when::parse)]
    pub timestamp: Option<Millis>,
    /// Restore the state of this transaction id, in hex as `lsfast points` prints it; leading zeros
    /// may be left out
    #[arg(long, value_name = "HEX", value_parser = txid, conflicts_with = "timestamp")]
    pub txid: Option<Txid>,
    /// Restore from this generation, which Litestream 0.3 stored
    #[arg(long, value_name = "ID", value_parser = generations::generation, conflicts_with = "txid")]
    pub generation: Option<Generation>,
    /// Restore the state at the end of this WAL index, which Litestream 0.3 stored: hex as `lsfast
    /// wal` prints it
    #[arg(long, value_name = "HEX", value_parser = index, conflicts_with_all = ["timestamp", "txid"])]
    pub index: Option<WalIndex>,
    /// Where damaged or missing files keep the wanted state from being restored, restore the newest
    /// one before it that can be, and say which
    #[arg(long)]
    pub salvage: bool,
    /// Print what would be read, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Replace OUT once the new database is complete and verified; a database in use is never
    /// replaced
    #[arg(long)]
    pub force: bool,
    /// What SQLite checks before OUT gets its name
    #[arg(long, value_name = "CHECK", default_value = "quick")]
    pub integrity_check: IntegrityCheck,
    /// Do nothing, successfully, if OUT exists; an empty file is not a database
    #[arg(long)]
    pub if_db_not_exists: bool,
    /// Do nothing, successfully, if there is no replica at URL
    #[arg(long)]
    pub if_replica_exists: bool,
    /// Requests under way at once
    #[arg(long, value_name = "N", default_value_t = limits::RESTORE_TRANSFERS, value_parser = parallelism)]
    pub parallelism: usize,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub json: bool,
    /// Following
    #[command(flatten)]
    pub follow: standby::FollowArgs,
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

impl From<IntegrityCheck> for Integrity {
    fn from(check: IntegrityCheck) -> Integrity {
        match check {
            IntegrityCheck::None => Integrity::None,
            IntegrityCheck::Quick => Integrity::Quick,
            IntegrityCheck::Full => Integrity::Full,
        }
    }
}

fn parallelism(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if (1..=limits::RESTORE_TRANSFERS_MAX).contains(&n) => Ok(n),
        _ => Err(format!("write a number from 1 to {}", limits::RESTORE_TRANSFERS_MAX)),
    }
}

fn txid(text: &str) -> Result<Txid, String> {
    let hex = (1..=16).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
    match u64::from_str_radix(text, 16) {
        Ok(n) if hex && n > Txid::MAX.0 => Err(format!("the largest TXID there can be is {}", Txid::MAX)),
        Ok(n) if hex && n > 0 => Ok(Txid(n)),
        _ => Err("write up to 16 hex digits, such as 00000000000000ab or ab, and not 0".into()),
    }
}

fn index(text: &str) -> Result<WalIndex, String> {
    let hex = (1..=8).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
    let n = u32::from_str_radix(text, 16).ok().filter(|_| hex);
    n.and_then(WalIndex::new).ok_or_else(|| "write up to 8 hex digits, such as 0000000a or a".into())
}

impl RestoreArgs {
    fn selection(&self) -> Selection {
        let until = match (self.timestamp, self.txid) {
            (Some(time), _) => Until::Before(time),
            (_, Some(txid)) => Until::Txid(txid),
            _ => Until::Newest,
        };
        Selection { until, generation: self.generation, index: self.index, salvage: self.salvage }
    }
}

/// Runs the command.
pub(crate) fn run(global: &Global, setup: &mut Setup, args: &RestoreArgs) -> anyhow::Result<()> {
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
    if args.dry_run {
        return dry_run(setup, &event_loop, &location, args);
    }
    let state = args.selection();
    let output = match args.output.clone() {
        Some(output) => output,
        None => default?,
    };
    // Before anything is asked of a store.
    restore::resolve(&output)?;
    if args.follow.follow {
        return standby::run(setup, event_loop, &engine, &location, args, &output);
    }
    if args.if_db_not_exists && restore::is_there(&output)? {
        return print::nothing_done(args.json, &format!("{} exists: nothing to do", output.display()));
    }
    let options = RestoreOptions {
        output,
        force: args.force,
        integrity: args.integrity_check.into(),
        state,
        parallel: args.parallelism,
    };
    keep_heap();
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
        Ok(report) => print::print(&report, state, &location.url, args.json),
        Err(e) if args.if_replica_exists && is_empty(&e) => {
            print::nothing_done(args.json, &format!("no replica at {}: nothing restored", location.url))
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

fn dry_run(
    setup: &Setup,
    event_loop: &tokio::runtime::Runtime,
    location: &Location,
    args: &RestoreArgs,
) -> anyhow::Result<()> {
    let state = args.selection();
    let (choice, created) = event_loop.block_on(async {
        let store = setup.open(location)?;
        let choice = restore::choose(&*store, state).await?;
        let created = choice.created(&*store).await?;
        Ok::<_, anyhow::Error>((choice, created))
    })?;
    let text = match args.json {
        true => print::plan_json(&choice, created, &location.url),
        false => print::plan_text(&choice, created, state),
    };
    Ok(report::print_line(&text)?)
}

/// Shows how far it is: a bar on a terminal, else a line in the log now and then.
pub(crate) struct Watcher {
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
    pub(crate) fn new(terminal: bool) -> Watcher {
        let now = Instant::now();
        let lines = Mutex::new(Lines { begun: now, last: now, bytes: 0, of: 0 });
        Watcher { bar: terminal.then(ProgressBar::no_length), lines }
    }

    pub(crate) fn finish(&self) {
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
    use std::path::Path;

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
