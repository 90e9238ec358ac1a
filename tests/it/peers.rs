//! The helpers of these tests, tried on the real programs alone: what fails here is no fault of
//! lsfast.

use std::process::Command;

use crate::support::place::Place;
use crate::support::sqlite::{
    Workload, {self},
};
use crate::support::{http, litestream, peers, weed};

#[test]
fn the_peers_are_those_that_the_tests_were_written_for() {
    let found =
        [(peers::litestream(), "0.5.17"), (peers::litestream_v03(), "v0.3.13"), (peers::weed(), "4.48")];
    for (program, version) in found {
        let output = Command::new(&program).arg("version").output().expect("it starts");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains(version), "{} is {said}, not {version}", program.display());
    }
}

#[test]
fn weed_stores_and_refuses() {
    let server = weed::Weed::start();
    let key = format!("/{}/a/b", weed::BUCKET);
    assert_eq!(http::request(server.address(), "PUT", &key, b"hello").expect("an answer").0, 200);
    assert_eq!(
        http::request(server.address(), "GET", &key, b"").expect("an answer"),
        (200, b"hello".to_vec())
    );
    let missing = http::request(server.address(), "GET", "/no-such-bucket/a", b"").expect("an answer");
    assert_eq!(missing.0, 404);
}

/// Litestream beside Litestream, in a directory and in SeaweedFS: the comparison finds them equal,
/// and sees a difference of one byte.
#[test]
fn litestream_restores_what_it_wrote() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let places = [Place::Dir(dir.path().join("replicas")), Place::Weed(weed::Weed::start())];
    for (i, place) in places.iter().enumerate() {
        let db = dir.path().join(format!("{i}.db"));
        let connection = sqlite::create(&db, 4096);
        sqlite::leave_checkpoints_to_litestream(&connection);
        Workload::new(7).run(&connection, 40);
        litestream::replicate_once(dir.path(), &db, place, "app", &[]);
        Workload::new(8).run(&connection, 40);
        litestream::replicate_once(dir.path(), &db, place, "app", &[]);
        assert!(place.last_txid("app", 0) >= 2);
        let out = dir.path().join(format!("{i}.out"));
        litestream::restore(dir.path(), &db, &out, place, "app", None);
        assert_eq!(sqlite::dump_hash(&out), sqlite::dump_hash(&db));
        sqlite::assert_same_pages("restored by Litestream", &sqlite::image(&out), &sqlite::image(&db));
        connection
            .execute("UPDATE items SET name = name || 'x' WHERE id = (SELECT max(id) FROM items)", [])
            .expect("an update");
        assert_ne!(sqlite::dump_hash(&out), sqlite::dump_hash(&db));
        assert_ne!(sqlite::image(&out), sqlite::image(&db));
    }
}
