//! Stores that are reached by way of a proxy only.

use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use crate::support::canned;
use crate::support::lsfast::{self, stderr};
use crate::support::process::{Process, until};
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

/// Programs that are widely used differ in their answers to CONNECT and to whole URLs, in kept
/// connections and passwords. They resolve the store's name by a file of the test.
#[test]
fn tinyproxy_and_squid_lead_to_a_store() {
    let dir = tempfile::tempdir().expect("a folder");
    // Squid, started by root, runs as another user, which has to read these files.
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).expect("its mode");
    let hosts = dir.path().join("hosts");
    std::fs::write(&hosts, "127.0.0.1 store.internal\n").expect("a file");
    let s3 = S3Server::start();
    let tls = TlsServer::start(s3.addr, &["store.internal"], &rustls::version::TLS13);
    for (name, settings, user) in [
        ("tinyproxy", "Listen 127.0.0.1\nPort {port}\nBasicAuth user hush\nTimeout 60\n", "user:hush@"),
        (
            "squid",
            "http_port 127.0.0.1:{port}\nhttp_access allow all\nhosts_file {hosts}\npid_filename none\ncache deny all\n\
             access_log none\ncache_log /dev/null\nnetdb_filename none\nshutdown_lifetime 0 seconds\nvisible_hostname test\n",
            "",
        ),
    ] {
        let places = ["/usr/sbin", "/usr/bin"].map(|folder| Path::new(folder).join(name));
        let Some(program) = places.iter().find(|p| p.exists()) else {
            eprintln!("SKIPPED: {name} is not installed (apt install {name})");
            continue;
        };
        let addr = canned::nobody();
        let text = settings.replace("{port}", &addr.port().to_string());
        let config = dir.path().join(name);
        std::fs::write(&config, text.replace("{hosts}", &hosts.display().to_string())).expect("a file");
        let mut command = match name {
            "squid" => Command::new(program),
            // It knows no other hosts file than that of the system.
            _ => {
                let mut command = Command::new("unshare");
                command.args(["--mount", "--map-root-user", "sh", "-c"]);
                command.arg("mount --bind \"$1\" /etc/hosts && shift && exec \"$@\"").arg("sh").arg(&hosts);
                command.arg(program);
                command
            }
        };
        let foreground: &[&str] = if name == "squid" { &["-N", "-f"] } else { &["-d", "-c"] };
        command.args(foreground).arg(&config);
        let mut process = Process::start(name, command);
        until("the proxy to listen", || {
            assert!(process.runs(), "{}", process.output());
            TcpStream::connect(addr).ok()
        });
        let proxy = format!("http://{user}{addr}");
        let https = format!("https://store.internal:{}&ca-cert={}", tls.addr.port(), tls.ca().display());
        let http = format!("http://store.internal:{}", s3.addr.port());
        for (endpoint, variable) in [(https, "HTTPS_PROXY"), (http, "HTTP_PROXY")] {
            let own = tempfile::tempdir().expect("a folder");
            let url = format!("s3://{BUCKET}/{name}-{variable}?endpoint={endpoint}");
            round_trip(own.path(), &url, &[(variable, proxy.clone())]);
        }
    }
}
