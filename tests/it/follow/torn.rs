//! Readers in loops while thousands of transactions are applied, and the follower is killed at
//! random.

use super::*;

/// Files of one to eight transactions each, so that 2,000 files are some 10,000 transactions;
/// `LSFAST_FOLLOW_FILES=2200` runs that many.
fn files() -> u64 {
    std::env::var("LSFAST_FOLLOW_FILES").map_or(250, |n| n.parse().expect("a number"))
}

fn feed(
    world: &mut World,
    random: &mut fastrand::Rng,
    files: u64,
    mut between: impl FnMut(&World, u64),
) -> u64 {
    let mut transactions = 0;
    for n in 0..files {
        let steps = random.u64(1..=8);
        for _ in 0..steps {
            world.step(random);
        }
        transactions += steps;
        world.store_batch();
        between(world, n);
    }
    transactions
}

#[test]
fn readers_never_see_a_torn_state() {
    let mut world = World::new(1024);
    let follower = follow(&world);
    let readers = Readers::start(&world.out());
    let transactions = feed(&mut world, &mut fastrand::Rng::with_seed(11), files(), |world, n| {
        // Every state is one that readers may see; now and then the follower is let come near.
        if n % 16 == 0 {
            wait_for(world, world.txid);
        }
    });
    wait_for(&world, world.txid);
    let looks = readers.end();
    eprintln!("{transactions} transactions in {} files, {looks} looks", files());
    assert!(looks > 10, "only {looks} looks");
    world.assert_same(&world.out());
    follower.stop();
    assert_whole(&reader(&world.out()));
}

#[test]
fn a_follower_killed_at_random_goes_on_and_readers_never_notice() {
    let mut world = World::new(512);
    let mut random = fastrand::Rng::with_seed(5);
    let mut follower = Some(follow(&world));
    let readers = Readers::start(&world.out());
    let mut kills = 0;
    let mut dice = fastrand::Rng::with_seed(6);
    feed(&mut world, &mut random, files(), |world, _| {
        if dice.u32(0..12) == 0 {
            let killed = follower.take().expect("one runs");
            killed.signal("KILL");
            drop(killed);
            kills += 1;
            follower = Some(start(world, &[]));
        }
    });
    wait_for(&world, world.txid);
    assert!(kills > 3, "only {kills} kills");
    assert!(readers.end() > 10);
    world.assert_same(&world.out());
    follower.take().expect("one runs").stop();
    assert_whole(&reader(&world.out()));
}
