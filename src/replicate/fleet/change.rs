//! A change of what is replicated, while it is.
//!
//! A database whose options are as before is left alone. Another one is stopped as at the end of the process: what is committed is stored, for
//! as long as a shutdown may take. Then the one that takes its place begins, if there is one; what could not be stored is found by comparison.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::Fleet;
use crate::replicate::{Change, Changes, DatabaseOptions, Stopper};

/// A database that has a task.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) stopper: Stopper,
    pub(super) task: AbortHandle,
    pub(super) fingerprint: u64,
    /// It is to end, at this time at the latest.
    pub(super) leaves: Option<Instant>,
}

/// Changes that come, and what waits for others to end.
#[derive(Debug, Default)]
pub(super) struct Coming {
    changes: Option<Changes>,
    /// How long a database may take to store its last commits.
    patience: Duration,
    /// Those that take the place of one that is ending.
    successors: HashMap<PathBuf, DatabaseOptions>,
}

impl Coming {
    /// Waits for the next; for ever if none can come.
    pub(super) async fn next(&mut self) -> Change {
        if let Some(changes) = &mut self.changes
            && let Some(change) = changes.recv().await
        {
            return change;
        }
        self.changes = None;
        std::future::pending().await
    }
}

impl Fleet {
    /// Takes changes from now on.
    pub(in crate::replicate) fn take_changes(&mut self, changes: Option<Changes>, patience: Duration) {
        (self.changes.changes, self.changes.patience) = (changes, patience);
    }

    pub(super) fn change(&mut self, change: Change) {
        let Change { databases, directories } = change;
        // Of now: an earlier change that still waits is void.
        self.changes.successors.clear();
        (self.single, self.shared.alone) = (false, false);
        let mut wanted: HashMap<PathBuf, DatabaseOptions> =
            databases.into_iter().map(|d| (d.path.clone(), d)).collect();
        let stays = |path: &Path, running: &Running, directory: bool| {
            running.leaves.is_none()
                && (directory || wanted.get(path).is_some_and(|w| w.fingerprint == running.fingerprint))
        };
        let in_directories = self.directories.replace(directories);
        let leaving: Vec<PathBuf> = self
            .running
            .iter()
            .filter(|(path, running)| {
                !stays(path, running, in_directories.contains(*path) && !wanted.contains_key(*path))
            })
            .map(|(path, _)| path.clone())
            .collect();
        let (kept, mut changed, mut removed) = (self.running.len() - leaving.len(), 0, 0);
        wanted.retain(|path, _| !self.running.get(path).is_some_and(|_| !leaving.contains(path)));
        for path in leaving {
            if let Some(successor) = wanted.remove(&path) {
                self.changes.successors.insert(path.clone(), successor);
                changed += 1;
            } else {
                removed += 1;
            }
            self.ask_to_leave(&path);
        }
        let added = wanted.len();
        wanted.into_values().for_each(|database| self.add(database));
        tracing::info!(kept, changed, added, removed, "the config file was read again");
    }

    fn ask_to_leave(&mut self, path: &Path) {
        let late = Instant::now() + self.changes.patience;
        if let Some(running) = self.running.get_mut(path) {
            running.leaves.get_or_insert(late);
            running.stopper.ask();
        }
    }

    /// When the first of those that are ending is late.
    pub(super) fn first_late(&self) -> Option<Instant> {
        self.running.values().filter_map(|r| r.leaves).min()
    }

    /// Ends those that are late.
    pub(super) fn end_late(&mut self) {
        let now = Instant::now();
        for (path, running) in &mut self.running {
            if running.leaves.take_if(|at| *at <= now).is_some() {
                tracing::warn!(
                    db = %path.display(), waited = ?self.changes.patience,
                    "the last commits of this database could not be stored in time before its options change; what is missing is found when it \
                     is replicated again"
                );
                running.task.abort();
                // Far in the future: it was told.
                running.leaves = Some(now + self.changes.patience.max(Duration::from_secs(3600)));
            }
        }
    }

    /// A task has ended. Whether that was because of a change; then what takes its place begins.
    pub(super) fn has_left(&mut self, path: &Path) -> bool {
        let left = self.running.remove(path).is_some_and(|r| r.leaves.is_some());
        if left {
            tracing::info!(db = %path.display(), "no longer replicated as before, by the config file");
            self.shared.vitals.forget(path);
            match self.changes.successors.remove(path) {
                Some(successor) => self.add(successor),
                None => self.directories.again(path).into_iter().for_each(|f| self.found(f)),
            }
        }
        left
    }
}
