//! Files that cannot be applied, and ways past them.

use ::lsfast::base::{LtxId, Txid};

use super::*;

/// Which one is damaged.
const BAD: LtxId = LtxId::raw(Txid(3));

/// A world at TXID 2 whose follower has listed once, and will not do so again before something
/// fails.
fn followed() -> (World, Process) {
    let mut world = World::new(4096);
    let follower = follow(&world);
    world.step(&mut fastrand::Rng::with_seed(20));
    world.store_batch();
    wait_for(&world, 2);
    (world, follower)
}

/// Three more batches of which the first is damaged, before the follower has seen any; gives the
/// whole bytes.
fn damaged(world: &mut World, follower: &Process, merge: impl Fn(&World)) -> Vec<u8> {
    follower.signal("STOP");
    let mut random = fastrand::Rng::with_seed(21);
    for _ in 0..3 {
        world.step(&mut random);
        world.store_batch();
    }
    merge(world);
    let good = damage(world);
    follower.signal("CONT");
    follower.wait_for_line("cannot be applied");
    good
}

fn damage(world: &World) -> Vec<u8> {
    let good = std::fs::read(world.path(BAD)).expect("a file");
    let mut bad = good.clone();
    let at = bad.len() / 2;
    bad[at] ^= 0x40;
    std::fs::write(world.path(BAD), &bad).expect("a file");
    good
}

#[test]
fn a_damaged_file_changes_nothing_until_it_is_whole() {
    let (mut world, follower) = followed();
    let good = damaged(&mut world, &follower, |_| {});
    assert_eq!(position(&world.out()), Some(2));
    assert_whole(&reader(&world.out()));
    std::fs::write(world.path(BAD), &good).expect("a file");
    wait_for(&world, 5);
    world.assert_same(&world.out());
    let output = follower.stop();
    assert_eq!(output.matches("cannot be applied").count(), 1, "{output}");
}

#[test]
fn a_damaged_file_is_passed_by_one_that_holds_the_same() {
    // Nothing but the damage speaks for these: they are no shorter than the raw file.
    for (level, first) in [(1, 3), (9, 1)] {
        let (mut world, follower) = followed();
        damaged(&mut world, &follower, |world| world.compact(level, first, 3, false));
        wait_for(&world, 5);
        world.assert_same(&world.out());
        let output = follower.stop();
        assert_eq!(output.matches("cannot be applied").count(), 1, "{output}");
        assert!(output.contains("following again"), "{output}");
    }
}

#[test]
fn a_damaged_file_is_passed_as_soon_as_it_has_been_merged() {
    let (mut world, follower) = followed();
    let good = damaged(&mut world, &follower, |_| {});
    assert_eq!(position(&world.out()), Some(2));
    // The merge is made of what was there before the damage.
    follower.signal("STOP");
    std::fs::write(world.path(BAD), &good).expect("a file");
    world.compact(1, 3, 3, false);
    damage(&world);
    follower.signal("CONT");
    wait_for(&world, 5);
    world.assert_same(&world.out());
    follower.stop();
}

#[test]
fn a_hole_is_said_and_not_passed() {
    let mut world = World::new(4096);
    let mut random = fastrand::Rng::with_seed(22);
    follow(&world).stop();
    for _ in 0..3 {
        world.step(&mut random);
        world.store_batch();
    }
    let second = world.path(LtxId::raw(Txid(2)));
    let bytes = std::fs::read(&second).expect("a file");
    world.remove(&[LtxId::raw(Txid(2))]);
    let follower = follow(&world);
    follower.wait_for_line("leads on from TXID 0000000000000001");
    assert_eq!(position(&world.out()), Some(1));
    std::fs::write(&second, bytes).expect("a file");
    wait_for(&world, 4);
    world.assert_same(&world.out());
    follower.stop();
}
