//! What happens while lsfast runs, one step after the other.

use std::cell::Cell;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use lsfast::base::limits;
use lsfast::replicate::Control;
use tokio::task::JoinHandle;

use super::place::{Harm, Place};
use super::world::{Missed, PATIENCE, World};

/// Requests after the last commit, in addition to one in ten seconds: what was committed before is
/// stored, merged and deleted, with pages of listings that name two keys, and retries.
const REQUESTS_MAX: u64 = 600;

/// Time within which frames that can't be proven are copied to the database file.
const PROVEN: Duration = Duration::from_secs(60);

/// Time within which lsfast notices that another database has taken the place of its own, if no
/// request fails.
pub const EXCHANGE_SEEN: Duration = Duration::from_secs(60);

/// Uploads, with [`limits::LINEAGE_EVERY`] between them, within which each file is looked for.
const FILES_LOOKED_FOR: u32 = 12;

/// Time within which all is stored if nothing fails, by the clock of the simulation.
const SOON: Duration = Duration::from_secs(600);

impl World {
    pub fn statement(&mut self) -> String {
        let seed = self.rng.u32(..);
        match self.rng.u8(..100) {
            0..74 => format!("txn {seed}"),
            // What is open ends with the next statement.
            74..80 => format!("hold {seed}"),
            80..85 => format!("burst {seed} {}", self.rng.u8(2..60)),
            85..88 => "vacuum".to_owned(),
            88..95 => {
                let mode = ["PASSIVE", "FULL", "RESTART", "TRUNCATE"][self.rng.usize(..4)];
                format!("checkpoint {mode}")
            }
            _ => {
                // With autocheckpoints off, or an old snapshot, VACUUM and others still work.
                self.reader = self.rng.bool();
                format!("reader {}", u8::from(self.reader))
            }
        }
    }

    /// Steps of one life. Returns whether it ends as asked; otherwise it is killed.
    pub async fn drive(&mut self, control: &Control, pipeline: &JoinHandle<()>) -> Result<bool, String> {
        for _ in 0..self.plan.steps {
            if pipeline.is_finished() {
                return Ok(true);
            }
            self.step(control).await?;
        }
        match self.rng.u8(..10) {
            0..3 => {
                if self.rng.bool() {
                    self.closed = true;
                    self.alone("close")?;
                }
                Ok(true)
            }
            3..5 => {
                self.synced(control, Duration::from_secs(300)).await?;
                self.killed(pipeline).await
            }
            _ => self.killed(pipeline).await,
        }
    }

    /// lsfast goes on for a random number of turns of its loop, and is dropped wherever it waits.
    async fn killed(&mut self, pipeline: &JoinHandle<()>) -> Result<bool, String> {
        if self.rng.bool() {
            let statement = self.statement();
            self.work(&statement).await?;
        }
        if let Place::Bucket(bucket) = &self.place
            && self.rng.bool()
        {
            // In the middle of a request, whose answer never comes.
            let (bucket, writes, carried_out) = (bucket.clone(), self.rng.u8(1..4), self.rng.bool());
            let statements: Vec<String> = (0..writes).map(|_| format!("txn {}", self.rng.u32(..))).collect();
            let trapped = bucket.trapped(writes, carried_out);
            tokio::pin!(trapped);
            for statement in statements {
                self.work(&statement).await?;
                if tokio::time::timeout(Duration::from_secs(2), &mut trapped).await.is_ok() {
                    break;
                }
            }
            self.counts.kills += u64::from(!pipeline.is_finished());
            self.tell(format!("lsfast is killed in write {writes} (carried out: {carried_out})"));
            return Ok(false);
        }
        let most = if self.rng.bool() { 12 } else { 400 };
        let turns = self.rng.u16(..most);
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
        self.counts.kills += u64::from(!pipeline.is_finished());
        self.tell(format!("lsfast is killed after {turns} turns"));
        Ok(false)
    }

    async fn step(&mut self, control: &Control) -> Result<(), String> {
        match self.rng.u8(..100) {
            0..52 => {
                let statement = self.statement();
                self.work(&statement).await
            }
            52..55 => {
                self.freeze("a moment", false);
                Ok(())
            }
            55..58 if self.plan.harms => {
                self.unproven = true;
                let seed = self.rng.u32(..);
                self.alone(&format!("unproven {seed}"))?;
                if self.rng.bool() { self.synced(control, Duration::from_secs(30)).await } else { Ok(()) }
            }
            58..61 if self.plan.harms && !self.unproven => {
                let seed = self.rng.u32(..);
                self.work_meanwhile(&format!("index {seed}")).await
            }
            61..63 if !self.unproven => self.kill_app(),
            63..67 if self.plan.rival => self.rival(),
            55..70 => self.sleep(1..100).await,
            70..80 => self.sleep(100..5_000).await,
            80..86 => {
                let most = 5_000 << self.rng.u32(1..10);
                self.sleep(5_000..most).await
            }
            86..92 => {
                self.change_manners();
                Ok(())
            }
            92 if !self.unproven && self.is_healthy() => {
                self.counts.accidents += 1;
                // It takes a while to be noticed.
                self.failed = true;
                match self.rng.u8(..4) {
                    0 => {
                        self.exchange()?;
                        // Until it is noticed, a sync is answered for the database that is gone.
                        tokio::time::sleep(EXCHANGE_SEEN).await;
                        Ok(())
                    }
                    1 => self.move_away().await,
                    _ => self.overwrite_live().await,
                }
            }
            93 | 94 if self.rng.bool() => {
                self.counts.accidents += 1;
                match self.rng.bool() {
                    true => self.lose_file(control).await,
                    false => self.lose_history(control).await,
                }
            }
            _ => self.synced(control, Duration::from_secs(30)).await,
        }
    }

    async fn sleep(&mut self, ms: std::ops::Range<u64>) -> Result<(), String> {
        let time = Duration::from_millis(self.rng.u64(ms));
        self.tell(format!("{time:?} pass"));
        let before = self.place.requests();
        tokio::time::sleep(time).await;
        let asked = self.place.requests() - before;
        // Verifications, and other programs, ask as often as there are files.
        if self.missed == Some(Missed::Now) && time > Duration::from_secs(60) {
            self.missed = Some(Missed::Paused(self.present.commits));
        }
        let alone = !self.plan.verifies && !self.plan.standby && !self.plan.rival;
        // By then they are in the database file, unless a reader keeps them from it.
        self.unproven &= self.reader || time < PROVEN;
        if alone && asked > REQUESTS_MAX + time.as_secs() / 10 {
            return Err(format!("{asked} requests in {time:?} in which nothing was committed"));
        }
        Ok(())
    }

    /// The replica is exchanged, and lsfast has time to notice it.
    async fn lose_history(&mut self, control: &Control) -> Result<(), String> {
        self.change_replica();
        if self.missed.is_some() && self.rng.bool() {
            self.sleep(61_000..200_000).await?;
            let statement = format!("txn {}", self.rng.u32(..));
            self.work(&statement).await?;
            self.synced(control, Duration::from_secs(300)).await?;
        }
        Ok(())
    }

    /// One stored file is removed, and lsfast has time to notice it.
    async fn lose_file(&mut self, control: &Control) -> Result<(), String> {
        if !self.place.is_sound() || self.failed || self.harmed || self.plan.rival || self.plan.harms {
            return Ok(());
        }
        let which = self.rng.usize(..10_000);
        let Some(name) = self.place.harm(which, Harm::Remove) else { return Ok(()) };
        self.tell(format!("{name} is removed"));
        self.forget_stored();
        (self.spoiled, self.harmed_in) = (true, self.harmed_in.max(Some(self.counts.lives)));
        for _ in 0..FILES_LOOKED_FOR {
            let statement = format!("txn {}", self.rng.u32(..));
            self.work(&statement).await?;
            tokio::time::sleep(limits::LINEAGE_EVERY).await;
        }
        let statement = format!("txn {}", self.rng.u32(..));
        self.work(&statement).await?;
        self.synced(control, SOON).await
    }

    fn change_manners(&mut self) {
        let Place::Bucket(bucket) = &self.place else { return };
        (self.failed, self.failed_once) = (true, true);
        let (n, down, status) =
            (self.rng.u8(..4), self.rng.bool(), [403, 429, 500, 503][self.rng.usize(..4)]);
        bucket.change_manners(|m| match n {
            0 => m.is_down = down,
            1 => m.refuses = Some(status),
            2 => m.faults = 40,
            _ => (m.is_down, m.refuses, m.faults) = (false, None, 5),
        });
        self.tell(format!("the store changes: {n} {down} {status}"));
    }

    /// Whether nothing has failed in this run of lsfast that it needs time to recover from.
    fn is_healthy(&self) -> bool {
        let works = matches!(self.place, Place::Directory(_)) || !self.failed;
        works && self.place.is_sound() && !self.harmed && self.rival.is_none()
    }

    /// What is committed now is stored, or not within this time.
    pub async fn synced(&mut self, control: &Control, limit: Duration) -> Result<(), String> {
        let commits = self.present.commits;
        let healthy = self.is_healthy();
        let limit = if healthy { SOON } else { limit };
        match tokio::time::timeout(limit, control.sync(self.db.clone(), true)).await {
            Ok(Ok(synced)) => {
                self.stored = Some(commits);
                self.follows = true;
                // A start looks at the replica, and replaces what is missing.
                let noticed = match self.missed {
                    Some(Missed::Paused(before)) => commits > before,
                    _ => self.harmed_in < Some(self.counts.lives),
                };
                if self.harmed && noticed && !self.spoiled && self.rival.is_none() {
                    // The image that makes it whole again comes after the batch.
                    tokio::time::sleep(limits::LINEAGE_EVERY).await;
                    if self.place.is_sound() {
                        (self.harmed, self.missed) = (false, None);
                        self.durable.store(0, Relaxed);
                    }
                }
                self.tell(format!("all is stored: {commits} commits, {synced:?}"));
                self.freeze("a sync", true);
            }
            Ok(Err(e)) if healthy => return Err(format!("nothing fails, and not stored: {e}")),
            Ok(Err(e)) => self.tell(format!("not stored: {e}")),
            Err(_) if healthy => return Err(format!("nothing fails, and not stored in {SOON:?}")),
            Err(_) => self.tell("not stored in time"),
        }
        Ok(())
    }

    /// With nothing that fails, all that is committed is stored.
    pub async fn come_to_an_end(
        &mut self,
        control: &Control,
        pipeline: &JoinHandle<()>,
    ) -> Result<(), String> {
        let is_first = Cell::new(true);
        for _ in 0..2 {
            if !is_first.replace(false) {
                let statement = self.statement();
                self.work(&statement).await?;
            }
            let commits = self.present.commits;
            match tokio::time::timeout(PATIENCE, control.sync(self.db.clone(), true)).await {
                Ok(Ok(_)) => self.stored = Some(commits),
                Ok(Err(e)) if pipeline.is_finished() => return Err(format!("lsfast has ended: {e}")),
                Ok(Err(e)) => return Err(format!("nothing fails, and yet: {e}")),
                Err(_) => {
                    return Err(format!("nothing fails, and yet nothing is stored within {PATIENCE:?}"));
                }
            }
        }
        if self.plan.standby {
            // It notices another history by and by, and begins again after a pause.
            for _ in 0..60 {
                self.sleep(60_000..60_001).await?;
                if self.is_followed() {
                    break;
                }
            }
        }
        if self.plan.short {
            self.sleep(1_000..900_000).await?;
        }
        Ok(())
    }
}
