//! What a store gets in the first minute of an outage: five requests at most, and one line in the
//! log, whatever was under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::fault::{Fault, FaultServer, Seen, s3_error};
use crate::support::process::{self, Process};
use crate::support::s3::{self, S3Server};
use crate::support::{lsfast, sqlite};

/// When the fifth of five attempts has been made, and whatever follows it at once. The sixth is
/// later than a minute, which the unit tests of the waits prove.
const WATCHED: Duration = Duration::from_secs(26);

/// Most requests of one database in that time.
const REQUESTS: usize = 5;

/// One kind of outage.
struct Kind {
    name: &'static str,
    /// Bytes in the database, which decide whether it is stored in parts.
    bytes: usize,
    /// Bytes that are written when the image is stored; the outage begins with them. `None`: it is
    /// there from the start.
    later: Option<usize>,
    fails: fn(&Seen) -> bool,
    answer: fn() -> Fault,
}

fn is_part(seen: &Seen) -> bool {
    seen.path.contains("partNumber=")
}

fn is_write(seen: &Seen) -> bool {
    matches!(seen.method.as_str(), "PUT" | "POST")
}

fn broken() -> Fault {
    s3_error(500, "InternalError")
}

/// A 200 that has stored nothing.
fn lie() -> Fault {
    Fault::Answer { status: 200, headers: Vec::new(), body: String::new() }
}

/// Bytes that are stored in one PUT, and bytes that are stored in parts.
const SMALL: usize = 100_000;
const LARGE: usize = 17 << 20;

const KINDS: [Kind; 12] = [
    Kind { name: "list", bytes: SMALL, later: None, fails: |s| s.path.contains("list-type"), answer: broken },
    Kind { name: "image", bytes: SMALL, later: None, fails: |s| s.method == "PUT", answer: broken },
    Kind { name: "create", bytes: LARGE, later: None, fails: |s| s.path.contains("uploads"), answer: broken },
    Kind { name: "parts", bytes: LARGE, later: None, fails: is_part, answer: broken },
    Kind {
        name: "complete",
        bytes: LARGE,
        later: None,
        fails: |s| s.method == "POST" && s.path.contains("uploadId="),
        answer: broken,
    },
    Kind {
        name: "refused parts",
        bytes: LARGE,
        later: None,
        fails: is_part,
        answer: || s3_error(403, "AccessDenied"),
    },
    Kind { name: "false image", bytes: SMALL, later: None, fails: |s| s.method == "PUT", answer: lie },
    Kind {
        name: "taken, and not there",
        bytes: SMALL,
        later: None,
        fails: |s| s.method == "PUT",
        answer: || s3_error(412, "PreconditionFailed"),
    },
    Kind { name: "batch", bytes: SMALL, later: Some(1000), fails: is_write, answer: broken },
    Kind { name: "all", bytes: SMALL, later: Some(1000), fails: |_| true, answer: broken },
    Kind { name: "large batch", bytes: SMALL, later: Some(LARGE), fails: is_write, answer: broken },
    Kind { name: "parts of a batch", bytes: SMALL, later: Some(LARGE), fails: is_part, answer: broken },
];

#[test]
fn an_outage_costs_five_requests_and_one_line_in_its_first_minute() {
    let found: Vec<String> = std::thread::scope(|s| {
        let watched: Vec<_> = KINDS.iter().map(|kind| s.spawn(move || watch(kind))).collect();
        watched.into_iter().filter_map(|w| w.join().expect("no panic")).collect()
    });
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Starts lsfast, makes one kind of outage, and says what is wrong with its requests and log lines.
fn watch(kind: &Kind) -> Option<String> {
    let dir = tempfile::tempdir().expect("a folder");
    let db = dir.path().join("app.db");
    let app = sqlite::create(&db, 4096);
    let write = |bytes: usize| {
        app.execute("INSERT INTO items(name, body) VALUES ('x', randomblob(?1))", [bytes as i64])
            .expect("a row");
    };
    write(kind.bytes);
    let server = S3Server::start();
    let proxy = FaultServer::start(Some(server.addr));
    let begun = Arc::new(AtomicBool::new(kind.later.is_none()));
    let (fails, answer, is_out) = (kind.fails, kind.answer, Arc::clone(&begun));
    proxy.always(move |seen| (is_out.load(Ordering::Relaxed) && fails(seen)).then(answer));
    let config = dir.path().join("lsfast.yml");
    let text = format!(
        "levels: [{{interval: 10s}}]\ndbs: [{{path: '{}', replica: {{url: '{}', sync-interval: 100ms}}}}]\n",
        db.display(),
        s3::url(proxy.addr, "db")
    );
    std::fs::write(&config, text).expect("a config file");
    let mut command = lsfast::command(["replicate", "--config"]);
    command.arg(&config);
    command.envs([("AWS_ACCESS_KEY_ID", s3::ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", s3::SECRET_KEY)]);
    let mut process = Process::start("lsfast replicate", command);
    let mut from = 0;
    if let Some(bytes) = kind.later {
        process.wait_for_line("image stored");
        let stored = |name: &str| proxy.seen().iter().any(|s| is_write(s) && s.path.contains(name));
        write(1000);
        process::until("a merge", || stored("/0001/").then_some(()));
        // The full image and the proof of create-only PUTs may follow it.
        process::until("a quiet store", || {
            let before = proxy.seen().len();
            std::thread::sleep(Duration::from_millis(500));
            (proxy.seen().len() == before).then_some(())
        });
        // The next merge, of this batch, is due in the outage.
        write(1000);
        process::until("a batch", || stored("-0000000000000003.ltx").then_some(()));
        from = proxy.seen().len();
        begun.store(true, Ordering::Relaxed);
        write(bytes);
    }
    from += process::until("the outage", || proxy.seen()[from..].iter().position(kind.fails));
    std::thread::sleep(WATCHED);
    let asked: Vec<String> =
        proxy.seen()[from..].iter().map(|s| format!("{} {}", s.method, s.path)).collect();
    process.signal("KILL");
    process.wait();
    let lines: Vec<String> = process
        .output()
        .lines()
        .filter(|l| l.contains("level=warn") || l.contains("level=error"))
        .map(str::to_owned)
        .collect();
    println!("{}: {} requests, {} lines", kind.name, asked.len(), lines.len());
    (asked.len() > REQUESTS || lines.len() != 1)
        .then(|| format!("{}: {} requests: {asked:#?}\n{lines:#?}", kind.name, asked.len()))
}
