//! What breaks is healed: nothing is lost or there twice; each failed attempt is one debug line.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use lsfast::store::{ClientOptions, Clients, ErrorKind, RetryPolicy, Scope, Store, StoreError};
use tracing::Level;

use super::basic::To;
use super::{at, content, new, raw};
use crate::support::fault::{Fault, FaultServer, http_date, s3_error};
use crate::support::logs::Logs;
use crate::support::s3::{S3Server, open, url};

pub fn impatient() -> ClientOptions {
    let retry = RetryPolicy {
        total: Duration::from_millis(300),
        unreachable: Duration::from_millis(100),
        wait_first: Duration::from_millis(1),
        attempt: Duration::from_millis(400),
        stall: Duration::from_millis(200),
        ..RetryPolicy::default()
    };
    ClientOptions { retry, spare: false, ..ClientOptions::default() }
}

/// Quick to give an attempt up, slow to give the request up.
pub fn patient() -> ClientOptions {
    let mut options = impatient();
    options.retry.total = Duration::from_secs(60);
    options
}

pub fn answer(status: u16, headers: &[(&'static str, &str)], body: &str) -> Fault {
    let headers = headers.iter().map(|(n, v)| (*n, (*v).to_owned())).collect();
    Fault::Answer { status, headers, body: body.to_owned() }
}

/// Puts object 2 through `faults` over a connection that has served object 1, and checks
/// everything.
async fn healed(faults: &[Fault]) -> FaultServer {
    let server = S3Server::start();
    let proxy = FaultServer::start(Some(server.addr));
    let store = open(&url(proxy.addr, "db"), &patient());
    store.put(raw(1), vec![content(50_000, 1)], new()).await.unwrap();
    faults.iter().for_each(|f| proxy.push("PUT", f.clone()));
    let logs = Logs::capture();
    store.put(raw(2), vec![content(60_000, 2)], new()).await.unwrap();

    let lines = logs.own();
    let retries = lines.iter().filter(|(_, l)| l.contains("trying again")).count();
    assert_eq!(retries, faults.len(), "{lines:?}");
    assert!(lines.iter().all(|(level, _)| *level == Level::DEBUG), "{lines:?}");
    assert_eq!(proxy.faults_left(), 0);
    assert_eq!(server.keys().len(), 2);
    for n in [1, 2] {
        let len = 40_000 + 10_000 * n;
        assert!(store.get(raw(n), 0..u64::MAX).await.unwrap() == content(len as usize, n));
    }
    assert_eq!(store.list(Scope::All).await.unwrap().len(), 2);
    proxy
}

#[tokio::test]
async fn a_reset_before_the_put() {
    healed(&[Fault::ResetBefore]).await;
}

#[tokio::test]
async fn a_reset_in_the_put() {
    healed(&[Fault::ResetIn]).await;
}

#[tokio::test]
async fn a_reset_after_the_put() {
    let proxy = healed(&[Fault::ResetAfter]).await;
    // The second attempt is refused, the content is compared.
    assert_eq!(proxy.count("PUT"), 3);
    assert_eq!(proxy.count("HEAD"), 1);
}

#[tokio::test]
async fn several_faults_in_a_row() {
    healed(&[Fault::ResetAfter, Fault::ResetBefore, s3_error(503, "SlowDown"), Fault::ResetIn]).await;
}

#[tokio::test]
async fn internal_errors_and_throttling() {
    healed(&[s3_error(500, "InternalError"), s3_error(503, "SlowDown")]).await;
    healed(&[answer(502, &[], "<html><body><h1>502 Bad Gateway</h1></body></html>")]).await;
    healed(&[answer(429, &[("retry-after", "0")], "")]).await;
    healed(&[s3_error(400, "RequestTimeout"), s3_error(409, "ConditionalRequestConflict")]).await;
    healed(&[Fault::AnswerAfter { status: 500, body: String::new() }]).await;
}

#[tokio::test]
async fn a_stalled_answer() {
    healed(&[Fault::Stall]).await;
}

#[tokio::test]
async fn a_connection_that_the_server_closed_while_it_was_idle() {
    let server = S3Server::start();
    let proxy = FaultServer::start(Some(server.addr));
    let store = open(&url(proxy.addr, "db"), &patient());
    for n in 1..=8 {
        proxy.push("PUT", Fault::CloseAfter);
        store.put(raw(n), vec![content(100, n)], new()).await.unwrap();
    }
    assert_eq!(server.keys().len(), 8);
}

/// Without a wait, and so also where no time is left for one.
#[tokio::test]
async fn a_reset_of_a_used_connection_is_healed_at_once() {
    let server = FaultServer::start(None);
    let mut options = impatient();
    options.retry.total = Duration::ZERO;
    let store = open(&url(server.addr, "db"), &options);
    store.put(raw(1), vec![content(10, 1)], new()).await.unwrap();
    server.push("PUT", Fault::ResetIn);
    store.put(raw(2), vec![content(10, 1)], new()).await.unwrap();
    assert_eq!(server.connections(), 2);
    // A new connection that is reset is another matter.
    server.push("PUT", Fault::ResetIn);
    server.push("PUT", Fault::ResetIn);
    assert!(store.put(raw(3), vec![content(10, 1)], new()).await.unwrap_err().is_transient());
}

#[tokio::test]
async fn each_attempt_is_signed_anew() {
    let server = FaultServer::start(None);
    let store = open(&url(server.addr, "db"), &patient());
    let gap = answer(503, &[("retry-after", "1")], "");
    server.push("PUT", gap);
    store.put(raw(1), vec![content(10, 1)], new()).await.unwrap();
    let seen: Vec<_> = server.seen().into_iter().filter(|s| s.method == "PUT").collect();
    assert_eq!(seen.len(), 2);
    assert_ne!(seen[0].header("x-amz-date"), seen[1].header("x-amz-date"));
    assert_ne!(seen[0].header("authorization"), seen[1].header("authorization"));
}

#[tokio::test]
async fn a_clock_that_is_wrong_is_corrected_once() {
    for ahead in [86_400, -3_600] {
        let server = S3Server::start();
        let proxy = FaultServer::start(None);
        proxy.insist_on_clock(ahead);
        drop(server);
        let store = open(&url(proxy.addr, "db"), &impatient());
        let logs = Logs::capture();
        for n in 1..=3 {
            store.put(raw(n), vec![content(100, n)], new()).await.unwrap();
        }
        assert_eq!(proxy.count("PUT"), 4, "one refusal for all requests");
        let lines = logs.own();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].0 == Level::WARN && lines[0].1.contains("clock"), "{lines:?}");
        assert!(lines[1].0 == Level::DEBUG && lines[1].1.contains("RequestTimeTooSkewed"), "{lines:?}");
    }
}

#[tokio::test]
async fn a_clock_that_cannot_be_corrected_is_an_error() {
    let server = FaultServer::start(None);
    let date = http_date(SystemTime::now());
    for _ in 0..10 {
        let body = "<Error><Code>RequestTimeTooSkewed</Code><Message>no</Message></Error>";
        server.push("PUT", answer(403, &[("date", &date)], body));
    }
    let store = open(&url(server.addr, "db"), &impatient());
    let e = store.put(raw(1), vec![content(10, 1)], new()).await.unwrap_err();
    assert!(e.to_string().contains("set this machine's clock"), "{e}");
}

#[tokio::test]
async fn a_truncated_answer_is_resumed_where_it_broke() {
    let server = S3Server::start();
    let proxy = FaultServer::start(Some(server.addr));
    let store = open(&url(proxy.addr, "db"), &patient());
    store.put(raw(1), vec![content(300_000, 1)], new()).await.unwrap();
    for keep in [100_000, 0, 50_000] {
        proxy.push("GET", Fault::Truncate(keep));
    }
    let logs = Logs::capture();
    assert!(store.get(raw(1), 1000..290_000).await.unwrap() == content(300_000, 1)[1000..290_000]);
    assert!(logs.own().iter().all(|(level, _)| *level == Level::DEBUG));
    let starts: Vec<_> = proxy.seen().iter().filter_map(|s| s.header("range").map(str::to_owned)).collect();
    assert_eq!(
        starts,
        ["bytes=1000-289999", "bytes=101000-289999", "bytes=101000-289999", "bytes=151000-289999"]
    );
}

#[tokio::test]
async fn an_answer_that_holds_another_range_is_refused() {
    let server = S3Server::start();
    let proxy = FaultServer::start(Some(server.addr));
    let store = open(&url(proxy.addr, "db"), &impatient());
    store.put(raw(1), vec![content(1000, 1)], new()).await.unwrap();
    proxy.push("GET", Fault::Replace("bytes 10-", "bytes 11-"));
    let e = store.get(raw(1), 10..20).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Corrupt, "{e}");
}

#[tokio::test]
async fn a_redirect_to_another_host_is_not_followed() {
    let server = S3Server::start();
    let proxy = FaultServer::start(None);
    let body = "<Error><Code>TemporaryRedirect</Code></Error>";
    let store = open(&url(proxy.addr, "db"), &impatient());
    // A server that is not Amazon's names no other, not even for the same bucket.
    for to in [
        &format!("http://{}/bucket/whatever", server.addr),
        "http://bucket.s3.eu-west-1.amazonaws.com/x",
        "http://evil.example/bucket/x",
        "ftp://x",
        "",
    ] {
        proxy.push("PUT", answer(307, &[("location", to)], body));
        let e = store.put(raw(2), vec![content(1000, 1)], new()).await.unwrap_err();
        assert!(e.to_string().contains("redirects to"), "{e}");
    }
    assert_eq!((server.keys().len(), proxy.seen().len()), (0, 5));
}

/// Between Amazon's own addresses a bucket may be elsewhere for a while after it was made; nothing
/// goes to those of its customers.
#[tokio::test]
async fn amazon_redirects_to_amazon_alone() {
    let server = FaultServer::start(None);
    let clients = Clients::with_connector(Arc::new(To(server.addr)));
    let store = open("s3://bucket/p", &ClientOptions { clients, ..impatient() });
    let body = "<Error><Code>TemporaryRedirect</Code></Error>";
    let away = |to: &str| server.push("PUT", answer(307, &[("location", to)], body));
    away("https://bucket.s3.eu-west-1.amazonaws.com/p/x");
    store.put(raw(1), vec![content(10, 1)], new()).await.unwrap();
    let hosts = |from: usize| -> Vec<String> {
        let seen = server.seen().into_iter().filter(|s| s.method == "PUT").skip(from);
        seen.map(|s| s.header("host").unwrap().to_owned()).collect()
    };
    assert_eq!(hosts(0), ["bucket.s3.us-east-1.amazonaws.com", "bucket.s3.eu-west-1.amazonaws.com"]);
    for to in [
        "https://bucket.evil.example/p/x",
        "https://bucket.ec2-1-2-3-4.compute-1.amazonaws.com/p/x",
        "https://bucket.s3.eu-west-1.amazonaws.com.evil.example/p/x",
        "https://bucket.s3.eu-west-1.amazonaws.com:8443/p/x",
        "http://bucket.s3.eu-west-1.amazonaws.com/p/x",
        "https://bucket.s3.cn-north-1.amazonaws.com.cn/p/x",
        "https://other.s3.eu-west-1.amazonaws.com/p/x",
        "https://bucket.s3-website-eu-west-1.amazonaws.com/p/x",
    ] {
        let before = hosts(0).len();
        away(to);
        let e = store.put(raw(2), vec![content(10, 1)], new()).await.unwrap_err();
        assert!(e.to_string().contains("redirects to"), "{e}");
        assert_eq!(hosts(before), ["bucket.s3.us-east-1.amazonaws.com"], "{to}");
    }
}

#[tokio::test]
async fn the_region_is_learnt_unless_the_user_wrote_one() {
    let server = FaultServer::start(None);
    let body = "<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-7</Region></Error>";
    server.push("PUT", answer(400, &[], body));
    let store = open(&url(server.addr, "db"), &impatient());
    for n in 1..=3 {
        store.put(raw(n), vec![content(10, 1)], new()).await.unwrap();
    }
    let regions: Vec<bool> = server
        .seen()
        .iter()
        .filter(|s| s.method == "PUT")
        .map(|s| s.header("authorization").unwrap().contains("/eu-west-7/s3/"))
        .collect();
    assert_eq!(regions, [false, true, true, true]);

    server.push("PUT", answer(400, &[], body));
    let store = open(&format!("{}&region=us-west-2", url(server.addr, "db")), &impatient());
    let e = store.put(raw(1), vec![content(10, 1)], new()).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::WrongRegion);
    assert!(
        e.to_string().contains("bucket bucket is in region eu-west-7, not in us-west-2 (from the replica URL): write region=eu-west-7"),
        "{e}"
    );
}

#[tokio::test]
async fn a_store_without_conditional_writes_is_asked_once() {
    let server = S3Server::start();
    let proxy = FaultServer::start(Some(server.addr));
    proxy.push("PUT", s3_error(501, "NotImplemented"));
    let store = open(&url(proxy.addr, "db"), &impatient());
    for n in 1..=3 {
        store.put(raw(n), vec![content(100, n)], new()).await.unwrap();
    }
    let puts: Vec<bool> = proxy
        .seen()
        .iter()
        .filter(|s| s.method == "PUT")
        .map(|s| s.header("if-none-match").is_some())
        .collect();
    assert_eq!(puts, [true, false, false, false]);
    // A HEAD of the first key stands in for the condition, then a LIST from our newest
    // object on. One
    // more LIST proves that the first object is stored under its name.
    assert_eq!((proxy.count("HEAD"), proxy.count("GET")), (1, 3));
    let e = store.put(raw(1), vec![content(100, 9)], new()).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Conflict);
}

#[tokio::test]
async fn a_store_without_checksums_is_asked_once() {
    let server = FaultServer::start(None);
    let body =
        "<Error><Code>InvalidArgument</Code><Message>unknown header x-amz-checksum-crc32</Message></Error>";
    server.push("PUT", answer(400, &[], body));
    let store = open(&url(server.addr, "db"), &impatient());
    for n in 1..=2 {
        store.put(raw(n), vec![content(100, n)], new()).await.unwrap();
    }
    let puts: Vec<_> = server
        .seen()
        .iter()
        .filter(|s| s.method == "PUT")
        .map(|s| (s.header("x-amz-checksum-crc32").is_some(), s.header("if-none-match").is_some()))
        .collect();
    assert_eq!(puts, [(true, true), (false, true), (false, true)]);
}

#[tokio::test]
async fn a_store_without_batches_deletes_one_by_one() {
    let server = S3Server::start();
    let proxy = FaultServer::start(Some(server.addr));
    let store = open(&url(proxy.addr, "db"), &impatient());
    for n in 1..=4 {
        store.put(raw(n), vec![content(100, n)], new()).await.unwrap();
    }
    proxy.push("POST", s3_error(501, "NotImplemented"));
    store.delete(&[raw(1), raw(2)]).await.unwrap();
    store.delete(&[raw(3), raw(4)]).await.unwrap();
    assert_eq!((proxy.count("POST"), proxy.count("DELETE")), (1, 4));
    assert_eq!(server.keys().len(), 0);
}

#[tokio::test]
async fn objects_that_are_not_deleted_are_reported_or_tried_again() {
    let server = FaultServer::start(None);
    let store = open(&url(server.addr, "db"), &impatient());
    let key = |n| format!("db/0000/{}", raw(n).file_name());
    let failed = |n, code: &str| {
        format!(
            "<DeleteResult><Error><Key>{}</Key><Code>{code}</Code><Message>No.</Message></Error></DeleteResult>",
            key(n)
        )
    };
    server.push("POST", answer(200, &[], &failed(2, "InternalError")));
    server.push("POST", answer(200, &[], "<DeleteResult/>"));
    store.delete(&[raw(1), raw(2)]).await.unwrap();
    let second = String::from_utf8(server.seen()[1].body.clone()).unwrap();
    assert!(second.contains(&key(2)) && !second.contains(&key(1)), "{second}");

    server.push("POST", answer(200, &[], &failed(2, "AccessDenied")));
    let e = store.delete(&[raw(1), raw(2)]).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Credentials);
    assert!(e.to_string().contains(&key(2)), "{e}");
}

#[tokio::test]
async fn a_store_that_cannot_copy_gets_the_bytes_from_here() {
    let server = S3Server::start();
    let proxy = FaultServer::start(Some(server.addr));
    let store = open(&url(proxy.addr, "db"), &impatient());
    store.put(raw(1), vec![content(1000, 1)], new()).await.unwrap();
    proxy.push("PUT", s3_error(501, "NotImplemented"));
    store.copy(raw(1), at(9, 1, 1), new()).await.unwrap();
    assert_eq!(store.get(at(9, 1, 1), 0..9999).await.unwrap(), content(1000, 1));
}

#[tokio::test]
async fn an_error_in_a_success_is_an_error() {
    let server = S3Server::start();
    let proxy = FaultServer::start(Some(server.addr));
    let store = open(&url(proxy.addr, "db"), &patient());
    store.put(raw(1), vec![content(1000, 1)], new()).await.unwrap();
    let error = "<Error><Code>InternalError</Code><Message>We encountered an error.</Message></Error>";
    proxy.push("PUT", answer(200, &[], error));
    store.copy(raw(1), at(9, 1, 1), new()).await.unwrap();
    assert_eq!(store.get(at(9, 1, 1), 0..9999).await.unwrap(), content(1000, 1));

    // The same for the end of an upload; the first POST begins it.
    let logs = Logs::capture();
    let mut upload = store.upload(raw(2), 1 << 30, new()).await.unwrap();
    upload.write(content(9 << 20, 2)).await.unwrap();
    proxy.push("POST", answer(200, &[], error));
    upload.finish().await.unwrap();
    assert_eq!(logs.own().len(), 1);
    assert!(store.get(raw(2), 0..u64::MAX).await.unwrap() == content(9 << 20, 2));
}

#[tokio::test]
async fn an_upload_whose_end_was_answered_by_a_reset_is_whole() {
    let server = S3Server::start();
    let proxy = FaultServer::start(Some(server.addr));
    let store = open(&url(proxy.addr, "db"), &patient());
    let mut upload = store.upload(raw(1), 1 << 30, new()).await.unwrap();
    upload.write(content(9 << 20, 1)).await.unwrap();
    proxy.push("POST", Fault::ResetAfter);
    proxy.push("PUT", Fault::ResetIn);
    upload.finish().await.unwrap();
    assert!(store.get(raw(1), 0..u64::MAX).await.unwrap() == content(9 << 20, 1));
    assert_eq!(store.list(Scope::All).await.unwrap().len(), 1);
}

/// A question that fails does not say that nothing is stored, and nor does a store that is still at
/// work.
#[tokio::test]
async fn a_lost_end_is_settled_by_an_answer_and_not_by_a_failure() {
    let server = S3Server::start();
    let proxy = FaultServer::start(Some(server.addr));
    let store = open(&url(proxy.addr, "db"), &patient());
    let mut upload = store.upload(raw(1), 1 << 30, new()).await.unwrap();
    upload.write(content(9 << 20, 1)).await.unwrap();
    proxy.push("POST", Fault::ResetAfter);
    // That of a proxy in between.
    proxy.push("HEAD", answer(200, &[("content-type", "text/html")], ""));
    proxy.push("HEAD", answer(404, &[], ""));
    upload.finish().await.unwrap();
    assert!(proxy.count("HEAD") >= 3);
    assert!(store.get(raw(1), 0..u64::MAX).await.unwrap() == content(9 << 20, 1));
}

#[tokio::test]
async fn a_store_that_stays_away_is_an_error_in_time() {
    let server = FaultServer::start(None);
    for _ in 0..10_000 {
        server.push("PUT", s3_error(503, "SlowDown"));
    }
    let store = open(&url(server.addr, "db"), &impatient());
    let e: StoreError = store.put(raw(1), vec![content(10, 1)], new()).await.unwrap_err();
    assert!(e.is_transient());
    let text = e.to_string();
    assert!(text.starts_with("PUT s3://bucket/db/0000/"), "{text}");
    assert!(text.contains("attempts in 0.") && text.contains("503 SlowDown: This is SlowDown"), "{text}");
}

#[tokio::test]
async fn the_same_page_again_and_again_is_an_error() {
    let server = FaultServer::start(None);
    let page = "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken></ListBucketResult>";
    for _ in 0..3 {
        server.push("GET", answer(200, &[], page));
    }
    let store = open(&url(server.addr, "db"), &impatient());
    let e = store.list(Scope::All).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Corrupt);
}

/// SeaweedFS drops empty parts of keys, and lists nothing below a slash.
#[tokio::test]
async fn a_store_that_cleans_keys_is_listed_all_the_same() {
    let page = |keys: &[&str]| {
        let contents: String =
            keys.iter().map(|k| format!("<Contents><Key>{k}</Key><Size>1</Size></Contents>")).collect();
        answer(200, &[], &format!("<ListBucketResult>{contents}</ListBucketResult>"))
    };
    let name = raw(1).file_name();
    for answers_to_our_name in [true, false] {
        let server = FaultServer::start(None);
        let store = open(&url(server.addr, ""), &impatient());
        server.push("GET", page(&[]));
        server.push("GET", page(&[&format!("0000/{name}")]));
        (1..=9).for_each(|_| server.push("GET", page(&[])));
        if !answers_to_our_name {
            server.push("HEAD", answer(404, &[], ""));
        }
        let listed = store.list(Scope::All).await.unwrap();
        assert_eq!(listed.len(), usize::from(answers_to_our_name));
        let head = server.seen().into_iter().find(|s| s.method == "HEAD").unwrap();
        assert_eq!(head.path, format!("/bucket//0000/{name}"));
    }
}

#[tokio::test]
async fn a_store_that_ignores_conditions_is_found_out() {
    let server = S3Server::start();
    let store = open(&server.url("db"), &impatient());
    assert!(store.probe_create_only().await.unwrap());
    assert_eq!(server.keys(), Vec::<String>::new());
    store.put(raw(1), vec![content(10, 1)], new()).await.unwrap();

    // Says yes to everything.
    let server = FaultServer::start(None);
    let store = open(&url(server.addr, "db"), &impatient());
    assert!(!store.probe_create_only().await.unwrap());
    server.push("HEAD", answer(404, &[], ""));
    store.put(raw(1), vec![content(10, 1)], new()).await.unwrap();
    let methods: Vec<_> = server.seen().iter().map(|s| s.method.clone()).collect();
    assert_eq!(methods, ["PUT", "PUT", "DELETE", "HEAD", "PUT", "GET"]);
}
