//! Histories that are written down, because a seed would rarely meet them.

use std::time::Duration;

use lsfast::replicate::Control;

use super::bucket::Bucket;
use super::manners::Manners;
use super::memory;
use super::place::Place;
use super::world::{Life, World};

/// Bytes of a large transaction, and of memory that lsfast may need for one and for others that
/// wait for the store: 16 MiB for what is not committed, 16 for what waits, and pieces in flight.
const LARGE: usize = 48 << 20;
const MEMORY_MAX: usize = 40 << 20;

/// Most requests in three hours in which the store refuses what is written.
const REQUESTS_MAX: u64 = 300;

impl World {
    /// A bucket whose writes fail for three hours, although it can be read.
    pub fn run_refused(&mut self) -> Result<(), String> {
        self.place = Place::Bucket(Bucket::new("bucket", 1, Manners { page: 1000, ..Manners::default() }));
        self.plan.safety_tick = Duration::from_secs(60);
        // Nothing but lsfast asks the store.
        (self.plan.standby, self.plan.rival, self.plan.verifies) = (false, false, false);
        self.open()?;
        self.live(Life::Refused)?;
        self.live(Life::Last)?;
        self.check(true)
    }

    /// A transaction that is larger than the memory that lsfast may use, which stays open for a
    /// while, and others that wait for a store that takes no writes.
    pub fn run_large(&mut self) -> Result<(), String> {
        self.place = Place::Bucket(Bucket::new("bucket", 1, Manners { page: 1000, ..Manners::default() }));
        (self.plan.page_size, self.plan.autocheckpoint) = (65536, 1000);
        (self.plan.standby, self.plan.rival, self.plan.verifies) = (false, false, false);
        (self.plan.concurrent, self.second) = (false, None);
        self.open()?;
        self.live(Life::Large)?;
        self.live(Life::Last)?;
        // Once is enough for a file of that size.
        self.check_frozen_only()
    }

    pub async fn large(&mut self, control: &Control) -> Result<(), String> {
        let Place::Bucket(bucket) = &self.place else { return Ok(()) };
        let bucket = bucket.clone();
        self.work("txn 1").await?;
        self.synced(control, Duration::from_secs(60)).await?;
        bucket.change_manners(|m| m.refuses = Some(503));
        let begun = memory::begin();
        self.work(&format!("large {}", LARGE >> 16)).await?;
        tokio::time::sleep(Duration::from_secs(5)).await;
        for seed in 2..6 {
            // The first of these commits what is open.
            self.work(&format!("txn {seed}")).await?;
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
        let used = memory::most() - begun;
        self.tell(format!("{used} bytes of memory"));
        if used > MEMORY_MAX {
            return Err(format!("{used} bytes of memory for transactions of {LARGE} bytes"));
        }
        bucket.change_manners(|m| m.refuses = None);
        self.synced(control, Duration::from_secs(3600)).await?;
        self.stored.filter(|s| *s == self.present.commits).map(drop).ok_or("nothing is stored".into())
    }

    pub async fn refused(&mut self, control: &Control) -> Result<(), String> {
        let Place::Bucket(bucket) = &self.place else { return Ok(()) };
        let bucket = bucket.clone();
        self.work("txn 1").await?;
        self.synced(control, Duration::from_secs(60)).await?;
        self.stored.ok_or("nothing is stored")?;
        let status = [500, 403, 503][self.rng.usize(..3)];
        bucket.change_manners(|m| m.refuses = Some(status));
        self.work("txn 2").await?;
        let before = bucket.requests();
        tokio::time::sleep(Duration::from_secs(3 * 3600)).await;
        let asked = bucket.requests() - before;
        self.tell(format!("{asked} requests in three hours"));
        if asked > REQUESTS_MAX {
            return Err(format!("{asked} requests in three hours in which the store takes no write"));
        }
        bucket.change_manners(|m| m.refuses = None);
        self.synced(control, Duration::from_secs(3600)).await?;
        self.stored
            .filter(|s| *s == self.present.commits)
            .map(drop)
            .ok_or("the store takes writes again, and nothing is stored".into())
    }
}
