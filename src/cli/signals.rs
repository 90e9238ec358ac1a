//! SIGINT and SIGTERM: the first asks for a final sync, the second ends the program at once.

use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;

/// The first signal, as something to wait for.
#[derive(Debug, Clone)]
pub(super) struct Stop(Arc<Notify>);

impl Stop {
    /// Waits for the first SIGINT or SIGTERM. Only one task may wait.
    pub(super) async fn asked(&self) {
        self.0.notified().await;
    }
}

/// Catches SIGINT and SIGTERM from now on.
///
/// They are watched by a thread of their own, so that the second one works also when the first left the main
/// loop stuck, in a hanging disk for example.
///
/// # Errors
/// The error of the system if a thread, a runtime or a handler cannot be had.
pub(super) fn watch() -> std::io::Result<Stop> {
    let stop = Stop(Arc::new(Notify::new()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let entered = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    drop(entered);
    let first = stop.clone();
    std::thread::Builder::new().name(String::from("signals")).spawn(move || {
        runtime.block_on(async {
            let name = either(&mut interrupt, &mut terminate).await;
            tracing::info!(signal = name, "stopping: final sync, a second signal ends at once");
            first.0.notify_one();
            let name = either(&mut interrupt, &mut terminate).await;
            super::report::print_error(&format!(
                "ended at once by a second signal ({name}): commits not yet uploaded will be found by the next start"
            ));
            std::process::exit(1);
        });
    })?;
    Ok(stop)
}

async fn either(interrupt: &mut Signal, terminate: &mut Signal) -> &'static str {
    tokio::select! {
        _ = interrupt.recv() => "SIGINT",
        _ = terminate.recv() => "SIGTERM",
    }
}
