//! The failures of a pipeline.

use tokio::time::Instant;

use crate::base::backoff::Backoff;
use crate::replicate::outage;

/// The failures of a pipeline: one backoff for all that it does, reset by success.
#[derive(Debug, Default)]
pub struct Trouble {
    pub(super) backoff: Backoff,
    pub(super) outage: outage::Trouble,
    /// When the first of the failed attempts began.
    pub(super) since: Option<Instant>,
}
