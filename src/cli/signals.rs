//! SIGINT and SIGTERM: the first asks for a final sync, the second ends the program at once.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::replicate::Stopper;

/// Catches SIGINT and SIGTERM from now on; the first asks `stopper`.
///
/// They are watched by a thread of their own, so that the second one works also when the first left the main
/// loop stuck, in a hanging disk for example.
///
/// # Errors
/// The error of the system if a thread, a runtime or a handler cannot be had.
pub(super) fn watch(stopper: Stopper) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let entered = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    drop(entered);
    std::thread::Builder::new().name(String::from("lsfast-signals")).spawn(move || {
        runtime.block_on(async {
            let name = either(&mut interrupt, &mut terminate).await;
            tracing::info!(signal = name, "stopping: final sync, a second signal ends at once");
            stopper.ask();
            let name = either(&mut interrupt, &mut terminate).await;
            super::report::print_error(&format!(
                "ended at once by a second signal ({name}): the next start stores what is missing"
            ));
            std::process::exit(1);
        });
    })?;
    Ok(())
}

async fn either(interrupt: &mut Signal, terminate: &mut Signal) -> &'static str {
    tokio::select! {
        _ = interrupt.recv() => "SIGINT",
        _ = terminate.recv() => "SIGTERM",
    }
}
