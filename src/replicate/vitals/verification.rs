//! The results of a replica's background verification, for status and metrics.

use crate::base::clock::Millis;

/// The results of a replica's verifications.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VerificationStatus {
    /// When the last completed verification began.
    pub last: Option<Millis>,
    /// When the last verification that found no fault began.
    pub sound: Option<Millis>,
    /// The worst faults of the last verification, as text; `None` if there are none.
    pub fault: Option<String>,
    /// Number of faults.
    pub faults: u64,
    /// Why the last attempt did not complete.
    pub error: Option<String>,
    /// When the next one is due; `None` while one is under way.
    pub next: Option<Millis>,
}
