//! Databases and directories of databases, as configured.

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use super::super::{ConfigError, Location, Sourced};
use super::{Precisions, Snapshots, Verifications, pattern};

/// One replica of a database.
#[derive(Debug, Clone)]
pub struct ReplicaConfig {
    /// Its first line.
    pub line: u32,
    /// `name`, for messages.
    pub name: Option<Sourced<String>>,
    /// Where it is.
    pub location: Location,
    /// `sync-interval`
    pub sync_interval: Option<Sourced<Duration>>,
    /// 0.3's `snapshot-interval` and `retention` of the replica, else those of the database, else
    /// those of the file.
    pub snapshot: Snapshots,
    /// Those of the replica, else those of the database, else those of the file.
    pub precision: Precisions,
    /// The same.
    pub verification: Verifications,
}

/// One database.
#[derive(Debug, Clone)]
pub struct DatabaseConfig {
    /// From the root, if the working directory is known.
    pub path: Sourced<PathBuf>,
    /// Where lsfast keeps its local state, if not beside the database.
    pub meta_path: Option<Sourced<PathBuf>>,
    /// `busy-timeout`
    pub busy_timeout: Option<Sourced<Duration>>,
    /// `monitor-interval`: lsfast is told of changes, and looks this often nevertheless.
    pub monitor_interval: Option<Sourced<Duration>>,
    /// `restore-if-db-not-exists`
    pub restore_if_missing: Option<Sourced<bool>>,
    /// Never empty.
    pub replicas: Vec<ReplicaConfig>,
}

/// How the local state of a directory's databases is laid out.
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
    /// From the root, if the working directory is known.
    pub path: Sourced<PathBuf>,
    /// Which file names.
    pub pattern: Sourced<String>,
    /// Below it, too.
    pub recursive: bool,
    /// Look for new databases all the time.
    pub watch: bool,
    pub(super) meta: Meta,
    /// What all its databases have in common: the path is the directory, and to the replicas the
    /// relative path of the database is added.
    pub(super) common: DatabaseConfig,
}

/// Files beside a database that are not one.
const BESIDE: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Directories that hold somebody's state.
const STATE: [&str; 2] = ["-lsfast", "-litestream"];

impl Directory {
    /// Whether a file may be one of these databases, by its path below the directory. Whether it is
    /// a database at all has to be seen from its content.
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

    /// The database at `relative` below the directory. As in Litestream, its path is added to those
    /// of the replicas.
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

    /// The settings that its databases share. Their replicas are those of the directory itself.
    #[must_use]
    pub fn settings(&self) -> &DatabaseConfig {
        &self.common
    }
}
