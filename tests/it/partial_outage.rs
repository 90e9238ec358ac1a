//! Outages of some kinds of requests, while batches are stored, and answers that do not come from
//! the store: few requests, one line in the log, and lsfast goes on.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::support::fault::{Fault, FaultServer, Seen, s3_error};
use crate::support::process::{self, Process};
use crate::support::s3::{self, S3Server};
use crate::support::{lsfast, sqlite};

/// When the fifth of five attempts has been made, and whatever follows it at once.
const WATCHED: Duration = Duration::from_secs(26);

/// Most requests of one kind in that time.
const REQUESTS: usize = 5;

/// Time between two commits.
const COMMITS: Duration = Duration::from_millis(300);

/// Requests that fail while batches are stored.
struct Kind {
    name: &'static str,
    fails: fn(&Seen) -> bool,
    answer: fn() -> Fault,
}

fn is_object(seen: &Seen) -> bool {
    seen.path.contains(".ltx")
}

fn is_read(seen: &Seen) -> bool {
    matches!(seen.method.as_str(), "GET" | "HEAD") && is_object(seen)
}

fn is_head(seen: &Seen) -> bool {
    seen.method == "HEAD"
}

fn is_deletion(seen: &Seen) -> bool {
    seen.method == "DELETE" || seen.method == "POST" && seen.path.contains("delete")
}

fn is_of_history(seen: &Seen) -> bool {
    matches!(seen.method.as_str(), "PUT" | "POST") && is_object(seen) && !seen.path.contains("/0000/")
}

fn broken() -> Fault {
    s3_error(500, "InternalError")
}

fn denied() -> Fault {
    s3_error(403, "AccessDenied")
}

const KINDS: [Kind; 5] = [
    Kind { name: "reads", fails: is_read, answer: broken },
    Kind { name: "refused reads", fails: is_read, answer: denied },
    Kind { name: "deletions", fails: is_deletion, answer: broken },
    Kind { name: "history", fails: is_of_history, answer: broken },
    Kind { name: "refused history", fails: is_of_history, answer: denied },
];

#[test]
fn requests_that_fail_while_batches_are_stored_are_few_and_one_line() {
    let found: Vec<String> = std::thread::scope(|s| {
        let watched: Vec<_> = KINDS.iter().map(|kind| s.spawn(move || watch(kind))).collect();
        watched.into_iter().filter_map(|w| w.join().expect("no panic")).collect()
    });
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// A database that is replicated with short intervals, through a server that can fail.
struct World {
    _dir: tempfile::TempDir,
    _server: S3Server,
    app: Connection,
    proxy: FaultServer,
    is_out: Arc<AtomicBool>,
    process: Process,
}

impl World {
    fn start(fails: fn(&Seen) -> bool, answer: fn() -> Fault, out: bool) -> World {
        let dir = tempfile::tempdir().expect("a folder");
        let db = dir.path().join("app.db");
        let app = sqlite::create(&db, 4096);
        let server = S3Server::start();
        let proxy = FaultServer::start(Some(server.addr));
        let is_out = Arc::new(AtomicBool::new(out));
        let flag = Arc::clone(&is_out);
        proxy.always(move |seen| (flag.load(Ordering::Relaxed) && fails(seen)).then(answer));
        let process = replicate(dir.path(), &db, &proxy);
        World { _dir: dir, _server: server, app, proxy, is_out, process }
    }

    fn set_out(&self, out: bool) {
        self.is_out.store(out, Ordering::Relaxed);
    }

    /// Commits from time to time, until `ends`.
    fn write_until(&self, what: &str, mut ends: impl FnMut() -> bool) {
        let begun = Instant::now();
        while !ends() {
            assert!(begun.elapsed() < Duration::from_secs(90), "{what} does not come");
            self.app.execute("INSERT INTO items(name, body) VALUES ('x', 'y')", []).expect("a row");
            std::thread::sleep(COMMITS);
        }
    }

    fn lines(&self) -> Vec<String> {
        let output = self.process.output();
        let is_bad = |l: &&str| l.contains("level=warn") || l.contains("level=error");
        output.lines().filter(is_bad).map(str::to_owned).collect()
    }
}

fn replicate(dir: &Path, db: &Path, proxy: &FaultServer) -> Process {
    let config = dir.join("lsfast.yml");
    let text = format!(
        "levels: [{{interval: 2s}}, {{interval: 6s}}]\nl0-retention: 4s\nl0-retention-check-interval: 1s\n\
         snapshot: {{interval: 10s, retention: 12s}}\ndbs: [{{path: '{}', replica: {{url: '{}', sync-interval: 100ms}}}}]\n",
        db.display(),
        s3::url(proxy.addr, "db")
    );
    std::fs::write(&config, text).expect("a config file");
    let mut command = lsfast::command(["replicate", "--config"]);
    command.arg(&config);
    command.envs([("AWS_ACCESS_KEY_ID", s3::ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", s3::SECRET_KEY)]);
    Process::start("lsfast replicate", command)
}

fn watch(kind: &Kind) -> Option<String> {
    let world = World::start(kind.fails, kind.answer, false);
    let asked = |from: usize| -> Vec<String> {
        let seen = world.proxy.seen();
        let failing = seen[from..].iter().filter(|s| (kind.fails)(s));
        failing.map(|s| format!("{} {}", s.method, s.path)).collect()
    };
    // All levels, deletions and checks have had their turn.
    world.write_until("a deletion", || world.proxy.seen().iter().any(is_deletion));
    world.write_until("a second level", || world.proxy.seen().iter().any(|s| s.path.contains("/0002/")));
    let (from, lines) = (world.proxy.seen().len(), world.lines().len());
    world.set_out(true);
    world.write_until("the outage", || !asked(from).is_empty());
    let begun = Instant::now();
    world.write_until("the end", || begun.elapsed() >= WATCHED);
    let (asked, lines) = (asked(from), world.lines().split_off(lines));
    println!("{}: {} requests, {} lines", kind.name, asked.len(), lines.len());
    let stop = Instant::now();
    let World { process, .. } = world;
    process.stop();
    (asked.len() > REQUESTS || lines.len() != 1 || stop.elapsed() > Duration::from_secs(15)).then(|| {
        let took = stop.elapsed();
        format!("{}: {} requests: {asked:#?}\n{lines:#?}, stopped in {took:?}", kind.name, asked.len())
    })
}

/// A gateway without its store.
fn nowhere() -> Fault {
    let body = "<html><body>404 page not found</body></html>".to_owned();
    Fault::Answer { status: 404, headers: vec![("content-type", "text/html".to_owned())], body }
}

fn nothing() -> Fault {
    Fault::Answer { status: 204, headers: Vec::new(), body: String::new() }
}

fn empty() -> Fault {
    Fault::Answer { status: 200, headers: Vec::new(), body: String::new() }
}

fn is_list(seen: &Seen) -> bool {
    seen.path.contains("list-type")
}

#[test]
fn a_gateway_that_answers_404_to_all_reads_is_waited_out() {
    let mut world = World::start(|s| is_read(s) || is_list(s), nowhere, false);
    world.write_until("a second level", || world.proxy.seen().iter().any(|s| s.path.contains("/0002/")));
    let from = world.proxy.seen().len();
    world.set_out(true);
    world.write_until("a listing", || world.proxy.seen()[from..].iter().any(is_list));
    process::until("the end, or an outage", || {
        (!world.process.runs() || world.process.output().contains("the store is not working")).then_some(())
    });
    assert!(world.process.runs(), "{}", world.process.output());
    world.set_out(false);
    world.process.wait_for_line("the store works again");
    world.process.stop();
}

#[test]
fn a_listing_that_is_not_of_the_store_is_waited_out_at_the_start() {
    for answer in [nowhere, nothing, empty] {
        let mut world = World::start(is_list, answer, true);
        process::until("the end, or a second attempt", || {
            (!world.process.runs() || world.proxy.seen().len() > 1).then_some(())
        });
        assert!(world.process.runs(), "{}", world.process.output());
        world.set_out(false);
        world.process.wait_for_line("image stored");
        world.process.stop();
    }
}

/// What HEAD does not find, and GET reads, is not stored again.
#[test]
fn a_server_whose_head_finds_nothing_is_found_out() {
    let world = World::start(|s| is_head(s) && is_object(s), nowhere, false);
    world.write_until("a second level", || world.proxy.seen().iter().any(|s| s.path.contains("/0002/")));
    world.set_out(true);
    world.process.wait_for_line("image stored");
    let is_said = || world.process.output().contains("HEAD says that objects are missing which GET reads");
    let is_lost = || world.process.output().contains("the replica is not what was stored there");
    world.write_until("a HEAD", || is_said() || is_lost());
    let from = world.proxy.seen().len();
    world.write_until("a further check", || {
        is_lost() || world.proxy.seen()[from..].iter().filter(|s| is_read(s)).count() > 3
    });
    assert!(!is_lost(), "{}", world.process.output());
    assert_eq!(world.lines().len(), 1, "{:#?}", world.lines());
    world.process.stop();
}
