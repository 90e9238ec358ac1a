//! Databases and directories of databases, as configured.

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use super::inherited::{Precisions, Snapshots, Verifications};
use super::pattern;
use crate::config::error::ConfigError;
use crate::config::{Location, Sourced};

/// One replica of a database.
#[derive(Debug, Clone)]
pub struct ReplicaConfig {
    /// First line of the replica in the file.
    pub line: u32,
    /// `name`, for messages.
    pub name: Option<Sourced<String>>,
    /// The resolved location.
    pub location: Location,
    /// `sync-interval`
    pub sync_interval: Option<Sourced<Duration>>,
    /// `snapshot-interval` and `retention` of the replica, as in Litestream 0.3, otherwise the
    /// settings of the database, otherwise those of the file.
    pub snapshot: Snapshots,
    /// The settings of the replica, otherwise those of the database, otherwise those of the file.
    pub precision: Precisions,
    /// The settings of the replica, otherwise those of the database, otherwise those of the file.
    pub verification: Verifications,
}

/// One database.
#[derive(Debug, Clone)]
pub struct DatabaseConfig {
    /// Absolute path, if the working directory is known.
    pub path: Sourced<PathBuf>,
    /// Where lsfast keeps its local state, if not next to the database.
    pub meta_path: Option<Sourced<PathBuf>>,
    /// `busy-timeout`
    pub busy_timeout: Option<Sourced<Duration>>,
    /// `monitor-interval`: lsfast is notified of changes, and checks at this interval in addition.
    pub monitor_interval: Option<Sourced<Duration>>,
    /// `restore-if-db-not-exists`
    pub restore_if_missing: Option<Sourced<bool>>,
    /// The replicas; never empty.
    pub replicas: Vec<ReplicaConfig>,
}

/// The layout of the local state of a directory's databases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Meta {
    /// `meta-path`: `BASE/SUB/.NAME-lsfast`
    Path,
    /// `meta-dir`: `BASE/SUB/NAME-lsfast`
    Dir,
}

/// A directory of databases.
#[derive(Debug, Clone)]
pub struct Directory {
    /// Absolute path, if the working directory is known.
    pub path: Sourced<PathBuf>,
    /// Pattern of file names.
    pub pattern: Sourced<String>,
    /// Whether subdirectories are searched too.
    pub recursive: bool,
    /// Whether lsfast keeps looking for new databases.
    pub watch: bool,
    pub(super) meta: Meta,
    /// The settings that all databases of the directory share. The path is that of the directory.
    /// Each database appends its relative path to the location of each replica.
    pub(super) common: DatabaseConfig,
}

/// Suffixes of files next to a database that are not databases.
const BESIDE: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Suffixes of directories that hold the state of lsfast or Litestream.
const STATE: [&str; 2] = ["-lsfast", "-litestream"];

impl Directory {
    /// Whether a file may be one of these databases, judged by its path below the directory. Only
    /// its content shows whether it is a database.
    #[must_use]
    pub fn matches(&self, relative: &Path) -> bool {
        let parts: Option<Vec<&str>> = relative
            .components()
            .map(|c| match c {
                Component::Normal(part) => part.to_str(),
                _ => None,
            })
            .collect();
        let Some(parts) = parts else { return false };
        let Some((name, above)) = parts.split_last() else { return false };
        let is_state = |part: &str| part.starts_with('.') && STATE.iter().any(|end| part.ends_with(end));
        (self.recursive || above.is_empty())
            && !above.iter().any(|part| is_state(part))
            && !BESIDE.iter().any(|end| name.ends_with(end))
            && pattern::matches(&self.pattern.value, name)
    }

    /// The database at `relative` below the directory. As in Litestream, its path is appended to
    /// those of the replicas.
    ///
    /// # Errors
    /// [`ConfigError`] for a name that cannot be part of a key.
    pub fn database(&self, relative: &Path) -> Result<DatabaseConfig, ConfigError> {
        let text = relative.to_str().ok_or_else(|| ConfigError::NotText(relative.to_path_buf()))?;
        let mut database = self.common.clone();
        database.path.value = self.path.value.join(relative);
        let folder = relative.parent().unwrap_or(Path::new(""));
        let name = relative.file_name().unwrap_or_default().to_string_lossy();
        if let Some(meta) = &mut database.meta_path {
            let dot = if self.meta == Meta::Path { "." } else { "" };
            meta.value = meta.value.join(folder).join(format!("{dot}{name}-lsfast"));
        }
        for replica in &mut database.replicas {
            replica.location = replica.location.join(text)?;
        }
        Ok(database)
    }

    /// The settings that all databases of the directory share. The replicas are those of the
    /// directory itself.
    #[must_use]
    pub fn settings(&self) -> &DatabaseConfig {
        &self.common
    }
}
