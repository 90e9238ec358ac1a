//! One failed attempt, and what it means for the next one.

use std::fmt;
use std::time::{Duration, SystemTime};

use http::StatusCode;

use crate::store::ErrorKind;

/// What to do after a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// The server closed a reused connection. Retry at once on a new one.
    Stale,
    /// Wait, then retry.
    Transient,
    /// No connection could be made. Retry, but only for a short time.
    Unreachable,
    /// The signature's time is off. Sign with the server's time.
    Skewed,
    /// The bucket is in another region.
    OtherRegion,
    /// The server redirects the request to another host.
    Redirect,
    /// The server does not accept the credentials.
    Credentials,
    /// `If-None-Match` or `If-Match` did not hold.
    Precondition,
    /// The store does not support this request or one of its headers.
    Unsupported,
    /// A retry cannot help.
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

/// The details of the server's error response.
#[derive(Debug, Default)]
pub(super) struct Detail {
    pub(super) status: Option<StatusCode>,
    pub(super) code: String,
    /// The server's own message.
    pub(super) said: String,
    pub(super) retry_after: Option<Duration>,
    /// The server's clock, from the `Date` header.
    pub(super) date: Option<SystemTime>,
    /// The time in the request's signature.
    pub(super) signed_at: Option<SystemTime>,
    /// The bucket's region, where the response names it.
    pub(super) region: Option<String>,
    /// The region that the request was signed for.
    pub(super) signed_for: String,
    /// The target of a redirect.
    pub(super) location: Option<String>,
    /// Number of attempts of a call that was given up.
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
