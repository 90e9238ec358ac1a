//! Unreachable stores, and files that cannot be applied.

use std::mem::Discriminant;
use std::time::{Duration, Instant};

use super::{FollowError, FollowStatus};
use crate::base::backoff::{Backoff, Reminders};
use crate::base::clock::Millis;
use crate::store::{ErrorKind, StoreError};

/// A kind of failure. Object names, request ids and counts in a message do not make another kind.
type Cause = (Discriminant<FollowError>, Option<ErrorKind>);

/// Why nothing can be applied. Logs each kind of failure once, a reminder after 1, 10 and 60
/// minutes, and the end.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    backoff: Backoff,
    since: Option<Instant>,
    said: Vec<Cause>,
    reminders: Reminders,
}

impl Trouble {
    /// Logs the failure and returns the delay before the next attempt.
    pub(super) fn says(&mut self, e: &FollowError, status: &mut FollowStatus, url: &str) -> Duration {
        let message = e.to_string();
        status.errors += 1;
        status.last_error = Some((Millis::now(), message.clone()));
        let store = if let FollowError::Store(e) = e { Some(e) } else { None };
        let cause = (std::mem::discriminant(e), store.map(StoreError::kind));
        let age = self.since.get_or_insert_with(Instant::now).elapsed();
        let db = status.output.display();
        if !self.said.contains(&cause) {
            self.said.push(cause);
            tracing::warn!(%db, replica = url, txid = %status.txid, error = %message, "cannot follow; trying again");
        } else if self.reminders.take(age) {
            let down = format!("{}s", age.as_secs());
            tracing::warn!(%db, replica = url, txid = %status.txid, down, error = %message, "still cannot follow; trying again");
        }
        status.trouble = Some(message);
        match store {
            Some(e) if e.is_transient() => e.wait(&mut self.backoff),
            // A refused request is retried too: readers wait for the refusal to end, and a GET does
            // no harm.
            _ => self.backoff.fail(),
        }
    }

    /// Logs the recovery and starts over.
    pub(super) fn over(&mut self, status: &mut FollowStatus, url: &str) {
        if status.trouble.take().is_some() {
            let db = status.output.display();
            tracing::info!(%db, replica = url, txid = %status.txid, "following again");
        }
        *self = Trouble::default();
    }
}
