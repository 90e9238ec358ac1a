//! What a follower tells of itself: `lsfast status`, metrics, the page.

use std::net::SocketAddr;

use ::lsfast::base::{LtxId, Txid};
use serde_json::Value;

use super::*;
use crate::support::lsfast::{run, stderr};
use crate::support::{canned, http};

fn get(addr: SocketAddr, path: &str) -> String {
    let (status, body) = http::request(addr, "GET", path, b"").expect("an answer");
    assert_eq!(status, 200, "{path}");
    String::from_utf8(body).expect("UTF-8")
}

/// The value of a metric that the followed database has.
fn metric(text: &str, world: &World, name: &str) -> Option<f64> {
    let out = std::fs::canonicalize(world.out()).expect("a database");
    let series = format!("{name}{{db=\"{}\",replica=\"{}\"}} ", out.display(), world.url());
    text.lines().find_map(|l| l.strip_prefix(&series)?.parse().ok())
}

/// Seconds since the store said that there is nothing newer.
fn lag(text: &str, world: &World) -> f64 {
    let at = metric(text, world, "lsfast_follow_current_timestamp_seconds").expect("a time");
    jiff::Timestamp::now().as_millisecond() as f64 / 1_000.0 - at
}

fn status(args: &[&str], db: Option<&Path>) -> Value {
    let mut command = lsfast::command(["status", "--json"]);
    command.args(args).args(db);
    let output = run(command);
    assert!(output.status.success(), "{}", stderr(&output));
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

fn status_text(db: &Path) -> String {
    let mut command = lsfast::command(["status", "-v"]);
    command.arg(db);
    let output = run(command);
    assert_eq!(stderr(&output), "");
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn step(world: &mut World) {
    world.step(&mut fastrand::Rng::with_seed(world.txid));
    world.store_batch();
}

#[test]
fn lag_position_and_errors_are_told() {
    let mut world = World::new(4096);
    let (addr, socket) = (canned::nobody(), world.dir.path().join("follow.sock"));
    let more =
        [String::from("--addr"), addr.to_string(), String::from("--socket"), socket.display().to_string()];
    let follower = start(&world, &more.each_ref().map(String::as_str));
    follower.wait_for_line("serving metrics");
    follower.wait_for_line("msg=following ");
    step(&mut world);
    wait_for(&world, 2);
    let up_to_date = || {
        let text = get(addr, "/metrics");
        (metric(&text, &world, "lsfast_follow_txid") == Some(2.0) && lag(&text, &world) < 5.0).then_some(text)
    };
    let text = process::until("TXID 2 in the metrics", up_to_date);
    assert_eq!(metric(&text, &world, "lsfast_follow_failing"), Some(0.0));
    assert_eq!(metric(&text, &world, "lsfast_follow_files_total"), Some(1.0));
    assert_eq!(metric(&text, &world, "lsfast_follow_transactions_total"), Some(1.0));
    assert_eq!(metric(&text, &world, "lsfast_follow_images_total"), Some(0.0));
    assert_eq!(metric(&text, &world, "lsfast_follow_errors_total"), Some(0.0));
    assert_eq!(metric(&text, &world, "lsfast_follow_last_error_timestamp_seconds"), None);
    assert!(metric(&text, &world, "lsfast_follow_state_timestamp_seconds").expect("a time") > 1.0e9);

    // A damaged file that nothing replaces: the lag grows although the store answers.
    follower.signal("STOP");
    step(&mut world);
    let third = world.path(LtxId::raw(Txid(3)));
    let good = std::fs::read(&third).expect("a file");
    let mut bad = good.clone();
    let at = bad.len() / 2;
    bad[at] ^= 1;
    std::fs::write(&third, bad).expect("a file");
    follower.signal("CONT");
    follower.wait_for_line("cannot be applied");
    let first = lag(&get(addr, "/metrics"), &world);
    let text = process::until("more errors and more lag", || {
        let text = get(addr, "/metrics");
        (metric(&text, &world, "lsfast_follow_errors_total")? >= 3.0 && lag(&text, &world) > first)
            .then_some(text)
    });
    assert_eq!(metric(&text, &world, "lsfast_follow_failing"), Some(1.0));
    assert!(metric(&text, &world, "lsfast_follow_last_error_timestamp_seconds").is_some());
    for found in [status(&[], Some(&world.out())), status(&["--socket", &more[3]], None)] {
        let follows = &found["databases"][0]["follows"];
        assert_eq!(
            (follows["state"].as_str(), follows["txid"].as_str()),
            (Some("failing"), Some("0000000000000002"))
        );
        assert!(follows["error"]["message"].as_str().expect("an error").contains("cannot be applied"));
    }
    let text = status_text(&world.out());
    assert!(text.contains("read replica") && text.contains("applied: TXID 0000000000000002"), "{text}");
    assert!(get(addr, "/").contains("cannot be applied"));
    std::fs::write(&third, good).expect("a file");
    process::until("no more trouble", || {
        (metric(&get(addr, "/metrics"), &world, "lsfast_follow_failing") == Some(0.0)).then_some(())
    });
    follower.stop();

    // Nothing is left of the sockets, and the position is still known.
    assert!(!socket.exists() && !world.dir.path().join(".out.db-lsfast").exists());
    let text = status_text(&world.out());
    assert!(text.contains("no lsfast follows it") && text.contains("TXID 0000000000000003"), "{text}");
}

#[test]
fn a_killed_follower_leaves_nothing_that_a_promotion_does_not_remove() {
    let world = World::new(4096);
    let follower = follow(&world);
    let home = world.dir.path().join(".out.db-lsfast");
    assert!(home.join("socket").exists());
    follower.signal("KILL");
    drop(follower);
    assert!(status_text(&world.out()).contains("no lsfast follows it"));
    let mut command = lsfast::command(["promote"]);
    command.arg(world.out());
    let output = run(command);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(!home.exists());
}
