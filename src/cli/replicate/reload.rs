//! Reading the config file again, while databases are replicated by it.
//!
//! It is done by a thread of its own: a file on a server that does not answer must keep nobody from stopping lsfast. Databases and
//! directories, their replicas and their settings take effect; `addr`, `socket`, `logging`, `heartbeat-url`, `exec` and
//! `shutdown-sync-timeout` do so at the next start.

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc;

use super::plan::Plan;
use super::{ReplicateArgs, fill};
use crate::cli::setup::{self, Setup};
use crate::cli::{Global, one_line};
use crate::io::Engine;
use crate::replicate::{Change, Changes};

/// Changes that wait; a further one waits with its thread.
const CHANGES: usize = 1;

/// Reads the file each time that `asked` says so. `known` are the databases of the first reading.
///
/// # Errors
/// No thread can be had.
pub(super) fn start(
    global: &Global,
    setup: &Setup,
    args: &ReplicateArgs,
    mut known: HashSet<PathBuf>,
    engine: Engine,
    asked: mpsc::Receiver<()>,
) -> io::Result<Changes> {
    let (send, changes) = tokio::sync::mpsc::channel(CHANGES);
    let (global, setup, args) = (global.clone(), setup.clone(), args.clone());
    std::thread::Builder::new().name("lsfast-reload".into()).spawn(move || {
        while asked.recv().is_ok() {
            // Several at once are one.
            while asked.try_recv().is_ok() {}
            match read(&global, setup.clone(), &args, &known, &engine) {
                Ok(plan) => {
                    known = plan.databases.iter().map(|d| d.path.clone()).collect();
                    let change = Change { databases: plan.databases, directories: plan.directories };
                    if send.blocking_send(change).is_err() {
                        return;
                    }
                }
                Err(e) => {
                    tracing::error!(
                        error = one_line(&e),
                        "the config file cannot be used; what is replicated stays as it was"
                    );
                }
            }
        }
    })?;
    Ok(changes)
}

fn read(
    global: &Global,
    mut setup: Setup,
    args: &ReplicateArgs,
    known: &HashSet<PathBuf>,
    engine: &Engine,
) -> anyhow::Result<Plan> {
    setup.load_config(global)?;
    let plan = Plan::new(&mut setup, args)?;
    for warning in setup.config().iter().flat_map(|c| &c.warnings) {
        tracing::warn!("{warning}");
    }
    let new: Vec<_> = plan.to_fill.iter().filter(|d| !known.contains(&d.path)).cloned().collect();
    if !new.is_empty() {
        setup::event_loop()?.block_on(fill::fill(&new, engine))?;
    }
    Ok(plan)
}
