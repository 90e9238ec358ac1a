//! `verify-interval`: what a running lsfast says of its replicas' soundness.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::Case;
use super::metrics::{get, parse, start};
use crate::support::canned;
use crate::support::process::{Process, until};

/// A database whose replica is verified each interval, with metrics.
struct Verified {
    case: Case,
    addr: SocketAddr,
}

impl Verified {
    fn new() -> Verified {
        Verified { case: Case::new(), addr: canned::nobody() }
    }

    fn start(&self, interval: &str) -> Process {
        let dir = self.case.dir.path();
        let config = dir.join("lsfast.yml");
        let text = format!(
            "addr: {}\nverify-interval: {interval}\nverify-rate: 100MiB\ndbs:\n- path: {}\n  replica:\n    path: {}/replicas/db\n",
            self.addr,
            self.case.db().display(),
            dir.display()
        );
        std::fs::write(&config, text).expect("a config file");
        let process = start(&config, &[]);
        process.wait_for_line("serving metrics");
        process
    }

    /// A metric of the replica, if it is there.
    fn metric(&self, name: &str) -> Option<f64> {
        let values = parse(&get(self.addr, "/metrics").1);
        values.iter().find(|(k, _)| *k == name || k.starts_with(&format!("{name}{{"))).map(|(_, v)| *v)
    }

    fn until_sound(&self, sound: bool) {
        let is_sound = || self.metric("lsfast_verify_faults").map(|faults| faults == 0.0);
        until("the verification", || (is_sound() == Some(sound)).then_some(()));
    }

    fn status(&self) -> Value {
        self.case.status()["replicas"][0]["verification"].clone()
    }

    fn text(&self) -> String {
        super::shown(&self.case.db())
    }

    fn image(&self) -> PathBuf {
        self.case.dir.path().join("replicas/db/ltx/9/0000000000000001-0000000000000001.ltx")
    }
}

/// Flips a bit of the file's checksum. One of the header makes another object of the file, and the
/// middle of a small file is its header.
fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).expect("a file");
    *bytes.last_mut().expect("a byte") ^= 0x10;
    std::fs::write(path, bytes).expect("written");
}

#[test]
fn a_sound_replica_has_an_age_that_survives_a_restart() {
    let verified = Verified::new();
    let process = verified.start("1s");
    verified.until_sound(true);
    let at = verified.metric("lsfast_verify_success_timestamp_seconds").expect("a time");
    let age = jiff::Timestamp::now().as_millisecond() as f64 / 1_000.0 - at;
    assert!((0.0..60.0).contains(&age), "{age}");
    assert_eq!(verified.metric("lsfast_verify_faults"), Some(0.0));
    assert_eq!(verified.metric("lsfast_verify_failing"), Some(0.0));
    let bytes = verified.metric("lsfast_verify_read_bytes_total").expect("bytes");
    assert!(bytes >= std::fs::metadata(verified.image()).expect("an image").len() as f64, "{bytes}");
    until("the next one", || verified.metric("lsfast_verify_read_bytes_total").filter(|b| *b > bytes));
    assert!(verified.text().contains(": sound"), "{}", verified.text());
    let log = process.stop();
    assert!(!log.contains("level=error") && !log.contains("level=warn"), "{log}");

    // The next process knows it from the start, and has nothing to do for a day.
    let process = verified.start("24h");
    let state = until("the status", || Some(verified.status()).filter(Value::is_object));
    let time = |key: &str| state[key].as_str().expect("a time").parse::<jiff::Timestamp>().expect("a time");
    assert_eq!((time("last"), &state["fault"]), (time("sound"), &Value::Null));
    assert_eq!(time("next").duration_since(time("last")), jiff::SignedDuration::from_hours(24));
    assert_eq!(verified.metric("lsfast_verify_faults"), Some(0.0));
    assert_eq!(verified.metric("lsfast_verify_read_bytes_total"), Some(0.0));
    process.stop();
}

#[test]
fn a_flipped_byte_is_said_once_and_shown_until_it_is_gone() {
    let verified = Verified::new();
    let process = verified.start("1s");
    verified.until_sound(true);
    flip(&verified.image());
    let line = process.wait_for_line("the replica is not sound");
    assert!(line.contains("level=error") && line.contains("0000000000000001-0000000000000001"), "{line}");
    verified.until_sound(false);
    assert!(verified.metric("lsfast_verify_faults") >= Some(1.0));
    let state = verified.status();
    let fault = state["fault"].as_str().expect("a fault");
    assert!(fault.contains("the newest state cannot be restored"), "{state}");
    assert!(state["sound"].as_str() < state["last"].as_str(), "{state}");
    assert!(verified.text().contains("NOT SOUND"), "{}", verified.text());
    assert!(get(verified.addr, "/").1.contains("the newest state cannot be restored"));
    // What is committed is stored all the same.
    let before = verified.case.place.last_txid("db", 0);
    verified.case.write(1);
    verified.case.place.wait_for_txid("db", 0, before + 1);
    // Found twice more, and not said again.
    for _ in 0..2 {
        let last = verified.status()["last"].clone();
        until("the next one", || (verified.status()["last"] != last).then_some(()));
    }
    flip(&verified.image());
    process.wait_for_line("the replica is sound again");
    verified.until_sound(true);
    assert_eq!(verified.status()["fault"], Value::Null);
    let log = process.stop();
    assert_eq!(log.matches("the replica is not sound").count(), 1, "{log}");
}

/// Off unless it is asked for.
#[test]
fn nothing_is_verified_without_an_interval() {
    let verified = Verified::new();
    let process = verified.start("0");
    verified.case.synced();
    assert_eq!(verified.status(), Value::Null);
    assert_eq!(verified.metric("lsfast_verify_faults"), None);
    process.stop();
}
