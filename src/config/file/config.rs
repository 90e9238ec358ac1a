//! The values of a config file.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::database::{DatabaseConfig, Directory};
use super::inherited::{Precisions, Snapshots, Verifications};
use crate::config::error::ConfigError;
use crate::config::{Env, Secret, Sourced};

/// Levels of log output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// Everything.
    Trace,
    /// Details for finding a problem.
    Debug,
    /// Regular events.
    Info,
    /// Events that deserve attention.
    Warn,
    /// Failures.
    Error,
}

/// Format of the log output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text, for people.
    Text,
    /// JSON, for programs.
    Json,
}

/// `logging`
#[derive(Debug, Clone, Default)]
pub struct Logging {
    /// `level`
    pub level: Option<Sourced<LogLevel>>,
    /// `type`
    pub format: Option<Sourced<LogFormat>>,
    /// `stderr`: whether to log to standard error instead of standard output.
    pub stderr: Option<Sourced<bool>>,
}

/// `socket`
#[derive(Debug, Clone, Default)]
pub struct Socket {
    /// `enabled`
    pub enabled: Option<Sourced<bool>>,
    /// `path`
    pub path: Option<Sourced<std::path::PathBuf>>,
    /// `permissions`, octal in the file
    pub permissions: Option<Sourced<u32>>,
}

/// A message for the user that is not an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Path of the file.
    pub path: Arc<str>,
    /// Line, from 1; 0 for the whole file.
    pub line: u32,
    pub message: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.message),
            line => write!(f, "{}:{line}: {}", self.path, self.message),
        }
    }
}

/// A config file, parsed and checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Path of the file.
    pub path: Arc<str>,
    /// Databases with a path of their own.
    pub databases: Vec<DatabaseConfig>,
    /// Directories of databases.
    pub directories: Vec<Directory>,
    /// Intervals of the levels from 1 up, if the file sets them.
    pub levels: Option<Vec<Sourced<Duration>>>,
    /// `snapshot`
    pub snapshot: Snapshots,
    /// `precision`, `precision-window`
    pub precision: Precisions,
    /// `verify-interval`, `verify-rate`
    pub verification: Verifications,
    /// `l0-retention`
    pub l0_retention: Option<Sourced<Duration>>,
    /// `l0-retention-check-interval`
    pub l0_retention_check_interval: Option<Sourced<Duration>>,
    /// `retention.enabled`
    pub retention_enabled: Option<Sourced<bool>>,
    /// `logging`
    pub logging: Logging,
    /// `addr`: address of the metrics and the status page
    pub addr: Option<Sourced<String>>,
    /// `addr-token`: what a request to `addr` has to show
    pub addr_token: Option<Sourced<Secret>>,
    /// `socket`
    pub socket: Socket,
    /// `exec`
    pub exec: Option<Sourced<String>>,
    /// `heartbeat-url`, whose path is often a token
    pub heartbeat_url: Option<Sourced<Secret>>,
    /// `heartbeat-interval`
    pub heartbeat_interval: Option<Sourced<Duration>>,
    /// `shutdown-sync-timeout`
    pub shutdown_sync_timeout: Option<Sourced<Duration>>,
    /// `shutdown-sync-interval`
    pub shutdown_sync_interval: Option<Sourced<Duration>>,
    /// Warnings for the user.
    pub warnings: Vec<Warning>,
    /// The first line that contains a secret itself, instead of naming a variable.
    pub secret_line: Option<u32>,
}

impl Config {
    /// The database at `path`, from its own entry or from that of a directory.
    ///
    /// # Errors
    /// [`ConfigError`] for a name in a directory that cannot be part of a key.
    pub fn database(&self, path: &Path, env: &Env) -> Result<Option<DatabaseConfig>, ConfigError> {
        let path = env.absolute(path);
        if let Some(database) = self.databases.iter().find(|d| d.path.value == path) {
            return Ok(Some(database.clone()));
        }
        for directory in &self.directories {
            if let Ok(relative) = path.strip_prefix(&directory.path.value)
                && directory.matches(relative)
            {
                return directory.database(relative).map(Some);
            }
        }
        Ok(None)
    }

    /// The names of all entries, for messages.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let databases = self.databases.iter().map(|d| d.path.value.display().to_string());
        let directories =
            self.directories.iter().map(|d| format!("{}/{}", d.path.value.display(), d.pattern.value));
        databases.chain(directories).collect()
    }
}
