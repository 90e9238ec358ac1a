//! Stores that are reached by way of a proxy only.

use std::path::Path;

use crate::support::lsfast::{self, stderr};
use crate::support::proxy::{ForwardProxy, Speaks};
use crate::support::s3::{ACCESS_KEY, BUCKET, S3Server, SECRET_KEY};
use crate::support::sqlite::{self, Workload};
use crate::support::tls::TlsServer;

/// Stores a database, restores it and compares, with this in the environment.
fn round_trip(dir: &Path, url: &str, env: &[(&str, String)]) {
    let db = dir.join("app.db");
    let connection = sqlite::create(&db, 4096);
    Workload::new(1).run(&connection, 20);
    let keys = [("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY)];
    let run = |args: &[&str]| {
        let mut command = lsfast::command(args);
        command.envs(keys).envs(env.iter().cloned());
        let output = lsfast::run(command);
        assert!(output.status.success(), "{args:?}: {}", stderr(&output));
        assert!(!stderr(&output).contains("hush"), "I7: {}", stderr(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let path = |p: &Path| p.display().to_string();
    run(&["replicate", "--once", &path(&db), url]);
    let out = dir.join("out.db");
    run(&["restore", "-o", &path(&out), url]);
    assert_eq!(sqlite::dump_hash(&out), sqlite::dump_hash(&db));
    let told = run(&["doctor", url]);
    assert!(
        told.contains("proxy") && told.to_uppercase().contains("_PROXY)") && !told.contains("hush"),
        "{told}"
    );
    let told = run(&["explain", url]);
    assert!(told.contains("proxy: ") && !told.contains("hush"), "{told}");
}

#[test]
fn a_store_over_tls_is_reached_by_connect() {
    let dir = tempfile::tempdir().expect("a folder");
    let s3 = S3Server::start();
    let tls = TlsServer::start(s3.addr, &["store.internal"], &rustls::version::TLS13);
    let proxy = ForwardProxy::start(Speaks::Http, tls.addr);
    let url = format!("s3://{BUCKET}/db?endpoint=https://store.internal&ca-cert={}", tls.ca().display());
    round_trip(dir.path(), &url, &[("HTTPS_PROXY", format!("http://user:hush@{}", proxy.addr))]);
    assert!(proxy.seen().iter().all(|l| l == "CONNECT store.internal:443 HTTP/1.1"), "{:?}", proxy.seen());
}

#[test]
fn a_store_over_plain_http_is_reached_by_whole_urls() {
    let dir = tempfile::tempdir().expect("a folder");
    let s3 = S3Server::start();
    let proxy = ForwardProxy::start(Speaks::Http, s3.addr);
    let url = format!("s3://{BUCKET}/db?endpoint=http://store.internal:9000");
    round_trip(dir.path(), &url, &[("http_proxy", format!("http://user:hush@{}", proxy.addr))]);
    assert!(proxy.seen().iter().all(|l| l.contains(" http://store.internal:9000/")), "{:?}", proxy.seen());
}

#[test]
fn a_store_is_reached_by_socks() {
    let dir = tempfile::tempdir().expect("a folder");
    let s3 = S3Server::start();
    let tls = TlsServer::start(s3.addr, &["store.internal"], &rustls::version::TLS13);
    let proxy = ForwardProxy::start(Speaks::Socks, tls.addr);
    let url = format!("s3://{BUCKET}/db?endpoint=https://store.internal&ca-cert={}", tls.ca().display());
    round_trip(dir.path(), &url, &[("ALL_PROXY", format!("socks5://{}", proxy.addr))]);
    assert!(proxy.seen().iter().all(|l| l == "store.internal:443"), "{:?}", proxy.seen());
}

#[test]
fn what_is_wrong_with_a_proxy_is_told() {
    let s3 = S3Server::start();
    let proxy = ForwardProxy::start(Speaks::Http, s3.addr);
    let ask = |endpoint: &str, variable: &str, value: &str| {
        let url = format!("s3://{BUCKET}/db?endpoint={endpoint}");
        let mut command = lsfast::command(["doctor", &url]);
        command.envs([
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
            (variable, value),
        ]);
        let output = lsfast::run(command);
        format!("{}{}", String::from_utf8_lossy(&output.stdout), stderr(&output))
    };
    let wrong = format!("http://user:other@{}", proxy.addr);
    let told = ask("https://store.internal", "HTTPS_PROXY", &wrong);
    assert!(told.contains("asks for a user and a password") && !told.contains("other"), "{told}");
    let closed =
        std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let told = ask("https://store.internal", "HTTPS_PROXY", &format!("http://{closed}"));
    assert!(told.contains("cannot be used") && told.contains("HTTPS_PROXY"), "{told}");
    let told = ask(&format!("http://{}", s3.addr), "HTTP_PROXY", &format!("http://{closed}"));
    assert!(!told.contains("proxy"), "hosts of this machine are reached directly: {told}");
    let told = ask("https://store.internal", "HTTPS_PROXY", "ftp://user:hush@proxy");
    assert!(told.contains("not the URL of a proxy") && !told.contains("hush"), "{told}");
}
