//! The command line: global flags and commands.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::{
    bench, databases, doctor, explain, generations, ltx, manual, points, promote, repair, replicate, reset,
    restore, status, verify, version,
};
use crate::store::HostAnswer;

/// Replicates live SQLite databases to S3 or a directory, and restores them.
#[derive(Debug, Parser)]
#[command(name = "lsfast", version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    /// Flags of all commands.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags of all commands.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// How much to log [default: info; for bench: warn]
    #[arg(long, global = true, value_name = "LEVEL")]
    pub log_level: Option<LogLevel>,
    /// How to log: one logfmt line or one JSON object for each event [default: text]
    #[arg(long, global = true, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// How to read and write files; `auto` uses io_uring where the kernel allows it
    #[arg(long, global = true, value_name = "ENGINE", default_value = "auto")]
    pub io: IoEngine,
    /// PEM file of certificate authorities to trust in addition to those of the system
    #[arg(long, global = true, value_name = "FILE")]
    pub ca_cert: Option<PathBuf>,
    /// Where the store answers, for replica URLs that do not say it
    #[arg(long, global = true, value_name = "URL")]
    pub endpoint: Option<String>,
    /// Region of the store, for replica URLs that do not say it
    #[arg(long, global = true, value_name = "REGION")]
    pub region: Option<String>,
    /// The config file [default: $LSFAST_CONFIG, $LITESTREAM_CONFIG, /etc/lsfast.yml,
    /// /etc/litestream.yml]
    #[arg(short, long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Leave $VARIABLES in the config file as they are
    #[arg(long, global = true)]
    pub no_expand_env: bool,
    /// Use ADDRESS for the host NAME instead of asking the name service; NAME may begin with `*.`
    #[arg(long, global = true, value_name = "NAME=ADDRESS[:PORT]")]
    pub resolve: Vec<HostAnswer>,
    /// Let a crash leave a core file, which may hold keys and data
    #[arg(long, global = true)]
    pub core_dumps: bool,
}

/// Levels of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// Errors that stop a replica or the program.
    Error,
    /// Conditions that need attention.
    Warn,
    /// Normal events, a few lines a day.
    Info,
    /// Each upload and each step of the history.
    Debug,
    /// Each proof that a restart of the WAL lost no commit.
    Trace,
}

/// Forms of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// logfmt: `ts=... level=info message="..." key=value`.
    Text,
    /// One JSON object for each line.
    Json,
}

/// Engines for file work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum IoEngine {
    /// io_uring if the kernel allows it, otherwise plain system calls.
    Auto,
    /// io_uring or an error.
    Uring,
    /// Plain system calls.
    Plain,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Replicate a live database until told to stop
    Replicate(replicate::ReplicateArgs),
    /// Restore a database from a replica
    Restore(restore::RestoreArgs),
    /// Turn a standby (`lsfast restore -f`) into an ordinary database
    Promote(promote::PromoteArgs),
    /// List the databases of the config file
    Databases(databases::DatabasesArgs),
    /// Show what the config file or a replica URL means, and where each value comes from
    Explain(explain::ExplainArgs),
    /// List the states that can be restored
    Points(points::PointsArgs),
    /// Read a replica end to end and report which states can be restored
    Verify(verify::VerifyArgs),
    /// Write what is damaged or missing in a replica again, and say what is lost for good
    Repair(repair::RepairArgs),
    /// List the files of a replica
    Ltx(ltx::LtxArgs),
    /// Show how far databases are replicated
    Status(status::StatusArgs),
    /// Forget the local replication state of a database
    Reset(reset::ResetArgs),
    /// List the generations that Litestream 0.3 stored
    Generations(generations::LegacyListArgs),
    /// List the snapshots that Litestream 0.3 stored
    Snapshots(generations::LegacyListArgs),
    /// List the WAL segments that Litestream 0.3 stored
    Wal(generations::LegacyListArgs),
    /// Measure how soon a commit is stored, then restore and compare
    Bench(bench::BenchArgs),
    /// Prove that a database can be followed and a replica be written
    Doctor(doctor::DoctorArgs),
    /// Print the version of lsfast and of what it is built on
    Version(version::VersionArgs),
    /// Write man pages, or print one
    Man(manual::ManArgs),
    /// Print a completion script for a shell
    Completions(manual::CompletionsArgs),
}

impl Command {
    /// Whether the config file has anything to do with it. One that is broken must not stop what
    /// does not need it.
    pub(super) fn reads_config(&self) -> bool {
        match self {
            Command::Replicate(args) => args.urls.is_empty(),
            Command::Restore(args) => !args.url.contains("://"),
            Command::Databases(_) | Command::Status(_) | Command::Reset(_) => true,
            Command::Ltx(args) => !args.url.contains("://"),
            Command::Doctor(args) => !args.what.iter().any(|w| w.contains("://")),
            Command::Points(args) => !args.url.contains("://"),
            Command::Verify(args) => !args.url.contains("://"),
            Command::Repair(args) => !args.what.contains("://"),
            Command::Generations(args) | Command::Snapshots(args) | Command::Wal(args) => {
                !args.url.contains("://")
            }
            Command::Explain(args) => !args.target.as_ref().is_some_and(|t| t.contains("://")),
            Command::Promote(_)
            | Command::Bench(_)
            | Command::Version(_)
            | Command::Man(_)
            | Command::Completions(_) => false,
        }
    }

    /// What is logged if nobody says otherwise.
    pub(super) fn log_level(&self) -> LogLevel {
        match self {
            Command::Replicate(_) | Command::Restore(_) => LogLevel::Info,
            // Their result is what they print.
            _ => LogLevel::Warn,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_flags_may_stand_after_the_command() {
        let cli =
            Cli::try_parse_from(["lsfast", "replicate", "a.db", "--log-format", "json", "--io", "plain"])
                .expect("parses");
        assert_eq!(cli.global.log_format, Some(LogFormat::Json));
        assert_eq!(cli.global.io, IoEngine::Plain);
    }

    #[test]
    fn a_wrong_duration_is_a_usage_error_that_says_what_to_write() {
        let e = Cli::try_parse_from(["lsfast", "replicate", "a.db", "--sync-interval", "soon"])
            .expect_err("no duration");
        assert_eq!(e.exit_code(), 2);
        assert!(e.to_string().contains("500ms, 30s, 1m30s or 24h"), "{e}");
    }
}
