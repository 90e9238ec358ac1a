//! The supervisor: a task for each database, more as directories fill, and what happens when one of them fails.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use super::directories::{Directories, Found};
use super::follow::{self, Ended, FollowError, Shared};
use super::{DatabaseOptions, ReplicateError, Stop};
use crate::base::limits;

/// The wait after the first failure of a database; it doubles with each further one.
const AGAIN_MIN: Duration = Duration::from_secs(1);
/// Its bound.
const AGAIN_MAX: Duration = Duration::from_secs(60);
/// A database that was followed for this long has recovered from its earlier failures.
const RECOVERED: Duration = Duration::from_secs(300);

/// What a database's task leaves.
type Outcome = (PathBuf, Result<Ended, FollowError>);

/// All databases of the process.
pub(super) struct Fleet {
    shared: Shared,
    /// Asked when the databases are to end in order.
    inner: Stop,
    tasks: JoinSet<Outcome>,
    /// Which task is which database, for one that panics.
    names: HashMap<tokio::task::Id, PathBuf>,
    directories: Directories,
    /// One database and no directory: its error is the answer.
    single: bool,
    first_error: Option<ReplicateError>,
}

impl Fleet {
    pub(super) fn new(
        databases: Vec<DatabaseOptions>,
        directories: Directories,
        shared: Shared,
        inner: Stop,
    ) -> Fleet {
        let single = databases.len() == 1 && directories.is_empty();
        let mut fleet = Fleet {
            shared,
            inner,
            tasks: JoinSet::new(),
            names: HashMap::new(),
            directories,
            single,
            first_error: None,
        };
        for database in databases {
            fleet.add(database);
        }
        fleet
    }

    fn add(&mut self, database: DatabaseOptions) {
        let (shared, stop, again) =
            (self.shared.clone(), self.inner.clone(), !self.single && self.shared.once.is_none());
        let path = database.path.clone();
        let task = self.tasks.spawn_local(async move {
            let result = tend(&database, &shared, &stop, again).await;
            (database.path, result)
        });
        self.names.insert(task.id(), path);
    }

    /// Takes what the directories have now.
    pub(super) async fn look_once(&mut self) {
        if !self.directories.is_empty() {
            let found = self.directories.next().await;
            found.into_iter().for_each(|f| self.found(f));
        }
    }

    /// Serves until every database has ended, and none can come any more.
    pub(super) async fn serve(&mut self) {
        loop {
            let more = !self.directories.is_empty() && !self.inner.is_asked();
            if self.tasks.is_empty() && !more {
                return;
            }
            tokio::select! {
                joined = self.tasks.join_next_with_id(), if !self.tasks.is_empty() => {
                    if let Some(joined) = joined {
                        self.ended(joined);
                    }
                }
                found = self.directories.next(), if more => found.into_iter().for_each(|f| self.found(f)),
                () = self.inner.asked(), if more => {}
            }
        }
    }

    fn found(&mut self, found: Found) {
        match found {
            Found::Database(database) => {
                tracing::debug!(db = %database.path.display(), "found in a directory");
                self.add(*database);
            }
            Found::Failed(path, error) => {
                tracing::error!(db = %path.display(), error, "this database cannot be replicated; the others go on");
                self.shared.vitals.failed(&path, &error);
                self.note(ReplicateError::Directory(error));
            }
            Found::Missing { dir, why, absent } => {
                if absent {
                    tracing::warn!(dir = %dir.display(), "the directory does not exist; waiting for it");
                } else {
                    tracing::error!(dir = %dir.display(), error = why, "this directory cannot be looked at for now; the others go on");
                }
                self.shared.vitals.failed(&dir, &why);
            }
            Found::Back(dir) => {
                tracing::info!(dir = %dir.display(), "the directory is there");
                self.shared.vitals.forget(&dir);
            }
        }
    }

    fn ended(&mut self, joined: Result<(tokio::task::Id, Outcome), JoinError>) {
        match joined {
            Ok((id, (path, result))) => {
                self.names.remove(&id);
                match result {
                    Ok(Ended::Stopped) => self.shared.vitals.stopped(&path),
                    Ok(Ended::Gone) => {
                        tracing::info!(db = %path.display(), "the database is gone: no longer followed");
                        self.shared.vitals.forget(&path);
                        self.directories.gone(&path).into_iter().for_each(|f| self.found(f));
                    }
                    // One of many files in a directory.
                    Err(e) if self.directories.has(&path) && e.is_no_database() => {
                        tracing::debug!(db = %path.display(), reason = %e, "not a database: left alone");
                        self.directories.forget(&path);
                        self.shared.vitals.forget(&path);
                    }
                    Err(e) => {
                        self.shared.vitals.failed(&path, &e.to_string());
                        if !self.single {
                            tracing::error!(db = %path.display(), error = %e, "this database is not replicated any more; the others go on");
                        }
                        self.note(e.into());
                    }
                }
            }
            Err(e) if self.single => std::panic::resume_unwind(e.into_panic()),
            Err(e) => {
                let path = self.names.remove(&e.id()).unwrap_or_default();
                tracing::error!(db = %path.display(), "a defect of lsfast ended the replication of this database; the others go on");
                self.shared.vitals.failed(&path, "a defect of lsfast ended its replication");
                self.note(ReplicateError::Panicked(path));
            }
        }
    }

    fn note(&mut self, error: ReplicateError) {
        self.first_error.get_or_insert(error);
    }

    /// What went wrong first.
    pub(super) fn into_error(self) -> Option<ReplicateError> {
        let trouble = self.directories.trouble().map(|why| ReplicateError::Directory(why.to_owned()));
        self.first_error.or(trouble)
    }
}

/// Follows a database, and tries again after a failure that may go away.
async fn tend(
    database: &DatabaseOptions,
    shared: &Shared,
    stop: &Stop,
    again: bool,
) -> Result<Ended, FollowError> {
    let mut wait = AGAIN_MIN;
    loop {
        let begun = Instant::now();
        let error = match follow::follow(database, shared, stop).await {
            Err(e)
                if again && e.is_worth_another_try() && !(database.leave_when_gone && e.is_no_database()) =>
            {
                e
            }
            result => return result,
        };
        if begun.elapsed() > RECOVERED {
            wait = AGAIN_MIN;
        }
        shared.vitals.failed(&database.path, &error.to_string());
        tracing::error!(
            db = %database.path.display(), error = %error, again_in = ?wait,
            "this database is not replicated for now; the others go on"
        );
        tokio::select! {
            () = tokio::time::sleep(wait.max(limits::SAFETY_TICK)) => {}
            () = stop.asked() => return Err(error),
        }
        wait = (wait * 2).min(AGAIN_MAX);
    }
}
