//! Why a step of the history failed. Each step is retried, and its failure loses nothing that is
//! stored.

use crate::base::{Level, LtxId, Txid};
use crate::ltx::LtxError;
use crate::ltx::times::TimesError;
use crate::replicate::image::stream::StreamError;
use crate::replicate::remote::RemoteError;
use crate::store::{ErrorKind, StoreError};

/// Why a step of the history failed.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// A request failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file that was to be merged cannot be read.
    #[error("{id} of {url} can't be merged: {source}")]
    Input {
        /// Name of the file.
        id: LtxId,
        /// URL of the replica.
        url: String,
        /// The cause.
        source: LtxError,
    },
    /// The name and the header of a file disagree.
    #[error(
        "{id} of {url} holds the TXIDs {found}: it was renamed or damaged; restore what is needed from it and remove it"
    )]
    Misnamed {
        /// Name of the file.
        id: LtxId,
        /// URL of the replica.
        url: String,
        /// TXIDs in its header.
        found: String,
    },
    /// The output of a merge cannot be written.
    #[error("cannot write {to} of {url}: {source}")]
    Merge {
        /// Name of the output.
        to: LtxId,
        /// URL of the replica.
        url: String,
        /// The cause.
        source: LtxError,
    },
    /// Reading a header failed.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// Reading the database or uploading an image failed.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// A list of times cannot be encoded.
    #[error("cannot write down when batches were made: {0}")]
    Times(#[from] TimesError),
    /// No state of the database could be read, and the stored files alone are not enough.
    #[error("no full image can be made now: {0}")]
    NoImage(String),
    /// A file that was to replace a damaged one is damaged itself.
    #[error("nothing can replace a damaged file: {0}")]
    Proof(String),
    /// A level lacks files up to the newest batch, and nothing has them.
    #[error(
        "level {level} cannot be brought up to the newest batch, because no file of a lower level begins at TXID {next}"
    )]
    Unclosed {
        level: Level,
        /// Where the next file would have to begin.
        next: Txid,
    },
    /// A worker thread has ended without a result.
    #[error("a worker thread has failed: {0}")]
    Worker(String),
}

impl HistoryError {
    /// The store's error among the causes, if there is one.
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

    /// Whether a file that should be in the store is missing.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        self.store_error().is_some_and(|e| e.kind() == ErrorKind::NotFound)
    }
}
