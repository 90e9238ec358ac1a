//! `lsfast promote OUT`

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::report;
use crate::config::parse_duration;
use crate::observe;
use crate::replicate::state::home_of;
use crate::restore::standby;

/// Turn a standby (`lsfast restore -f`) into an ordinary database.
///
/// Asks the `lsfast restore -f` that follows it to stop and waits for that, proves that no other
/// program has changed the database, runs SQLite's integrity check, and removes the position and
/// the lock next to it. Readers may stay connected. Afterwards the database may be written to and
/// replicated. On any error it stays a standby.
#[derive(Debug, Args)]
pub struct PromoteArgs {
    /// The database
    #[arg(value_name = "OUT")]
    pub output: PathBuf,
    /// How long to wait for `lsfast restore -f` to stop
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "30s")]
    pub timeout: Duration,
}

/// Runs `lsfast promote`.
pub(super) fn run(args: &PromoteArgs) -> anyhow::Result<()> {
    if !args.output.exists() {
        anyhow::bail!("{} does not exist", args.output.display());
    }
    let txid = standby::promote(&args.output, args.timeout)?;
    // Removes the socket of a standby process that was killed. The path has its links resolved, as
    // the socket's folder has.
    let output = standby::real_path(&args.output)?;
    observe::forget_follow_socket(&home_of(&output));
    let line = format!("{} is promoted; its state is that of TXID {txid}", args.output.display());
    Ok(report::print_line(&line)?)
}
