//! What the commands share: the loop, the engine, and stores by URL.

use std::sync::Arc;

use anyhow::Context as _;

use super::{Global, IoEngine};
use crate::config::{Env, Location, Overrides};
use crate::io::{Engine, IoChoice};
use crate::store::credentials::Sources;
use crate::store::{self, ClientOptions, Store};

/// One event loop on this thread. Long work goes to the engine's and the store's own threads.
pub(super) fn event_loop() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("no event loop can be had")
}

/// The engine that the user asked for.
pub(super) fn engine(global: &Global) -> anyhow::Result<Engine> {
    let choice = match global.io {
        IoEngine::Auto => IoChoice::Auto,
        IoEngine::Uring => IoChoice::Uring,
        IoEngine::Plain => IoChoice::Plain,
    };
    let engine = Engine::new(choice)?;
    if let Some(why) = engine.fallback() {
        tracing::info!(why, "files are read and written by plain calls");
    }
    Ok(engine)
}

/// Opens stores; those of one endpoint share their connections.
#[derive(Debug)]
pub(super) struct Stores {
    flags: Overrides,
    env: Env,
    client: ClientOptions,
    sources: Sources,
}

impl Stores {
    pub(super) fn new(global: &Global) -> Stores {
        let flags = Overrides {
            endpoint: global.endpoint.clone(),
            region: global.region.clone(),
            ca_cert: global.ca_cert.clone(),
            ..Overrides::default()
        };
        let env = Env::new(
            std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
        );
        let client = ClientOptions { answers: global.resolve.clone(), ..ClientOptions::default() };
        let sources = Sources::new(env.clone(), &client.answers);
        Stores { flags, env, client, sources }
    }

    /// What a URL means, by flags and environment.
    pub(super) fn resolve(&self, url: &str) -> anyhow::Result<Location> {
        Ok(Location::resolve(url, &self.flags, &self.env)?)
    }

    /// The replica there. No request is made, nobody is asked for credentials yet.
    pub(super) fn open(&self, location: &Location) -> anyhow::Result<Arc<dyn Store>> {
        let mut location = location.clone();
        self.sources.complete(&mut location).with_context(|| location.url.clone())?;
        Ok(store::open(&location, &self.client)?)
    }
}
