//! Failed attempts: how long the pipeline waits, and when it ends instead.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use super::error::ReplicaError;
use super::task::Replica;
use crate::base::limits;
use crate::replicate::outage::{self, Name};
use crate::store::{ErrorKind, StoreError};

impl Replica {
    /// Waits before a failed request is repeated. `begun` is when the request began.
    ///
    /// # Errors
    /// `e`, if the pipeline has to end: another attempt cannot help, or there is no time for it.
    pub(super) async fn wait_out(&mut self, e: StoreError, begun: Instant) -> Result<(), ReplicaError> {
        self.vitals().fail(&e.to_string());
        let since = *self.trouble.since.get_or_insert(begun);
        let ending = self.once.is_some() || self.handoff.is_closing();
        if ending && is_final(e.is_transient(), self.once.is_some(), since.elapsed()) {
            return Err(ReplicaError::Unstored(e));
        }
        let place = self.store.place();
        self.pause(&e, &place, ending).await;
        Ok(())
    }

    /// The same for a failure of the database, or of the state next to it.
    pub(super) async fn wait_out_read(&mut self, e: io::Error) -> Result<(), ReplicaError> {
        let text = format!("cannot read the database, or write the state next to it, for a batch: {e}");
        let place = outage::place_of_database(self.db.path());
        let e = StoreError::new(ErrorKind::Transient, text).with_source(e);
        self.vitals().fail(&e.to_string());
        let since = *self.trouble.since.get_or_insert_with(Instant::now);
        if self.once.is_some() && since.elapsed() >= limits::ONCE_OUTAGE {
            return Err(ReplicaError::Unstored(e));
        }
        let ending = self.once.is_some() || self.handoff.is_closing();
        self.pause(&e, &place, ending).await;
        Ok(())
    }

    /// Counts the failure of a request that is not repeated, so that the next failure is not the
    /// first of the outage.
    pub(super) fn count_failure(&mut self, e: &StoreError, begun: Instant) {
        if e.is_transient() {
            self.trouble.since.get_or_insert(begun);
            let _ = e.wait(&mut self.trouble.backoff);
        }
    }

    async fn pause(&mut self, e: &StoreError, place: &str, ending: bool) {
        let mut trouble = std::mem::take(&mut self.trouble);
        let (db, url) = (self.db_name().to_string(), self.store.url().to_owned());
        let name = Name { db: &db, replica: &url };
        let backlog = Some((Rc::clone(&self.handoff), self.index));
        trouble.outage.failed(&self.outages, place, backlog, name, e);
        let mut wait = e.wait(&mut trouble.backoff);
        if ending {
            wait = wait.min(limits::BACKOFF_STOPPING);
        }
        tokio::select! {
            () = trouble.outage.wait(wait, name) => {}
            // The stop allows one more attempt, immediately.
            () = self.handoff.closing(), if !ending => {}
        }
        self.trouble = trouble;
    }

    /// Notes a success: ends the outage and resets the backoff.
    pub(super) fn works(&mut self) {
        if self.trouble.since.take().is_none() {
            return;
        }
        let (db, replica) = (self.db_name().to_string(), self.store.url().to_owned());
        self.trouble.outage.over(Name { db: &db, replica: &replica });
        self.trouble.backoff.reset();
        self.vitals().back();
    }
}

/// Whether a pipeline that is about to end makes no further attempt. With `--once` attempts go on
/// for [`limits::ONCE_OUTAGE`] at most; at a stop the shutdown timeout ends them.
fn is_final(transient: bool, once: bool, failing: Duration) -> bool {
    !transient || once && failing >= limits::ONCE_OUTAGE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_ends_at_a_store_that_keeps_failing() {
        let short = limits::ONCE_OUTAGE / 2;
        assert!(!is_final(true, true, short) && is_final(true, true, limits::ONCE_OUTAGE));
        assert!(!is_final(true, false, limits::ONCE_OUTAGE), "the shutdown timeout ends that");
        assert!(is_final(false, true, short) && is_final(false, false, short));
    }
}
