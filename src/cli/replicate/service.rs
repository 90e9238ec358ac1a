//! What a service manager is told (`Type=notify` of systemd): that replication runs, that it still
//! does, that its configuration changes, and that it ends. Without a service manager nothing is
//! sent.

use std::convert::Infallible;
use std::time::Duration;

use sd_notify::NotifyState;

use crate::base::count;
use crate::replicate::Stop;

/// The config file is read again. [`tell_ready`] has to follow.
pub(super) fn tell_reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(e) => tracing::debug!(error = %e, "the service manager cannot be told"),
    }
}

/// Replication runs, with this number of databases.
pub(super) fn tell_ready(databases: usize) {
    tell(&[
        NotifyState::Ready,
        NotifyState::Status(&format!("replicating {}", count(databases, "database"))),
    ]);
}

/// Reports to the service manager until it is dropped. Run this on the thread that
/// replicates: a watchdog has to notice when that thread is stuck.
pub(super) async fn report(databases: usize, stop: Stop) -> Infallible {
    tell_ready(databases);
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
