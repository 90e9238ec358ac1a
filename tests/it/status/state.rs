//! `lsfast status`, `ltx` and `reset` around real runs.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use super::{Case, in_sync, run, shown, status};
use crate::support::place::Place;
use crate::support::process::until;
use crate::support::s3::S3Server;
use crate::support::{lsfast, sqlite};

#[test]
fn positions_agree_with_the_store() {
    let case = Case::new();
    let before = case.status();
    assert_eq!(
        (&before["state"], before["replicas"].as_array().map(Vec::len)),
        (&"not running".into(), Some(0))
    );
    let process = case.start();
    case.write(3);
    // By the store, not by what lsfast says: three commits with nothing between.
    case.place.wait_for_txid("db", 0, 2);
    let said = case.synced();
    assert_eq!(said["state"], "following");
    let replica = &said["replicas"][0];
    let txid = format!("{:016x}", case.place.last_txid("db", 0));
    assert_eq!(replica["durable"]["txid"], txid.as_str(), "{said}");
    assert_eq!(replica["durable"]["position"]["frame"], said["position"]["frame"]);
    assert_eq!(replica["durable"]["position"]["salts"], said["position"]["salts"]);
    let wal = std::fs::metadata(case.dir.path().join("app.db-wal")).expect("the log").len();
    assert_eq!((said["wal_size"].as_u64(), &said["commits"]), (Some(wal), &3.into()));
    assert_eq!(said["position"]["offset"].as_u64(), Some(wal));
    assert_eq!(replica["batches"].as_u64(), Some(case.place.last_txid("db", 0)));
    assert_eq!(replica["error"], Value::Null);
    let said = until("the next image to be due", || {
        Some(case.status()).filter(|s| s["replicas"][0]["history"]["next_snapshot"].is_string())
    });
    assert_eq!(said["replicas"][0]["history"]["snapshot_txid"], format!("{:016x}", 1).as_str());
    let text = shown(&case.db());
    assert!(text.contains("in sync") && text.contains(&txid), "{text}");
    let socket = case.home().join("socket");
    assert_eq!(std::fs::metadata(&socket).expect("a socket").permissions().mode() & 0o777, 0o600);
    process.stop();
    assert!(!socket.exists());
    let after = case.status();
    assert_eq!(after["state"], "not running");
    assert_eq!(after["replicas"][0]["durable"]["txid"], txid.as_str());
    // No config file names the replica; its folder knows the URL.
    assert!(said["replicas"][0]["url"].is_string(), "{said}");
    assert_eq!(after["replicas"][0]["url"], said["replicas"][0]["url"]);
    let text = shown(&case.db());
    assert!(text.contains("no lsfast replicates it"), "{text}");
}

#[test]
fn a_store_that_is_away_shows_lag_and_error_and_comes_back() {
    let case = Case::new();
    let process = case.start();
    let stored = case.synced()["replicas"][0]["durable"]["txid"].clone();
    case.take_away();
    case.write(4);
    let said =
        until("the outage to show", || Some(case.status()).filter(|s| s["replicas"][0]["state"] == "away"));
    let replica = &said["replicas"][0];
    assert!(replica["since"].is_string() && replica["error"]["message"].is_string(), "{said}");
    assert!(replica["errors"].as_u64() > Some(0), "{said}");
    let said = until("all four commits to wait", || {
        Some(case.status()).filter(|s| s["replicas"][0]["lag"]["commits"] == 4)
    });
    // I1: what is under way is not stored.
    assert_eq!(said["replicas"][0]["durable"]["txid"], stored);
    let lag = &said["replicas"][0]["lag"];
    // Each of them changed one page at least.
    assert!(lag["bytes"].as_u64() >= Some(4 * 4096) && lag["seconds"].as_f64() > Some(0.0), "{said}");
    let text = shown(&case.db());
    assert!(text.contains("uploads failing since") && text.contains("behind by 4 commits"), "{text}");
    case.give_back();
    let said = case.synced();
    assert_eq!(said["replicas"][0]["since"], Value::Null);
    assert!(said["replicas"][0]["error"]["message"].is_string(), "the last error stays: {said}");
    process.stop();
}

/// The exit code of `lsfast status` and its lines.
fn table(case: &Case) -> (Option<i32>, Vec<String>) {
    let output = run([OsStr::new("status"), case.db().as_os_str()]);
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    (output.status.code(), text.lines().map(str::to_owned).collect())
}

/// Before the store had answered, nothing was known, so that an outage at the start raised no
/// alarm.
#[test]
fn lag_is_known_before_the_store_has_answered_and_the_exit_code_tells_how_it_is() {
    let case = Case::new();
    let process = case.start();
    case.write(3);
    case.synced();
    let (code, lines) = table(&case);
    assert!(code == Some(0) && lines[1].contains("in sync") && lines[1].contains(" ago"), "{lines:?}");
    assert_eq!(lines.last().map(String::as_str), Some("1 database: 0 failing, 0 to look at, 1 well"));
    process.stop();
    let (code, lines) = table(&case);
    assert!(code == Some(2) && lines[1].contains("no lsfast replicates it"), "{lines:?}");

    case.take_away();
    case.write(2);
    let process = case.start_without_store();
    let said = until("the outage", || Some(case.status()).filter(|s| s["replicas"][0]["state"] == "away"));
    let replica = &said["replicas"][0];
    assert!(replica["lag"]["bytes"].as_u64() >= Some(4096), "{said}");
    assert!(replica["durable"]["txid"].is_string(), "local knowledge: {said}");
    let seconds = replica["lag"]["seconds"].as_f64().expect("an age");
    until("the lag to grow", || {
        (case.status()["replicas"][0]["lag"]["seconds"].as_f64() > Some(seconds + 0.5)).then_some(())
    });
    let (code, lines) = table(&case);
    assert!(code == Some(2) && lines[1].contains("uploads fail") && lines[1].contains(" KiB, "), "{lines:?}");
    // A refusal is tried again after minutes only.
    drop(process);
}

#[test]
fn the_socket_of_a_killed_process_is_stale_and_replaced() {
    let case = Case::new();
    let mut process = case.start();
    let pid = status(&case.db())["pid"].as_u64();
    assert!(pid.is_some());
    process.signal("KILL");
    process.wait();
    assert!(case.home().join("socket").exists());
    assert_eq!(case.status()["state"], "not running");
    let process = lsfast::replicate(&case.db(), &[case.place.url("db")], &[]);
    process.wait_for_line("resuming from the WAL");
    case.synced();
    assert_ne!(status(&case.db())["pid"].as_u64(), pid);
    // One that is refused must not take the socket of the first.
    let second = run([OsStr::new("replicate"), case.db().as_os_str(), OsStr::new(&case.place.url("other"))]);
    assert!(
        lsfast::stderr(&second).contains("another lsfast already follows"),
        "{}",
        lsfast::stderr(&second)
    );
    case.synced();
    process.stop();
}

#[test]
fn a_database_that_is_waited_for_says_so() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let db = dir.path().join("later.db");
    let missing = run([OsStr::new("status"), db.as_os_str()]);
    assert!(lsfast::stderr(&missing).contains("there is no database"), "{}", lsfast::stderr(&missing));
    let place = Place::Dir(dir.path().join("replica"));
    let process = lsfast::replicate(&db, &[place.url("db")], &[]);
    process.wait_for_line("waiting for the database");
    // It is said before the folder is held, and until then nobody answers.
    let state = || {
        let output = run([OsStr::new("status"), OsStr::new("--json"), db.as_os_str()]);
        let said: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        said["databases"][0]["state"].clone()
    };
    until("the waiting to show", || (state() == "waiting").then_some(()));
    let app = sqlite::create(&db, 4096);
    process.wait_for_line("image stored");
    until("the database to be followed", || (state() == "following").then_some(()));
    drop(app);
    process.stop();
}

#[test]
fn an_idle_database_costs_nothing() {
    let case = Case::new();
    let process = case.start();
    case.synced();
    let pid = status(&case.db())["pid"].as_u64().expect("a process");
    let objects = case.place.names("db", 0);
    // Once it has answered, the thread that tells waits without an end: nothing but a
    // question wakes
    // it.
    until("the thread that tells to wait without an end", || waits_for_ever(pid).then_some(()));
    let before = switches(pid);
    for _ in 0..20 {
        case.status();
    }
    assert_ne!(switches(pid), before);
    until("the thread that tells to wait again", || waits_for_ever(pid).then_some(()));
    assert_eq!(case.place.names("db", 0), objects);
    process.stop();
}

/// Something that the kernel says of the thread that tells.
fn of_the_teller(pid: u64, name: &str) -> String {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("threads");
    let read = |task: &std::path::Path, name: &str| std::fs::read_to_string(task.join(name)).expect("a file");
    let task = tasks
        .map(|t| t.expect("a thread").path())
        .find(|t| read(t, "comm").trim() == "lsfast-observe")
        .expect("the thread");
    read(&task, name)
}

/// Whether it is in `epoll_wait` (232, 281 and 22 by another name) with a timeout of -1: number and
/// arguments in hex.
fn waits_for_ever(pid: u64) -> bool {
    let call = of_the_teller(pid, "syscall");
    let words: Vec<&str> = call.split(' ').collect();
    matches!(words[0], "232" | "281" | "22") && words[4].ends_with("ffffffff")
}

/// How often it gave up the processor.
fn switches(pid: u64) -> u64 {
    let status = of_the_teller(pid, "status");
    let line = status.lines().find_map(|l| l.strip_prefix("voluntary_ctxt_switches:")).expect("a count");
    line.trim().parse().expect("a number")
}

#[test]
fn reset_makes_the_next_start_store_an_image() {
    let case = Case::new();
    let process = case.start();
    case.synced();
    let reset = |more: &str| {
        let mut args = vec![OsStr::new("reset")];
        args.extend(Some(OsStr::new(more)).filter(|m| !m.is_empty()));
        let db = case.db();
        args.push(db.as_os_str());
        run(args)
    };
    let refused = reset("");
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        lsfast::stderr(&refused).contains("another lsfast already follows"),
        "{}",
        lsfast::stderr(&refused)
    );
    process.stop();
    // Without a reset it goes on.
    let dry = String::from_utf8(reset("--dry-run").stdout).expect("UTF-8");
    assert!(dry.contains("would remove") && dry.contains("nothing was removed"), "{dry}");
    let process = lsfast::replicate(&case.db(), &[case.place.url("db")], &[]);
    process.wait_for_line("resuming from the WAL");
    process.stop();

    let json: Value = serde_json::from_slice(&reset("--json").stdout).expect("JSON");
    let folders = json["folders"].as_array().expect("folders");
    assert_eq!(folders.len(), 1);
    assert!(!std::path::Path::new(folders[0].as_str().expect("a path")).exists());
    assert_eq!(case.status()["replicas"].as_array().map(Vec::len), Some(0));
    let before = case.place.last_txid("db", 0);
    let process = lsfast::replicate(&case.db(), &[case.place.url("db")], &[]);
    process.wait_for_line("image stored");
    case.write(2);
    case.synced();
    process.stop();
    assert!(case.place.last_txid("db", 0) > before, "the replica goes on behind what it has");
    let out = case.dir.path().join("out.db");
    lsfast::restore(&out, &case.place.url("db"), &[], &["--integrity-check", "full"]);
    assert_eq!(sqlite::dump_hash(&out), sqlite::dump_hash(&case.db()));
    assert!(String::from_utf8(reset("").stdout).expect("UTF-8").contains("removed"));
    assert!(String::from_utf8(reset("").stdout).expect("UTF-8").contains("nothing to reset"));
}

#[test]
fn ltx_lists_what_is_stored() {
    let case = Case::new();
    let server = S3Server::start();
    let s3 = Place::S3s(server);
    let urls = [case.place.url("db"), s3.url("db")];
    let process = lsfast::replicate(&case.db(), &urls, &s3.env());
    until("both to have the image", || {
        Some(case.status())
            .filter(|s| s["replicas"].as_array().is_some_and(|r| r.len() == 2 && r.iter().all(in_sync)))
    });
    case.write(2);
    case.place.wait_for_txid("db", 0, 2);
    s3.wait_for_txid("db", 0, 2);
    process.stop();
    for (place, url) in [(&case.place, &urls[0]), (&s3, &urls[1])] {
        let ltx = |more: &[&str]| {
            let mut command = lsfast::command(["ltx", url]);
            command.args(more).envs(s3.env());
            let output = lsfast::run(command);
            assert!(output.status.success(), "{}", lsfast::stderr(&output));
            String::from_utf8(output.stdout).expect("UTF-8")
        };
        for level in [0, 9] {
            let json: Value =
                serde_json::from_str(&ltx(&["--json", "--level", &level.to_string()])).expect("JSON");
            let names: Vec<String> = json["files"]
                .as_array()
                .expect("files")
                .iter()
                .map(|f| {
                    assert_eq!(f["level"], level);
                    let text = |key: &str| f[key].as_str().expect("a TXID").to_owned();
                    format!("{}-{}.ltx", text("min_txid"), text("max_txid"))
                })
                .collect();
            assert_eq!(names, place.names("db", level));
            assert!(level == 9 || !names.is_empty());
        }
        let (table, exact) = (ltx(&[]), ltx(&["--precise"]));
        assert!(table.starts_with("level  min_txid"), "{table}");
        assert_eq!(table.lines().count(), exact.lines().count());
        // A directory keeps the exact times itself; on S3 the upload is later than the state.
        if matches!(place, Place::Dir(_)) {
            assert_eq!(table, exact);
        } else {
            assert_ne!(table, exact);
        }
    }
    let wrong = run(["ltx", &urls[0], "--level", "10"]);
    assert_eq!(wrong.status.code(), Some(2));
}
