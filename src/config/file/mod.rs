//! The config file: `litestream.yml` as Litestream 0.3 and 0.5 read it, and a few keys of our own.
//!
//! Text becomes sections of known keys (`yaml`), each value is expanded and read (`expand`,
//! `build`), replicas are resolved as everywhere else, and then the whole is checked for what must
//! not be there twice (`check`). What does not fit is an error with line and column; what has no
//! effect is a warning.

mod build;
mod check;
mod database;
mod error;
mod expand;
mod explain;
mod keys;
mod open;
mod pattern;
mod yaml;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub use database::{DatabaseConfig, Directory, ReplicaConfig};
pub use error::{FileError, Problem};
pub use open::{Candidate, default_paths};

use super::{ConfigError, Env, Overrides, Secret, Sourced};

/// Words for the level of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// Everything.
    Trace,
    /// For the search for a problem.
    Debug,
    /// What happens.
    Info,
    /// What should be looked at.
    Warn,
    /// What failed.
    Error,
}

/// The form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// `logging`
#[derive(Debug, Clone, Default)]
pub struct Logging {
    /// `level`
    pub level: Option<Sourced<LogLevel>>,
    /// `type`
    pub format: Option<Sourced<LogFormat>>,
    /// `stderr`: to the standard error instead of the standard output.
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

/// Snapshots: how often, and how long they are kept.
#[derive(Debug, Clone, Default)]
pub struct Snapshots {
    /// `interval`
    pub interval: Option<Sourced<Duration>>,
    /// `retention`
    pub retention: Option<Sourced<Duration>>,
}

/// How finely a moment can be chosen.
#[derive(Debug, Clone, Default)]
pub struct Precisions {
    /// `precision`: so far apart two states can be told from each other
    pub grain: Option<Sourced<Duration>>,
    /// `precision-window`: how far back
    pub window: Option<Sourced<Duration>>,
}

impl Precisions {
    /// What is not said here is as further out.
    fn or(self, outer: &Precisions) -> Precisions {
        Precisions {
            grain: self.grain.or_else(|| outer.grain.clone()),
            window: self.window.or_else(|| outer.window.clone()),
        }
    }
}

/// Verification in the background.
#[derive(Debug, Clone, Default)]
pub struct Verifications {
    /// `verify-interval`; 0 for never
    pub interval: Option<Sourced<Duration>>,
    /// `verify-rate`, bytes a second
    pub rate: Option<Sourced<u64>>,
}

impl Verifications {
    /// What is not said here is as further out.
    fn or(self, outer: &Verifications) -> Verifications {
        Verifications {
            interval: self.interval.or_else(|| outer.interval.clone()),
            rate: self.rate.or_else(|| outer.rate.clone()),
        }
    }
}

/// Something to tell the user that is no error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The file.
    pub path: Arc<str>,
    /// From 1; 0 for the whole file.
    pub line: u32,
    /// In words.
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

/// A config file, read and checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file.
    pub path: Arc<str>,
    /// Databases by their path.
    pub databases: Vec<DatabaseConfig>,
    /// Directories of databases.
    pub directories: Vec<Directory>,
    /// Intervals of the levels from 1 up, where the file names them.
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
    /// `addr`, where metrics and the status page are served
    pub addr: Option<Sourced<String>>,
    /// `socket`
    pub socket: Socket,
    /// `exec`
    pub exec: Option<Sourced<String>>,
    /// `heartbeat-url`; its path is often a token
    pub heartbeat_url: Option<Sourced<Secret>>,
    /// `heartbeat-interval`
    pub heartbeat_interval: Option<Sourced<Duration>>,
    /// `shutdown-sync-timeout`
    pub shutdown_sync_timeout: Option<Sourced<Duration>>,
    /// `shutdown-sync-interval`
    pub shutdown_sync_interval: Option<Sourced<Duration>>,
    /// What the user should know.
    pub warnings: Vec<Warning>,
    /// The first line that holds a secret itself, instead of naming a variable.
    pub secret_line: Option<u32>,
}

impl Config {
    /// Reads the text of the file called `path`. `expand` puts variables in.
    ///
    /// # Errors
    /// [`FileError`] with line and column. [`FileError::ambiguity`] says whether a probe may settle
    /// it; then [`Overrides::settle`] and load again.
    pub fn load(
        text: &str,
        path: &str,
        flags: &Overrides,
        env: &Env,
        expand: bool,
    ) -> Result<Config, FileError> {
        let path: Arc<str> = path.into();
        let sections = yaml::parse(text, &path)?;
        let config = build::Builder::new(path, flags, env, expand).config(&sections)?;
        check::check(&config)?;
        Ok(config)
    }

    /// The database at `path`, from an entry of its own or as one of a directory.
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

    /// The entries, as a message names them.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let databases = self.databases.iter().map(|d| d.path.value.display().to_string());
        let directories =
            self.directories.iter().map(|d| format!("{}/{}", d.path.value.display(), d.pattern.value));
        databases.chain(directories).collect()
    }
}
