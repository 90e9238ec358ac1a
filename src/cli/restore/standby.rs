//! `lsfast restore -f [-o OUT] DB|URL`

use std::io::IsTerminal as _;
use std::path::Path;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use super::args::RestoreArgs;
use super::progress::Watcher;
use crate::cli::setup::Setup;
use crate::config::{Kind, Location};
use crate::io::Engine;
use crate::observe;
use crate::restore::standby::{self, FollowOptions};

/// Follows until a signal arrives or the database is promoted.
pub(super) fn run(
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
    // Links are resolved as the standby resolves them.
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
            // The receiver is gone if following has ended by itself.
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
