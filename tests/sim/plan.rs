//! What a seed decides before anything happens.

use std::time::Duration;

use fastrand::Rng;

use super::manners::{Lack, Manners};

/// The conditions of one history.
#[derive(Debug, Clone)]
pub struct Plan {
    pub page_size: u32,
    pub autocheckpoint: u32,
    pub synchronous: u32,
    /// The replica is in a directory instead of a bucket.
    pub directory: bool,
    pub manners: Manners,
    /// lsfast runs while the application works; otherwise only between its statements.
    pub concurrent: bool,
    pub sync_interval: Duration,
    /// How often lsfast looks without a hint.
    pub safety_tick: Duration,
    /// How often lsfast is started.
    pub lives: u32,
    /// Steps of each of these lives.
    pub steps: u32,
    /// Levels, images and retention within minutes instead of hours.
    pub short: bool,
    /// Frames of the WAL and the wal-index are damaged.
    pub harms: bool,
    /// Another host has a copy of the database, and the same replica.
    pub rival: bool,
    /// A standby follows the replica.
    pub standby: bool,
    /// The replica is verified in the background.
    pub verifies: bool,
    /// The power fails now and then.
    pub power: bool,
    /// A second replica, in another store.
    pub second: bool,
    /// How often a thread is interrupted where it calls the operating system, of a thousand times.
    pub interrupts: u16,
}

/// What a store may lack.
const LACKS: [Lack; 6] =
    [Lack::Copies, Lack::Checksums, Lack::ChecksumMode, Lack::AllButMd5, Lack::ChecksumRights, Lack::Heads];

fn pick<T: Copy>(rng: &mut Rng, from: &[T]) -> T {
    from[rng.usize(..from.len())]
}

impl Plan {
    pub fn new(rng: &mut Rng) -> Plan {
        // Without either, no client could list more than one page.
        let unordered = rng.u8(..8) == 0;
        let lacks = (rng.u8(..5) < 3).then(|| pick(rng, &LACKS));
        let (lists_whole, no_tokens) = (unordered || rng.u8(..6) == 0, rng.u8(..3) == 0);
        let manners = Manners {
            // Where neither is there, the first write to an empty replica can't be made.
            ignores_conditions: rng.u8(..4) == 0 && lacks != Some(Lack::Heads),
            lists_whole,
            unordered,
            deletes_one: rng.u8(..4) == 0,
            page: pick(rng, &[1000, 1000, 7, 2]),
            clock: pick(rng, &[0, 0, 0, 900, -900, 400_000, -400_000]),
            faults: pick(rng, &[0, 0, 3, 10, 25]),
            is_down: false,
            refuses: None,
            no_tokens: no_tokens && !lists_whole,
            md5: rng.bool(),
            lacks,
        };
        let directory = rng.u8(..10) < 3;
        let synchronous = pick(rng, &[0, 1, 1, 2]);
        Plan {
            page_size: pick(rng, &[512, 1024, 4096, 4096, 8192, 65536]),
            autocheckpoint: pick(rng, &[1000, 1000, 0, 1, 10, 100]),
            synchronous,
            directory,
            manners,
            concurrent: rng.u8(..10) < 4,
            sync_interval: Duration::from_millis(pick(rng, &[0, 0, 100, 1000])),
            safety_tick: Duration::from_secs(pick(rng, &[1, 60, 60])),
            lives: rng.u32(1..=3),
            steps: rng.u32(2..=14),
            short: rng.bool(),
            harms: rng.u8(..5) < 2,
            rival: rng.u8(..5) == 0,
            standby: rng.u8(..3) == 0,
            verifies: rng.u8(..3) == 0,
            // Without any flush SQLite itself promises nothing.
            power: synchronous > 0 && rng.u8(..3) == 0,
            second: rng.u8(..4) == 0,
            interrupts: pick(rng, &[0, 5, 50, 500]),
        }
    }
}
