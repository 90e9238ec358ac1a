//! Reads single files of a replica, and the errors of that.

use crate::base::{LtxId, PageSize, limits};
use crate::ltx::{HEADER_LEN, Header, LtxError, Tail, TailState};
use crate::store::{ErrorKind, Store, StoreError};

/// Bytes of the first read at the end of a file, where the page index is.
const TAIL_BYTES: u64 = 16 << 10;

/// Why a replica cannot be resumed.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// A request failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file of the replica cannot be read.
    #[error("{id} of {url} can't be read: {source}")]
    Ltx {
        /// URL of the replica.
        url: String,
        /// Name of the file.
        id: LtxId,
        /// The cause.
        source: LtxError,
    },
    /// The replica holds a database with another page size.
    #[error(
        "{url} holds a database with pages of {found} bytes, this one has {expected}, and nothing on this host says that they are the \
         same: give this database an empty replica path; if it is the one of this replica and its page size was changed, stop lsfast, \
         run lsfast reset with the path of the database, and start lsfast again: older states stay, and the newest begins with a new image"
    )]
    PageSize {
        /// URL of the replica.
        url: String,
        /// Page size of the replica.
        found: PageSize,
        /// Page size of the database.
        expected: PageSize,
    },
}

impl RemoteError {
    /// Whether the error concerns only one file, which is damaged or missing.
    pub(super) fn is_about_one_file(&self) -> bool {
        match self {
            RemoteError::Ltx { .. } => true,
            RemoteError::Store(e) => matches!(e.kind(), ErrorKind::NotFound | ErrorKind::Corrupt),
            RemoteError::PageSize { .. } => false,
        }
    }
}

/// Reads the header of a file.
///
/// # Errors
/// [`RemoteError`] if the request fails or the header is not valid.
pub async fn header_of(store: &dyn Store, id: LtxId) -> Result<Header, RemoteError> {
    let bytes = store.get(id, 0..HEADER_LEN as u64).await?;
    let found = bytes
        .first_chunk::<HEADER_LEN>()
        .ok_or(LtxError::Truncated { len: bytes.len() as u64, part: "header" });
    found.and_then(Header::parse).map_err(|source| RemoteError::Ltx {
        url: store.url().to_owned(),
        id,
        source,
    })
}

/// Reads the page index of a file; `None` if it has none that can be used.
pub(crate) async fn tail_of(store: &dyn Store, id: LtxId, size: u64) -> Result<Option<Tail>, RemoteError> {
    let mut want = TAIL_BYTES;
    loop {
        if want > limits::XML_BYTES as u64 * 8 {
            return Ok(None);
        }
        let bytes = store.get(id, size.saturating_sub(want)..size).await?;
        match Tail::parse(size, &bytes) {
            Ok(TailState::Parsed(tail)) => return Ok(Some(tail)),
            Ok(TailState::NeedMore(more)) if more > want => want = more,
            _ => return Ok(None),
        }
    }
}

/// The local state cannot be written: an error that does not pass by itself.
pub(crate) fn state_error(e: std::io::Error) -> RemoteError {
    let message = format!("cannot write local state: {e}");
    StoreError::new(ErrorKind::Fatal, message).with_source(e).into()
}
