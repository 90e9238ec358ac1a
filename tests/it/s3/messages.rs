//! Errors as a new user meets them.

use std::time::Duration;

use lsfast::config::{Env, Location, Overrides};
use lsfast::store::{ClientOptions, ErrorKind, RetryPolicy, Scope, Store};

use super::faults::answer;
use super::{content, new, raw};
use crate::support::fault::{FaultServer, Seen};
use crate::support::logs::Logs;
use crate::support::s3::{ACCESS_KEY, S3Server, SECRET_KEY, env, open, open_as, options, url};

fn quick() -> ClientOptions {
    let retry = RetryPolicy {
        unreachable: Duration::from_millis(50),
        total: Duration::from_millis(50),
        ..RetryPolicy::default()
    };
    ClientOptions { retry, ..ClientOptions::default() }
}

#[test]
fn no_credentials() {
    let location =
        Location::resolve("s3://bucket/db?endpoint=http://h:1", &Overrides::default(), &Env::default())
            .unwrap();
    let e = lsfast::store::open(&location, &options()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Credentials);
    assert_eq!(
        e.to_string(),
        "s3://bucket/db: no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or \
         LITESTREAM_ACCESS_KEY_ID and LITESTREAM_SECRET_ACCESS_KEY)"
    );
}

#[tokio::test]
async fn a_wrong_key() {
    let server = S3Server::start();
    let wrong =
        Env::new([("AWS_ACCESS_KEY_ID", "AKIAWRONGWRONGWRONGX"), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY)]);
    let store = open_as(&server.url("db"), &wrong, &options()).unwrap();
    let e = store.put(raw(1), vec![content(10, 1)], new()).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Credentials, "{e}");
    let text = e.to_string();
    assert!(text.contains("AKIA...GX from the environment (AWS_ACCESS_KEY_ID)"), "{text}");
    assert!(!text.contains("WRONGWRONG") && !text.contains(SECRET_KEY), "{text}");
}

#[tokio::test]
async fn a_wrong_secret() {
    let server = S3Server::start();
    let wrong = Env::new([
        ("LITESTREAM_ACCESS_KEY_ID", ACCESS_KEY),
        ("LITESTREAM_SECRET_ACCESS_KEY", "wrong-secret"),
    ]);
    let store = open_as(&server.url("db"), &wrong, &options()).unwrap();
    let e = store.list(Scope::All).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Credentials, "{e}");
    assert_eq!(
        e.to_string(),
        format!(
            "GET s3://bucket: http://{} says that the secret key does not belong to the access key AKIA...ST from the \
             environment (LITESTREAM_ACCESS_KEY_ID): check the secret key for missing or extra characters, and that \
             no proxy changes the request",
            server.addr
        )
    );
    // A HEAD has no body to say so.
    let e = store.head(raw(1)).await.unwrap_err();
    assert!(
        e.to_string().contains("check the secret key, and allow s3:GetObject on arn:aws:s3:::bucket/db/*"),
        "{e}"
    );
}

#[tokio::test]
async fn a_missing_bucket() {
    let server = S3Server::start();
    let store = open(&format!("s3://nothing/db?endpoint=http://{}", server.addr), &options());
    let e = store.list(Scope::All).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NoBucket, "{e}");
    assert_eq!(
        e.to_string(),
        format!(
            "GET s3://nothing: bucket nothing does not exist at http://{0} (the endpoint from the replica URL): correct \
             the replica URL, or create it with aws s3 mb s3://nothing --endpoint-url http://{0}",
            server.addr
        )
    );
}

#[tokio::test]
async fn nothing_listens() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let store = open(&url(port, "db"), &quick());
    let e = store.list(Scope::All).await.unwrap_err();
    assert!(e.is_transient());
    let text = e.to_string();
    assert!(
        text.contains(&format!("nothing listens at {port} (connection refused): check the endpoint")),
        "{text}"
    );
}

#[tokio::test]
async fn an_unknown_name() {
    let store = open("s3://bucket/db?endpoint=http://no-such-host.invalid", &quick());
    let e = store.list(Scope::All).await.unwrap_err();
    assert!(e.is_transient());
    assert!(e.to_string().contains("the name no-such-host.invalid cannot be resolved"), "{e}");
}

#[tokio::test]
async fn a_server_that_wants_tls() {
    let server = FaultServer::start(None);
    let body = "Client sent an HTTP request to an HTTPS server.\n".to_owned();
    server.push("GET", crate::support::fault::Fault::Answer { status: 400, headers: Vec::new(), body });
    let store = open(&url(server.addr, "db"), &quick());
    let e = store.list(Scope::All).await.unwrap_err();
    assert!(e.to_string().contains(&format!("wants TLS: write endpoint=https://{}", server.addr)), "{e}");
}

#[tokio::test]
async fn a_server_that_is_none() {
    let server = FaultServer::start(None);
    let store = open(&url(server.addr, "db"), &quick());
    let e = store.list(Scope::All).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Transient, "it answers nothing: {e}");
    server.always(|_: &Seen| Some(answer(200, &[], "It works!")));
    let e = store.list(Scope::All).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Corrupt);
    let text = e.to_string();
    assert!(text.contains("the answer is not the XML that S3 sends"), "{text}");
}

#[tokio::test]
async fn no_secret_in_any_log() {
    let server = S3Server::start();
    let logs = Logs::capture();
    let env = Env::new([
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
        ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
        ("AWS_SESSION_TOKEN", "a-token-that-no-output-may-show"),
    ]);
    for env in [env, self::env()] {
        let store = open_as(&server.url("db"), &env, &options()).unwrap();
        let put = store.put(raw(1), vec![content(10, 1)], new()).await;
        let list = store.list(Scope::All).await;
        let shown = format!("{put:?} {list:?} {store:?}");
        assert!(!shown.contains("no-output-may-show"), "{shown}");
    }
    let all = logs.all();
    assert!(all.contains("TRACE"), "the most talkative level is on");
    assert!(!all.contains("no-output-may-show"), "{all}");
}

/// A presigned URL, or one with a password, must not reach a log; and the usual redirect is no
/// matter of the region.
#[tokio::test]
async fn a_redirect_to_https_is_called_so_and_shows_no_secret() {
    for status in [301, 302, 307, 308] {
        let server = FaultServer::start(None);
        let addr = server.addr;
        let say = |location: String| {
            server.always(move |_: &Seen| Some(answer(status, &[("location", &location)], "")));
        };
        let store = open(&url(addr, "db"), &quick());
        say(format!("https://{addr}/bucket/db?X-Amz-Signature=51671&X-Amz-Security-Token=token0"));
        let e = store.list(Scope::All).await.unwrap_err().to_string();
        assert!(e.contains(&format!("redirects to https: write endpoint=https://{addr} ")), "{status} {e}");
        assert!(!e.contains("region") && !e.contains("51671") && !e.contains("token0"), "{status} {e}");

        say("https://user:password0@store.example/b?X-Amz-Signature=51671".to_owned());
        let e = store.list(Scope::All).await.unwrap_err().to_string();
        let named = matches!(status, 301 | 308) || e.contains("redirects to https://store.example, ");
        assert!(named && !e.contains("password0") && !e.contains("51671"), "{status} {e}");
    }
}
