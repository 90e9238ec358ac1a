//! Every kind of change, from every kind of file.

use ::lsfast::base::{LtxId, Txid};

use super::*;

#[test]
fn growth_shrinking_and_new_schemas_with_pages_of_each_size() {
    for page_size in [512, 4096, 65_536] {
        let mut world = World::new(page_size);
        let follower = follow(&world);
        // Open all the time, with a statement that outlives the schema that it was made for.
        let open = reader(&world.out());
        let mut prepared =
            open.prepare("SELECT count(*), sum(plus + minus) FROM ledger").expect("a statement");
        for sql in [
            "INSERT INTO ledger(plus, minus, pad) SELECT 1, -1, randomblob(500) FROM generate(2000)",
            "DELETE FROM ledger WHERE id > 20; VACUUM",
            "ALTER TABLE ledger ADD COLUMN note TEXT DEFAULT 'x'",
            "CREATE TABLE other AS SELECT * FROM ledger; DROP INDEX ledger_by_plus",
            "DROP TABLE other; VACUUM",
            "INSERT INTO ledger(plus, minus, pad) SELECT 2, -2, randomblob(900) FROM generate(700)",
        ] {
            let n = "(WITH RECURSIVE g(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM g WHERE n < ";
            let sql = sql.replace("generate(", n);
            let sql = if sql.contains("RECURSIVE") {
                format!("{}) SELECT n FROM g)", sql.trim_end_matches(')'))
            } else {
                sql
            };
            world.source.execute_batch(&sql).expect(&sql);
            world.store_batch();
            wait_for(&world, world.txid);
            world.assert_same(&world.out());
            assert_whole(&open);
            let rows: (i64, i64) = prepared.query_row([], |r| Ok((r.get(0)?, r.get(1)?))).expect("rows");
            let expected: i64 =
                world.source.query_row("SELECT count(*) FROM ledger", [], |r| r.get(0)).expect("a count");
            assert_eq!(rows, (expected, 0), "{sql}");
        }
        follower.stop();
        world.assert_same(&world.out());
    }
}

#[test]
fn sqlite_moves_no_pages_of_a_database_with_auto_vacuum() {
    for first in ["PRAGMA auto_vacuum=FULL", "PRAGMA auto_vacuum=INCREMENTAL"] {
        let mut world = World::prepared(1024, first);
        let follower = follow(&world);
        for sql in [
            "INSERT INTO ledger(plus, minus, pad) SELECT 1, -1, randomblob(3000) FROM ledger",
            "DELETE FROM ledger WHERE id > 60",
            // Free pages in the middle of a database that was FULL until now.
            "PRAGMA auto_vacuum=INCREMENTAL; DELETE FROM ledger WHERE id BETWEEN 10 AND 55",
            "PRAGMA incremental_vacuum(3)",
            "PRAGMA auto_vacuum=FULL; INSERT INTO ledger(plus, minus) VALUES (1, -1)",
            "PRAGMA auto_vacuum=NONE; VACUUM",
            "DELETE FROM ledger WHERE id < 40",
        ] {
            world.source.execute_batch(sql).expect(sql);
            world.store_batch();
            wait_for(&world, world.txid);
            world.assert_same(&world.out());
            assert_whole(&reader(&world.out()));
        }
        follower.stop();
    }
}

#[test]
fn one_that_was_away_comes_back_by_levels_and_is_never_listed_to_death() {
    let mut world = World::new(4096);
    let mut random = fastrand::Rng::with_seed(2);
    // As a replicator keeps its first image.
    world.compact(9, 1, 1, false);
    follow(&world).stop();
    assert_eq!(position(&world.out()), Some(1));
    for _ in 0..30 {
        world.step(&mut random);
        world.store_batch();
    }
    // Raw files are gone but for the newest; what remains overlaps.
    world.compact(1, 1, 10, true);
    world.compact(2, 11, 25, false);
    world.compact(1, 11, 18, false);
    world.remove(&(11..=24).map(|n| LtxId::raw(Txid(n))).collect::<Vec<_>>());
    let follower = follow(&world);
    wait_for(&world, 31);
    world.assert_same(&world.out());
    let output = follower.stop();
    assert!(!output.contains("whole image"), "{output}");
}

#[test]
fn when_retention_was_faster_a_whole_image_is_applied_under_the_eyes_of_readers() {
    let mut world = World::new(4096);
    let mut random = fastrand::Rng::with_seed(3);
    follow(&world).stop();
    let readers = Readers::start(&world.out());
    for _ in 0..20 {
        world.step(&mut random);
        world.store_batch();
    }
    world.compact(9, 1, 15, true);
    let follower = follow(&world);
    wait_for(&world, 21);
    world.assert_same(&world.out());
    assert!(readers.end() > 0);
    follower.stop();
}

#[test]
fn a_replica_that_began_anew_is_followed_from_its_image() {
    let mut world = World::new(4096);
    let mut random = fastrand::Rng::with_seed(4);
    for _ in 0..9 {
        world.step(&mut random);
        world.store_batch();
    }
    follow(&world).stop();
    std::fs::remove_dir_all(world.replica()).expect("an old replica");
    let mut anew = World::new(4096);
    anew.step(&mut random);
    anew.store_batch();
    std::fs::rename(anew.replica(), world.replica()).expect("a new replica");
    let follower = follow(&world);
    follower.wait_for_line("applying a whole image");
    wait_for(&world, 2);
    anew.assert_same(&world.out());
    follower.stop();
}
