//! The numbers of one replica.

use std::sync::Mutex;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64};
use std::time::{Duration, Instant};

use super::cells::{Amount, Failure, WalPlace, lock, micros};
use super::history::HistoryStatus;
use super::verification::VerificationStatus;
use crate::base::clock::Millis;
use crate::base::{Salts, Txid};
use crate::replicate::state::Point;
use crate::restore::Meter;

/// Upper bounds of the latency histogram, in milliseconds.
pub const LATENCY_MS: [u64; 14] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 60_000];

/// The state of a replica's pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplicaPhase {
    /// It lists the replica and decides how to resume.
    Starting,
    /// It stores what is committed.
    Following,
    /// It compares page hashes to find the changed pages.
    Comparing,
    /// It stores an image of the whole database.
    Image,
    /// It has ended; [`ReplicaVitals::failure`] has the reason, if there was one.
    Stopped,
}

/// How far a replica is behind what is committed.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Lag {
    /// Number of commits that are not stored.
    pub commits: u64,
    /// Bytes of the pages that they changed; a page that two of them changed counts twice.
    pub bytes: u64,
    /// Age of the oldest of these commits; zero if there is none.
    pub age: Duration,
}

/// Times from a commit to the store's answer; one value for each batch, that of its oldest commit.
#[derive(Debug, Default)]
pub struct Latencies {
    /// Number of batches between each bound of [`LATENCY_MS`] and the one before (not cumulative);
    /// the last bucket has no bound.
    pub buckets: [AtomicU64; LATENCY_MS.len() + 1],
    /// Sum of all latencies, in microseconds.
    pub sum_micros: AtomicU64,
}

impl Latencies {
    fn note(&self, micros: u64) {
        let bucket = LATENCY_MS.iter().position(|ms| micros <= ms * 1_000).unwrap_or(LATENCY_MS.len());
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.sum_micros.fetch_add(micros, Relaxed);
    }
}

/// The numbers of one replica.
#[derive(Debug)]
pub struct ReplicaVitals {
    /// URL of the replica, without secrets.
    pub url: String,
    /// Times from a commit to the store's answer.
    pub latencies: Latencies,
    /// Bytes read by verifications.
    pub verified_bytes: Meter,
    begun: Instant,
    phase: AtomicU8,
    pub(super) captured: Amount,
    /// `captured` as of the batch that is under way.
    taken: Amount,
    durable: Amount,
    /// When the oldest commit that is not stored was captured, in microseconds from `begun`; 0 for
    /// none.
    pub(super) behind_since: AtomicU64,
    /// How much older the oldest commit that is not stored is than its capture, in microseconds: it
    /// was committed before the database was opened.
    older_by: AtomicU64,
    /// Bytes of pages that are committed and not captured yet; 0 for none.
    unread: AtomicU64,
    /// Since when there are any, in microseconds from `begun`.
    unread_since: AtomicU64,
    /// Whether it was, so that the time from its commit to the store's answer is not known.
    recalled: AtomicBool,
    txid: AtomicU64,
    place: WalPlace,
    time: AtomicI64,
    batches: AtomicU64,
    batch_bytes: AtomicU64,
    failures: AtomicU64,
    /// Since when the store does not answer, in milliseconds since 1970; 0 while it answers.
    away_since: AtomicI64,
    failure: Mutex<Option<Failure>>,
    history: Mutex<Option<HistoryStatus>>,
    /// `verified_bytes` at the begin of the verification that is under way.
    verified_before: AtomicU64,
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
            older_by: AtomicU64::new(0),
            unread: AtomicU64::new(0),
            unread_since: AtomicU64::new(0),
            recalled: AtomicBool::new(false),
            txid: AtomicU64::new(0),
            place: WalPlace::default(),
            time: AtomicI64::new(0),
            batches: AtomicU64::new(0),
            batch_bytes: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            away_since: AtomicI64::new(0),
            failure: Mutex::default(),
            history: Mutex::default(),
            verified_before: AtomicU64::new(0),
            verification: Mutex::default(),
        }
    }

    /// The present phase.
    #[must_use]
    pub fn phase(&self) -> ReplicaPhase {
        use ReplicaPhase::{Comparing, Following, Image, Starting, Stopped};
        let phase = self.phase.load(Relaxed);
        [Starting, Following, Comparing, Image].into_iter().find(|p| *p as u8 == phase).unwrap_or(Stopped)
    }

    /// Whether anything is known of how far the replica is behind: from the store, or from what was
    /// committed since the database was opened.
    #[must_use]
    pub fn is_lag_known(&self) -> bool {
        self.durable().is_some() || self.behind_since.load(Relaxed) != 0
    }

    /// How far the replica is behind what is committed, as far as that is known: the commits that
    /// were captured, and one for what the wal-index publishes beyond them.
    #[must_use]
    pub fn lag(&self) -> Lag {
        // In this order, a batch that is noted meanwhile can make the lag too small, but never
        // negative.
        let (captured, durable) = (self.captured.get(), self.durable.get());
        let age_of = |since| micros(Instant::now(), self.begun).saturating_sub(since);
        let unread = self.unread.load(Relaxed);
        let age = match self.behind_since.load(Relaxed) {
            0 if unread > 0 => age_of(self.unread_since.load(Relaxed)),
            0 => 0,
            since => age_of(since) + self.older_by.load(Relaxed),
        };
        Lag {
            commits: captured.0.saturating_sub(durable.0) + u64::from(unread > 0),
            bytes: captured.1.saturating_sub(durable.1) + unread,
            age: Duration::from_micros(age),
        }
    }

    /// Notes how many bytes of pages are committed and not captured yet.
    pub(super) fn note_unread(&self, bytes: u64) {
        if self.unread.swap(bytes, Relaxed) == 0 && bytes > 0 {
            self.unread_since.store(micros(Instant::now(), self.begun), Relaxed);
        }
    }

    /// Notes that captured commits wait. Those that took several looks to read have waited since
    /// the first of these.
    pub(super) fn waits(&self) {
        if self.behind_since.load(Relaxed) == 0 {
            let is_first_look = self.unread.load(Relaxed) == 0;
            let now = micros(Instant::now(), self.begun);
            let since = if is_first_look { now } else { self.unread_since.load(Relaxed) };
            self.behind_since.store(since, Relaxed);
        }
    }

    /// Number of commits that were captured since the database was opened.
    pub(in crate::replicate) fn captured_commits(&self) -> u64 {
        self.captured.get().0
    }

    /// How many of these the store has.
    pub(in crate::replicate) fn stored_commits(&self) -> u64 {
        self.durable.get().0
    }

    /// Whether something may have been committed before this opening that is not stored yet. These
    /// commits are not counted.
    pub(in crate::replicate) fn recalls(&self) -> bool {
        self.recalled.load(Relaxed)
    }

    /// The durable position: TXID, salts and frame in the WAL with the pages of the database, and
    /// the time of that state. `None` before the first batch.
    #[must_use]
    pub fn durable(&self) -> Option<(Txid, (Salts, u32, u32), Millis)> {
        let txid = Txid(self.txid.load(Relaxed));
        (txid != Txid(0)).then(|| (txid, self.place.get(), Millis(self.time.load(Relaxed))))
    }

    /// Number of batches stored by this process, and their bytes.
    #[must_use]
    pub fn stored(&self) -> (u64, u64) {
        (self.batches.load(Relaxed), self.batch_bytes.load(Relaxed))
    }

    /// Number of failed attempts.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures.load(Relaxed)
    }

    /// Since when uploads fail; `None` while they succeed.
    #[must_use]
    pub fn away_since(&self) -> Option<Millis> {
        Some(Millis(self.away_since.load(Relaxed))).filter(|since| since.0 != 0)
    }

    /// The last failure.
    #[must_use]
    pub fn failure(&self) -> Option<Failure> {
        lock(&self.failure).clone()
    }

    /// State of the history, once it is known.
    #[must_use]
    pub fn history(&self) -> Option<HistoryStatus> {
        lock(&self.history).clone()
    }

    /// Results of the verifications; `None` if the replica is not verified.
    #[must_use]
    pub fn verification(&self) -> Option<VerificationStatus> {
        lock(&self.verification).clone()
    }

    /// Bytes that the verification under way has read; `None` if none is.
    #[must_use]
    pub fn verifying(&self) -> Option<u64> {
        let runs = lock(&self.verification).as_ref().is_some_and(|v| v.next.is_none());
        runs.then(|| self.verified_bytes.bytes().saturating_sub(self.verified_before.load(Relaxed)))
    }

    pub(super) fn opened(&self) {
        [&self.captured, &self.taken, &self.durable].into_iter().for_each(|a| a.set((0, 0)));
        self.behind_since.store(0, Relaxed);
        self.older_by.store(0, Relaxed);
        self.unread.store(0, Relaxed);
        self.recalled.store(false, Relaxed);
        self.back();
        self.set_phase(ReplicaPhase::Starting);
    }

    pub(in crate::replicate) fn set_phase(&self, phase: ReplicaPhase) {
        self.phase.store(phase as u8, Relaxed);
    }

    /// Notes that everything pending goes into the next batch.
    pub(in crate::replicate) fn take(&self) {
        self.taken.set(self.captured.get());
    }

    /// Notes what the local state says before the store was asked: the durable point, and whether
    /// something may have been committed after it, as long ago as `age`.
    pub(in crate::replicate) fn remembered(&self, point: &Point, time: Millis, behind: Option<Duration>) {
        if point.txid != Txid(0) {
            self.place.set(point.pos.salts, point.pos.frame.0, point.size_pages);
            self.time.store(time.0, Relaxed);
            self.txid.store(point.txid.0, Relaxed);
        }
        if let Some(age) = behind {
            self.behind_since.store(micros(Instant::now(), self.begun), Relaxed);
            self.older_by.store(u64::try_from(age.as_micros()).unwrap_or(u64::MAX >> 1), Relaxed);
            self.recalled.store(true, Relaxed);
        }
    }

    /// Notes that the store has everything that was captured.
    pub(in crate::replicate) fn nothing_waits(&self) {
        self.recalled.store(false, Relaxed);
        self.behind_since.store(0, Relaxed);
        self.older_by.store(0, Relaxed);
    }

    /// Notes the position that the store is known to hold.
    pub(in crate::replicate) fn known(&self, point: &Point, time: Millis) {
        self.place.set(point.pos.salts, point.pos.frame.0, point.size_pages);
        self.time.store(time.0, Relaxed);
        self.txid.store(point.txid.0, Relaxed);
        self.back();
    }

    /// Notes that the store has answered for the batch, whose object has `bytes` bytes (0 if
    /// nothing had to be stored). `waiting` is when the oldest commit that is still pending was
    /// captured.
    pub(in crate::replicate) fn answered(&self, bytes: u64, waiting: Option<Instant>) {
        if bytes > 0 {
            self.batches.fetch_add(1, Relaxed);
            self.batch_bytes.fetch_add(bytes, Relaxed);
        }
        self.durable.set(self.taken.get());
        let since = waiting.map_or(0, |at| micros(at, self.begun));
        let before = self.behind_since.swap(since, Relaxed);
        self.older_by.store(0, Relaxed);
        if !self.recalled.swap(false, Relaxed) && before != 0 {
            self.latencies.note(micros(Instant::now(), self.begun).saturating_sub(before));
        }
        self.back();
    }

    /// Notes a failed attempt.
    pub(in crate::replicate) fn fail(&self, message: &str) {
        let at = Millis::now();
        self.failures.fetch_add(1, Relaxed);
        if self.away_since.load(Relaxed) == 0 {
            self.away_since.store(at.0, Relaxed);
        }
        *lock(&self.failure) = Some(Failure { at, message: message.to_owned() });
    }

    /// Notes that the store answers.
    pub(in crate::replicate) fn back(&self) {
        self.away_since.store(0, Relaxed);
    }

    pub(in crate::replicate) fn set_verification(&self, status: VerificationStatus) {
        if status.next.is_none() {
            self.verified_before.store(self.verified_bytes.bytes(), Relaxed);
        }
        *lock(&self.verification) = Some(status);
    }

    pub(in crate::replicate) fn set_history(&self, status: &HistoryStatus) {
        *lock(&self.history) = Some(status.clone());
    }
}
