//! What a service manager is told (`Type=notify` of systemd): that replication runs, that it still
//! does, and that it ends. Without a service manager nothing is sent.

use std::convert::Infallible;
use std::time::Duration;

use sd_notify::NotifyState;

use crate::replicate::Stop;

/// Reports to the service manager until it is dropped. Run this on the thread that
/// replicates: a watchdog has to notice when that thread is stuck.
pub(super) async fn report(databases: usize, stop: Stop) -> Infallible {
    tell(&[NotifyState::Ready, NotifyState::Status(&format!("replicating {databases} databases"))]);
    // Half of the time, as systemd advises.
    let every = sd_notify::watchdog_enabled().map(|limit| limit / 2);
    let mut is_ending = false;
    loop {
        tokio::select! {
            () = stop.asked(), if !is_ending => {
                is_ending = true;
                tell(&[NotifyState::Stopping, NotifyState::Status("final sync")]);
            }
            () = pause(every) => tell(&[NotifyState::Watchdog]),
        }
    }
}

async fn pause(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(e) = sd_notify::notify(state) {
        tracing::debug!(error = %e, "the service manager cannot be told");
    }
}
