//! `lsfast bench [URL]`

use std::time::Duration;

use clap::Args;

use super::Global;
use crate::config::parse_duration;

/// Measure how fast a commit is safe here, then restore and compare.
///
/// Makes a temporary database and a writer that commits at random gaps, replicates it to a temporary directory or
/// to URL, and prints the time from COMMIT's return to the store's answer beside that of a raw PUT of the same size.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Where to: s3://BUCKET/PREFIX or file:///DIR; a scratch prefix below it is used and removed afterwards.
    /// Without one, a temporary directory
    #[arg(value_name = "URL")]
    pub url: Option<String>,
    /// How long the writer writes
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    pub duration: Duration,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
pub(super) fn run(global: &Global, args: BenchArgs) -> anyhow::Result<()> {
    _ = (global, args);
    anyhow::bail!("bench is not in this build")
}
