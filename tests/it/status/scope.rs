//! What each listener shows, and to how many at once.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::status::printed;
use crate::support::place::Place;
use crate::support::process::{Process, until};
use crate::support::{canned, lsfast, sqlite};

/// What a GET of `path` answers.
fn get(socket: &std::path::Path, path: &str) -> String {
    let mut stream = UnixStream::connect(socket).expect("a listener");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("a request");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    text
}

/// A user who could open the folder of one tenant learnt paths and URLs of all others, and by some
/// open connections kept them all from answers.
#[test]
fn the_socket_of_a_database_shows_it_alone_and_occupying_it_disturbs_no_other() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let place = Place::Dir(dir.path().to_path_buf());
    let mut text = String::from("socket:\n  enabled: true\n  path: DIR/all.sock\ndbs:\n");
    for name in ["one", "two"] {
        drop(sqlite::create(&dir.path().join(format!("{name}.db")), 4096));
        text += &format!("  - path: DIR/{name}.db\n    replica:\n      path: DIR/replica-{name}\n");
    }
    let config = dir.path().join("lsfast.yml");
    std::fs::write(&config, text.replace("DIR", &dir.path().display().to_string())).expect("a file");
    let mut command = lsfast::command(["replicate", "--config"]);
    command.arg(&config);
    let process = Process::start("lsfast replicate", command);
    for name in ["one", "two"] {
        place.wait_for_txid(&format!("replica-{name}"), 0, 1);
    }
    let one = dir.path().join(".one.db-lsfast/socket");
    for path in ["/status", "/metrics", "/"] {
        let text = get(&one, path);
        assert!(text.contains("one.db") && !text.contains("two.db"), "{path}: {text}");
        let text = get(&dir.path().join("all.sock"), path);
        assert!(text.contains("one.db") && text.contains("two.db"), "{path}: {text}");
    }
    // More connections than it has places for, which ask for nothing: new ones are answered all the
    // same.
    let held: Vec<_> = (0..20).map(|_| UnixStream::connect(&one).expect("a place")).collect();
    for _ in 0..3 {
        assert!(get(&one, "/status").contains("one.db"));
        let two = dir.path().join("two.db");
        let text = printed(["status".as_ref(), "--json".as_ref(), two.as_os_str()]);
        assert!(text.contains("two.db") && !text.contains("one.db"), "{text}");
        assert!(get(&dir.path().join("all.sock"), "/status").contains("one.db"));
    }
    drop(held);
    process.stop();
}

/// A web page in a browser on this host, under a name that its owner has let lead to this host,
/// could read paths, URLs and errors.
#[test]
fn a_local_address_answers_only_requests_for_this_host() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    drop(sqlite::create(&dir.path().join("app.db"), 4096));
    let addr = canned::nobody();
    let config = dir.path().join("lsfast.yml");
    let text = "addr: ADDR\ndbs:\n  - path: DIR/app.db\n    replica:\n      path: DIR/replica\n";
    let text = text.replace("DIR", &dir.path().display().to_string()).replace("ADDR", &addr.to_string());
    std::fs::write(&config, text).expect("a file");
    let mut command = lsfast::command(["replicate", "--config"]);
    command.arg(&config);
    let process = Process::start("lsfast replicate", command);
    let ask = |head: &str| {
        let mut stream = until("a listener", || TcpStream::connect(addr).ok());
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
        write!(stream, "{head}\r\nConnection: close\r\n\r\n").expect("a request");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        text
    };
    let own = until("the status", || {
        Some(ask("GET /status HTTP/1.1\r\nHost: localhost")).filter(|t| t.contains("app.db"))
    });
    assert!(own.starts_with("HTTP/1.1 200 "), "{own}");
    for head in [
        "GET /status HTTP/1.1\r\nHost: evil.example:9090",
        "GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: evil.example",
        "GET http://evil.example/ HTTP/1.1\r\nHost: localhost",
        "GET /readyz HTTP/1.1\r\nHost: 127.0.0.1.evil.example",
    ] {
        let text = ask(head);
        assert!(text.starts_with("HTTP/1.1 421 ") && !text.contains("app.db"), "{head}: {text}");
    }
    for head in [format!("GET /status HTTP/1.1\r\nHost: {addr}"), "GET /status HTTP/1.0".to_owned()] {
        let text = ask(&head);
        assert!(text.contains("app.db"), "{head}: {text}");
    }
    process.stop();
}
