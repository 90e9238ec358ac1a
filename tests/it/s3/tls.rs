//! TLS: names, authorities, resumption.

use std::time::Duration;

use lsfast::store::{ClientOptions, ErrorKind, RetryPolicy, Scope, Store};

use super::{content, new, raw};
use crate::support::fault::FaultServer;
use crate::support::s3::{S3Server, env, open, open_as, options};
use crate::support::tls::TlsServer;

fn url(server: &TlsServer, host: &str, more: &str) -> String {
    format!("s3://bucket/db?endpoint=https://{host}:{}{more}", server.addr.port())
}

#[tokio::test]
async fn an_own_authority_is_trusted_by_its_file() {
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let s3 = S3Server::start();
        let tls = TlsServer::start(s3.addr, &["localhost", "127.0.0.1"], version);
        let ca = format!("&ca-cert={}", tls.ca().display());
        for host in ["localhost", "127.0.0.1"] {
            let store = open(&url(&tls, host, &ca), &options());
            store.put(raw(1), vec![content(100_000, 1)], new()).await.unwrap();
            assert!(store.get(raw(1), 0..u64::MAX).await.unwrap() == content(100_000, 1));
        }
    }
}

#[tokio::test]
async fn an_unknown_authority_is_refused_with_the_way_out() {
    let s3 = S3Server::start();
    let tls = TlsServer::start(s3.addr, &["localhost"], &rustls::version::TLS13);
    let e = open(&url(&tls, "localhost", ""), &options()).list(Scope::All).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Tls);
    assert_eq!(
        e.to_string(),
        format!(
            "GET s3://bucket: the certificate of localhost:{} is signed by an authority that this machine does not \
             trust: name the file of its CA with --ca-cert, or switch the check off with ?skip-verify=true",
            tls.addr.port()
        )
    );
    let store = open(&url(&tls, "localhost", "&skip-verify=true"), &options());
    assert_eq!(store.list(Scope::All).await.unwrap(), []);
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused_with_its_names() {
    let s3 = S3Server::start();
    let tls = TlsServer::start(s3.addr, &["s3.example.com", "minio.local"], &rustls::version::TLS13);
    let ca = format!("&ca-cert={}", tls.ca().display());
    let e = open(&url(&tls, "localhost", &ca), &options()).list(Scope::All).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Tls);
    assert_eq!(
        e.to_string(),
        format!(
            "GET s3://bucket: the certificate of localhost:{} is for s3.example.com, minio.local, not for localhost: \
             use one of those names in the endpoint, or switch the check off with ?skip-verify=true",
            tls.addr.port()
        )
    );
    let store = open(&url(&tls, "localhost", "&skip-verify"), &options());
    assert_eq!(store.list(Scope::All).await.unwrap(), []);
}

#[tokio::test]
async fn sessions_resume() {
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let s3 = S3Server::start();
        let tls = TlsServer::start(s3.addr, &["localhost"], version);
        let ca = format!("&ca-cert={}", tls.ca().display());
        // Every connection is too old for the next request.
        let options = ClientOptions { idle: Duration::ZERO, spare: false, ..options() };
        let store = open(&url(&tls, "localhost", &ca), &options);
        for n in 1..=5 {
            store.put(raw(n), vec![content(100, n)], new()).await.unwrap();
        }
        // Five uploads, and the proof of the first one.
        assert_eq!((tls.full(), tls.resumed()), (1, 5), "{version:?}");
    }
}

#[tokio::test]
async fn plain_http_on_a_tls_endpoint_and_the_reverse() {
    let retry = RetryPolicy {
        unreachable: Duration::from_millis(50),
        total: Duration::from_millis(50),
        ..RetryPolicy::default()
    };
    let quick = ClientOptions { retry, ..ClientOptions::default() };
    let s3 = FaultServer::start(None);
    let store = open(&format!("s3://bucket/db?endpoint=https://{}&skip-verify", s3.addr), &quick);
    let e = store.list(Scope::All).await.unwrap_err();
    let text = e.to_string();
    assert!(
        text.contains("does not speak TLS") || text.contains("closed the connection while TLS"),
        "{text}"
    );

    let tls = TlsServer::start(s3.addr, &["localhost"], &rustls::version::TLS13);
    let store = open(&format!("s3://bucket/db?endpoint=http://{}", tls.addr), &quick);
    let e = store.list(Scope::All).await.unwrap_err();
    assert!(e.to_string().contains(&format!("write endpoint=https://{}", tls.addr)), "{e}");
}

#[tokio::test]
async fn a_file_that_holds_no_certificate() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let url = format!("s3://bucket/db?endpoint=https://localhost:1&ca-cert={}", file.path().display());
    let e = open_as(&url, &env(), &options()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Tls);
    assert!(e.to_string().contains("it holds no \"BEGIN CERTIFICATE\""), "{e}");
    let url = "s3://bucket/db?endpoint=https://localhost:1&ca-cert=/does/not/exist";
    let e = open_as(url, &env(), &options()).unwrap_err();
    assert!(e.to_string().contains("/does/not/exist"), "{e}");
}
