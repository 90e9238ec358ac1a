//! Why a step of keeping the history failed. All of it is tried again; nothing that is stored is
//! lost by it.

use crate::base::LtxId;
use crate::ltx::LtxError;
use crate::ltx::times::TimesError;
use crate::replicate::image::stream::StreamError;
use crate::replicate::replica::resume::RemoteError;
use crate::store::{ErrorKind, StoreError};

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file that was to be merged.
    #[error("{id} of {url} can't be merged: {source}")]
    Input {
        /// The file.
        id: LtxId,
        /// The replica.
        url: String,
        /// The cause.
        source: LtxError,
    },
    /// A file whose name and header disagree.
    #[error(
        "{id} of {url} holds the TXIDs {found}: it was renamed or damaged; restore what is needed from it and remove it"
    )]
    Misnamed {
        /// The file.
        id: LtxId,
        /// The replica.
        url: String,
        /// By its header.
        found: String,
    },
    /// The merge.
    #[error("cannot write {to} of {url}: {source}")]
    Merge {
        /// What was to be written.
        to: LtxId,
        /// The replica.
        url: String,
        /// The cause.
        source: LtxError,
    },
    /// A header.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// Reading the database.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// A list of times.
    #[error("cannot write down when batches were made: {0}")]
    Times(#[from] TimesError),
    /// No state of the database could be read, and the store alone does not do.
    #[error("no full image can be made now: {0}")]
    NoImage(String),
    /// A file that was to replace a damaged one.
    #[error("nothing can replace a damaged file: {0}")]
    Proof(String),
    /// A helper thread is gone.
    #[error("a worker thread has failed: {0}")]
    Worker(String),
}

impl HistoryError {
    /// What the store said, if it was the store.
    #[must_use]
    pub fn store_error(&self) -> Option<&StoreError> {
        match self {
            HistoryError::Store(e) | HistoryError::Remote(RemoteError::Store(e)) => Some(e),
            HistoryError::Stream(StreamError::Store(e) | StreamError::Finish { source: e, .. }) => Some(e),
            HistoryError::Merge { source: LtxError::Read(e), .. }
            | HistoryError::Input { source: LtxError::Read(e), .. } => {
                e.get_ref()?.downcast_ref::<HistoryError>()?.store_error()
            }
            _ => None,
        }
    }

    /// Whether a file of the replica may be damaged.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        let of_files = matches!(
            self,
            HistoryError::Input { .. }
                | HistoryError::Misnamed { .. }
                | HistoryError::Merge { .. }
                | HistoryError::Proof(_)
                | HistoryError::Remote(RemoteError::Ltx { .. })
        );
        of_files && self.store_error().is_none()
    }

    /// Whether a file that should be there is not.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        self.store_error().is_some_and(|e| e.kind() == ErrorKind::NotFound)
    }
}
