//! Why the pipeline of one replica ends.

use super::resume::RemoteError;
use crate::ltx::LtxError;
use crate::replicate::history::HistoryError;
use crate::store::StoreError;

/// Why a replica has stopped for good.
#[derive(Debug, thiserror::Error)]
pub enum ReplicaError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store, when there was no time for another attempt.
    #[error(
        "not everything is stored: {0}. Nothing is lost: the next start of lsfast stores what is missing"
    )]
    Unstored(#[source] StoreError),
    /// What the store has.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The pages.
    #[error("cannot make a batch: {0}")]
    Ltx(#[from] LtxError),
    /// What was asked for in the end.
    #[error("everything is stored, but the history is not as asked for: {0}")]
    History(#[from] HistoryError),
    /// A helper thread is gone.
    #[error("a worker thread has failed: {0}")]
    Worker(String),
    /// The replica is not what was stored there; it is looked at again.
    #[error("the replica has changed: {0}")]
    Doubt(String),
    /// The database can't be read any more.
    #[error("capture of the database has ended")]
    CaptureEnded,
}
