//! `lsfast doctor`, run as a user runs it, against good and bad stores, directories and databases.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::support::canned::nobody;
use crate::support::fault::{Fault, FaultServer, http_date, s3_error};
use crate::support::lsfast;
use crate::support::s3::{ACCESS_KEY, S3Server, SECRET_KEY, url};
use crate::support::standin::StandIn;
use crate::support::tls::TlsServer;
use crate::support::weed::{
    Weed, {self},
};

/// What doctor found: `[check, verdict, detail and advice]` each, and whether it was content.
struct Found {
    ok: bool,
    all: Vec<[String; 3]>,
}

impl Found {
    fn of(&self, check: &str) -> (&str, &str) {
        let one = self.all.iter().find(|f| f[0] == check);
        let one = one.unwrap_or_else(|| panic!("no {check} in {:#?}", self.all));
        (&one[1], &one[2])
    }

    /// The only check that failed, with what it said.
    fn failed(&self) -> (&str, &str) {
        let failed: Vec<_> = self.all.iter().filter(|f| f[1] == "fail").collect();
        assert_eq!(failed.len(), 1, "{:#?}", self.all);
        (&failed[0][0], &failed[0][2])
    }
}

fn run(mut command: Command) -> Found {
    command.arg("--json");
    let output = lsfast::run(command);
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let said = lsfast::stderr(&output);
    for secret in [SECRET_KEY, weed::SECRET_KEY, "another-secret"] {
        assert!(!text.contains(secret) && !said.contains(secret), "{text}{said}");
    }
    let json: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}{said}"));
    let ok = json["ok"].as_bool().unwrap();
    assert_eq!(output.status.code(), Some(if ok { 0 } else { 1 }));
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let all = json["findings"].as_array().unwrap().iter().map(|f| {
        [text(&f["check"]), text(&f["verdict"]), format!("{} -> {}", text(&f["detail"]), text(&f["advice"]))]
    });
    Found { ok, all: all.collect() }
}

fn doctor(what: &[&str]) -> Command {
    let mut command = lsfast::command(["doctor"]);
    command.args(what).env("HOME", "/nonexistent");
    command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
    command
}

fn look(what: &[&str]) -> Found {
    run(doctor(what))
}

#[test]
fn a_good_bucket_and_nothing_stays() {
    let server = S3Server::start();
    let found = look(&[&server.url("db")]);
    assert!(found.ok);
    for check in
        ["endpoint", "dns", "tcp", "clock", "credentials", "signature", "bucket", "list", "put", "checksum"]
    {
        assert_eq!(found.of(check).0, "ok", "{check}: {}", found.of(check).1);
    }
    for check in ["get", "head", "copy", "multipart", "delete"] {
        assert_eq!(found.of(check).0, "ok", "{check}: {}", found.of(check).1);
    }
    let keys = found.of("credentials").1;
    assert!(keys.contains("access key AKIA...ST from the environment (AWS_ACCESS_KEY_ID)"), "{keys}");
    assert_eq!(
        server.keys().iter().filter(|k| k.contains("lsfast-scratch")).count(),
        0,
        "{:?}",
        server.keys()
    );
}

#[test]
fn a_good_bucket_of_another_server() {
    let server = Weed::start();
    let place = format!("s3://{}/db?endpoint={}", weed::BUCKET, server.endpoint());
    let mut command = doctor(&[&place]);
    command.env("AWS_ACCESS_KEY_ID", weed::ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", weed::SECRET_KEY);
    let found = run(command);
    assert!(found.ok, "{:#?}", found.all);
    assert_eq!(found.of("create-only").0, "ok", "{:#?}", found.all);
}

#[test]
fn the_text_names_what_to_do_and_ends_with_a_count() {
    let url = format!("s3://bucket/db?endpoint=http://{}", nobody());
    let output = lsfast::run(doctor(&[&url]));
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text.starts_with("s3://bucket/db\n  ok    endpoint        http://127.0.0.1:"), "{text}");
    assert!(text.contains("\n  fail  tcp             nothing answers at 127.0.0.1:"), "{text}");
    assert!(
        text.contains("-> check the port in the endpoint, that the server runs, and the firewall\n"),
        "{text}"
    );
    assert!(text.contains("\n  skip  put             the server cannot be reached\n"), "{text}");
    assert!(text.ends_with(" failed, 11 not tried\n"), "{text}");
}

#[test]
fn wrong_keys_and_none() {
    let server = S3Server::start();
    let mut command = doctor(&[&server.url("db")]);
    command.env("AWS_SECRET_ACCESS_KEY", "another-secret");
    let found = run(command);
    let (check, said) = found.failed();
    assert_eq!(check, "signature");
    assert!(said.contains("the secret key does not belong to the access key AKIA...ST"), "{said}");
    assert_eq!(found.of("delete").0, "skip");
    let mut command = doctor(&[&server.url("db")]);
    command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    let found = run(command);
    let (check, said) = found.failed();
    assert_eq!((check, found.of("tcp").0), ("credentials", "ok"));
    assert!(said.contains("no credentials: set AWS_ACCESS_KEY_ID") && said.contains("looked at"), "{said}");
}

#[test]
fn a_missing_bucket_and_one_that_is_named_the_other_way() {
    let server = S3Server::start();
    let found = look(&[&format!("s3://nothere/db?endpoint=http://{}", server.addr)]);
    let (check, said) = found.failed();
    assert_eq!(check, "bucket");
    assert!(said.contains("bucket nothere does not exist at http://127.0.0.1"), "{said}");
    // A server that serves buckets by name only.
    let listing = "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>";
    let by_name = StandIn::start(move |asked| match asked.header("host").starts_with("bucket.") {
        true => (200, listing.into()),
        false => (404, "<Error><Code>NoSuchBucket</Code><Message>no</Message></Error>".into()),
    });
    let port = by_name.addr.port();
    let place = format!("s3://bucket/db?endpoint=http://s3.example.com:{port}");
    let mut command = doctor(&[&place, "--resolve", "s3.example.com=127.0.0.1"]);
    command.args(["--resolve", "*.s3.example.com=127.0.0.1"]);
    let found = run(command);
    let (check, said) = found.failed();
    assert_eq!(check, "bucket");
    assert!(said.contains("names buckets the other way: write force-path-style=false"), "{said}");
}

#[test]
fn a_wrong_region() {
    let server = FaultServer::start(None);
    // The first is the look at the clock.
    server.push("GET", Fault::Answer { status: 403, headers: Vec::new(), body: String::new() });
    let body =
        "<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-1</Region></Error>".to_owned();
    server.push("GET", Fault::Answer { status: 400, headers: Vec::new(), body });
    let found = look(&[&format!("{}&region=us-east-1&force-path-style=true", url(server.addr, "db"))]);
    let (check, said) = found.failed();
    assert_eq!(check, "bucket");
    assert!(said.contains("bucket bucket is in region eu-west-1, not in us-east-1"), "{said}");
}

#[test]
fn certificates() {
    let s3 = S3Server::start();
    let tls = TlsServer::start(s3.addr, &["s3.example.com"], &rustls::version::TLS13);
    let at = |host: &str| format!("s3://bucket/db?endpoint=https://{host}:{}", tls.addr.port());
    let named = |place: String, ca: bool| {
        let mut command = doctor(&[&place, "--resolve", "s3.example.com=127.0.0.1"]);
        if ca {
            command.arg("--ca-cert").arg(tls.ca());
        }
        run(command)
    };
    let good = named(at("s3.example.com"), true);
    assert!(good.ok, "{:#?}", good.all);
    let (verdict, said) = good.of("tls");
    assert_eq!(verdict, "ok");
    assert!(said.starts_with("TLS 1.3, rcgen self signed cert by rcgen self signed cert, until "), "{said}");
    let unknown = named(at("s3.example.com"), false);
    let (check, said) = unknown.failed();
    assert_eq!(check, "tls");
    assert!(
        said.contains("signed by an authority that this machine does not trust")
            && said.contains("--ca-cert"),
        "{said}"
    );
    assert!(said.contains("; it shows rcgen self signed cert by"), "{said}");
    let other = named(at("127.0.0.1"), true);
    let (check, said) = other.failed();
    assert_eq!(check, "tls");
    assert!(said.contains("is for s3.example.com, not for 127.0.0.1"), "{said}");
    let open = named(format!("{}&skip-verify=true", at("127.0.0.1")), false);
    assert!(open.ok && open.of("tls").0 == "warn", "{:#?}", open.all);
}

#[test]
fn a_clock_that_is_wrong() {
    let s3 = S3Server::start();
    let server = FaultServer::start(Some(s3.addr));
    let ahead = http_date(SystemTime::now() + Duration::from_secs(7200));
    server.push("GET", Fault::Answer { status: 403, headers: vec![("date", ahead)], body: String::new() });
    let found = look(&[&url(server.addr, "db")]);
    let (verdict, said) = found.of("clock");
    assert_eq!(verdict, "warn");
    assert!(said.contains("s behind 127.0.0.1") && said.contains("set this machine's clock"), "{said}");
}

/// A store that takes the condition and replaces the object all the same.
#[test]
fn a_store_that_ignores_if_none_match() {
    let s3 = S3Server::start();
    let server = FaultServer::start(Some(s3.addr));
    // The scratch object, and the first of the probe.
    server.push("PUT", Fault::CloseAfter);
    server.push("PUT", Fault::CloseAfter);
    server.push("PUT", Fault::Answer { status: 200, headers: Vec::new(), body: String::new() });
    let found = look(&[&url(server.addr, "db")]);
    assert_eq!(server.faults_left(), 0);
    let (verdict, said) = found.of("create-only");
    assert_eq!(verdict, "warn", "{:#?}", found.all);
    assert!(said.contains("let only one lsfast write to a path"), "{said}");
    assert!(found.ok);
}

/// Each right is proven by itself, and what was written is removed.
#[test]
fn rights_that_are_missing() {
    let s3 = S3Server::start();
    let server = FaultServer::start(Some(s3.addr));
    server.push("GET", Fault::Answer { status: 403, headers: Vec::new(), body: String::new() });
    server.push("GET", s3_error(403, "AccessDenied"));
    let found = look(&[&url(server.addr, "db")]);
    let (check, said) = found.failed();
    assert_eq!((check, found.of("put").0, found.of("delete").0), ("list", "ok", "ok"));
    assert!(said.contains("allow s3:ListBucket on arn:aws:s3:::bucket"), "{said}");

    let server = FaultServer::start(Some(s3.addr));
    server.push("PUT", s3_error(403, "AccessDenied"));
    let found = look(&[&url(server.addr, "db")]);
    let (check, said) = found.failed();
    assert_eq!((check, found.of("list").0, found.of("copy").0), ("put", "ok", "skip"));
    assert!(said.contains("allow s3:PutObject on arn:aws:s3:::bucket/db/*"), "{said}");
    assert!(s3.keys().is_empty(), "{:?}", s3.keys());
}

#[test]
fn a_directory_that_cannot_be_written() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("replica");
    std::fs::create_dir(&place).unwrap();
    let url = format!("file://{}", place.display());
    assert!(look(&[&url]).ok);
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::set_permissions(&place, std::fs::Permissions::from_mode(0o555)).unwrap();
    // Permissions don't stop root: the program runs as somebody else, from a place that he
    // can reach.
    let mut command = doctor(&[&url]);
    let is_root =
        std::fs::metadata("/proc/self").map(|m| std::os::unix::fs::MetadataExt::uid(&m)).unwrap() == 0;
    if is_root {
        let program = dir.path().join("lsfast");
        std::fs::copy(command.get_program(), &program).unwrap();
        command = Command::new(&program);
        command.env_clear().args(["doctor", &url]).current_dir("/").uid(65534);
    }
    let found = run(command);
    let (check, said) = found.failed();
    assert_eq!(check, "write");
    assert!(
        said.contains("Permission denied") && said.contains("write there, or run lsfast as its owner"),
        "{said}"
    );
}

#[test]
fn databases() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.db");
    let name = |path: &Path| path.to_str().unwrap().to_owned();
    let conn = rusqlite::Connection::open(&path).unwrap();
    conn.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(a); INSERT INTO t VALUES (1)").unwrap();
    let found = look(&[&name(&path)]);
    assert!(found.ok, "{:#?}", found.all);
    assert_eq!(found.of("wal mode").0, "ok");
    assert!(found.of("other users").1.contains(&format!("({})", std::process::id())), "{:#?}", found.all);
    drop(conn);
    let conn = rusqlite::Connection::open(&path).unwrap();
    conn.execute_batch("PRAGMA locking_mode=EXCLUSIVE; INSERT INTO t VALUES (2)").unwrap();
    let found = look(&[&name(&path)]);
    let (check, said) = found.failed();
    assert_eq!(check, "other users");
    assert!(
        said.contains("holds the database for itself alone") && said.contains("locking_mode=NORMAL"),
        "{said}"
    );
    drop(conn);
}
