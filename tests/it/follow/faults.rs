//! What goes wrong, and what is said.

use super::*;
use crate::support::lsfast::{run, stderr};

fn step(world: &mut World) {
    world.step(&mut fastrand::Rng::with_seed(world.txid));
    world.store_batch();
}

fn promote(world: &World) -> std::process::Output {
    let mut command = lsfast::command(["promote"]);
    command.arg(world.out());
    run(command)
}

#[test]
fn others_cannot_write_while_it_is_followed() {
    let mut world = World::new(4096);
    let follower = follow(&world);
    let other = reader(&world.out());
    other.busy_timeout(Duration::from_millis(100)).expect("a timeout");
    let e = other.execute("UPDATE ledger SET plus = 7", []).expect_err("the lock is held");
    assert_eq!(e.sqlite_error_code(), Some(rusqlite::ErrorCode::DatabaseBusy));
    step(&mut world);
    wait_for(&world, 2);
    // A log that a reader empties is no change.
    drop(follower);
    other.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).expect("a checkpoint");
    let follower = follow(&world);
    step(&mut world);
    wait_for(&world, 3);
    world.assert_same(&world.out());
    follower.stop();
}

#[test]
fn a_foreign_write_is_refused_until_force() {
    let mut world = World::new(4096);
    follow(&world).stop();
    reader(&world.out()).execute("UPDATE ledger SET pad = x'01' WHERE id = 3", []).expect("nobody holds it");
    step(&mut world);
    let mut refused = start(&world, &[]);
    assert_eq!(refused.wait().code(), Some(1));
    let output = refused.output();
    assert!(output.contains("changed by another program") && output.contains("--force"), "{output}");
    let output = promote(&world);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("changed by another program"), "{}", stderr(&output));
    let follower = start(&world, &["--force"]);
    follower.wait_for_line("msg=following ");
    wait_for(&world, 2);
    world.assert_same(&world.out());
    follower.stop();
}

#[test]
fn a_database_that_was_never_followed_is_left_alone() {
    let world = World::new(4096);
    let connection = Connection::open(world.out()).expect("a database");
    connection.execute_batch("CREATE TABLE mine(x)").expect("a table");
    drop(connection);
    let before = std::fs::read(world.out()).expect("a file");
    let mut refused = start(&world, &[]);
    assert_eq!(refused.wait().code(), Some(1));
    assert!(refused.output().contains("is not a standby"), "{}", refused.output());
    let output = promote(&world);
    assert!(stderr(&output).contains("is not a standby"), "{}", stderr(&output));
    let count: i64 =
        reader(&world.out()).query_row("SELECT count(*) FROM mine", [], |r| r.get(0)).expect("a table");
    assert_eq!(count, 0);
    assert_eq!(before.len(), std::fs::read(world.out()).expect("a file").len());
}

#[test]
fn two_cannot_follow_one_database() {
    let world = World::new(4096);
    let follower = follow(&world);
    let mut second = start(&world, &[]);
    assert_eq!(second.wait().code(), Some(1));
    assert!(second.output().contains("is followed already, by process "), "{}", second.output());
    follower.stop();
}

#[test]
fn a_store_that_is_away_is_waited_for_and_said_once() {
    let mut world = World::new(4096);
    let follower = follow(&world);
    let (there, away) = (world.replica(), world.dir.path().join("away"));
    // A file where the directory of raw files was: neither there nor gone.
    std::fs::rename(&there, &away).expect("a move");
    std::fs::write(&there, b"").expect("a file");
    follower.wait_for_line("cannot follow; trying again");
    std::fs::remove_file(&there).expect("a file");
    std::fs::rename(&away, &there).expect("a move");
    step(&mut world);
    follower.wait_for_line("following again");
    wait_for(&world, 2);
    let output = follower.stop();
    assert_eq!(output.matches("cannot follow; trying again").count(), 1, "{output}");
}

#[test]
fn promotion_stops_the_follower_and_leaves_a_database_like_any_other() {
    let mut world = World::new(4096);
    let mut follower = follow(&world);
    step(&mut world);
    wait_for(&world, 2);
    let open = reader(&world.out());
    assert_whole(&open);
    let output = promote(&world);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("TXID 0000000000000002"));
    assert!(follower.wait().success(), "{}", follower.output());
    world.assert_same(&world.out());
    open.execute("UPDATE ledger SET pad = NULL", []).expect("a write");
    let page: Vec<u8> =
        open.query_row("SELECT data FROM sqlite_dbpage WHERE pgno = 1", [], |r| r.get(0)).expect("page 1");
    assert_eq!((&page[18..20], &page[72..92]), (&[2u8, 2][..], &[0u8; 20][..]));
    drop(open);
    let mut names: Vec<String> = std::fs::read_dir(world.dir.path())
        .expect("a directory")
        .map(|e| e.expect("an entry").file_name().into_string().expect("UTF-8"))
        .filter(|n| n.starts_with("out.db") || n.starts_with(".out.db"))
        .collect();
    names.sort();
    assert_eq!(names, ["out.db"]);
    // And is not followed any more.
    let mut refused = start(&world, &[]);
    assert_eq!(refused.wait().code(), Some(1));
    assert!(refused.output().contains("is not a standby"), "{}", refused.output());
}

#[test]
fn a_database_that_is_removed_ends_it() {
    let world = World::new(4096);
    let mut follower = follow(&world);
    std::fs::rename(world.out(), world.dir.path().join("elsewhere")).expect("a move");
    assert_eq!(follower.wait().code(), Some(1));
    assert!(follower.output().contains("removed or replaced"), "{}", follower.output());
}

#[test]
fn an_end_before_the_position_is_noted_is_made_good() {
    let mut world = World::new(4096);
    // As a kill between the two leaves it: the database, and a lock file that says so.
    lsfast::restore(&world.out(), &world.url(), &[], &[]);
    let lock = format!("{}-follow", world.out().display());
    std::fs::write(lock, "seeding 1").expect("a file");
    step(&mut world);
    let follower = follow(&world);
    wait_for(&world, 2);
    world.assert_same(&world.out());
    follower.stop();
}

#[test]
fn a_page_size_that_changes_ends_it() {
    let world = World::new(4096);
    follow(&world).stop();
    std::fs::remove_dir_all(world.replica()).expect("an old replica");
    let mut other = World::new(512);
    step(&mut other);
    step(&mut other);
    std::fs::rename(other.replica(), world.replica()).expect("a new replica");
    let mut refused = start(&world, &[]);
    assert_eq!(refused.wait().code(), Some(1));
    assert!(refused.output().contains("pages of 4096 bytes"), "{}", refused.output());
    assert_whole(&reader(&world.out()));
    let follower = start(&world, &["--force"]);
    follower.wait_for_line("restoring again");
    wait_for(&world, 3);
    other.assert_same(&world.out());
    follower.stop();
}
