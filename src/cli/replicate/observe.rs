//! Where a running `lsfast replicate` shows its state, from the config file.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;

use super::args::ReplicateArgs;
use super::plan;
use super::socket::process_socket;
use crate::cli::setup::Setup;
use crate::config::{Config, TlsOptions};
use crate::observe::{self, Commands, HEARTBEAT_INTERVAL, Heartbeat, Observatory, Options};
use crate::replicate::Control;
use crate::store::credentials::Pinger;

/// Starts the status server; `None` for a run that ends by itself. Without a config file, only the
/// sockets in the databases' folders are served.
pub(super) fn start(
    setup: &Setup,
    config: Option<&Config>,
    args: &ReplicateArgs,
    control: Control,
) -> anyhow::Result<Option<Observatory>> {
    if args.once {
        return Ok(None);
    }
    let commands = Some(commands(setup, args, control));
    let mut options = Options { homes: true, commands, ..Options::default() };
    if let Some(config) = config {
        options.homes = config.socket.enabled.as_ref().is_none_or(|e| e.value);
        options.socket = process_socket(config);
        options.mode = config.socket.permissions.as_ref().map(|p| p.value);
        options.addr = config.addr.as_ref().map(|a| a.value.clone());
        options.token = config.addr_token.as_ref().map(|t| t.value.clone());
        options.heartbeat = config.heartbeat_url.as_ref().map(|url| Heartbeat {
            pinger: Pinger::new(url.value.clone(), &tls(setup), &setup.client().answers),
            interval: config.heartbeat_interval.as_ref().map_or(HEARTBEAT_INTERVAL, |i| i.value),
        });
    }
    observe::start(options).map(Some).context("the thread that serves the status cannot be started")
}

/// What the sockets need for Litestream's commands.
fn commands(setup: &Setup, args: &ReplicateArgs, control: Control) -> Commands {
    let (env, setup, args) = (setup.env().clone(), setup.clone(), args.clone());
    let register = move |path: &Path, url: &str| {
        plan::registered(&mut setup.clone(), &args, path, url).map_err(|e| crate::cli::one_line(&e))
    };
    Commands {
        control,
        register: Arc::new(register),
        expand: Arc::new(move |path: &str| env.absolute(Path::new(path))),
    }
}

fn tls(setup: &Setup) -> TlsOptions {
    TlsOptions { skip_verify: false, ca_cert: setup.ca_cert() }
}
