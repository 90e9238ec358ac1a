//! `lsfast replicate DB [URL...]`

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;

use super::Global;
use crate::config::parse_duration;

/// Replicate a live database until told to stop.
///
/// SIGINT or SIGTERM ends it after a final sync; a second signal ends it at once.
#[derive(Debug, Args)]
pub struct ReplicateArgs {
    /// The database file; waited for if it does not exist yet
    #[arg(value_name = "DB")]
    pub db: PathBuf,
    /// Where to: s3://BUCKET/PREFIX or file:///DIR, several for several copies; without one, the directory
    /// DB-replica beside the database
    #[arg(value_name = "URL")]
    pub urls: Vec<String>,
    /// How long the final sync may take
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_duration)]
    pub shutdown_timeout: Duration,
    /// Uploads of a busy database are this far apart on average; a commit after a quiet time leaves at once
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = parse_duration)]
    pub sync_interval: Duration,
}

/// Runs the command.
pub(super) fn run(global: &Global, args: ReplicateArgs) -> anyhow::Result<()> {
    let stop = super::signals::watch().context("signals cannot be watched")?;
    _ = (global, args, stop);
    anyhow::bail!("replicate is not in this build")
}

/// `DB-replica` beside the database.
fn default_replica(db: &Path) -> PathBuf {
    let mut name = db.as_os_str().to_os_string();
    name.push("-replica");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_replica_stands_beside_the_database() {
        assert_eq!(default_replica(Path::new("/data/app.db")), Path::new("/data/app.db-replica"));
        assert_eq!(default_replica(Path::new("app.db")), Path::new("app.db-replica"));
    }
}
