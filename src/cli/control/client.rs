//! Sends a command to the socket of a running process.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::base::{limits, untrusted};
use crate::cli::replicate;
use crate::cli::setup::Setup;
use crate::observe::{self, Asked, Refusal, SOCKET};
use crate::replicate::state::home_of;

/// Sockets to try if none is named: our own, then Litestream's.
const USUAL: [&str; 2] = ["/var/run/lsfast.sock", "/var/run/litestream.sock"];

/// Time that the answer may take beyond that of the command.
const GRACE: Duration = Duration::from_secs(5);

/// The socket to ask. `db` is set for a command that the socket of the database answers, too.
pub(super) fn socket(setup: &Setup, named: Option<&PathBuf>, db: Option<&Path>) -> PathBuf {
    if let Some(named) = named {
        return named.clone();
    }
    if let Some(db) = db {
        let entry = setup.config().and_then(|c| c.database(db, setup.env()).ok().flatten());
        let meta = entry.and_then(|d| d.meta_path).map(|m| m.value);
        let own = meta.unwrap_or_else(|| home_of(&crate::io::link::target_of(db))).join(SOCKET);
        if own.exists() {
            return own;
        }
    }
    let configured = setup.config().and_then(|c| replicate::process_socket(c));
    let usual = || USUAL.map(PathBuf::from).into_iter().find(|path| path.exists());
    configured.or_else(usual).unwrap_or_else(|| PathBuf::from(USUAL[0]))
}

/// Sends a command, and reads its answer.
///
/// # Errors
/// One line that says what the process answered, or that none answers.
pub(super) fn ask<T: DeserializeOwned>(
    socket: &Path,
    command: &str,
    asked: Option<&Asked>,
    limit: u32,
) -> anyhow::Result<T> {
    let limit = Duration::from_secs(u64::from(limit)) + GRACE;
    let (method, body) = match asked {
        Some(asked) => ("POST", serde_json::to_vec(asked)?),
        None => ("GET", Vec::new()),
    };
    let none = || {
        format!(
            "no lsfast listens at {}: start lsfast replicate, or name its socket with --socket PATH (socket in the config file \
             of lsfast replicate)",
            socket.display()
        )
    };
    let answer = observe::request(socket, method, &format!("/{command}"), &body, limit)
        .with_context(|| socket.display().to_string())?;
    let (status, body) = answer.with_context(none)?;
    if status == 200 {
        return serde_json::from_slice(&body)
            .with_context(|| format!("{} sent an answer that cannot be read", socket.display()));
    }
    let why = serde_json::from_slice::<Refusal>(&body).ok().map(|refusal| match refusal.details {
        Some(details) => format!("{} ({details})", refusal.error),
        None => refusal.error,
    });
    let why = why.unwrap_or_else(|| String::from_utf8_lossy(&body).into_owned());
    anyhow::bail!("{command} failed: {}", untrusted::line(&why, limits::MESSAGE_CHARS))
}

/// As Litestream prints it: indented by two spaces.
pub(super) fn json(value: &impl Serialize) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(value)?)
}
