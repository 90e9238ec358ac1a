//! `lsfast replicate DB [URL...]`

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;

use super::report::print_line;
use super::setup::{self, Stores};
use super::{Global, signals};
use crate::config::{Location, parse_duration};
use crate::replicate::{self, DatabaseOptions, Options, ReplicaOptions};

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
pub(super) fn run(global: &Global, args: ReplicateArgs) -> anyhow::Result<ExitCode> {
    let (stopper, stop) = replicate::stop();
    signals::watch(stopper).context("signals cannot be caught")?;
    let stores = Stores::new(global);
    let mut replicas = Vec::new();
    for location in locations(&stores, &args)? {
        replicas.push(ReplicaOptions { store: stores.open(&location)?, sync_interval: args.sync_interval });
    }
    let engine = setup::engine(global)?;
    let urls: Vec<&str> = replicas.iter().map(|r| r.store.url()).collect();
    tracing::info!(
        db = %args.db.display(),
        to = urls.join(" "),
        io = engine.kind().to_string(),
        version = env!("CARGO_PKG_VERSION"),
        "replicating"
    );
    let options = Options {
        databases: vec![DatabaseOptions::new(args.db, replicas)],
        directories: Vec::new(),
        once: false,
        engine,
        shutdown_timeout: args.shutdown_timeout,
        observer: Arc::new(|_| {}),
    };
    let event_loop = setup::event_loop()?;
    let local = tokio::task::LocalSet::new();
    let result = local.block_on(&event_loop, replicate::run(options, stop));
    // A helper thread may wait for a lock that the application holds; the end of the process gives up all that is held.
    event_loop.shutdown_background();
    result?;
    tracing::info!("stopped: everything is stored");
    Ok(ExitCode::SUCCESS)
}

/// Where to: by URL, or beside the database, which is said before anything else.
fn locations(stores: &Stores, args: &ReplicateArgs) -> anyhow::Result<Vec<Location>> {
    if !args.urls.is_empty() {
        return args.urls.iter().map(|url| stores.resolve(url)).collect();
    }
    let location = Location::directory(std::path::absolute(default_replica(&args.db))?);
    print_line(&format!("replicating {} to {}", args.db.display(), location.url))?;
    Ok(vec![location])
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
