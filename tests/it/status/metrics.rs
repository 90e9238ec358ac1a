//! What is served at `addr` and at the sockets, the heartbeat, and what is never in any of it.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::Value;

use super::{in_sync, printed};
use crate::support::fault::FaultServer;
use crate::support::process::{Process, until};
use crate::support::s3::{
    S3Server, SECRET_KEY, {self},
};
use crate::support::{canned, http, lsfast, sqlite};

/// A value for each name with its labels, as Prometheus reads the format; panics at what it would
/// refuse.
pub fn parse(text: &str) -> BTreeMap<String, f64> {
    let (mut types, mut values) = (BTreeMap::new(), BTreeMap::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a type");
            assert!(["gauge", "counter", "histogram"].contains(&kind), "{line}");
            assert!(types.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} twice");
            continue;
        }
        if line.starts_with("# HELP ") {
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line:?}"));
        let name = series.split('{').next().expect("a name");
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|s| name.strip_suffix(s)).unwrap_or(name);
        assert!(types.contains_key(name) || types.get(family).is_some_and(|t| t == "histogram"), "{line:?}");
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{line:?}");
        let labels = series.strip_prefix(name).expect("labels");
        assert!(labels.is_empty() || labels.starts_with('{') && labels.ends_with("\"}"), "{line:?}");
        let value = if value == "+Inf" { f64::INFINITY } else { value.parse().expect("a number") };
        assert!(values.insert(series.to_owned(), value).is_none(), "{series} twice");
    }
    assert!(text.ends_with('\n') && !values.is_empty());
    values
}

pub fn get(to: SocketAddr, path: &str) -> (u16, String) {
    let (status, body) = http::request(to, "GET", path, b"").expect("an answer");
    (status, String::from_utf8(body).expect("UTF-8"))
}

pub fn start(config: &Path, env: &[(String, String)]) -> Process {
    let mut command = lsfast::command(["replicate", "--log-level", "trace", "--config"]);
    command.arg(config).envs(env.iter().cloned());
    Process::start("lsfast replicate", command)
}

const TOKEN: &str = "tok3n-in-the-path";

#[test]
fn two_databases_a_page_metrics_and_a_heartbeat_without_a_secret() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let dir_path = dir.path().display();
    let server = S3Server::start();
    let heart = FaultServer::start(None);
    let apps = ["one", "two"].map(|n| sqlite::create(&dir.path().join(format!("{n}.db")), 4096));
    let (addr, url) = (canned::nobody(), s3::url(server.addr, "two"));
    let config = dir.path().join("lsfast.yml");
    let text = format!(
        "addr: {addr}\n\
         heartbeat-url: http://{}/ping/{TOKEN}\n\
         heartbeat-interval: 1m\n\
         socket:\n  enabled: true\n  path: {dir_path}/all.sock\n  permissions: 0640\n\
         dbs:\n\
         - path: {dir_path}/one.db\n  replica:\n    path: {dir_path}/replica\n\
         - path: {dir_path}/two.db\n  replica:\n    url: {url}\n    access-key-id: {}\n    secret-access-key: {SECRET_KEY}\n",
        heart.addr,
        s3::ACCESS_KEY,
    );
    std::fs::write(&config, text).expect("a config file");
    let process = start(&config, &[]);
    process.wait_for_line("serving metrics");
    let all = || -> Value {
        let text = printed(["status", "--json", "--config", config.to_str().expect("UTF-8")]);
        serde_json::from_str(&text).expect("JSON")
    };
    let said = until("both to be stored", || {
        Some(all())
            .filter(|s| s["databases"].as_array().expect("two").iter().all(|d| in_sync(&d["replicas"][0])))
    });
    assert_eq!(said["databases"].as_array().map(Vec::len), Some(2));
    apps[1].execute("INSERT INTO log VALUES(1, 'x')", []).expect("a row");
    let metric = |name: &str, db: &str| {
        let values = parse(&get(addr, "/metrics").1);
        let label = format!("{name}{{db=\"{dir_path}/{db}.db\"");
        values
            .iter()
            .find(|(k, _)| k.starts_with(&label))
            .unwrap_or_else(|| panic!("{label} in {values:?}"))
            .1
            .to_owned()
    };
    until("the row to be stored", || {
        (metric("lsfast_commits_total", "two") == 1.0 && metric("lsfast_replica_lag_commits", "two") == 0.0)
            .then_some(())
    });
    assert_eq!(metric("lsfast_commits_total", "one"), 0.0);
    let stored = server.keys().iter().filter(|k| k.starts_with("two/0000/")).count();
    assert_eq!(metric("lsfast_replica_txid", "two"), stored as f64);
    let values = parse(&get(addr, "/metrics").1);
    assert_eq!(values["lsfast_sync_duration_seconds_count"], 1.0, "an image at the start is no commit");
    assert_eq!(metric("lsfast_replica_failing", "two"), 0.0);
    let puts = "lsfast_store_requests_total{operation=\"put\",code=\"200\"}";
    assert!(values[puts] >= stored as f64, "{values:?}");
    assert!(values["lsfast_store_sent_bytes_total"] > 0.0 && values["process_resident_memory_bytes"] > 1e6);
    for (db, replica) in [("one", 1), ("two", 1)] {
        let own = format!("db=\"{dir_path}/{db}.db\"");
        let series = values.keys().filter(|k| k.contains(&own)).count();
        assert!(series <= 20 * replica, "{series} series: {values:?}");
    }
    let size = std::fs::metadata(dir.path().join("one.db")).expect("the database").len();
    assert_eq!(metric("lsfast_db_size_bytes", "one"), size as f64);

    let (status, page) = get(addr, "/");
    assert!(status == 200 && page.contains("one.db") && page.contains("two.db"), "{page}");
    assert_eq!(get(addr, "/nothing").0, 404);
    assert_eq!(http::request(addr, "POST", "/status", b"{}").expect("an answer").0, 405);
    assert_eq!(get(addr, "/healthz"), (200, "ok\n".to_owned()));
    assert_eq!(get(addr, "/readyz?behind=1m"), (200, "ok\n".to_owned()));
    assert_eq!(get(addr, "/readyz?behind=soon").0, 400);
    let socket = dir.path().join("all.sock");
    let by_socket = printed(["status", "--json", "--socket", socket.to_str().expect("UTF-8")]);
    let by_socket: Value = serde_json::from_str(&by_socket).expect("JSON");
    assert_eq!(by_socket["databases"].as_array().map(Vec::len), Some(2));

    let ping = until("a heartbeat", || heart.seen().into_iter().next());
    assert_eq!((ping.method.as_str(), ping.path.as_str()), ("GET", format!("/ping/{TOKEN}").as_str()));
    let shown =
        [page, get(addr, "/metrics").1, get(addr, "/status").1, all().to_string(), by_socket.to_string()];
    let log = process.stop();
    assert!(log.contains("level=trace") || log.contains("level=debug"), "{log}");
    for text in shown.iter().chain([&log]) {
        for secret in [SECRET_KEY, TOKEN] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
    assert!(!socket.exists());
    assert_eq!(heart.seen().len(), 1, "one in each interval");
}

/// A replica whose store was never reached is not ready, and the answer says why.
#[test]
fn what_is_not_replicated_is_not_ready() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let _app = sqlite::create(&dir.path().join("app.db"), 4096);
    let (addr, store) = (canned::nobody(), canned::nobody());
    let config = dir.path().join("lsfast.yml");
    let (path, keys) =
        (dir.path().display(), format!("access-key-id: x\n    secret-access-key: {SECRET_KEY}"));
    let url = s3::url(store, "db");
    let text = format!("addr: {addr}\ndbs:\n- path: {path}/app.db\n  replica:\n    url: {url}\n    {keys}\n");
    std::fs::write(&config, text).expect("a config file");
    let mut process = start(&config, &[]);
    process.wait_for_line("serving metrics");
    let body = until("a reason", || {
        let (status, body) = get(addr, "/readyz");
        (status == 503 && body.contains("nothing listens")).then_some(body)
    });
    assert!(body.contains("app.db -> s3://bucket/db") && !body.contains(SECRET_KEY), "{body}");
    assert_eq!(get(addr, "/healthz").0, 200);
    process.signal("KILL");
    process.wait();
}

#[test]
fn a_heartbeat_that_fails_is_said_once_and_none_comes_while_a_store_is_away() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (path, heart) = (dir.path().display(), FaultServer::start(None));
    let _app = sqlite::create(&dir.path().join("app.db"), 4096);
    let config = dir.path().join("lsfast.yml");
    let write = |heart: SocketAddr, replica: &str| {
        let text = format!(
            "heartbeat-url: http://{heart}/{TOKEN}\ndbs:\n- path: {path}/app.db\n  replicas:\n  - path: {path}/replica\n{replica}"
        );
        std::fs::write(&config, text).expect("a config file");
    };
    write(canned::nobody(), "");
    let process = start(&config, &[]);
    let line = process.wait_for_line("the heartbeat does not get through");
    assert!(!process.stop().contains(TOKEN) && line.contains("level=warn"), "{line}");

    write(
        heart.addr,
        &format!(
            "  - url: {}\n    access-key-id: a\n    secret-access-key: b\n",
            s3::url(canned::nobody(), "x")
        ),
    );
    let process = start(&config, &[]);
    process.wait_for_line("the store is not working");
    // Each look ends with one of the two, and nothing but an answer of that store changes
    // what it sees.
    process.wait_for_line("the heartbeat is held back");
    assert!(heart.seen().is_empty());
    let log = process.output();
    drop(process);
    assert!(!log.contains("the heartbeat does not get through") && heart.seen().is_empty(), "{log}");
}

#[test]
fn one_who_does_not_ask_well_hurts_nobody() {
    let case = super::Case::new();
    let process = case.start();
    let socket = case.home().join("socket");
    // More than are served at once: they say nothing, and are dropped after their time.
    let silent: Vec<UnixStream> =
        (0..8).map(|_| UnixStream::connect(&socket).expect("a connection")).collect();
    let mut rude = UnixStream::connect(&socket).expect("a connection");
    let _ = rude.write_all(&vec![b'x'; 100_000]);
    let mut answer = Vec::new();
    let _ = rude.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    case.synced();
    drop(silent);
    process.stop();
}

#[test]
fn a_disabled_socket_and_a_taken_address_keep_nothing_from_being_replicated() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().display();
    let app = sqlite::create(&dir.path().join("app.db"), 4096);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = taken.local_addr().expect("an address");
    let config = dir.path().join("lsfast.yml");
    let text = format!(
        "addr: {addr}\nsocket:\n  enabled: false\ndbs:\n- path: {path}/app.db\n  replica:\n    path: {path}/replica\n"
    );
    std::fs::write(&config, text).expect("a config file");
    let process = start(&config, &[]);
    process.wait_for_line("cannot serve metrics at addr");
    process.wait_for_line("image stored");
    let db = dir.path().join("app.db");
    let said = super::status(&db);
    assert_eq!(said["databases"][0]["state"], "not answering", "{said}");
    assert!(!dir.path().join(".app.db-lsfast/socket").exists());
    drop(app);
    process.stop();
    assert_eq!(super::status(&db)["databases"][0]["state"], "not running");
}
