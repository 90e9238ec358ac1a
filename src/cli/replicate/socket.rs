//! Where the socket of the process is.

use std::path::PathBuf;

use crate::config::Config;
use crate::config::file::Socket;

/// The socket of the process, if the file enables it without a path.
const SOCKET: &str = "/var/run/lsfast.sock";

/// The socket of the process, if the file enables one.
pub(in crate::cli) fn process_socket(config: &Config) -> Option<PathBuf> {
    let Socket { enabled, path, .. } = &config.socket;
    let enabled = enabled.as_ref().is_some_and(|e| e.value);
    enabled.then(|| path.as_ref().map_or_else(|| PathBuf::from(SOCKET), |p| p.value.clone()))
}
