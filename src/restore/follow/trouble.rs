//! Stores that do not answer and files that cannot be applied.

use std::time::Duration;

use super::{FollowError, FollowStatus};
use crate::base::clock::Millis;
use crate::base::limits;

/// First wait; it doubles up to [`limits::RETRY_WAIT_MAX`].
const WAIT_MIN: Duration = Duration::from_millis(100);

/// Why nothing can be applied: said once, said again when the reason changes, and when it is over.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    tries: u32,
    /// What was said last.
    said: Option<String>,
}

impl Trouble {
    /// Says it, and how long to wait.
    pub(super) fn says(&mut self, e: &FollowError, status: &mut FollowStatus, url: &str) -> Duration {
        let message = e.to_string();
        status.errors += 1;
        status.last_error = Some((Millis::now(), message.clone()));
        // A store that is away fails with each object under another name.
        let reason = match e {
            FollowError::Store(e) => format!("{:?}", e.kind()),
            _ => message.clone(),
        };
        if self.said.as_ref() != Some(&reason) {
            self.said = Some(reason);
            let db = status.output.display();
            tracing::warn!(%db, replica = url, txid = %status.txid, error = %message, "cannot follow; trying on");
        }
        status.trouble = Some(message);
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
