//! What a command runs on: an event loop, and an engine for files.

use anyhow::Context as _;

use super::global::{Global, IoEngine};
use crate::io::{Engine, IoChoice};

/// A single-threaded event loop on this thread. Long work runs on the threads of the engine and of
/// the store.
pub(super) fn event_loop() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the event loop cannot be started")
}

/// The I/O engine that the user selected.
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
