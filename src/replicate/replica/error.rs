//! Why the pipeline of one replica ends.

use crate::base::Txid;
use crate::ltx::LtxError;
use crate::replicate::history::HistoryError;
use crate::replicate::remote::RemoteError;
use crate::store::StoreError;

/// Why replication to a replica has ended.
#[derive(Debug, thiserror::Error)]
pub enum ReplicaError {
    /// The store failed, and another attempt cannot help.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store failed, and there was no time for another attempt.
    #[error(
        "not everything is stored: {0}. Nothing is lost: the next start of lsfast stores what is missing"
    )]
    Unstored(#[source] StoreError),
    /// What the replica holds does not allow it.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// Encoding a batch failed.
    #[error("cannot make a batch: {0}")]
    Ltx(#[from] LtxError),
    /// Everything is stored, but a requested step for the history failed.
    #[error("everything is stored, but the history is not as asked for: {0}")]
    History(#[from] HistoryError),
    /// The levels cannot be ended before a new page size.
    #[error(
        "the page size of the database was changed, and the replica cannot go on with another one: {0}; `lsfast verify` says \
         what is wrong with it, and an empty replica path begins with nothing"
    )]
    PageSize(#[source] HistoryError),
    /// A worker thread has ended without a result.
    #[error("a worker thread has failed: {0}")]
    Worker(String),
    /// The replica no longer holds what was stored there; the pipeline lists it and decides again
    /// how to resume.
    #[error("the replica has changed: {0}")]
    Doubt(String),
    /// The store has carried out an earlier upload to this TXID after a later one had begun; the
    /// pipeline begins again and adopts it.
    #[error("an earlier upload of {0} has arrived late")]
    Late(Txid),
    /// Capture has ended, so the database can no longer be read.
    #[error("capture of the database has ended")]
    CaptureEnded,
}
