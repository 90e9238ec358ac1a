//! A request as it goes to the pool.

use std::time::Duration;

use http::{HeaderMap, Method};

use super::body::Payload;
use crate::config::Scheme;

/// A signed request, ready to go.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) scheme: Scheme,
    pub(super) authority: String,
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) payload: Payload,
    /// Until the head of the answer is there.
    pub(super) head_time: Duration,
    /// From there to the end of the answer.
    pub(super) body_time: Duration,
    pub(super) stall: Duration,
    pub(super) fresh: bool,
}
