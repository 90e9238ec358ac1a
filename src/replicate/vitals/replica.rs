//! The numbers of one replica.

use std::sync::Mutex;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64};
use std::time::{Duration, Instant};

use super::database::{Amount, Failure, Place, lock, micros};
use crate::base::clock::Millis;
use crate::base::{Salts, Txid};
use crate::replicate::history::HistoryStatus;
use crate::replicate::state::Point;
use crate::replicate::verify::VerificationStatus;
use crate::restore::Meter;

/// Upper bounds of the histogram of latencies, in milliseconds.
pub const LATENCY_MS: [u64; 14] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 60_000];

/// What the pipeline of a replica is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplicaPhase {
    /// It asks the store what it has.
    Starting,
    /// What is committed is stored.
    Following,
    /// Pages that changed are sought by their hashes.
    Comparing,
    /// An image of the whole database is being stored.
    Image,
    /// It has ended for the reason that its error gives.
    Stopped,
}

/// How far a replica is behind.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Lag {
    /// Commits that are not stored.
    pub commits: u64,
    /// Bytes of the pages that they changed; a page that two of them changed counts twice.
    pub bytes: u64,
    /// Age of the oldest of them; zero if there is none.
    pub age: Duration,
}

/// The time from a commit to the store's answer, for each batch by its oldest commit.
#[derive(Debug, Default)]
pub struct Latencies {
    /// Number of batches up to each bound of [`LATENCY_MS`], not cumulated; the last one is without
    /// bound.
    pub buckets: [AtomicU64; LATENCY_MS.len() + 1],
    /// Sum of all, in microseconds.
    pub sum_micros: AtomicU64,
}

impl Latencies {
    fn note(&self, micros: u64) {
        let bucket = LATENCY_MS.iter().position(|ms| micros <= ms * 1_000).unwrap_or(LATENCY_MS.len());
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.sum_micros.fetch_add(micros, Relaxed);
    }
}

/// One replica of a database.
#[derive(Debug)]
pub struct ReplicaVitals {
    /// Where it is, without secrets.
    pub url: String,
    /// The time from a commit to the store's answer.
    pub latencies: Latencies,
    /// Bytes read by verifications.
    pub verified_bytes: Meter,
    begun: Instant,
    phase: AtomicU8,
    pub(super) captured: Amount,
    /// What the batch under way holds.
    taken: Amount,
    durable: Amount,
    /// When the oldest commit that is not stored was captured, in microseconds from `begun`; 0 for
    /// none.
    pub(super) behind_since: AtomicU64,
    txid: AtomicU64,
    place: Place,
    time: AtomicI64,
    batches: AtomicU64,
    batch_bytes: AtomicU64,
    failures: AtomicU64,
    /// Milliseconds since 1970; 0 while the store answers.
    away_since: AtomicI64,
    failure: Mutex<Option<Failure>>,
    history: Mutex<Option<HistoryStatus>>,
    verification: Mutex<Option<VerificationStatus>>,
}

impl ReplicaVitals {
    pub(super) fn new(url: &str, begun: Instant) -> ReplicaVitals {
        ReplicaVitals {
            url: url.to_owned(),
            latencies: Latencies::default(),
            verified_bytes: Meter::default(),
            begun,
            phase: AtomicU8::new(ReplicaPhase::Starting as u8),
            captured: Amount::default(),
            taken: Amount::default(),
            durable: Amount::default(),
            behind_since: AtomicU64::new(0),
            txid: AtomicU64::new(0),
            place: Place::default(),
            time: AtomicI64::new(0),
            batches: AtomicU64::new(0),
            batch_bytes: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            away_since: AtomicI64::new(0),
            failure: Mutex::default(),
            history: Mutex::default(),
            verification: Mutex::default(),
        }
    }

    /// What it is doing.
    #[must_use]
    pub fn phase(&self) -> ReplicaPhase {
        use ReplicaPhase::{Comparing, Following, Image, Starting, Stopped};
        let phase = self.phase.load(Relaxed);
        [Starting, Following, Comparing, Image].into_iter().find(|p| *p as u8 == phase).unwrap_or(Stopped)
    }

    /// How far it is behind what was captured.
    #[must_use]
    pub fn lag(&self) -> Lag {
        // In this order a batch that is noted meanwhile makes the lag too small and never negative.
        let (captured, durable) = (self.captured.get(), self.durable.get());
        let since = self.behind_since.load(Relaxed);
        let age = if since == 0 { 0 } else { micros(Instant::now(), self.begun).saturating_sub(since) };
        Lag {
            commits: captured.0.saturating_sub(durable.0),
            bytes: captured.1.saturating_sub(durable.1),
            age: Duration::from_micros(age),
        }
    }

    /// What the store has: the batch, where it ends in the log, pages of the database, and the time
    /// of that state. `None` before the first.
    #[must_use]
    pub fn durable(&self) -> Option<(Txid, (Salts, u32, u32), Millis)> {
        let txid = Txid(self.txid.load(Relaxed));
        (txid != Txid(0)).then(|| (txid, self.place.get(), Millis(self.time.load(Relaxed))))
    }

    /// Batches stored by this process, and their bytes.
    #[must_use]
    pub fn stored(&self) -> (u64, u64) {
        (self.batches.load(Relaxed), self.batch_bytes.load(Relaxed))
    }

    /// Attempts that failed.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures.load(Relaxed)
    }

    /// Since when the store does not take what it is given.
    #[must_use]
    pub fn away_since(&self) -> Option<Millis> {
        Some(Millis(self.away_since.load(Relaxed))).filter(|since| since.0 != 0)
    }

    /// What failed last.
    #[must_use]
    pub fn failure(&self) -> Option<Failure> {
        lock(&self.failure).clone()
    }

    /// Its history, once it is known.
    #[must_use]
    pub fn history(&self) -> Option<HistoryStatus> {
        lock(&self.history).clone()
    }

    /// What is known by its verifications, if it is verified.
    #[must_use]
    pub fn verification(&self) -> Option<VerificationStatus> {
        lock(&self.verification).clone()
    }

    pub(super) fn opened(&self) {
        [&self.captured, &self.taken, &self.durable].into_iter().for_each(|a| a.set((0, 0)));
        self.behind_since.store(0, Relaxed);
        self.back();
        self.set_phase(ReplicaPhase::Starting);
    }

    pub(in crate::replicate) fn set_phase(&self, phase: ReplicaPhase) {
        self.phase.store(phase as u8, Relaxed);
    }

    /// What is pending goes into a batch.
    pub(in crate::replicate) fn take(&self) {
        self.taken.set(self.captured.get());
    }

    /// What the store is known to have.
    pub(in crate::replicate) fn known(&self, point: &Point, time: Millis) {
        self.place.set(point.pos.salts, point.pos.frame.0, point.size_pages);
        self.time.store(time.0, Relaxed);
        self.txid.store(point.txid.0, Relaxed);
        self.back();
    }

    /// What was taken is stored, in an object of `bytes`; nothing had to be stored if that is 0.
    /// `waiting` is when the oldest commit of those that came meanwhile was captured.
    pub(in crate::replicate) fn answered(&self, bytes: u64, waiting: Option<Instant>) {
        if bytes > 0 {
            self.batches.fetch_add(1, Relaxed);
            self.batch_bytes.fetch_add(bytes, Relaxed);
        }
        self.durable.set(self.taken.get());
        let since = waiting.map_or(0, |at| micros(at, self.begun));
        let before = self.behind_since.swap(since, Relaxed);
        if before != 0 {
            self.latencies.note(micros(Instant::now(), self.begun).saturating_sub(before));
        }
        self.back();
    }

    /// An attempt has failed.
    pub(in crate::replicate) fn fail(&self, message: &str) {
        let at = Millis::now();
        self.failures.fetch_add(1, Relaxed);
        if self.away_since.load(Relaxed) == 0 {
            self.away_since.store(at.0, Relaxed);
        }
        *lock(&self.failure) = Some(Failure { at, message: message.to_owned() });
    }

    /// The store answers.
    pub(in crate::replicate) fn back(&self) {
        self.away_since.store(0, Relaxed);
    }

    pub(in crate::replicate) fn set_verification(&self, status: VerificationStatus) {
        *lock(&self.verification) = Some(status);
    }

    pub(in crate::replicate) fn set_history(&self, status: &HistoryStatus) {
        *lock(&self.history) = Some(status.clone());
    }
}
