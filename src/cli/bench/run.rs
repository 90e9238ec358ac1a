//! Runs the benchmark.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::error::ErrorKind;
use clap::{Args, Command};
use tokio::sync::mpsc;

use super::child::Child;
use super::load::{Load, Rate, Synchronous, parse_rate};
use super::measure::{Measured, Meter, Plan};
use super::outcome::{Outcome, Restored, Subject};
use super::place::BenchFiles;
use super::timed::TimedStore;
use super::watch::{Bytes, Turns};
use super::{compare, plot, writer};
use crate::base::limits;
use crate::cli::global::Global;
use crate::cli::report::print_line;
use crate::cli::setup::Setup;
use crate::cli::{progress, runtime, signals};
use crate::config::parse_duration;
use crate::io::Engine;
use crate::replicate::{self, DatabaseOptions, Options, ReplicaOptions, Stop};
use crate::restore::{self, RestoreOptions};
use crate::store::Store;

/// How long the last commits may take to be stored after the writer has ended.
const LAST_UPLOADS: Duration = Duration::from_secs(60);

/// Longest run. The records of all commits are kept in memory.
const DURATION_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// How long the pipeline may take to end. Everything measured is stored by then.
const SHUTDOWN: Duration = Duration::from_secs(5);

const INTERRUPTED: &str = "interrupted: nothing was measured to its end";

/// Most bytes of rows in one transaction.
const TRANSACTION_BYTES: u64 = 256 << 20;

/// Measure how soon a commit is stored, then restore and compare.
///
/// Makes a temporary database and a writer, replicates it to a temporary directory or to URL, and
/// prints the time from COMMIT's return to the store's answer next to that of a raw PUT of the same
/// bytes: percentiles and a histogram. With --compare, or with --rate max, it also prints how much
/// of its speed the writer keeps with lsfast.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Where to: s3://BUCKET/PREFIX or file:///DIR; a scratch prefix below it is used and removed afterwards.
    /// Without one, a temporary directory
    #[arg(value_name = "URL")]
    pub url: Option<String>,
    /// How long the writer writes with lsfast
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    pub duration: Duration,
    /// Commits a second, at random times (Poisson) that do not wait for what came before; `max` or
    /// 0: one after the other, as fast as possible [default: 20]
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    pub rate: Option<Rate>,
    /// The same as an average gap between two commits
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, conflicts_with = "rate")]
    pub gap: Option<Duration>,
    /// Rows in each transaction
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    pub rows: u32,
    /// Size of a row; half of it can be compressed
    #[arg(long, value_name = "BYTES", default_value = "200", value_parser = clap::value_parser!(u32).range(1..))]
    pub row_bytes: u32,
    /// PRAGMA synchronous of the writer
    #[arg(long, value_name = "LEVEL", default_value = "normal")]
    pub synchronous: Synchronous,
    /// As for replicate, where the default is 1s; 0 measures the pipeline and not the spacing
    #[arg(long, value_name = "DURATION", default_value = "0", value_parser = parse_duration)]
    pub sync_interval: Duration,
    /// Measure the writer without lsfast as well, in alternating turns that take as long again;
    /// --rate max does so always
    #[arg(long)]
    pub compare: bool,
    /// Write the distribution, and the lag and the size of the WAL over time, as SVG
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub json: bool,
    /// Be the writer for the databases in this folder: how the bench starts its other process
    #[arg(long, value_name = "DIR", hide = true)]
    pub writer: Option<PathBuf>,
}

/// Commits a second if no flag sets a rate.
const RATE: Rate = Rate::PerSecond(20.0);

impl BenchArgs {
    fn load(&self) -> Load {
        let rate = self.rate.or_else(|| self.gap.map(Rate::of_gap)).unwrap_or(RATE);
        Load { rate, rows: self.rows, row_bytes: self.row_bytes, synchronous: self.synchronous }
    }

    fn plan(&self) -> Plan {
        let rate = self.load().rate;
        let raw_pause = match rate {
            Rate::PerSecond(rate) => {
                Duration::try_from_secs_f64(0.5 / rate).unwrap_or(Duration::MAX).min(self.duration)
            }
            Rate::Max => Duration::ZERO,
        };
        Plan { time: self.duration, compare: self.compare || rate == Rate::Max, raw_pause }
    }

    /// Rejects settings that no run can satisfy.
    fn check(&self) -> Result<(), String> {
        let duration = self.duration;
        if duration.is_zero() || duration > DURATION_MAX {
            return Err(String::from("--duration must be more than 0 and at most 24h"));
        }
        if let Rate::PerSecond(rate) = self.load().rate
            && rate * duration.as_secs_f64() < 1.0
        {
            return Err(format!(
                "in {duration:?} not one commit is expected: a longer --duration, or more often"
            ));
        }
        if u64::from(self.rows) * u64::from(self.row_bytes) > TRANSACTION_BYTES {
            return Err(format!(
                "{} rows of {} bytes are more than a transaction here may have ({} MiB)",
                self.rows,
                self.row_bytes,
                TRANSACTION_BYTES >> 20
            ));
        }
        Ok(())
    }
}

/// Runs `lsfast bench`. `cli` formats usage errors.
pub(crate) fn run(
    mut cli: Command,
    global: &Global,
    setup: &mut Setup,
    args: &BenchArgs,
) -> anyhow::Result<()> {
    if let Some(folder) = &args.writer {
        return writer::process(folder, args.load());
    }
    if let Err(message) = args.check() {
        cli.error(ErrorKind::ValueValidation, message).exit();
    }
    if let Some(path) = &args.plot {
        plot::check(path)?;
    }
    let (stopper, interrupted) = replicate::stop();
    signals::Watch::begin(stopper).context("signals cannot be caught")?.hang_up(None);
    let engine = runtime::engine(global)?;
    let place = BenchFiles::new(setup, args.url.as_deref())?;
    let event_loop = runtime::event_loop()?;
    let local = tokio::task::LocalSet::new();
    let outcome = local.block_on(&event_loop, async {
        let outcome = match place.try_out().await {
            Ok(()) => bench(args, &engine, &place, interrupted).await,
            Err(e) => Err(e),
        };
        // Cleans up in any case; the first failure is the error.
        let cleaned = place.clean().await;
        outcome.and_then(|o| cleaned.map(|()| o))
    })?;
    print_line(&if args.json { outcome.json()? } else { outcome.to_string() })?;
    if let Some(path) = &args.plot {
        plot::write(path, &outcome.svg())?;
    }
    match outcome.restored.pages_differing {
        0 => Ok(()),
        n => anyhow::bail!("{n} of {} restored pages differ from the database", outcome.restored.pages),
    }
}

async fn bench(
    args: &BenchArgs,
    engine: &Engine,
    place: &BenchFiles,
    interrupted: Stop,
) -> anyhow::Result<Outcome> {
    let [db, _] = writer::databases(&place.local);
    let (turns, time) = (Turns::default(), args.plan().all());
    let measured = progress::while_shown(
        replicated(args, engine, place, interrupted, &turns),
        progress::show_looks(|| std::future::ready(()), || Some(turns.look(time))),
    )
    .await?;
    let out = place.local.join("restored.db");
    let fetched = Bytes::default();
    let report = progress::while_shown(
        restore::run(place.replica.clone(), engine, RestoreOptions::new(&out), &fetched),
        progress::show("restoring", || std::future::ready(()), || Some(fetched.read())),
    )
    .await?;
    let (compared, size, sum) = (Arc::new(Bytes::default()), report.page_size, report.checksum);
    let counted = Arc::clone(&compared);
    let comparison =
        tokio::task::spawn_blocking(move || compare::differing_pages(&db, &out, size, sum, &counted));
    let pages_differing = progress::while_shown(
        comparison,
        progress::show("comparing", || std::future::ready(()), || Some(compared.read())),
    )
    .await??;
    let (time, pages) = (report.time, report.pages);
    let restored = Restored { time, pages, page_size: size.get(), pages_differing };
    let subject = Subject {
        replica: place.name.clone(),
        io: engine.kind().to_string(),
        load: args.load(),
        time: args.duration,
        sync_interval: args.sync_interval,
    };
    Outcome::new(subject, measured, restored)
}

/// Runs writer, pipeline and measurement, and ends them in that order.
async fn replicated(
    args: &BenchArgs,
    engine: &Engine,
    place: &BenchFiles,
    interrupted: Stop,
    turns: &Turns,
) -> anyhow::Result<Measured> {
    let plan = args.plan();
    let databases = writer::databases(&place.local);
    let made = if plan.compare { &databases[..] } else { &databases[..1] };
    made.iter().try_for_each(|db| writer::create(db))?;
    let mut writer = Child::start(&place.local, &args.load())?;
    let (answers, mut stored) = mpsc::unbounded_channel();
    let store: Arc<dyn Store> = Arc::new(TimedStore::new(place.replica.clone(), answers));
    let (stopper, stop) = replicate::stop();
    let options = Options {
        databases: vec![DatabaseOptions::new(
            &databases[0],
            vec![ReplicaOptions {
                verification: None,
                store,
                sync_interval: args.sync_interval,
                history: replicate::HistoryOptions::off(),
            }],
        )],
        directories: Vec::new(),
        once: None,
        safety_tick: limits::SAFETY_TICK,
        engine: engine.clone(),
        shutdown_timeout: SHUTDOWN,
        once_timeout: None,
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
        // If both are ready, the pipeline's own error says more.
        biased;
        r = &mut pipeline => return Err(ended(r)),
        Some(_) = stored.recv() => {}
        () = interrupted.asked() => {
            stopper.ask();
            pipeline.await??;
            anyhow::bail!(INTERRUPTED);
        }
    }
    let logs = databases.map(|db| db.with_extension("db-wal"));
    let (stored, raw) = (&mut stored, place.raw.as_ref());
    let meter = Meter { plan, writer: &mut writer, stored, raw, logs, patience: LAST_UPLOADS, turns };
    let measured = tokio::select! {
        biased;
        r = &mut pipeline => Err(ended(r)),
        m = meter.measure() => m,
        () = interrupted.asked() => Err(anyhow::anyhow!(INTERRUPTED)),
    };
    // The writer ends before lsfast, whose connection keeps the application's last one from
    // removing the WAL.
    let written = match measured {
        Ok(_) => writer.end(),
        Err(_) => {
            drop(writer);
            Ok(())
        }
    };
    stopper.ask();
    if !pipeline.is_finished() {
        pipeline.await??;
    }
    written?;
    measured
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::args::{self, Cli};

    fn parse(args: &str) -> Result<BenchArgs, String> {
        let words = ["lsfast", "bench"].into_iter().chain(args.split_whitespace());
        match Cli::try_parse_from(words).map_err(|e| e.to_string())?.command {
            args::Command::Bench(args) => args.check().map(|()| args),
            _ => Err(String::from("another command")),
        }
    }

    #[test]
    fn the_load_is_what_the_flags_say() {
        let load = |args| parse(args).expect("good flags").load();
        assert_eq!(load("").rate, Rate::PerSecond(20.0));
        assert_eq!(load("--gap 5ms").rate, Rate::PerSecond(200.0));
        let all = load("s3://b/p --rate 100 --duration 30s --rows 7 --row-bytes 1000 --synchronous full");
        let expected =
            Load { rate: Rate::PerSecond(100.0), rows: 7, row_bytes: 1000, synchronous: Synchronous::Full };
        assert_eq!(all, expected);
        let compares = |args| parse(args).expect("good flags").plan().compare;
        assert!(!compares("") && compares("--compare") && compares("--rate max") && compares("--gap 0"));
    }

    #[test]
    fn what_no_run_could_come_of_is_refused() {
        for (args, why) in [
            ("--duration 0", "at most 24h"),
            ("--duration 25h", "at most 24h"),
            ("--rate 0.05 --duration 10s", "not one commit is expected"),
            ("--gap 1m", "not one commit"),
            ("--rows 0", "0 is not in 1.."),
            ("--rows 1000000 --row-bytes 1000", "256 MiB"),
            ("--rate 5 --gap 1s", "cannot be used with"),
            ("--rate fast", "100 or 0.5"),
            ("--synchronous extra", "off, normal, full"),
        ] {
            let e = parse(args).expect_err(args);
            assert!(e.contains(why), "{args}: {e}");
        }
    }
}
