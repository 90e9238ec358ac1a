//! The background verification of one replica: when it is due, what it reads, what it reports.
//!
//! # State
//!
//! A verification is due one interval after the beginning of the last one. One that could not
//! complete is retried with backoff (`rest`). Faults are logged when they change, and so is the
//! first sound result after them.

/// Parses the record of the last verification.
#[cfg(fuzzing)]
pub(crate) fn parse_record_for_fuzzing(bytes: &[u8]) {
    let _ = Record::parse(bytes).not_after(Millis(0));
}

use std::mem::Discriminant;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::record::Record;
use crate::base::backoff::Backoff;
use crate::base::clock::Millis;
use crate::base::{LtxId, ROUTINE, Txid, limits};
use crate::replicate::history::{Timeline, later};
use crate::replicate::vitals::VerificationStatus;
use crate::restore::{self, Health, Meter, Object, RestoreError, VerifyOptions, VerifyReport, object_name};
use crate::store::{ErrorKind, Store};

#[cfg(test)]
#[path = "tests.rs"]
mod tests;

/// How often and how fast a replica is verified.
#[derive(Clone)]
pub struct Verification {
    /// Time from the beginning of one verification to the beginning of the next.
    pub interval: Duration,
    /// Average bytes per second.
    pub bytes_per_second: u64,
    /// The clock that says when a verification is due.
    pub clock: Arc<dyn Timeline>,
}

impl std::fmt::Debug for Verification {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verification")
            .field("interval", &self.interval)
            .field("bytes_per_second", &self.bytes_per_second)
            .finish_non_exhaustive()
    }
}

/// Limits how many verifications run at once in the process.
#[derive(Debug, Clone)]
pub struct Turns(Arc<Semaphore>);

impl Default for Turns {
    fn default() -> Turns {
        Turns(Arc::new(Semaphore::new(limits::VERIFY_REPLICAS)))
    }
}

/// The wait after an attempt that did not complete.
#[derive(Debug)]
struct Rest {
    backoff: Backoff,
    until: Millis,
}

/// Verifies one replica.
pub struct Verifier {
    store: Arc<dyn Store>,
    options: Verification,
    /// Name of the database in log messages.
    name: String,
    /// Folder of the record.
    folder: PathBuf,
    record: Record,
    meter: Meter,
    begun: Millis,
    rest: Option<Rest>,
    /// The fault that was logged last.
    said: Option<String>,
    error: Option<String>,
    /// Receives the damaged files.
    damaged: Option<TellDamage>,
    /// The kind of error that was logged last.
    said_error: Option<(Discriminant<RestoreError>, Option<ErrorKind>)>,
}

/// Receives damaged files, each with the reason, and whether only a new image of the database makes
/// the newest state right.
pub type TellDamage = Box<dyn Fn(Vec<(LtxId, String)>, bool)>;

impl Verifier {
    /// Reads the record of earlier verifications in `folder`.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        options: Verification,
        name: String,
        folder: PathBuf,
        meter: Meter,
    ) -> Verifier {
        let begun = options.clock.now();
        let record = Record::read(&folder).not_after(begun);
        Verifier {
            store,
            options,
            name,
            folder,
            record,
            meter,
            begun,
            rest: None,
            said: None,
            error: None,
            damaged: None,
            said_error: None,
        }
    }

    /// Sets the receiver of damaged files.
    #[must_use]
    pub fn telling_damage(self, damaged: TellDamage) -> Verifier {
        Verifier { damaged: Some(damaged), ..self }
    }

    /// When the next verification begins. The first one of a process is delayed, so that it does
    /// not disturb the start. The delay is different for each replica.
    #[must_use]
    pub fn due(&self) -> Millis {
        if let Some(rest) = &self.rest {
            return rest.until;
        }
        let quarter = self.options.interval.min(limits::VERIFY_FIRST) / 4;
        let share = xxhash_rust::xxh3::xxh3_64(self.store.identity().as_bytes()) as u16;
        let first =
            later(self.begun, quarter + (quarter * 3).mul_f64(f64::from(share) / f64::from(u16::MAX)));
        self.record.begun.map_or(first, |last| first.max(later(last, self.options.interval)))
    }

    /// The present status.
    #[must_use]
    pub fn status(&self) -> VerificationStatus {
        VerificationStatus {
            last: self.record.begun,
            sound: self.record.sound,
            fault: self.record.fault.clone(),
            faults: self.record.faults,
            error: self.error.clone(),
            next: Some(self.due()),
        }
    }

    /// Verifies the replica now. The store has already answered for everything up to `stored`.
    pub async fn run(&mut self, stored: Txid) {
        let begun = self.options.clock.now();
        let options = VerifyOptions {
            bytes_per_second: Some(self.options.bytes_per_second),
            meter: self.meter.clone(),
            ..VerifyOptions::default()
        };
        match restore::verify_replica(&self.store, options).await {
            Ok(report) => {
                self.found(begun, &faults(&report, stored), Some(&report)).await;
                let files = report.damaged.into_iter().filter_map(|d| match d.object {
                    Object::Ltx(id) => Some((id, d.cause)),
                    Object::Legacy(_) | Object::Times(_) => None,
                });
                let files: Vec<_> = files.collect();
                if let Some(tell) = self.damaged.as_ref().filter(|_| !files.is_empty() || report.wants_image)
                {
                    tell(files, report.wants_image);
                }
            }
            Err(RestoreError::Empty { .. }) => self.found(begun, &[lost(None, stored)], None).await,
            Err(e) => self.failed(&e),
        }
    }

    async fn found(&mut self, begun: Millis, faults: &[String], report: Option<&VerifyReport>) {
        let url = self.store.url();
        (self.rest, self.error, self.said_error) = (None, None, None);
        let fault = (!faults.is_empty()).then(|| words(faults));
        match (&fault, &self.said) {
            (Some(fault), said) if said.as_ref() != Some(fault) => tracing::error!(
                db = self.name,
                replica = url,
                fault,
                "the replica is not sound; replication goes on and repairs what it can (lsfast verify lists every fault; lsfast repair, with \
                 replication stopped, does the rest)"
            ),
            (None, said) => {
                let (files, bytes) = report.map_or((0, 0), |r| (r.read, r.bytes));
                let txid = report.and_then(|r| r.newest.as_ref()).map_or(Txid(0), |n| n.txid);
                let (db, ms) = (&*self.name, report.map_or(0, |r| r.time.as_millis()));
                if said.is_some() {
                    tracing::info!(db, replica = url, %txid, files, bytes, ms, "the replica is sound again");
                } else {
                    let message = "verified: the replica is sound";
                    tracing::info!(target: ROUTINE, db, replica = url, %txid, files, bytes, ms, "{message}");
                }
            }
            _ => {}
        }
        self.said.clone_from(&fault);
        self.record = Record {
            begun: Some(begun),
            sound: if fault.is_none() { Some(begun) } else { self.record.sound },
            faults: faults.len() as u64,
            fault,
        };
        if let Err(e) = self.record.write(&self.folder).await {
            tracing::warn!(
                db = self.name, replica = url, error = %e,
                "cannot remember when the replica was verified; the next start verifies it again"
            );
        }
    }

    fn failed(&mut self, e: &RestoreError) {
        let message = e.to_string();
        let longest = limits::VERIFY_REST_MAX.min(self.options.interval);
        let fresh = Backoff::new(limits::VERIFY_REST_MIN.min(longest), longest);
        let mut backoff = self.rest.as_ref().map_or(fresh, |r| r.backoff);
        let until = later(self.options.clock.now(), backoff.fail());
        // A short outage of the store has lines of its own, and not one for each verification.
        let passes = matches!(e, RestoreError::Store(_));
        let passes = passes && backoff.failures() < FAILURES;
        self.rest = Some(Rest { backoff, until });
        // Kinds are compared, because request ids and counts make each text different.
        let kind = if let RestoreError::Store(e) = e { Some(e.kind()) } else { None };
        if !passes && self.said_error.replace((std::mem::discriminant(e), kind)) != self.said_error {
            let (db, replica) = (&self.name, self.store.url());
            tracing::warn!(db, replica, error = message, "the replica cannot be verified; trying again");
        }
        self.error = Some(message);
    }
}

/// Verifies the replica at each due time, until dropped. `stored` returns the TXID up to which the
/// store has answered; `None` while that is not known.
pub async fn keep(
    mut verifier: Verifier,
    turns: Turns,
    stored: impl Fn() -> Option<Txid>,
    tell: impl Fn(VerificationStatus),
) {
    let clock = Arc::clone(&verifier.options.clock);
    loop {
        tell(verifier.status());
        let due = verifier.due();
        while clock.now() < due {
            clock.until(due).await;
        }
        // The semaphore is never closed.
        let turn = turns.0.acquire().await;
        let Some(stored) = stored() else {
            drop(turn);
            clock.until(later(clock.now(), limits::VERIFY_READY)).await;
            continue;
        };
        tell(VerificationStatus { next: None, ..verifier.status() });
        verifier.run(stored).await;
    }
}

/// A text for each fault, the worst first.
fn faults(report: &VerifyReport, stored: Txid) -> Vec<String> {
    let mut faults = Vec::new();
    if let Some(newest) = report.newest {
        // The newest state of a Litestream 0.3 replica has no TXID.
        if newest.txid != Txid(0) && newest.txid < stored {
            faults.push(lost(Some(newest.txid), stored));
        }
    } else {
        let why = report.newest_lost.as_deref().unwrap_or("no reason is known");
        faults.push(format!("the newest state cannot be restored: {why}"));
    }
    faults.extend(report.conflicts.iter().cloned());
    faults.extend(report.damaged.iter().map(|d| format!("{}: {}", object_name(&d.object), d.cause)));
    let unnamed = report.damaged_count - report.damaged.len() as u64;
    faults.extend((0..unnamed).map(|_| "one more damaged file".to_owned()));
    faults.extend(
        report.holes.iter().map(|(level, from, to)| format!("level {level} lacks TXIDs {from} to {to}")),
    );
    faults.extend(report.wrong_indexes.iter().map(|id| format!("{id}: wrong page index; it restores")));
    assert!(!faults.is_empty() || report.health() == Health::Sound, "every fault has its words");
    faults
}

fn lost(newest: Option<Txid>, stored: Txid) -> String {
    let ends = newest.map_or_else(|| "it is empty".to_owned(), |n| format!("it ends at TXID {n}"));
    format!("{ends}, but the store had answered for TXID {stored}: files were removed")
}

/// The worst faults, and how many more there are.
fn words(faults: &[String]) -> String {
    let named = &faults[..faults.len().min(NAMED)];
    let more = faults.len() - named.len();
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    named.join("; ") + &more
}

/// Failures in a row of a store, which does not answer or refuses, until the log has a line that
/// the replica cannot be verified. They take a quarter of an hour. Fewer are not logged here,
/// because uploads log the outage.
const FAILURES: u32 = 5;

/// Most faults that a message names.
const NAMED: usize = 3;
