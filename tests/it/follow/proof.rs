//! Files that are whole and fit by name, but do not make the state that was committed.

use ::lsfast::base::{LtxId, Txid};
use ::lsfast::ltx::{LtxReader, PageSource as _, encode_file};

use super::*;

const THIRD: LtxId = LtxId::raw(Txid(3));
const REFUSED: &str = "does not make the state that was committed";

/// A world with a table on page 2 that only its second batch changes.
fn world(value: i64) -> World {
    let mut world = World::prepared(4096, "CREATE TABLE once(a); INSERT INTO once VALUES (0)");
    world.source.execute("UPDATE once SET a = ?1", [value]).expect("an update");
    world.step(&mut fastrand::Rng::with_seed(30));
    world.sealed = value >= 0;
    world.store_batch();
    world.sealed = true;
    world
}

/// Three more batches.
fn go_on(world: &mut World) {
    let mut random = fastrand::Rng::with_seed(31);
    for _ in 0..3 {
        world.step(&mut random);
        world.store_batch();
    }
}

/// The third file of another database.
fn of_another() -> Vec<u8> {
    let mut other = world(7);
    go_on(&mut other);
    std::fs::read(other.path(THIRD)).expect("a file")
}

/// The file without one of its pages; its CRC is right.
fn without(pgno: u32, file: &[u8]) -> Vec<u8> {
    let mut reader = LtxReader::new(file).expect("a header");
    let header = *reader.header();
    let mut pages = Vec::new();
    while let Some(pgno) = reader.advance().expect("a page") {
        pages.push((pgno, reader.page().to_vec()));
    }
    let before = pages.len();
    pages.retain(|(n, _)| n.get() != pgno);
    assert_eq!(pages.len(), before - 1, "the file has page {pgno}");
    encode_file(&header, pages.iter().map(|(n, p)| (*n, &p[..]))).expect("a file")
}

/// The pages of a file of another database were applied, and readers saw them.
#[test]
fn a_file_that_does_not_fit_is_never_applied() {
    for exchanged in [true, false] {
        let mut world = world(1);
        let mut follower = follow(&world);
        wait_for(&world, 2);
        if exchanged {
            // After a restart page 1 is known only from the checksum of the state.
            follower.stop();
            follower = follow(&world);
        }
        follower.signal("STOP");
        // No later batch has page 2: where several are applied at once, it would make up for it.
        world.source.execute("UPDATE once SET a = 9", []).expect("an update");
        go_on(&mut world);
        world.compact(1, 3, 3, false);
        let merged =
            LtxId::new(::lsfast::base::Level::new(1).expect("a level"), Txid(3), Txid(3)).expect("an id");
        let cover = std::fs::read(world.path(merged)).expect("a file");
        std::fs::remove_file(world.path(merged)).expect("removed");
        let good = std::fs::read(world.path(THIRD)).expect("a file");
        let bad = if exchanged { of_another() } else { without(2, &good) };
        std::fs::write(world.path(THIRD), bad).expect("written");
        follower.signal("CONT");
        follower.wait_for_line(REFUSED);
        assert_eq!(position(&world.out()), Some(2));
        assert_whole(&reader(&world.out()));
        // Another file that has the same is as good.
        std::fs::write(world.path(merged), cover).expect("written");
        wait_for(&world, 5);
        world.assert_same(&world.out());
        follower.stop();
    }
}

/// The files before the first checksum made a wrong state, which no file can be applied to.
#[test]
fn a_wrong_state_is_replaced_as_a_whole() {
    let mut world = world(-1);
    let path = world.path(LtxId::raw(Txid(2)));
    let bytes = std::fs::read(&path).expect("a file");
    std::fs::write(&path, without(2, &bytes)).expect("written");
    let follower = start(&world, &["--integrity-check", "none"]);
    wait_for(&world, 2);
    go_on(&mut world);
    follower.wait_for_line(REFUSED);
    world.put_image();
    wait_for(&world, 5);
    world.assert_same(&world.out());
    follower.stop();
}
