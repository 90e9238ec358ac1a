//! Carries out the plan for the history of one replica, one step at a time.
//!
//! # Failure and crash
//!
//! A step is durable before anything that it replaces is deleted. A step that fails leaves either
//! nothing or a complete file. So a crash between any two requests leaves a complete replica, and
//! the next start learns its state from the listing.

#![allow(
    clippy::redundant_closure_for_method_calls,
    reason = "the method's path is not general enough over the planner's lifetime"
)]

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::handover::{Feed, Live, last_frame};
use super::inventory::{Inventory, Stored};
use super::merge::MergeJob;
use super::options::HistoryOptions;
use super::plan::{Job, Kind, Next, Planner, image_id};
use super::removed::{Removed, Sum};
use super::rests::{Ended, Rests};
use super::ticks::Ticks;
use super::{HistoryError, Once};
use crate::base::clock::Millis;
use crate::base::{Level, LtxId, ROUTINE, Txid, limits};
use crate::ltx::Header;
use crate::replicate::image::stream::{Hashes, Stream};
use crate::replicate::outage::{Name, Outages, Trouble};
use crate::replicate::remote::header_of;
use crate::replicate::state::next_checksum::NextChecksum;
use crate::replicate::vitals::HistoryStatus;
use crate::restore;
use crate::store::{Entry, PutOptions, Store};

/// After this many failures to read the live database, an image is made from stored files.
const LIVE_TRIES: u32 = 3;

/// The executor of one replica's history.
pub struct Executor {
    pub(super) store: Arc<dyn Store>,
    options: HistoryOptions,
    ticks: Ticks,
    pub(super) feed: Rc<Feed>,
    /// Name of the database in log messages.
    pub(super) name: String,
    /// Folder for a temporary file with a large page index.
    spill: Option<PathBuf>,
    live: Option<Live>,
    rests: Rests,
    status: HistoryStatus,
    pub(super) removed: Removed,
    outages: Outages,
    trouble: Trouble,
}

impl Executor {
    /// An executor for a replica whose listing will come through `feed`.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, options: HistoryOptions, feed: Rc<Feed>, name: String) -> Executor {
        let ticks = Ticks::of(&store.identity());
        let (spill, live, rests, status) = (None, None, Rests::default(), HistoryStatus::default());
        let removed = Removed::new(&name, store.url());
        let (outages, trouble) = (Outages::default(), Trouble::default());
        Executor { store, options, ticks, feed, name, spill, live, rests, status, removed, outages, trouble }
    }

    /// Sets the known outages: no step is tried while the store is unreachable.
    #[must_use]
    pub fn with_outages(self, outages: Outages) -> Executor {
        Executor { outages, ..self }
    }

    /// Whether a pipeline waits for the store, so that steps would fail, too.
    #[must_use]
    pub(super) fn store_is_out(&self) -> bool {
        self.outages.is_out(&self.store.place())
    }

    /// Whether a request of another task is being retried, so that steps would likely fail, too.
    pub(super) fn store_is_failing(&self) -> bool {
        self.store.is_failing()
    }

    /// Sets the live database.
    #[must_use]
    pub fn with_live(self, live: Live) -> Executor {
        Executor { live: Some(live), ..self }
    }

    /// Sets the folder for a temporary file with a large page index.
    #[must_use]
    pub fn with_folder(self, spill: PathBuf) -> Executor {
        Executor { spill: Some(spill), ..self }
    }

    #[cfg(test)]
    pub(super) fn on_time(self) -> Executor {
        Executor { ticks: Ticks::on_time(), ..self }
    }

    /// The next job, or when one will be due.
    #[must_use]
    pub(super) fn next(&self, now: Millis) -> Next {
        if !self.feed.is_ready() {
            return Next::Wait(None);
        }
        self.plan(now, |planner| planner.next())
    }

    fn plan<T>(&self, now: Millis, f: impl FnOnce(Planner<'_>) -> T) -> T {
        let resting = |kind| self.rests.until(kind).filter(|t| *t > now);
        self.feed.inventory(|inventory| {
            f(Planner { inventory, options: &self.options, ticks: self.ticks, now, resting: &resting })
        })
    }

    /// When the next image is due; `None` while nothing has changed since the last.
    #[must_use]
    pub fn next_snapshot(&self, now: Millis) -> Option<Millis> {
        self.plan(now, |planner| planner.snapshot_due())
    }

    /// The present status of the history.
    #[must_use]
    pub fn status(&mut self, now: Millis) -> &HistoryStatus {
        self.status.next_snapshot = self.next_snapshot(now);
        self.status.next_step = match self.next(now) {
            Next::Job(_) => Some(now),
            Next::Wait(at) => at,
        };
        self.feed.inventory(|inventory| self.status.count(inventory));
        &self.status
    }

    /// Does everything that is due at `now`, however long it takes. Returns when the next job is
    /// due; `None` if only after something new is stored.
    pub async fn catch_up(&mut self, now: Millis) -> Option<Millis> {
        loop {
            match self.next(now) {
                Next::Job(job) => self.run(job, now).await,
                Next::Wait(at) => return at,
            }
        }
    }

    /// Does the requested steps of a `--once` run. Unlike others, they end with the first error.
    ///
    /// # Errors
    /// [`HistoryError`] of a requested step, or if the newest state cannot be restored.
    pub async fn finish(&mut self, once: Once, now: Millis) -> Result<(), HistoryError> {
        self.catch_up(now).await;
        if once.snapshot
            && let Some(job) = self.plan(now, |planner| planner.image_now())
        {
            self.attempt(job, now).await?;
        }
        if self.feed.is_broken() {
            let missing = || "files that it needs are missing".to_owned();
            return Err(HistoryError::NoImage(self.status.last_error.clone().unwrap_or_else(missing)));
        }
        while once.retention
            && let Some(job) = self.plan(now, |planner| planner.deletion())
        {
            self.attempt(job, now).await?;
        }
        Ok(())
    }

    /// Rewrites damaged files whose content other files have; returns their names.
    ///
    /// # Errors
    /// [`HistoryError`] of the first step that fails.
    pub(super) async fn mend(&mut self, now: Millis) -> Result<Vec<LtxId>, HistoryError> {
        let mut mended = Vec::new();
        while let Some((inputs, to)) = self.plan(now, |planner| planner.healing()) {
            self.heal(&inputs, to, now).await?;
            mended.push(to);
        }
        Ok(mended)
    }

    /// Whether a step transfers many bytes.
    #[must_use]
    pub(super) fn is_large(&self, job: &Job) -> bool {
        let bytes = match job {
            Job::Merge { inputs, .. } | Job::Heal { inputs, .. } => inputs.iter().map(|s| s.size).sum(),
            Job::Snapshot => self.feed.inventory(|s| s.newest_snapshot().map_or(u64::MAX, |s| s.size)),
            Job::Copy { .. } | Job::Delete { .. } | Job::Times | Job::DropTimes(_) | Job::List(_) => 0,
        };
        bytes > limits::HISTORY_LARGE_BYTES
    }

    /// Does a step. After a failure its kind waits, and the failure is logged once.
    pub(super) async fn run(&mut self, job: Job, now: Millis) {
        let kind = job.kind();
        let inputs = match &job {
            Job::Merge { inputs, .. } | Job::Heal { inputs, .. } => inputs.clone(),
            Job::Copy { from, .. } => vec![*from],
            Job::Snapshot => self.chain(),
            Job::Delete { .. } | Job::Times | Job::DropTimes(_) | Job::List(_) => Vec::new(),
        };
        let result = self.attempt(job, now).await;
        self.status.steps += 1;
        match result {
            // The next step does without the damaged file.
            Err(e) if self.found_damage(&e, &inputs).await => {}
            Ok(()) => {
                if let Some(ended) = self.rests.works(kind) {
                    self.status.last_error = None;
                    self.status.deletions_refused &= !matches!(kind, Kind::Retain | Kind::RetainRaw);
                    self.works_again(kind, &ended);
                }
            }
            Err(e) => self.failed(kind, &e, now).await,
        }
    }

    fn works_again(&mut self, kind: Kind, ended: &Ended) {
        let (db, replica) = (&*self.name, self.store.url());
        if ended.outage {
            self.trouble.over(Name { db, replica });
        }
        if ended.said {
            tracing::info!(db, replica, ?kind, "keeping the history works again");
        }
    }

    /// Whether a step failed because a file that it read is damaged. Each file is read again to be
    /// sure. Only a restore needs these files, and it would meet the same damage.
    async fn found_damage(&self, e: &HistoryError, inputs: &[Stored]) -> bool {
        if !e.is_damage() {
            return false;
        }
        let mut found = false;
        for s in inputs {
            self.feed.cache().forget(s.id);
            let entry = Entry { id: s.id, size: s.size, modified: s.created };
            let Err(e) = restore::prove_file(&self.store, entry).await else { continue };
            let Some((id, why)) = restore::damage::fault(&e) else { continue };
            found |= self.feed.inventory(|inventory| inventory.damage(id, why.clone()));
            let broken = self.feed.is_broken();
            tracing::warn!(
                db = self.name, replica = self.store.url(), file = %id, reason = why, newest_lost = broken,
                "a file of the replica is damaged; {}",
                if broken { "a new image of the database is stored now" } else { "others that cover it are used" }
            );
        }
        found
    }

    async fn failed(&mut self, kind: Kind, e: &HistoryError, now: Millis) {
        let final_answer = e.store_error().is_some_and(|e| !e.is_transient());
        let refused = matches!(kind, Kind::Retain | Kind::RetainRaw) && final_answer;
        let message = e.to_string();
        let known = self.store_is_out();
        let least = if refused { limits::HISTORY_REFUSED_REST } else { Duration::ZERO };
        self.rests.failed(kind, e, now, least);
        if refused {
            if !std::mem::replace(&mut self.status.deletions_refused, true) {
                tracing::warn!(
                    db = self.name, replica = self.store.url(), reason = %message,
                    "the store does not let old files be deleted; everything else goes on (retention.enabled: false stops the attempts)"
                );
            }
            return;
        }
        // An outage of the store is one for all, whether a pipeline meets it first or an executor.
        let outage = e.store_error().filter(|e| e.is_transient());
        if let Some(e) = outage {
            let name = Name { db: &self.name, replica: self.store.url() };
            self.trouble.failed(&self.outages, &self.store.place(), None, name, e);
        } else if !known && let Some(age) = self.rests.is_news(kind, e, now) {
            let down = (age > Duration::ZERO).then(|| format!("{}s", age.as_secs()));
            tracing::warn!(
                db = self.name, replica = self.store.url(), ?kind, error = %message, down,
                "keeping the history: trying again"
            );
        }
        self.status.last_error = Some(message);
        if e.is_missing() {
            self.list_again(now).await;
        }
    }

    async fn attempt(&mut self, job: Job, now: Millis) -> Result<(), HistoryError> {
        match job {
            Job::Merge { inputs, to } => self.merge(&inputs, to, None, now).await.map(|_| ()),
            Job::Heal { inputs, to } => self.heal(&inputs, to, now).await,
            Job::Copy { from, to } => self.copy(from, to, now).await,
            Job::Snapshot => self.snapshot(now).await,
            Job::Delete { ids, .. } => self.delete(&ids).await,
            Job::Times => self.times().await,
            Job::DropTimes(ids) => self.drop_times(&ids).await,
            Job::List(part) => self.list(part, now).await,
        }
    }

    fn put(&self, stored: Stored) {
        tracing::debug!(db = self.name, replica = self.store.url(), file = %stored.id, bytes = stored.size, "history written");
        self.feed.inventory(|s| s.put(stored));
    }

    pub(super) async fn merge(
        &mut self,
        inputs: &[Stored],
        to: LtxId,
        created: Option<Millis>,
        now: Millis,
    ) -> Result<Stored, HistoryError> {
        let cache = self.feed.cache();
        let spill = self.spill.clone();
        let job = MergeJob { store: &self.store, cache, inputs, to, created, spill, whole: false };
        let merged = job.run(now).await?;
        if to.level != Level::SNAPSHOT {
            inputs.iter().for_each(|s| cache.forget(s.id));
        }
        if let Some(bytes) = &merged.bytes {
            cache.put(to, bytes);
        }
        self.put(merged.stored);
        Ok(merged.stored)
    }

    pub(super) async fn copy(&mut self, from: Stored, to: LtxId, now: Millis) -> Result<(), HistoryError> {
        let created =
            if from.exact { from.created } else { header_of(&*self.store, from.id).await?.timestamp };
        let options = PutOptions { created, create_only: false };
        self.store.copy(from.id, to, options).await?;
        let cache = self.feed.cache();
        if let Some(bytes) = cache.get(from.id) {
            cache.forget(from.id);
            cache.put(to, &bytes);
        }
        // An image may have taken long to upload. It is there from now on.
        let seen = if to.level == Level::SNAPSHOT { now } else { created.min(now) };
        self.put(Stored { id: to, size: from.size, created, seen, exact: true });
        Ok(())
    }

    /// Rewrites a damaged file from undamaged content.
    async fn heal(&mut self, inputs: &[Stored], to: LtxId, now: Millis) -> Result<(), HistoryError> {
        match inputs {
            // A copy keeps the file as it is, including its range of the WAL.
            [only] => {
                let entry = Entry { id: only.id, size: only.size, modified: only.created };
                restore::prove_file(&self.store, entry)
                    .await
                    .map_err(|e| HistoryError::Proof(e.to_string()))?;
                self.copy(*only, to, now).await?;
            }
            _ => self.merge(inputs, to, None, now).await.map(|_| ())?,
        }
        tracing::info!(db = self.name, replica = self.store.url(), file = %to, "a damaged file was written again from others");
        Ok(())
    }

    /// Makes a full image from the newest batch if that has all pages, as a new start stores it
    /// where files are damaged.
    async fn image_of_whole_batch(&self, now: Millis) -> Result<Stored, HistoryError> {
        let Some(newest) = self.feed.inventory(|s| s.level(Level::RAW).next_back().copied()) else {
            return Err(HistoryError::NoImage("nothing is stored".to_owned()));
        };
        let (spill, inputs) = (self.spill.clone(), [newest]);
        let to = image_id(newest.id.max);
        let (cache, created) = (self.feed.cache(), Some(now.not_before(newest.created)));
        let job = MergeJob { store: &self.store, cache, inputs: &inputs, to, created, spill, whole: true };
        let stored = job.run(now).await?.stored;
        self.put(stored);
        Ok(stored)
    }

    async fn snapshot(&mut self, now: Millis) -> Result<(), HistoryError> {
        let begun = Instant::now();
        let Stored { id, size: bytes, .. } = self.full_image(now).await?;
        let (db, replica, ms) = (&*self.name, self.store.url(), begun.elapsed().as_millis());
        tracing::info!(target: ROUTINE, db, replica, txid = %id.max, bytes, ms, "snapshot stored");
        Ok(())
    }

    /// Makes a full image: from files in memory if all are there, otherwise from the live database,
    /// otherwise from stored files.
    async fn full_image(&mut self, now: Millis) -> Result<Stored, HistoryError> {
        let chain = self.chain();
        if chain.is_empty() && self.live.is_none() {
            return self.image_of_whole_batch(now).await;
        }
        let in_memory = chain.iter().all(|s| self.feed.cache().get(s.id).is_some());
        let kind = Kind::Write(Level::SNAPSHOT);
        let failures = self.rests.failures(kind);
        if let (Some(live), false) = (&self.live, in_memory && !chain.is_empty())
            && (failures < LIVE_TRIES || chain.is_empty())
        {
            return self.image(live, now).await;
        }
        let Some(last) = chain.last() else {
            return Err(HistoryError::NoImage("the store lacks files that it would need".to_owned()));
        };
        let created = now.not_before(last.created);
        self.merge(&chain, image_id(last.id.max), Some(created), now).await
    }

    /// The files from which the newest state is restored; empty if they do not make it.
    fn chain(&self) -> Vec<Stored> {
        self.feed.inventory(|inventory: &mut Inventory| {
            let plan = inventory.newest_plan().ok().filter(|_| !inventory.is_broken());
            let Some(mut files) = plan else { return Vec::new() };
            files.truncate(limits::MERGE_INPUTS);
            let of = |id: LtxId| inventory.level(id.level).find(|s| s.id == id).copied();
            files.iter().filter_map(|e| of(e.id)).collect()
        })
    }

    /// Stores an image of the live database.
    async fn image(&self, live: &Live, now: Millis) -> Result<Stored, HistoryError> {
        let (pin, point, source) = live.point(&self.feed).await.map_err(HistoryError::NoImage)?;
        let page_size = source.page_size();
        let before = self.feed.inventory(|s| s.level(Level::RAW).next_back().map(|s| s.created));
        let created = now.not_before(before.unwrap_or_default());
        let (size_pages, wal) = (source.size_pages(), last_frame(page_size, &point.mark));
        let header = Header::new(page_size, size_pages, (Txid(1), point.txid), created, wal);
        let id = image_id(point.txid);
        let stream = Stream {
            store: &*self.store,
            source: Arc::clone(&source),
            header,
            id,
            options: PutOptions { created, create_only: false },
            pin: &pin,
            spill: self.spill.clone(),
        };
        let (all, checksum) = (source.all_pages(), NextChecksum::of_image(page_size, size_pages));
        let size = stream.send(all, size_pages as usize, Hashes::None, Some(checksum)).await?.size;
        drop(pin);
        let stored = Stored { id, size, created, seen: created.min(now), exact: true };
        self.put(stored);
        Ok(stored)
    }

    async fn delete(&mut self, ids: &[LtxId]) -> Result<(), HistoryError> {
        let newest = self.feed.inventory(|s| s.position());
        // I4: without the newest level-0 file Litestream would begin again at TXID 1.
        let is_position = |id: &LtxId| id.level == Level::RAW && id.max >= newest;
        assert!(!ids.iter().any(is_position), "the newest level-0 file is the position of the replica");
        let size = |id: &LtxId| self.feed.inventory(|s| s.find(*id).map_or(0, |s| s.size));
        let (bytes, begun) = (ids.iter().map(size).sum(), Instant::now());
        self.feed.without(ids, self.store.delete(ids)).await?;
        let txid = ids.iter().map(|id| id.max).max().unwrap_or_default();
        self.removed.add(&Sum { files: ids.len() as u64, bytes, txid, took: begun.elapsed() });
        ids.iter().for_each(|id| self.feed.cache().forget(*id));
        Ok(())
    }
}
