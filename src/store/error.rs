//! Errors of a store, and what they mean for the caller.

use std::error::Error;
use std::io;
use std::time::Duration;

use crate::base::backoff::Backoff;
use crate::base::{limits, untrusted};

/// What an error means for the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// A later call may succeed: network, timeout, 5xx, SlowDown. The retries within the call are
    /// used up.
    Transient,
    /// The object does not exist.
    NotFound,
    /// The bucket (or the directory above the replica) does not exist.
    NoBucket,
    /// Wrong, missing, expired or insufficient credentials.
    Credentials,
    /// The bucket is in another region; the message names the region to use.
    WrongRegion,
    /// The certificate of the endpoint is not accepted.
    Tls,
    /// A create-only object exists with content that this process did not write.
    Conflict,
    /// The data that was read differs from any that lsfast writes.
    Corrupt,
    /// The disk, or the quota, is full.
    Full,
    /// Any other error that does not go away without a change by the user.
    Fatal,
}

/// An error of a store. The message names the object, the expected and the actual state, and the
/// remedy.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct StoreError {
    kind: ErrorKind,
    message: String,
    retry_after: Option<Duration>,
    /// Number of attempts made within the call.
    attempts: u32,
    /// Whether no connection could be made.
    unreachable: bool,
    #[source]
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl StoreError {
    /// Creates an error from its kind and a message, which must hold no secret (I7). Terminal
    /// control characters are escaped here, whichever part of the message they come from.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> StoreError {
        StoreError {
            kind,
            message: untrusted::escape(&message.into()).into_owned(),
            retry_after: None,
            attempts: 1,
            unreachable: false,
            source: None,
        }
    }

    /// Sets the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> StoreError {
        self.source = Some(source.into());
        self
    }

    /// Sets the wait that the server asked for.
    #[must_use]
    pub fn with_retry_after(mut self, wait: Option<Duration>) -> StoreError {
        self.retry_after = wait;
        self
    }

    /// Sets the number of attempts that the call made.
    #[must_use]
    pub(super) fn with_attempts(mut self, attempts: u32) -> StoreError {
        self.attempts = attempts;
        self
    }

    /// Adds the attempts that were made in another way before.
    #[must_use]
    pub(super) fn after(mut self, attempts: u32) -> StoreError {
        self.attempts = self.attempts.saturating_add(attempts);
        self
    }

    /// Marks that no connection could be made.
    #[must_use]
    pub(super) fn when_unreachable(mut self, unreachable: bool) -> StoreError {
        self.unreachable = unreachable;
        self
    }

    /// The wait before the call is repeated. An error that does not go away by itself waits for
    /// minutes at once. An unreachable store is retried more often, so that its return is noticed
    /// soon.
    pub fn wait(&self, backoff: &mut Backoff) -> Duration {
        let wait = if !self.is_transient() {
            backoff.fail_for_good()
        } else if self.unreachable {
            backoff.fail_within(self.attempts, limits::BACKOFF_UNREACHABLE)
        } else {
            backoff.fail_times(self.attempts)
        };
        self.retry_after.map_or(wait, |asked| wait.max(asked.min(limits::BACKOFF_MAX)))
    }

    /// Whether this process, or the host, has run out of file descriptors.
    #[must_use]
    pub fn is_file_limit(&self) -> bool {
        let mut cause: Option<&(dyn Error + 'static)> = self.source();
        while let Some(e) = cause {
            if e.downcast_ref::<io::Error>().is_some_and(is_file_limit) {
                return true;
            }
            cause = e.source();
        }
        false
    }

    /// What the error means for the caller.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether the same call may succeed later without a change by the user.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        self.kind == ErrorKind::Transient
    }
}

pub use crate::io::is_file_limit;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_fit_the_cause() {
        let wait = |e: &StoreError| e.wait(&mut Backoff::default());
        let error = |kind| StoreError::new(kind, "x");
        for kind in [ErrorKind::Credentials, ErrorKind::NoBucket, ErrorKind::Full, ErrorKind::Fatal] {
            assert!(wait(&error(kind)) >= limits::BACKOFF_REFUSED, "{kind:?}");
        }
        assert!(wait(&error(ErrorKind::Transient)) < Duration::from_secs(1));
        let tried = error(ErrorKind::Transient).with_attempts(5);
        assert!(wait(&tried) >= Duration::from_secs(60), "the call itself has tried it five times");
        assert!(wait(&tried.when_unreachable(true)) <= limits::BACKOFF_UNREACHABLE * 2);
        let asked = error(ErrorKind::Transient).with_retry_after(Some(Duration::from_secs(7)));
        assert_eq!(wait(&asked), Duration::from_secs(7));
    }

    /// Text of a server is quoted where it is read; this holds where that was forgotten.
    #[test]
    fn a_message_moves_no_terminal() {
        let e = StoreError::new(ErrorKind::Fatal, "bucket \u{1b}[31m\u{202e}");
        assert!(!e.to_string().contains(['\u{1b}', '\u{202e}']), "{e}");
    }

    /// In a long-running process, the first call to an unreachable store makes four attempts, and
    /// each later call makes one.
    #[test]
    fn five_attempts_at_an_unreachable_store_in_the_first_minute() {
        for _ in 0..100 {
            let (mut backoff, mut at, mut attempts) = (Backoff::default(), Duration::from_secs(3), 0);
            while at < Duration::from_secs(60) {
                let made = if attempts == 0 { 4 } else { 1 };
                attempts += made;
                let e = StoreError::new(ErrorKind::Transient, "x").with_attempts(made).when_unreachable(true);
                at += e.wait(&mut backoff);
            }
            assert_eq!(attempts, 5);
        }
    }

    #[test]
    fn the_limit_of_open_files_is_found_among_the_causes() {
        let limit = io::Error::from_raw_os_error(libc::EMFILE);
        let within = StoreError::new(ErrorKind::Transient, "y").with_source(limit);
        let around = StoreError::new(ErrorKind::Transient, "x").with_source(within);
        assert!(around.is_file_limit());
        assert!(!StoreError::new(ErrorKind::Transient, "x").is_file_limit());
    }
}
