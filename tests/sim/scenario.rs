//! Histories that are written down, because a seed would rarely meet them.

use std::time::Duration;

use lsfast::replicate::Control;

use super::bucket::Bucket;
use super::manners::Manners;
use super::place::Place;
use super::world::{Life, World};

/// Most requests in three hours in which the store refuses what is written.
const REQUESTS_MAX: u64 = 300;

impl World {
    /// A bucket whose writes fail for three hours, although it can be read.
    pub fn run_refused(&mut self) -> Result<(), String> {
        self.place = Place::Bucket(Bucket::new(1, Manners { page: 1000, ..Manners::default() }));
        self.plan.safety_tick = Duration::from_secs(60);
        // Nothing but lsfast asks the store.
        (self.plan.standby, self.plan.rival, self.plan.verifies) = (false, false, false);
        self.open()?;
        self.live(Life::Refused)?;
        self.live(Life::Last)?;
        self.check(true)
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
