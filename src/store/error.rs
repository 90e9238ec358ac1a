//! What can go wrong at a store, and what it means for the caller.

use std::time::Duration;

use crate::base::untrusted;

/// What an error means for the one who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// May work later: the network, a timeout, 5xx, SlowDown. Retries inside the call have been used up.
    Transient,
    /// The object is not there.
    NotFound,
    /// The bucket (or the directory above the replica) is not there.
    NoBucket,
    /// Wrong, missing, expired or insufficient credentials.
    Credentials,
    /// The bucket is elsewhere; the message names the region to use.
    WrongRegion,
    /// The certificate of the endpoint is not accepted.
    Tls,
    /// A create-only object exists and is not ours.
    Conflict,
    /// What was read cannot be what was written.
    Corrupt,
    /// The disk, or the quota, is full.
    Full,
    /// Anything else that will not heal by itself.
    Fatal,
}

/// An error of a store. The message names the object, what was expected, what was found and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct StoreError {
    kind: ErrorKind,
    message: String,
    retry_after: Option<Duration>,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl StoreError {
    /// An error of a kind with its message, which must hold no secret. Characters that move a terminal are escaped here
    /// in any case, whatever part of the message they came with.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> StoreError {
        let message = untrusted::escape(&message.into()).into_owned();
        StoreError { kind, message, retry_after: None, source: None }
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StoreError {
        self.source = Some(source.into());
        self
    }

    /// Adds the wait that the server asked for.
    #[must_use]
    pub fn with_retry_after(mut self, wait: Option<Duration>) -> StoreError {
        self.retry_after = wait;
        self
    }

    /// What it means.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The wait that the server asked for.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Whether the same call may succeed later without anybody doing anything.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        self.kind == ErrorKind::Transient
    }
}
