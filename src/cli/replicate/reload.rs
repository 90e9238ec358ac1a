//! Reads the config file again on SIGHUP.
//!
//! # Overview
//!
//! A thread of its own does it, because a URL may have to be looked up, and a database restored
//! first. Requests that come meanwhile cause one more reload. The databases whose settings are as
//! before go on; the fleet does the rest.
//!
//! # Failure
//!
//! A file that cannot be used changes nothing: the former configuration stays in force, and one
//! error is logged.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, mpsc};

use anyhow::Context as _;

use super::args::ReplicateArgs;
use super::plan::Plan;
use super::{fill, service};
use crate::cli::global::Global;
use crate::cli::runtime;
use crate::cli::setup::Setup;
use crate::config::Config;
use crate::io::Engine;
use crate::replicate::{Changes, Control, ControlError, Vitals};

/// What a reload needs.
pub(super) struct Reloader {
    pub(super) setup: Setup,
    pub(super) global: Global,
    pub(super) args: ReplicateArgs,
    pub(super) engine: Engine,
    pub(super) vitals: Arc<Vitals>,
    pub(super) control: Control,
    /// The configuration in force.
    pub(super) config: Arc<Config>,
}

/// Starts the thread that reads the file each time it is asked.
///
/// # Errors
/// The I/O error if the thread cannot be started.
pub(super) fn start(mut reloader: Reloader, asked: mpsc::Receiver<()>) -> io::Result<()> {
    reloader.vitals.read_config(true);
    let work = move || {
        while asked.recv().is_ok() {
            reloader.reload();
        }
    };
    std::thread::Builder::new().name(String::from("lsfast-reload")).spawn(work).map(drop)
}

impl Reloader {
    fn reload(&mut self) {
        service::tell_reloading();
        match self.try_reload() {
            Ok(changes) => {
                self.vitals.read_config(true);
                let Changes { added, removed, changed, unchanged } = changes;
                tracing::info!(
                    path = %self.config.path, added, removed, changed, unchanged,
                    "the config file was read again"
                );
            }
            Err(e) if e.is::<ControlError>() => {
                tracing::info!("the config file is not read again: lsfast is ending");
            }
            Err(e) => {
                self.vitals.read_config(false);
                tracing::error!(
                    path = %self.config.path, error = crate::cli::one_line(&e),
                    "the config file cannot be used, so the former configuration stays in force"
                );
            }
        }
        service::tell_ready(self.vitals.databases().len());
    }

    fn try_reload(&mut self) -> anyhow::Result<Changes> {
        let mut setup = self.setup.clone();
        setup.load_config(&self.global)?;
        let gone = || anyhow::anyhow!("{} does not exist any more", self.config.path);
        let config =
            Arc::clone(setup.config().filter(|new| new.path == self.config.path).with_context(gone)?);
        let mut plan = Plan::new(&mut setup, &self.args)?;
        let known = self.vitals.databases();
        plan.to_fill.retain(|database| !known.iter().any(|k| k.path == database.path));
        let event_loop = runtime::event_loop()?;
        event_loop.block_on(fill::fill(&plan.to_fill, &self.engine))?;
        let changes = event_loop.block_on(self.control.reload(plan.databases, plan.directories))?;
        for warning in
            config.warnings.iter().filter(|w| !self.config.warnings.iter().any(|b| b.message == w.message))
        {
            tracing::warn!("{warning}");
        }
        let waiting = for_the_next_start(&self.config, &config);
        if !waiting.is_empty() {
            tracing::warn!(
                path = %config.path, settings = waiting.join(", "),
                "these settings have changed, and take effect at the next start of lsfast"
            );
        }
        self.config = config;
        Ok(changes)
    }
}

/// The settings that differ and belong to the process as a whole.
fn for_the_next_start(before: &Config, now: &Config) -> Vec<String> {
    let values = |config: &Config| {
        let lines = config.explain_process().into_iter();
        let mut values: BTreeMap<String, String> = lines.map(|line| (line.name, line.value)).collect();
        // The lines do not show all of these.
        if let Some(url) = &config.heartbeat_url {
            values.insert("heartbeat-url".to_owned(), url.value.expose().to_owned());
        }
        if let Some(token) = &config.addr_token {
            values.insert("addr-token".to_owned(), token.value.expose().to_owned());
        }
        values
    };
    let (before, now) = (values(before), values(now));
    let names: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    names.into_iter().filter(|name| before.get(*name) != now.get(*name)).cloned().collect()
}
