//! What a command runs on: an event loop, and an engine for files.

use anyhow::Context as _;

use super::global::{Global, IoEngine};
use crate::io::{Engine, IoChoice};

/// One event loop on this thread. Long work goes to the engine's and the store's own threads.
pub(super) fn event_loop() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the event loop cannot be started")
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
