//! `lsfast restore -f [-o OUT] DB|URL`

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::{RestoreArgs, Watcher};
use crate::cli::setup::Setup;
use crate::config::{Kind, Location, parse_duration};
use crate::io::Engine;
use crate::observe;
use crate::restore::standby::{self, FollowOptions};

/// Flags for following.
#[derive(Debug, Clone, Args)]
pub struct FollowArgs {
    /// Keep OUT up to date with the replica until told to stop; readers of OUT see whole states
    /// only. Resumes where it stopped; see also `lsfast promote`
    #[arg(
        short,
        long,
        conflicts_with_all = ["timestamp", "txid", "generation", "index", "salvage", "dry_run", "if_db_not_exists", "if_replica_exists", "json"]
    )]
    pub follow: bool,
    /// With --follow: how often to ask a store for the next file; up to four times as often after
    /// a file arrived. Changes of a directory are noticed at once
    #[arg(long, value_name = "DURATION", value_parser = interval, default_value = "1s", requires = "follow")]
    pub follow_interval: Duration,
    /// With --follow: serve metrics, status and a page by HTTP here, as `addr` of the config file
    /// does for `replicate`
    #[arg(long, value_name = "HOST:PORT", requires = "follow")]
    pub addr: Option<String>,
    /// With --follow: answer `lsfast status --socket PATH` here, in addition to the socket in
    /// the folder .OUT-lsfast
    #[arg(long, value_name = "PATH", requires = "follow")]
    pub socket: Option<PathBuf>,
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = parse_duration(text).map_err(|e| e.to_string())?;
    if interval < Duration::from_millis(1) {
        return Err("write a duration of at least 1ms".into());
    }
    Ok(interval)
}

/// Follows until a signal comes or somebody promotes the database.
pub(crate) fn run(
    setup: &Setup,
    event_loop: tokio::runtime::Runtime,
    engine: &Engine,
    location: &Location,
    args: &RestoreArgs,
    output: &Path,
) -> anyhow::Result<()> {
    let tell = observe::Options {
        socket: args.follow.socket.clone(),
        addr: args.follow.addr.clone(),
        ..observe::Options::default()
    };
    let telling = observe::start(tell).context("the thread that serves the status cannot be started")?;
    // Links resolved, as the follower does it.
    let output = setup.env().absolute(output);
    let output = standby::real_path(&output)?;
    let socket = telling.follow(&output);
    let options = FollowOptions {
        observer: telling.follow_observer(),
        force: args.force,
        integrity: args.integrity_check.into(),
        parallel: args.parallelism,
        interval: args.follow.follow_interval,
        directory: match &location.kind {
            Kind::File(path) => Some(path.clone()),
            Kind::S3(_) => None,
        },
        ..FollowOptions::new(output)
    };
    let watcher = Watcher::new(std::io::stderr().is_terminal());
    let local = tokio::task::LocalSet::new();
    let outcome = local.block_on(&event_loop, async {
        let mut setup = setup.clone();
        setup.serve();
        let store = setup.open(location)?;
        let (ask, stop) = tokio::sync::watch::channel(false);
        let mut interrupt = signal(SignalKind::interrupt()).context("signals cannot be caught")?;
        let mut terminate = signal(SignalKind::terminate()).context("signals cannot be caught")?;
        tokio::task::spawn_local(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            // Nobody listens any more if it ended by itself.
            let _ = ask.send(true);
            std::future::pending::<()>().await;
        });
        Ok::<_, anyhow::Error>(standby::follow(store, engine, options, &watcher, stop).await?)
    });
    event_loop.shutdown_background();
    watcher.finish();
    drop(socket);
    let status = outcome?;
    tracing::info!(db = %status.output.display(), txid = %status.txid, files = status.files, "stopped following");
    Ok(())
}
