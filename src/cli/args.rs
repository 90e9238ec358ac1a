//! Definition of the command line: the commands, and the settings that each one needs.

use clap::{Parser, Subcommand};

use super::global::{Global, LogLevel};
use super::{
    bench, changes, control, databases, doctor, explain, generations, ltx, manual, points, promote, query,
    repair, replicate, reset, restore, status, verify, version,
};

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
    /// Show what was stored when: rows inserted, updated and deleted
    Log(changes::LogArgs),
    /// Show the rows that differ between two states, or the SQL that takes the change back
    Diff(changes::DiffArgs),
    /// Run SQL on a state of a replica, without restoring it
    Query(query::QueryArgs),
    /// Look at states of a replica with SQL, line by line
    Shell(query::ShellArgs),
    /// Read a replica end to end and report which states can be restored
    Verify(verify::VerifyArgs),
    /// Write damaged or missing files of a replica again, and report what is lost for good
    Repair(repair::RepairArgs),
    /// List the files of a replica
    Ltx(ltx::LtxArgs),
    /// Show how far databases are replicated
    Status(status::StatusArgs),
    /// Replicate one more database in a running process
    Register(control::RegisterArgs),
    /// End the replication of one database in a running process
    Unregister(control::UnregisterArgs),
    /// Go on with a database that was stopped in a running process
    Start(control::StartArgs),
    /// Stop following one database in a running process
    Stop(control::StopArgs),
    /// Have a running process store what is committed, and wait for it
    Sync(control::SyncArgs),
    /// List the databases of a running process
    List(control::ListArgs),
    /// Show version and uptime of a running process
    Info(control::InfoArgs),
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
    /// Whether the command uses the config file. A broken config file must not stop a command that
    /// does not need it.
    pub(super) fn reads_config(&self) -> bool {
        match self {
            Command::Replicate(args) => args.urls.is_empty(),
            Command::Restore(args) => !args.url.contains("://"),
            Command::Databases(_) | Command::Status(_) | Command::Reset(_) => true,
            Command::Ltx(args) => !args.url.contains("://"),
            Command::Doctor(args) => !args.what.iter().any(|w| w.contains("://")),
            Command::Points(args) => !args.url.contains("://"),
            Command::Log(args) => !args.url.contains("://"),
            Command::Diff(args) => !args.url.contains("://"),
            Command::Query(args) => !args.state.url.contains("://"),
            Command::Shell(args) => !args.state.url.contains("://"),
            Command::Verify(args) => {
                args.replica.is_none() && !args.url.as_ref().is_some_and(|url| url.contains("://"))
            }
            Command::Repair(args) => !args.what.contains("://"),
            Command::Generations(args) | Command::Snapshots(args) | Command::Wal(args) => {
                !args.url.contains("://")
            }
            Command::Explain(args) => !args.target.as_ref().is_some_and(|t| t.contains("://")),
            Command::Register(control::RegisterArgs { at, .. })
            | Command::Unregister(control::UnregisterArgs { at, .. })
            | Command::Start(control::StartArgs { at, .. })
            | Command::Stop(control::StopArgs { at, .. })
            | Command::Sync(control::SyncArgs { at, .. })
            | Command::List(control::ListArgs { at, .. })
            | Command::Info(control::InfoArgs { at, .. }) => at.socket.is_none(),
            Command::Promote(_)
            | Command::Bench(_)
            | Command::Version(_)
            | Command::Man(_)
            | Command::Completions(_) => false,
        }
    }

    /// The log level if neither a flag nor the config file sets one.
    pub(super) fn log_level(&self) -> LogLevel {
        match self {
            Command::Replicate(_) | Command::Restore(_) | Command::Verify(_) => LogLevel::Info,
            // The result of these commands is their output.
            _ => LogLevel::Warn,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::global::{IoEngine, LogFormat};

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
