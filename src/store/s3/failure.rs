//! One failed attempt, and what it means for the next.

use std::fmt;
use std::time::{Duration, SystemTime};

use http::StatusCode;

use crate::store::ErrorKind;

/// What to do after a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// The server closed a connection that had been used before: try again at once on a new one.
    Stale,
    /// Wait and try again.
    Transient,
    /// No connection at all: try again, but not for long.
    Unreachable,
    /// The signature's time is off: take the server's.
    Skewed,
    /// The bucket is in another region.
    OtherRegion,
    /// The object is to be asked for at another host.
    Redirect,
    /// The keys are not accepted.
    Credentials,
    /// `If-None-Match` or `If-Match` did not hold.
    Precondition,
    /// The store does not know this request or one of its headers.
    Unsupported,
    /// Nothing helps.
    Final(ErrorKind),
}

/// A failed attempt.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) class: Class,
    /// What happened, in words that follow "PUT s3://bucket/key: ".
    pub(super) message: String,
    pub(super) detail: Box<Detail>,
}

/// What the server said.
#[derive(Debug, Default)]
pub(super) struct Detail {
    pub(super) status: Option<StatusCode>,
    pub(super) code: String,
    /// The server's own words.
    pub(super) said: String,
    pub(super) retry_after: Option<Duration>,
    /// The server's clock.
    pub(super) date: Option<SystemTime>,
    /// The time in the request's signature.
    pub(super) signed_at: Option<SystemTime>,
    /// The region to use.
    pub(super) region: Option<String>,
    /// The region that was signed for.
    pub(super) signed_for: String,
    /// Where to ask instead.
    pub(super) location: Option<String>,
    /// Attempts that the call has made, if it was given up.
    pub(super) attempts: u32,
    pub(super) source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Failure {
    pub(super) fn new(class: Class, message: impl Into<String>) -> Failure {
        Failure { class, message: message.into(), detail: Box::default() }
    }

    pub(super) fn with_source(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Failure {
        self.detail.source = Some(source.into());
        self
    }

    pub(super) fn status(&self) -> Option<u16> {
        self.detail.status.map(|s| s.as_u16())
    }

    pub(super) fn code(&self) -> &str {
        &self.detail.code
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
