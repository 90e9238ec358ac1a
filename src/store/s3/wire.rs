//! A request in the form that is sent over a pooled connection.

use std::time::Duration;

use http::{HeaderMap, Method};

use super::body::Payload;
use crate::config::Scheme;

/// A signed request, ready to send.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) scheme: Scheme,
    pub(super) authority: String,
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) payload: Payload,
    /// Timeout until the head of the response arrives.
    pub(super) head_time: Duration,
    /// Timeout from there to the end of the response.
    pub(super) body_time: Duration,
    pub(super) stall: Duration,
    pub(super) fresh: bool,
}
