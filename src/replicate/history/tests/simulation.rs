//! Random histories with crashes between any two changes of the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proptest::prelude::*;

use super::world::{World, whole};
use crate::replicate::history::HistoryOptions;

#[derive(Debug, Clone)]
enum Step {
    /// This many batches, this far apart.
    Write(u8, Duration),
    /// A batch with every page.
    WriteAll,
    /// Nothing happens for a while.
    Rest(Duration),
    /// The process dies at this change of the store; `true`: the change is made.
    Die(u32, bool),
}

fn step() -> impl Strategy<Value = Step> {
    let secs = |range: std::ops::Range<u64>| range.prop_map(Duration::from_secs);
    prop_oneof![
        4 => (1..40u8, secs(1..20)).prop_map(|(n, d)| Step::Write(n, d)),
        2 => (1..6u8, secs(200..4000)).prop_map(|(n, d)| Step::Write(n, d)),
        1 => Just(Step::WriteAll),
        2 => secs(1..400).prop_map(Step::Rest),
        2 => secs(3000..100_000).prop_map(Step::Rest),
        3 => (1..12u32, any::<bool>()).prop_map(|(n, done)| Step::Die(n, done)),
    ]
}

fn options() -> impl Strategy<Value = HistoryOptions> {
    let hour = 3600;
    let some = |(l0, snapshots, retention, deletes): (Option<u64>, u64, u64, bool)| HistoryOptions {
        l0_retention: l0.map(Duration::from_secs),
        snapshot_interval: Some(Duration::from_secs(snapshots)),
        snapshot_retention: Duration::from_secs(retention),
        retention_enabled: deletes,
        ..HistoryOptions::default()
    };
    prop_oneof![
        2 => Just(HistoryOptions::default()),
        1 => Just(some((Some(300), 24 * hour, 24 * hour, true))),
        2 => Just(some((Some(300), hour, 2 * hour, true))),
        1 => Just(some((None, 3 * hour, 4 * hour, true))),
        1 => Just(some((Some(60), 2 * hour, hour, false))),
    ]
}

async fn play(options: HistoryOptions, pages: usize, seed: u64, steps: Vec<Step>) {
    let mut world = World::new(options, pages, seed).await;
    // A restart lists only a part then.
    if !seed.is_multiple_of(3) {
        world.store.paged([2, 15][(seed % 3 - 1) as usize]);
    }
    let position = Arc::new(AtomicU64::new(1));
    {
        let position = Arc::clone(&position);
        world.store.inspect(Box::new(move |entries| {
            // A batch that is being stored is the newest from the moment at which it is visible.
            let raw = entries.iter().filter(|e| e.id.level.get() == 0).map(|e| e.id.max.0).max();
            position.fetch_max(raw.unwrap_or(0), Ordering::Relaxed);
            whole(entries, position.load(Ordering::Relaxed));
        }));
    }
    for step in steps {
        match step {
            Step::Write(n, apart) => {
                for _ in 0..n {
                    world.write().await;
                    world.pass(apart).await;
                }
            }
            Step::WriteAll => {
                world.write_all().await;
            }
            Step::Rest(time) => world.pass(time).await,
            Step::Die(change, done) => world.store.die_at(change, done),
        }
        if world.store.is_dead() {
            world.restart().await;
        }
    }
    world.store.revive();
    world.verify();
    world.restart().await;
    world.pass(Duration::from_secs(7200)).await;
    world.verify();
    world.verify_promise();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn every_offered_state_is_what_it_claims_to_be(
        options in options(), pages in 1..40usize, seed in any::<u64>(), steps in prop::collection::vec(step(), 1..24),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(play(options, pages, seed, steps));
    }
}
