//! Requests to a running fleet: a new configuration, databases that come and go, and waits for what
//! is committed.
//!
//! They may come from any thread. The loop of the fleet answers each of them once it is done.

use std::path::PathBuf;

use tokio::sync::{mpsc, oneshot};

use super::directories::Changes;
use crate::base::limits;
use crate::replicate::database::Synced;
use crate::replicate::options::{DatabaseOptions, DirectoryOptions};

/// Sends requests to the fleet. Clones send to the same one.
#[derive(Debug, Clone)]
pub struct Control(mpsc::Sender<Request>);

/// The end that the fleet reads.
#[derive(Debug)]
pub struct Requests(pub(super) mpsc::Receiver<Request>);

/// Makes a connected pair.
#[must_use]
pub fn control() -> (Control, Requests) {
    let (send, receive) = mpsc::channel(limits::CONTROL_QUEUE);
    (Control(send), Requests(receive))
}

/// Receives the answer to a request.
pub(super) type Answer<T> = oneshot::Sender<Result<T, ControlError>>;

/// A request, with where its answer goes.
#[derive(Debug)]
pub(super) enum Request {
    Reload(Vec<DatabaseOptions>, Vec<DirectoryOptions>, Answer<Changes>),
    Register(Box<DatabaseOptions>, Answer<bool>),
    Unregister(PathBuf, Answer<bool>),
    Start(PathBuf, Answer<bool>),
    Stop(PathBuf, Answer<bool>),
    /// Whether to wait until everything is stored.
    Sync(PathBuf, bool, Answer<oneshot::Receiver<Result<Synced, String>>>),
}

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// No database of the process has this path.
    #[error("database not found: {}", .0.display())]
    NotFound(PathBuf),
    /// The database was stopped, and not started again.
    #[error("database not open: {}", .0.display())]
    NotOpen(PathBuf),
    /// The database is not replicated, or its last commits are not stored.
    #[error("{0}")]
    Failed(String),
    /// The process ends.
    #[error("lsfast is ending")]
    Ending,
}

impl Control {
    /// Replaces the configuration. What has not changed goes on without a pause. Returns when the
    /// changes have begun; what is removed still stores what was committed.
    ///
    /// # Errors
    /// [`ControlError::Ending`].
    pub async fn reload(
        &self,
        databases: Vec<DatabaseOptions>,
        directories: Vec<DirectoryOptions>,
    ) -> Result<Changes, ControlError> {
        self.ask(|answer| Request::Reload(databases, directories, answer)).await
    }

    /// Adds a database. Returns `false` if its path is known already.
    ///
    /// # Errors
    /// [`ControlError::Ending`].
    pub async fn register(&self, database: DatabaseOptions) -> Result<bool, ControlError> {
        self.ask(|answer| Request::Register(Box::new(database), answer)).await
    }

    /// Stores what is committed, and removes the database. Returns `false` if its path is not
    /// known.
    ///
    /// # Errors
    /// [`ControlError`], if not everything is stored.
    pub async fn unregister(&self, path: PathBuf) -> Result<bool, ControlError> {
        self.ask(|answer| Request::Unregister(path, answer)).await
    }

    /// Follows a stopped database again. Returns `false` if it is not stopped.
    ///
    /// # Errors
    /// [`ControlError`], if the path is not known.
    pub async fn start(&self, path: PathBuf) -> Result<bool, ControlError> {
        self.ask(|answer| Request::Start(path, answer)).await
    }

    /// Stores what is committed, and stops following the database. Returns `false` if it is stopped
    /// already.
    ///
    /// # Errors
    /// [`ControlError`], if the path is not known, or not everything is stored.
    pub async fn stop(&self, path: PathBuf) -> Result<bool, ControlError> {
        self.ask(|answer| Request::Stop(path, answer)).await
    }

    /// Lets what is committed now leave without waiting for the interval. With `wait`, returns once
    /// all replicas have it. Many callers share one batch.
    ///
    /// # Errors
    /// [`ControlError`], if the path is not known, or the database is not replicated.
    pub async fn sync(&self, path: PathBuf, wait: bool) -> Result<Synced, ControlError> {
        let synced = self.ask(|answer| Request::Sync(path, wait, answer)).await?;
        synced.await.map_err(|_| ControlError::Ending)?.map_err(ControlError::Failed)
    }

    async fn ask<T>(&self, request: impl FnOnce(Answer<T>) -> Request) -> Result<T, ControlError> {
        let (answer, answered) = oneshot::channel();
        self.0.send(request(answer)).await.map_err(|_| ControlError::Ending)?;
        answered.await.map_err(|_| ControlError::Ending)?
    }
}

impl Request {
    /// Answers that the process ends.
    pub(super) fn refuse(self) {
        match self {
            Request::Reload(_, _, answer) => drop(answer.send(Err(ControlError::Ending))),
            Request::Register(_, answer)
            | Request::Unregister(_, answer)
            | Request::Start(_, answer)
            | Request::Stop(_, answer) => drop(answer.send(Err(ControlError::Ending))),
            Request::Sync(_, _, answer) => drop(answer.send(Err(ControlError::Ending))),
        }
    }
}
