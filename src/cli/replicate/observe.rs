//! Where a running `lsfast replicate` shows its state, from the config file.

use std::path::PathBuf;

use anyhow::Context as _;

use crate::cli::setup::Setup;
use crate::config::file::Socket;
use crate::config::{Config, TlsOptions};
use crate::observe::{self, HEARTBEAT_INTERVAL, Heartbeat, Observatory, Options};
use crate::store::credentials::Pinger;

/// The socket of the process, if the file enables it without a path.
const SOCKET: &str = "/var/run/lsfast.sock";

/// Starts the status server; `None` for a run that ends by itself. Without a config file, only the
/// sockets in the databases' folders are served.
pub(super) fn start(
    setup: &Setup,
    config: Option<&Config>,
    once: bool,
) -> anyhow::Result<Option<Observatory>> {
    if once {
        return Ok(None);
    }
    let mut options = Options { homes: true, ..Options::default() };
    if let Some(config) = config {
        options.homes = config.socket.enabled.as_ref().is_none_or(|e| e.value);
        options.socket = process_socket(config);
        options.mode = config.socket.permissions.as_ref().map(|p| p.value);
        options.addr = config.addr.as_ref().map(|a| a.value.clone());
        options.heartbeat = config.heartbeat_url.as_ref().map(|url| Heartbeat {
            pinger: Pinger::new(url.value.clone(), &tls(setup), &setup.client().answers),
            interval: config.heartbeat_interval.as_ref().map_or(HEARTBEAT_INTERVAL, |i| i.value),
        });
    }
    observe::start(options).map(Some).context("the thread that serves the status cannot be started")
}

/// The socket of the process, if the file enables one.
pub(in crate::cli) fn process_socket(config: &Config) -> Option<PathBuf> {
    let Socket { enabled, path, .. } = &config.socket;
    let enabled = enabled.as_ref().is_some_and(|e| e.value);
    enabled.then(|| path.as_ref().map_or_else(|| PathBuf::from(SOCKET), |p| p.value.clone()))
}

fn tls(setup: &Setup) -> TlsOptions {
    TlsOptions { skip_verify: false, ca_cert: setup.ca_cert() }
}
