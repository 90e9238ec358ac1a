//! Stores that do not answer and files that cannot be applied.

use std::time::Duration;

use super::{FollowError, FollowStatus};
use crate::base::limits;

/// First wait; it doubles up to [`limits::RETRY_WAIT_MAX`].
const WAIT_MIN: Duration = Duration::from_millis(100);

/// Why nothing can be applied: said once, said again when the reason changes, and when it is over. Meanwhile the age of
/// the state is said each time that it has doubled.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    tries: u32,
    stale: Duration,
}

impl Trouble {
    /// Says it, and how long to wait.
    pub(super) fn says(&mut self, e: &FollowError, status: &mut FollowStatus, url: &str) -> Duration {
        let message = e.to_string();
        let db = status.output.display();
        if status.trouble.as_ref() != Some(&message) {
            tracing::warn!(%db, replica = url, txid = %status.txid, error = %message, "cannot follow; trying on");
            status.trouble = Some(message);
        }
        let silence = status.silence();
        if silence >= self.stale.max(limits::FOLLOW_STALE) {
            self.stale = silence * 2;
            let made = status.created.map(crate::base::clock::Millis::to_rfc3339);
            tracing::warn!(%db, replica = url, txid = %status.txid, seconds = silence.as_secs(), made, "stale: no answer for so long");
        }
        let wait = WAIT_MIN.saturating_mul(1 << self.tries.min(10)).min(limits::RETRY_WAIT_MAX);
        self.tries += 1;
        let asked = if let FollowError::Store(e) = e { e.retry_after() } else { None };
        asked.unwrap_or(wait).mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    /// It works again.
    pub(super) fn over(&mut self, status: &mut FollowStatus, url: &str) {
        if status.trouble.take().is_some() {
            let db = status.output.display();
            tracing::info!(%db, replica = url, txid = %status.txid, "following again");
        }
        *self = Trouble::default();
    }
}
