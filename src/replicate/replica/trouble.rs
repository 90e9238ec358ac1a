//! Stores that do not answer.

use std::time::Duration;

use super::Replica;
use crate::base::limits;
use crate::store::StoreError;

/// First wait after a failed upload; it doubles up to [`limits::RETRY_WAIT_MAX`].
pub(super) const RETRY_WAIT_MIN: Duration = Duration::from_millis(100);

/// A store that does not answer: said once, said again when the reason changes, and when it is over.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    said: Option<String>,
    tries: u32,
}

impl Trouble {
    pub(super) async fn wait(&mut self, replica: &Replica, e: &StoreError) {
        let message = e.to_string();
        replica.vitals().fail(&message);
        if self.said.as_ref() != Some(&message) {
            let (db, url) = (replica.db_name(), replica.store.url());
            if e.is_transient() {
                tracing::warn!(db = %db, replica = url, error = %message, "the store does not take it; trying on");
            } else {
                tracing::error!(db = %db, replica = url, error = %message, "the store refuses; trying on");
            }
            self.said = Some(message);
        }
        let wait = RETRY_WAIT_MIN.saturating_mul(1 << self.tries.min(10)).min(limits::RETRY_WAIT_MAX);
        self.tries += 1;
        let wait = e.retry_after().unwrap_or(wait).mul_f64(0.5 + fastrand::f64() / 2.0);
        tokio::time::sleep(wait).await;
    }

    pub(super) fn over(&mut self, replica: &Replica) {
        if self.said.take().is_some() {
            tracing::info!(db = %replica.db_name(), replica = replica.store.url(), "the store is back");
        }
        replica.vitals().back();
        self.tries = 0;
    }
}
