//! What a follower asks of a store.

use super::*;
use crate::support::fault::{FaultServer, Seen, s3_error};
use crate::support::s3::{
    S3Server, {self},
};

fn is_list(seen: &Seen) -> bool {
    seen.path.contains("list-type=2")
}

fn follow_at(world: &World) -> Process {
    let mut command =
        lsfast::command(["restore", "-f", "--follow-interval", "5ms", "--log-level", "debug", "-o"]);
    command.arg(world.out()).arg(world.url());
    command.env("AWS_ACCESS_KEY_ID", s3::ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", s3::SECRET_KEY);
    let process = Process::start("lsfast restore -f", command);
    process.wait_for_line("msg=following ");
    process
}

#[test]
fn nothing_is_listed_while_files_come_one_by_one() {
    let server = S3Server::start();
    let proxy = FaultServer::start(Some(server.addr));
    let store = s3::open(&server.url("db"), &s3::options());
    let url = format!("{}&region=us-east-1&force-path-style=true", s3::url(proxy.addr, "db"));
    let mut world = World::at(store, url);
    let follower = follow_at(&world);
    let mut random = fastrand::Rng::with_seed(12);
    for _ in 0..10 {
        let idle = proxy.seen().len() + 5;
        process::until("five requests", || (proxy.seen().len() >= idle).then_some(()));
        world.step(&mut random);
        world.store_batch();
        wait_for(&world, world.txid);
    }
    let seen = proxy.seen();
    world.assert_same(&world.out());
    // One for the restore, one at the start of following.
    assert_eq!(seen.iter().filter(|s| is_list(s)).count(), 2);
    let probes =
        seen.iter().filter(|s| s.method == "GET" && !is_list(s) && s.path.contains("/0000/")).count();
    assert!(probes >= 50, "{probes}");
    assert!(seen.iter().all(|s| s.method == "GET"), "a follower only reads");

    // The store refuses for a while: one line for the GET and the LIST after it, one when it
    // is over.
    for _ in 0..3 {
        proxy.push("GET", s3_error(403, "AccessDenied"));
    }
    follower.wait_for_line("cannot follow; trying again");
    world.step(&mut random);
    world.store_batch();
    follower.wait_for_line("following again");
    wait_for(&world, world.txid);
    let output = follower.stop();
    assert_eq!(output.matches("cannot follow; trying again").count(), 1, "{output}");
}

#[test]
fn a_server_that_comes_back_is_followed_again() {
    let mut server = S3Server::start();
    let store = s3::open(&server.url("db"), &s3::options());
    let mut world = World::at(store, format!("{}&region=us-east-1&force-path-style=true", server.url("db")));
    let mut random = fastrand::Rng::with_seed(13);
    let follower = follow_at(&world);
    world.step(&mut random);
    world.store_batch();
    wait_for(&world, 2);
    server.stop();
    follower.wait_for_line("cannot follow; trying again");
    server.start_again();
    for _ in 0..3 {
        world.step(&mut random);
        world.store_batch();
    }
    wait_for(&world, 5);
    follower.wait_for_line("following again");
    world.assert_same(&world.out());
    let output = follower.stop();
    assert_eq!(output.matches("cannot follow; trying again").count(), 1, "{output}");
    assert_eq!(output.matches("following again").count(), 1, "{output}");
    assert!(!output.contains("whole image"), "{output}");
}
