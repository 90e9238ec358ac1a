//! The real Litestream: what it replicates is followed, and what was followed it takes over.

use super::*;
use crate::support::place::Place;
use crate::support::{litestream, sqlite};

#[test]
fn what_litestream_replicates_is_followed() {
    let dir = tempfile::tempdir().expect("a directory");
    let place = Place::Dir(dir.path().to_owned());
    let (db, out) = (dir.path().join("db"), dir.path().join("out"));
    let connection = sqlite::create(&db, 4096);
    sqlite::leave_checkpoints_to_litestream(&connection);
    let replicating = litestream::replicate(dir.path(), &db, &place, "r");
    place.wait_for_txid("r", 0, 1);
    let mut command = lsfast::command(["restore", "-f", "--follow-interval", "20ms", "-o"]);
    command.arg(&out).arg(place.url("r"));
    let follower = Process::start("lsfast restore -f", command);
    follower.wait_for_line("msg=following ");
    let mut workload = sqlite::Workload::new(8);
    for _ in 0..20 {
        workload.run(&connection, 5);
        sqlite::assert_sound(&out);
    }
    drop(connection);
    let expected = sqlite::dump_hash(&db);
    process::until("the same content", || (sqlite::dump_hash(&out) == expected).then_some(()));
    follower.stop();
    drop(replicating);
    sqlite::assert_sound(&out);
}

#[test]
fn litestream_goes_on_where_lsfast_stopped() {
    let mut world = World::new(4096);
    let mut random = fastrand::Rng::with_seed(9);
    let follower = follow(&world);
    world.step(&mut random);
    world.store_batch();
    wait_for(&world, 2);
    follower.stop();
    let mut command = std::process::Command::new(crate::support::peers::litestream());
    command.env_clear().args(["restore", "-f", "-follow-interval", "20ms", "-o"]);
    command.arg(world.out()).arg(world.url());
    let litestream = Process::start("litestream restore -f", command);
    for _ in 0..5 {
        world.step(&mut random);
        world.store_batch();
    }
    wait_for(&world, world.txid);
    drop(litestream);
    assert_whole(&reader(&world.out()));
    // It knows nothing of the mark, and what is there is not what the mark says.
    let mut refused = start(&world, &[]);
    assert_eq!(refused.wait().code(), Some(1));
    assert!(refused.output().contains("changed by another program"), "{}", refused.output());
}
