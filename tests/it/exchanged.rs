//! A replica that was emptied or exchanged between two checks: found at the stop, before an upload,
//! and at the next start.

use std::time::Duration;

use crate::lineage::{Scene, copy_tree, exchange, insert};
use crate::support::fault::{Fault, FaultServer};
use crate::support::lsfast;
use crate::support::memory::MemoryS3;
use crate::support::process::{Process, until};
use crate::support::s3::{self, S3Server};
use crate::support::sqlite;

/// At a stop the last check was up to 30 s ago, or made before the last upload: "everything is
/// stored" was printed over a replica that was emptied, or over a mix of two databases.
#[test]
fn a_stop_notices_what_has_happened_to_the_replica() {
    type Damage = fn(&Scene);
    let emptied: Damage = |s| std::fs::remove_dir_all(s.replica("repa").join("ltx")).expect("a replica");
    let exchanged: Damage = |s| exchange(s, "repa", "repb");
    let newest: Damage = |s| {
        let level = s.replica("repa").join("ltx/0");
        let mut names: Vec<_> =
            std::fs::read_dir(level).expect("a level").flatten().map(|e| e.path()).collect();
        names.sort();
        std::fs::remove_file(names.last().expect("a file")).expect("the newest file");
    };
    let run = |name: &str, damage: Damage, writes: bool, once_more: bool| {
        let scene = Scene::new();
        let (a, _b) = (scene.create("a", 4096), scene.create("b", 4096));
        assert!(scene.once("b", "repb").0);
        let process = scene.start("a", "repa");
        process.wait_for_line("history written");
        if once_more {
            insert(&a, "another file");
            process.wait_for_line("txid=0000000000000002 pages");
        }
        damage(&scene);
        if writes {
            insert(&a, "on top of it");
            until("the last batch", || process.output().contains("pages=1").then_some(()));
        }
        let log = process.stop();
        assert!(log.contains("the replica is not what was stored there"), "{name}: {log}");
        scene.assert_restores("repa", "a");
    };
    std::thread::scope(|s| {
        s.spawn(|| run("emptied", emptied, false, false));
        s.spawn(|| run("emptied before an upload", emptied, true, false));
        s.spawn(|| run("exchanged", exchanged, false, false));
        s.spawn(|| run("exchanged before an upload", exchanged, true, false));
        s.spawn(|| run("newest", newest, false, true));
    });
}

/// Files that the newest state needs are deleted between the newest one and the first: no check
/// asks for them by name, so the stop looks at the listing of a directory.
#[test]
fn a_stop_misses_a_file_in_the_middle() {
    let scene = Scene::new();
    let a = scene.create("a", 4096);
    let process = scene.start("a", "repa");
    process.wait_for_line("history written");
    for txid in 2..=4 {
        insert(&a, "one more");
        process.wait_for_line(&format!("txid=000000000000000{txid} pages"));
    }
    let third = "0000000000000003-0000000000000003.ltx";
    std::fs::remove_file(scene.replica("repa").join("ltx/0").join(third)).expect("the file");
    let log = process.stop();
    assert!(log.contains("the replica is not what was stored there"), "{log}");
    scene.assert_restores("repa", "a");
}

/// The same in a bucket, where one page of a listing shows it. A stop after nothing was stored
/// lists nothing.
#[test]
fn a_stop_misses_an_object_in_the_middle() {
    let keys = [("AWS_ACCESS_KEY_ID", s3::ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", s3::SECRET_KEY)];
    for is_lost in [false, true] {
        let (server, scene) = (MemoryS3::start(), Scene::new());
        let a = scene.create("a", 4096);
        // Nothing is compacted, so that each batch is in one object only.
        let config = scene.db("config").with_extension("yml");
        let text = format!(
            "levels: [{{interval: 24h}}]\ndbs: [{{path: '{}', replica: {{url: '{}', sync-interval: 50ms}}}}]\n",
            scene.db("a").display(),
            server.url("repa")
        );
        std::fs::write(&config, text).expect("a config file");
        let start = || {
            let mut command = lsfast::command(["replicate", "--log-level", "debug", "--config"]);
            command.arg(&config).envs(keys);
            Process::start("lsfast replicate", command)
        };
        let lists = || server.requests().iter().filter(|r| r.contains("list-type=2")).count();
        let process = start();
        process.wait_for_line("history written");
        for txid in 2..=4 {
            insert(&a, "one more");
            process.wait_for_line(&format!("txid=000000000000000{txid} pages"));
        }
        if is_lost {
            let third = "0000000000000003-0000000000000003.ltx";
            server.objects(|objects| objects.retain(|key, _| !key.ends_with(third)));
            let log = process.stop();
            assert!(log.contains("the replica is not what was stored there"), "{log}");
        } else {
            let before = lists();
            process.stop();
            assert_eq!(lists(), before + 1);
            let process = start();
            process.wait_for_line("resuming from the WAL");
            let before = lists();
            process.stop();
            assert_eq!(lists(), before);
        }
        let env = keys.map(|(n, v)| (n.to_owned(), v.to_owned()));
        let out = scene.db("out");
        lsfast::restore(&out, &server.url("repa"), &env, &[]);
        assert_eq!(sqlite::dump_hash(&out), sqlite::dump_hash(&scene.db("a")));
    }
}

/// The newest file is gone at the start. The image that follows has a TXID after the gap, so only
/// an image on level 9 can be restored.
#[test]
fn an_image_after_a_gap_can_be_restored_at_once() {
    let scene = Scene::new();
    let a = scene.create("a", 4096);
    for _ in 1..=3 {
        insert(&a, "one more");
        assert!(scene.once("a", "repa").0);
    }
    let newest = "0000000000000003-0000000000000003.ltx";
    std::fs::remove_file(scene.replica("repa").join("ltx/0").join(newest)).expect("the file");
    insert(&a, "after it");
    assert!(scene.once("a", "repa").0);
    scene.assert_restores("repa", "a");
}

/// A directory replica is looked at before each upload after a rest: the folder that replaces it
/// gets no file put on top.
#[test]
fn a_folder_exchanged_in_a_short_rest_gets_no_file_put_on_top() {
    let scene = Scene::new();
    let (a, _b) = (scene.create("a", 4096), scene.create("b", 4096));
    assert!(scene.once("b", "repb").0);
    let process = scene.start("a", "repa");
    process.wait_for_line("history written");
    exchange(&scene, "repa", "repb");
    // What is under test begins after this time.
    std::thread::sleep(Duration::from_millis(1100));
    insert(&a, "after");
    process.wait_for_line("the replica is not what was stored there");
    assert!(!process.output().contains("pages=1"), "{}", process.output());
    process.stop();
    scene.assert_restores("repa", "a");
}

/// The last check is for what was stored long ago: a store that does not answer it has acknowledged
/// everything.
#[test]
fn a_stop_is_clean_if_only_the_last_check_has_no_answer() {
    let server = S3Server::start();
    let proxy = FaultServer::start(Some(server.addr));
    let url = format!("{}&region=us-east-1&force-path-style=true", s3::url(proxy.addr, "db"));
    let scene = Scene::new();
    let _app = scene.create("app", 4096);
    let mut command = lsfast::command(["replicate", "--log-level", "debug", "--shutdown-timeout", "6s"]);
    command.arg(scene.db("app")).arg(url);
    command.env("AWS_ACCESS_KEY_ID", s3::ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", s3::SECRET_KEY);
    let process = Process::start("lsfast replicate", command);
    process.wait_for_line("history written");
    proxy.always(|_| Some(Fault::Stall));
    let log = process.stop();
    assert!(log.contains("could not be checked"), "{log}");
}

/// The newest file was ours, so the start went on, whatever it had been put on: a restore made one
/// database of two. A copy of the same files, with other times, is no exchange.
#[test]
fn a_start_finds_that_older_files_were_exchanged() {
    let scene = Scene::new();
    let (a, _b) = (scene.create("a", 4096), scene.create("b", 4096));
    assert!(scene.once("a", "repa").0 && scene.once("b", "repb").0);
    insert(&a, "second");
    assert!(scene.once("a", "repa").0);
    let first = "0000000000000001-0000000000000001.ltx";
    for level in ["ltx/0", "ltx/9"] {
        let file = scene.replica("repa").join(level).join(first);
        let text = std::fs::read(&file).expect("a file of the replica");
        std::fs::write(&file, text).expect("the same file");
    }
    let (ended, log) = scene.once("a", "repa");
    assert!(ended && !log.contains("level=warn") && !log.contains("storing an image"), "{log}");
    for level in ["ltx/0", "ltx/9"] {
        copy_tree(&scene.replica("repb").join(level).join(first), &scene.replica("repa").join(level));
    }
    let (ended, log) = scene.once("a", "repa");
    assert!(ended && log.contains("files that were not stored there"), "{log}");
    scene.assert_restores("repa", "a");
    let (ended, log) = scene.once("a", "repa");
    assert!(ended && !log.contains("level=warn") && !log.contains("storing an image"), "{log}");
}
