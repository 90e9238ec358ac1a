//! The supervisor: runs a task for each database, adds tasks as databases appear in directories,
//! and retries databases that fail.
//!
//! # Failure and crash
//!
//! A database that fails is retried with backoff, unless another try cannot help. The others go on.
//! With a single database and no directory, some errors end the process instead
//! ([`FollowError::is_final`], [`FollowError::is_definite`]).

use std::cell::Cell;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use super::control::{Request, Requests};
use super::directories::{Directories, Found};
use super::members::{Member, Members, Origin};
use crate::base::backoff::Backoff;
use crate::base::limits;
use crate::io::is_file_limit_news;
use crate::replicate::database::{self, Ended, FollowError, Shared};
use crate::replicate::error::ReplicateError;
use crate::replicate::options::DatabaseOptions;
use crate::replicate::shutdown::{self, Stop};

/// Wait after the first failure of a database; it grows with each further one up to [`AGAIN_MAX`].
const AGAIN_MIN: Duration = Duration::from_secs(1);
/// Longest wait after a failure of a database.
const AGAIN_MAX: Duration = Duration::from_secs(60);
/// A database that was followed for this long has recovered from its earlier failures.
const RECOVERED: Duration = Duration::from_secs(300);

/// The result of a database's task.
type Outcome = (PathBuf, Result<Ended, FollowError>);

/// All databases of the process.
pub(crate) struct Fleet {
    pub(super) shared: Shared,
    /// The stop of the process. It is handed on to each database.
    pub(super) inner: Stop,
    is_stopping: bool,
    /// The process ends without what the stores have not taken, and says so by itself.
    is_given_up: bool,
    tasks: JoinSet<Outcome>,
    pub(super) members: Members,
    pub(super) directories: Directories,
    /// There is one database and no directory: its error ends the process.
    pub(super) single: Rc<Cell<bool>>,
    /// `None` once nothing can send any more.
    requests: Option<Requests>,
    /// How long a database may take that is stopped alone.
    pub(super) stop_timeout: Duration,
    first_error: Option<ReplicateError>,
}

impl Fleet {
    pub(crate) fn new(
        databases: Vec<DatabaseOptions>,
        directories: Directories,
        shared: Shared,
        requests: Option<Requests>,
        stop_timeout: Duration,
        inner: Stop,
    ) -> Fleet {
        let single = databases.len() == 1 && directories.is_empty();
        let mut fleet = Fleet {
            shared,
            inner,
            is_stopping: false,
            is_given_up: false,
            tasks: JoinSet::new(),
            members: Members::default(),
            directories,
            single: Rc::new(Cell::new(single)),
            requests,
            stop_timeout,
            first_error: None,
        };
        // Nothing to do yet: requests name the databases.
        fleet.members.is_commanded = databases.is_empty() && fleet.directories.is_empty();
        for database in databases {
            fleet.add(Rc::new(database), Origin::Named);
        }
        fleet
    }

    pub(super) fn add(&mut self, options: Rc<DatabaseOptions>, origin: Origin) {
        let (stopper, stop) = shutdown::stop();
        if self.is_stopping {
            stopper.ask();
        }
        let (shared, single, database) = (self.shared.clone(), Rc::clone(&self.single), Rc::clone(&options));
        let task = self.tasks.spawn_local(async move {
            let result = tend(&database, &shared, &stop, &single).await;
            (database.path.clone(), result)
        });
        self.members.add(task.id(), Member { options, origin, stopper, leave: None });
    }

    /// Adds the databases that the directories hold now.
    pub(crate) async fn look_once(&mut self) {
        if !self.directories.is_empty() {
            let found = self.directories.next().await;
            found.into_iter().for_each(|f| self.found(f));
        }
    }

    /// Runs until every database has ended and no further one can come.
    pub(crate) async fn serve(&mut self) {
        loop {
            let stopping = self.inner.is_asked();
            if stopping && !std::mem::replace(&mut self.is_stopping, true) {
                self.members.stop_all();
            }
            let more = !self.directories.is_empty() && !stopping;
            let waits = self.members.is_commanded && self.first_error.is_none() && self.requests.is_some();
            if self.tasks.is_empty() && !more && (stopping || !waits) {
                return;
            }
            let given_up_at = self.members.given_up_at();
            tokio::select! {
                joined = self.tasks.join_next_with_id(), if !self.tasks.is_empty() => {
                    if let Some(joined) = joined {
                        self.ended(joined);
                    }
                }
                found = self.directories.next(), if more => found.into_iter().for_each(|f| self.found(f)),
                () = self.inner.asked(), if !stopping => {}
                request = next(self.requests.as_mut()), if self.requests.is_some() => match request {
                    Some(request) => self.obey(request),
                    None => self.requests = None,
                },
                () = sleep_until(given_up_at), if given_up_at.is_some() => {
                    self.members.give_up(Instant::now(), database::LEAVE_TIME);
                }
            }
        }
    }

    pub(super) fn found(&mut self, found: Found) {
        match found {
            Found::Database(database) => {
                tracing::debug!(db = %database.path.display(), "found in a directory");
                self.add(Rc::from(database), Origin::Found);
            }
            Found::Failed(path, error) => {
                tracing::error!(db = %path.display(), error, "this database cannot be replicated; the others go on");
                self.shared.vitals.failed(&path, &error);
                self.note(ReplicateError::Directory(error));
            }
            Found::Skipped { path, target } => {
                tracing::warn!(
                    path = %path.display(), target = %target.display(),
                    "this link leads out of the watched directory and is left alone, since lsfast runs with the rights of root"
                );
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
                if let Some(mut member) = self.members.remove(id)
                    && let Some(leave) = member.leave.take()
                {
                    return self.left(member, leave, result);
                }
                let why =
                    result.as_ref().map_or_else(ToString::to_string, |_| "the database is gone".to_owned());
                self.shared.desks.close(&path, &why);
                match result {
                    Ok(Ended::Stopped) => self.shared.vitals.stopped(&path),
                    Ok(Ended::Gone) => {
                        tracing::info!(db = %path.display(), "the database is gone: no longer followed");
                        self.shared.vitals.forget(&path);
                        self.directories.gone(&path).into_iter().for_each(|f| self.found(f));
                    }
                    // Many files in a directory are not databases.
                    Err(e) if self.directories.has(&path) && e.is_no_database() => {
                        tracing::debug!(db = %path.display(), reason = %e, "not a database: left alone");
                        self.directories.forget(&path);
                        self.shared.vitals.forget(&path);
                    }
                    Err(e) => {
                        self.shared.vitals.failed(&path, &e.to_string());
                        if !self.single.get() && !self.is_given_up {
                            tracing::error!(db = %path.display(), error = %e, "this database is not replicated any more; the others go on");
                        }
                        self.note(e.into());
                    }
                }
            }
            Err(e) if self.single.get() => std::panic::resume_unwind(e.into_panic()),
            Err(e) => {
                let path = self.members.remove(e.id()).map(|m| m.options.path.clone()).unwrap_or_default();
                self.shared.desks.close(&path, "a defect of lsfast ended its replication");
                tracing::error!(db = %path.display(), "a defect of lsfast ended the replication of this database; the others go on");
                self.shared.vitals.failed(&path, "a defect of lsfast ended its replication");
                self.note(ReplicateError::Panicked(path));
            }
        }
    }

    /// Ends the wait of all databases for their stores. Each of them checkpoints, within `limit`.
    pub(crate) async fn give_up(&mut self, limit: Duration) {
        self.is_given_up = true;
        self.members.give_up_all();
        _ = tokio::time::timeout(limit, self.serve()).await;
    }

    /// Whether no database has anything left to store: those that still run only checkpoint.
    pub(crate) fn is_only_leaving(&mut self) -> bool {
        while let Some(joined) = self.tasks.try_join_next_with_id() {
            self.ended(joined);
        }
        self.members.running.values().all(|m| self.shared.leaving.has(&m.options.path))
    }

    pub(super) fn note(&mut self, error: ReplicateError) {
        self.first_error.get_or_insert(error);
    }

    /// The first error, or why a directory cannot be read.
    pub(crate) fn into_error(self) -> Option<ReplicateError> {
        let trouble = self.directories.trouble().map(|why| ReplicateError::Directory(why.to_owned()));
        self.first_error.or(trouble)
    }
}

/// Follows a database, and retries after a failure that may pass. A single database is retried too,
/// unless what the process was started for cannot be done.
async fn tend(
    database: &DatabaseOptions,
    shared: &Shared,
    stop: &Stop,
    single: &Cell<bool>,
) -> Result<Ended, FollowError> {
    let (mut backoff, mut outage) = (Backoff::new(AGAIN_MIN, AGAIN_MAX), Outage::default());
    let followed = Cell::new(false);
    loop {
        let begun = Instant::now();
        let error = match database::follow(database, shared, stop, &followed).await {
            Err(e) if shared.once.is_some() || !e.is_worth_another_try() => return Err(e),
            Err(e) if database.leave_when_gone && e.is_no_database() => return Err(e),
            Err(e) if single.get() && e.is_final() => return Err(e),
            Err(e) if single.get() && !followed.get() && e.is_definite() => {
                if !e.is_fleeting() || outage.is_again(&e) {
                    return Err(e);
                }
                e
            }
            Err(e) => e,
            ended => return ended,
        };
        if begun.elapsed() > RECOVERED {
            backoff.reset();
            outage = Outage::default();
        }
        shared.vitals.failed(&database.path, &error.to_string());
        let wait = backoff.fail();
        // The limit of open files concerns the whole process, so it is logged once.
        let is_news = match error.is_file_limit() {
            true => is_file_limit_news(),
            false => outage.is_news(&error, Instant::now()),
        };
        if is_news {
            let others = if single.get() { "" } else { "; the others go on" };
            tracing::error!(
                db = %database.path.display(), error = %error, again_in = ?wait,
                "this database is not replicated for now{others}"
            );
        }
        tokio::select! {
            () = tokio::time::sleep(wait.max(limits::SAFETY_TICK)) => {}
            () = stop.asked() => return Err(error),
        }
    }
}

async fn next(requests: Option<&mut Requests>) -> Option<Request> {
    requests?.0.recv().await
}

async fn sleep_until(at: Option<Instant>) {
    if let Some(at) = at {
        tokio::time::sleep_until(at).await;
    }
}

/// What was logged of a failing database: each kind of error immediately, and the same kind again
/// after 1, 10 and 60 minutes, then each hour.
#[derive(Debug, Default)]
struct Outage {
    /// The kind of the last error, and since when it occurs.
    last: Option<(String, Instant)>,
    lines: u32,
}

impl Outage {
    /// Whether the error is of the same kind as the last one.
    fn is_again(&self, error: &FollowError) -> bool {
        self.last.as_ref().is_some_and(|(kind, _)| *kind == kind_of(error))
    }

    /// Whether a log line is due.
    fn is_news(&mut self, error: &FollowError, now: Instant) -> bool {
        let kind = kind_of(error);
        let since = self.last.as_ref().filter(|(k, _)| *k == kind).map(|(_, since)| *since);
        let Some(since) = since else {
            (self.last, self.lines) = (Some((kind, now)), 1);
            return true;
        };
        let minutes =
            [1, 10, 60].get(self.lines as usize - 1).copied().unwrap_or_else(|| 60 * (self.lines - 2));
        let due = now.duration_since(since) >= Duration::from_secs(60 * u64::from(minutes));
        self.lines += u32::from(due);
        due
    }
}

/// The text of the error without digits, which tells kinds of errors apart.
fn kind_of(error: &FollowError) -> String {
    error.to_string().chars().filter(|c| !c.is_ascii_digit()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_that_stays_is_logged_after_one_ten_and_sixty_minutes_and_each_hour() {
        let error = |n: u64| FollowError::Missing(PathBuf::from(format!("/data-{n}.db")));
        let (mut outage, begun) = (Outage::default(), Instant::now());
        let mut is_news = |n| outage.is_news(&error(n), begun + Duration::from_secs(n));
        let at: Vec<u64> = (0..4 * 3600).filter(|n| is_news(*n)).collect();
        assert_eq!(at, [0, 60, 600, 3600, 7200, 10_800]);
        assert!(outage.is_news(&FollowError::Missing(PathBuf::from("/other.db")), Instant::now()));
    }
}
