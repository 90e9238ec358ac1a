//! A replica that has begun anew, and has more TXIDs by now than the follower has seen.

use ::lsfast::base::{LtxId, Txid};

use super::*;
use crate::support::place::Place;
use crate::support::{litestream, sqlite};

const OTHER: &str = "another history than the database";

fn grow(world: &mut World, batches: u64, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..batches {
        world.step(&mut random);
        world.store_batch();
    }
}

fn replace(world: &World, by: &World) {
    std::fs::remove_dir_all(world.replica()).expect("an old replica");
    std::fs::rename(by.replica(), world.replica()).expect("a new replica");
}

#[test]
fn it_is_noticed_at_the_start() {
    // Also when it is as long as before to the TXID.
    for batches in [5, 9] {
        let mut world = World::new(4096);
        grow(&mut world, 5, 1);
        follow(&world).stop();
        let mut other = World::new(4096);
        grow(&mut other, batches, 2);
        replace(&world, &other);
        let follower = follow(&world);
        follower.wait_for_line(OTHER);
        follower.wait_for_line("msg=applied ");
        wait_for(&world, batches + 1);
        other.assert_same(&world.out());
        follower.stop();
    }
}

#[test]
fn it_is_noticed_when_the_next_file_comes() {
    let mut world = World::new(4096);
    grow(&mut world, 5, 1);
    let follower = follow(&world);
    grow(&mut world, 1, 4);
    wait_for(&world, 7);
    follower.signal("STOP");
    let mut other = World::new(4096);
    grow(&mut other, 9, 2);
    replace(&world, &other);
    follower.signal("CONT");
    follower.wait_for_line(OTHER);
    wait_for(&world, 10);
    other.assert_same(&world.out());
    let output = follower.stop();
    assert_eq!(output.matches("whole image").count(), 1, "{output}");
}

#[test]
fn files_before_the_position_tell_when_raw_ones_have_gone() {
    let prepare = |world: &mut World| {
        grow(world, 11, 3);
        world.compact(1, 1, 3, false);
        world.compact(1, 4, 9, false);
        world.remove(&(1..=9).map(|n| LtxId::raw(Txid(n))).collect::<Vec<_>>());
    };
    let mut world = World::new(4096);
    grow(&mut world, 4, 1);
    let mut other = World::new(4096);
    follow(&world).stop();
    prepare(&mut world);
    let follower = follow(&world);
    wait_for(&world, 16);
    world.assert_same(&world.out());
    let output = follower.stop();
    assert!(!output.contains("whole image"), "{output}");
    // The same files of another history.
    grow(&mut other, 9, 5);
    prepare(&mut other);
    replace(&world, &other);
    let follower = follow(&world);
    follower.wait_for_line(OTHER);
    wait_for(&world, 21);
    other.assert_same(&world.out());
    follower.stop();
}

/// A database with other content under the same path, whose replicator is told to forget the old
/// one.
fn begin_anew(db: &Path) {
    for end in ["", "-wal", "-shm"] {
        let path = format!("{}{end}", db.display());
        if std::fs::exists(&path).expect("a path") {
            std::fs::remove_file(path).expect("a file");
        }
    }
}

fn by_a_real_replicator(forget: impl Fn(&Path), start: impl Fn(&Path, &Path, &Place) -> Process) {
    let dir = tempfile::tempdir().expect("a directory");
    let place = Place::Dir(dir.path().to_owned());
    let (db, out) = (dir.path().join("db"), dir.path().join("out"));
    // Commits until the replica has a TXID; some of the workload is rolled back.
    let reach = |connection: &Connection, workload: &mut sqlite::Workload, txid: u64| {
        process::until(&format!("TXID {txid}"), || {
            let there = place.last_txid("r", 0);
            if there < txid {
                workload.run(connection, 1);
            }
            (there >= txid).then_some(there)
        })
    };
    let connection = sqlite::create(&db, 4096);
    sqlite::leave_checkpoints_to_litestream(&connection);
    let replicating = start(dir.path(), &db, &place);
    place.wait_for_txid("r", 0, 1);
    let mut command = lsfast::command(["restore", "-f", "--follow-interval", "20ms", "-o"]);
    command.arg(&out).arg(place.url("r"));
    let follower = Process::start("lsfast restore -f", command);
    follower.wait_for_line("msg=following ");
    let before = reach(&connection, &mut sqlite::Workload::new(3), 4);
    let expected = sqlite::dump_hash(&db);
    process::until("the same content", || (sqlite::dump_hash(&out) == expected).then_some(()));
    let output = follower.output();
    assert!(!output.contains("whole image"), "{output}");
    follower.signal("STOP");
    replicating.stop();
    drop(connection);
    forget(&db);
    begin_anew(&db);
    std::fs::remove_dir_all(dir.path().join("r")).expect("an old replica");

    let connection = sqlite::create(&db, 4096);
    sqlite::leave_checkpoints_to_litestream(&connection);
    let replicating = start(dir.path(), &db, &place);
    place.wait_for_txid("r", 0, 1);
    reach(&connection, &mut sqlite::Workload::new(4), before + 4);
    follower.signal("CONT");
    follower.wait_for_line(OTHER);
    let expected = sqlite::dump_hash(&db);
    process::until("the other content", || (sqlite::dump_hash(&out) == expected).then_some(()));
    sqlite::assert_sound(&out);
    replicating.stop();
    follower.stop();
}

#[test]
fn lsfast_that_was_reset_is_noticed() {
    let forget = |db: &Path| {
        let mut command = lsfast::command(["reset"]);
        command.arg(db);
        let output = lsfast::run(command);
        assert!(output.status.success(), "{}", lsfast::stderr(&output));
    };
    by_a_real_replicator(forget, |_, db, place| lsfast::replicate(db, &[place.url("r")], &[]));
}

#[test]
fn litestream_that_started_over_is_noticed() {
    let forget = |db: &Path| {
        std::fs::remove_dir_all(db.with_file_name(".db-litestream")).expect("Litestream's folder");
    };
    by_a_real_replicator(forget, |dir, db, place| litestream::replicate(dir, db, place, "r"));
}
