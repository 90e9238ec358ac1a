//! Answers that are not true, and stores with ways of their own: what was not stored is never taken
//! for stored, and a listing is whole or an error.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lsfast::store::{ErrorKind, Scope, Store};

use super::faults::{answer, impatient, patient};
use super::{at, content, new, raw, replacing};
use crate::support::fault::{Fault, FaultServer, Seen, s3_error};
use crate::support::s3::{S3Server, open, url};

const PAGE: &str = "<html><body>We will be back soon</body></html>";
const MD5_OF_NOTHING: &str = "\"d41d8cd98f00b204e9800998ecf8427e\"";

/// Each of these says 200 and stores nothing. The next attempt gets through.
#[tokio::test]
async fn what_was_answered_but_not_stored_is_sent_again() {
    // I1: an answer that stored nothing is no answer.
    let error = "<Error><Code>InternalError</Code><Message>no</Message></Error>";
    let etag = [("etag", MD5_OF_NOTHING)];
    let wrong_crc = [("etag", "\"x\""), ("x-amz-checksum-crc32", "AAAAAA==")];
    let lies = [
        answer(200, &[("content-type", "text/html")], PAGE),
        answer(200, &[("etag", "\"x\"")], PAGE),
        answer(200, &[], error),
        answer(200, &[], ""),
        answer(200, &[], "{\"ok\": true}"),
        answer(200, &etag, ""),
        answer(202, &etag, ""),
        answer(200, &wrong_crc, ""),
    ];
    for (n, lie) in lies.into_iter().enumerate() {
        let server = S3Server::start();
        let proxy = FaultServer::start(Some(server.addr));
        let store = open(&url(proxy.addr, "db"), &patient());
        store.put(raw(1), vec![content(100, 1)], new()).await.unwrap();
        proxy.push("PUT", lie.clone());
        store.put(raw(2), vec![content(2000, 2)], new()).await.unwrap();
        assert_eq!(store.get(raw(2), 0..9999).await.unwrap(), content(2000, 2), "{n}: {lie:?}");
        // A page says in its words that it is none of the store's.
        let store = open(&url(proxy.addr, "db"), &impatient());
        (0..10_000).for_each(|_| proxy.push("PUT", lie.clone()));
        let e = store.put(raw(3), vec![content(2000, 3)], new()).await.unwrap_err();
        assert!(e.is_transient(), "{n}: {e}");
        if n < 2 {
            assert_eq!(e.to_string().matches("We will be back soon").count(), 1, "{e}");
        }
    }
}

/// The first object of a process, with an answer that could not be better.
#[tokio::test]
async fn the_first_object_is_looked_for() {
    let server = S3Server::start();
    let proxy = FaultServer::start(Some(server.addr));
    let store = open(&url(proxy.addr, "db"), &impatient());
    let lie = || proxy.push("PUT", answer(200, &[("etag", "\"opaque\"")], ""));
    lie();
    let e = store.put(raw(1), vec![content(100, 1)], new()).await.unwrap_err();
    assert!(e.is_transient() && e.to_string().contains("HEAD does not find it"), "{e}");
    store.put(raw(1), vec![content(100, 1)], new()).await.unwrap();

    // Another process, which finds the replica by listing it: one HEAD, and then no more.
    let store = open(&url(proxy.addr, "db"), &impatient());
    assert_eq!(store.list(Scope::All).await.unwrap().len(), 1);
    lie();
    let e = store.put(raw(2), vec![content(100, 2)], new()).await.unwrap_err();
    assert!(e.is_transient(), "{e}");
    let before = proxy.seen().len();
    for n in 2..=5 {
        store.put(raw(n), vec![content(100, n)], new()).await.unwrap();
    }
    let methods: Vec<String> = proxy.seen()[before..].iter().map(|s| s.method.clone()).collect();
    assert_eq!(methods, ["PUT", "HEAD", "PUT", "PUT", "PUT"]);
}

#[tokio::test]
async fn an_upload_in_parts_is_looked_for() {
    const LEN: usize = 9 << 20;
    for lie in
        [answer(200, &[], ""), answer(200, &[], PAGE), answer(200, &[], "<CompleteMultipartUploadResult/>")]
    {
        let server = S3Server::start();
        let proxy = FaultServer::start(Some(server.addr));
        let store = open(&url(proxy.addr, "db"), &patient());
        let mut upload = store.upload(raw(1), 1 << 30, new()).await.unwrap();
        upload.write(content(LEN, 1)).await.unwrap();
        proxy.push("POST", lie);
        upload.finish().await.unwrap();
        assert!(store.get(raw(1), 0..u64::MAX).await.unwrap() == content(LEN, 1));
    }
    // An answer that could not be better, and nothing is there.
    let server = S3Server::start();
    let proxy = FaultServer::start(Some(server.addr));
    let store = open(&url(proxy.addr, "db"), &impatient());
    let mut upload = store.upload(raw(1), 1 << 30, new()).await.unwrap();
    upload.write(content(LEN, 1)).await.unwrap();
    let good = "<CompleteMultipartUploadResult><ETag>\"x-2\"</ETag></CompleteMultipartUploadResult>";
    (0..2).for_each(|_| proxy.push("POST", answer(200, &[], good)));
    let e = upload.finish().await.unwrap_err();
    assert!(e.is_transient() && e.to_string().contains("HEAD does not find it"), "{e}");
}

/// ETags of encrypted objects, and of some stores, are not MD5. The object is read back once, and
/// never again.
#[tokio::test]
async fn etags_that_are_not_md5_are_learnt() {
    let server = S3Server::start();
    let proxy = FaultServer::start(Some(server.addr));
    let puts = Arc::new(AtomicUsize::new(0));
    let store = open(&format!("{}&checksum=none", url(proxy.addr, "db")), &impatient());
    store.put(raw(1), vec![content(100, 1)], new()).await.unwrap();
    let count = Arc::clone(&puts);
    proxy.always(move |seen: &Seen| {
        (seen.method == "PUT" && count.fetch_add(1, Ordering::Relaxed) < 3)
            .then(|| Fault::AnswerWith { headers: vec![("etag", MD5_OF_NOTHING.to_owned())] })
    });
    let before = proxy.seen().len();
    for n in 2..=4 {
        store.put(raw(n), vec![content(100, n)], new()).await.unwrap();
    }
    let methods: Vec<String> = proxy.seen()[before..].iter().map(|s| s.method.clone()).collect();
    assert_eq!(methods, ["PUT", "HEAD", "GET", "PUT", "PUT"]);
}

/// Where ETags are MD5s, one of another form was believed, and nothing was stored.
#[tokio::test]
async fn an_etag_without_sense_is_doubted() {
    let server = S3Server::start();
    let proxy = FaultServer::start(Some(server.addr));
    let store = open(&format!("{}&checksum=none", url(proxy.addr, "db")), &patient());
    store.put(raw(1), vec![content(100, 1)], new()).await.unwrap();
    // An encrypted object has an ETag that is no MD5, but it has one.
    let (plain, encrypted) = ("AES256", "aws:kms");
    let senseless =
        [("\"\"", plain), ("W/\"\"", plain), ("\"null\"", plain), ("\"0\"", plain), ("\"\"", encrypted)];
    for (n, (etag, encryption)) in senseless.into_iter().enumerate() {
        let (id, before) = (raw(n as u64 + 2), proxy.seen().len());
        proxy.push("PUT", answer(200, &[("etag", etag), ("x-amz-server-side-encryption", encryption)], ""));
        store.put(id, vec![content(100, 2)], new()).await.unwrap();
        assert!(proxy.seen()[before..].iter().any(|s| s.method == "HEAD"), "{etag}");
        assert_eq!(store.get(id, 0..999).await.unwrap(), content(100, 2), "{etag}");
    }
}

/// It has every object, and answers to its name; only a listing shows that it is called otherwise.
#[tokio::test]
async fn a_store_that_renames_keys_is_found_out() {
    let server = FaultServer::start(None);
    let listing = "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>db/0000/0000000000000001-0000000000000001.LTX\
                   </Key><Size>100</Size></Contents></ListBucketResult>";
    server.always(move |seen: &Seen| (seen.method == "GET").then(|| answer(200, &[], listing)));
    let store = open(&url(server.addr, "db"), &impatient());
    let e = store.put(raw(1), vec![content(100, 1)], new()).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Fatal);
    assert!(e.to_string().contains("it lists db/0000/0000000000000001-0000000000000001.LTX"), "{e}");
}

/// A store of `keys` whose pages have ten keys and are made by `page`, from the keys and whether
/// there are more.
fn pages(
    keys: Vec<String>,
    knows_start_after: bool,
    page: impl Fn(&[String], bool) -> String + Send + 'static,
) -> FaultServer {
    let server = FaultServer::start(None);
    server.always(move |seen: &Seen| {
        if seen.method != "GET" {
            return None;
        }
        let query = seen.path.split_once('?')?.1.replace("%2F", "/");
        let of = |name: &str| query.split('&').find_map(|p| p.strip_prefix(name)).map(str::to_owned);
        let after = of("continuation-token=")
            .or_else(|| of("marker="))
            .or_else(|| of("start-after=").filter(|_| knows_start_after))
            .unwrap_or_default();
        let rest: Vec<String> = keys.iter().filter(|k| **k > after).cloned().collect();
        let part = &rest[..rest.len().min(10)];
        Some(answer(200, &[], &page(part, rest.len() > part.len())))
    });
    server
}

fn contents(keys: &[String]) -> String {
    keys.iter().map(|k| format!("<Contents><Key>{k}</Key><Size>1</Size></Contents>")).collect()
}

#[tokio::test]
async fn a_listing_without_tokens_is_whole() {
    let keys: Vec<String> = (1..=35).map(|n| format!("db/0000/{}", raw(n).file_name())).collect();
    for (knows_start_after, yes) in [(true, "true"), (true, "True"), (false, "TRUE"), (false, "true")] {
        let server = pages(keys.clone(), knows_start_after, move |part, more| {
            let more = if more { yes } else { "False" };
            format!(
                "<ListBucketResult><IsTruncated>{more}</IsTruncated>{}</ListBucketResult>",
                contents(part)
            )
        });
        let store = open(&url(server.addr, "db"), &impatient());
        let listed = store.list(Scope::All).await.unwrap();
        assert!(listed.iter().map(|e| e.id).eq((1..=35).map(raw)), "{knows_start_after} {yes}");
    }
}

/// Never a part of it: a replica would be restored to an older state.
#[tokio::test]
async fn a_listing_that_has_no_end_is_an_error() {
    let keys: Vec<String> = (1..=35).map(|n| format!("db/0000/{}", raw(n).file_name())).collect();
    let count = AtomicUsize::new(0);
    let forever = pages(keys.clone(), true, move |_, _| {
        let token = count.fetch_add(1, Ordering::Relaxed);
        format!(
            "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>t{token}</NextContinuationToken>\
             </ListBucketResult>"
        )
    });
    let stuck = pages(keys[..5].to_vec(), false, |part, _| {
        format!("<ListBucketResult><IsTruncated>true</IsTruncated>{}</ListBucketResult>", contents(part))
    });
    let grouped = pages(keys, true, |part, _| {
        let groups = "<CommonPrefixes><Prefix>db/0009/</Prefix></CommonPrefixes>";
        format!(
            "<ListBucketResult><IsTruncated>false</IsTruncated>{groups}{}</ListBucketResult>",
            contents(part)
        )
    });
    for server in [forever, stuck, grouped] {
        let store = open(&url(server.addr, "db"), &impatient());
        let e = store.list(Scope::All).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Corrupt);
        assert!(e.to_string().contains("the listing is not whole"), "{e}");
    }
}

/// Backblaze B2: no header of that kind with any request, and a HEAD has no body to say so.
#[tokio::test]
async fn a_store_that_refuses_the_checksum_mode_is_asked_once() {
    let server = S3Server::start();
    let proxy = FaultServer::start(Some(server.addr));
    proxy.always(|seen: &Seen| {
        (seen.method == "HEAD" && seen.header("x-amz-checksum-mode").is_some()).then(|| answer(400, &[], ""))
    });
    let store = open(&url(proxy.addr, "db"), &impatient());
    store.put(raw(1), vec![content(100, 1)], new()).await.unwrap();
    for n in [1, 2, 1] {
        assert_eq!(store.head(raw(n)).await.unwrap().is_some(), n == 1);
    }
    let asked: Vec<bool> = proxy
        .seen()
        .iter()
        .filter(|s| s.method == "HEAD")
        .map(|s| s.header("x-amz-checksum-mode").is_some())
        .collect();
    assert_eq!(asked, [true, false, false, false]);

    let store = open(&format!("{}&checksum=none", url(proxy.addr, "other")), &impatient());
    let before = proxy.seen().len();
    store.put(raw(1), vec![content(100, 1)], new()).await.unwrap();
    store.copy(raw(1), at(9, 1, 1), new()).await.unwrap();
    let sent: String = proxy.seen()[before..].iter().map(|s| s.head.to_ascii_lowercase()).collect();
    assert!(!sent.contains("x-amz-checksum"), "{sent}");
}

#[tokio::test]
async fn a_copy_that_fails_for_good_goes_through_this_host() {
    for fault in
        [s3_error(400, "InvalidRequest"), s3_error(403, "AccessDenied"), s3_error(500, "InternalError")]
    {
        let server = S3Server::start();
        let proxy = FaultServer::start(Some(server.addr));
        let store = open(&url(proxy.addr, "db"), &impatient());
        store.put(raw(1), vec![content(1000, 1)], new()).await.unwrap();
        let refusal = fault.clone();
        proxy.always(move |seen: &Seen| seen.header("x-amz-copy-source").map(|_| refusal.clone()));
        store.copy(raw(1), at(9, 1, 1), new()).await.unwrap();
        let tried = |proxy: &FaultServer| {
            proxy.seen().iter().filter(|s| s.header("x-amz-copy-source").is_some()).count()
        };
        let before = tried(&proxy);
        store.copy(raw(1), at(8, 1, 1), new()).await.unwrap();
        assert_eq!(tried(&proxy), before, "it is remembered");
        for level in [8, 9] {
            assert_eq!(store.get(at(level, 1, 1), 0..9999).await.unwrap(), content(1000, 1));
        }
    }
}

/// A server without the route says that there is no such object, although a HEAD has found it. What
/// may pass, such as a closed connection, is remembered later.
#[tokio::test]
async fn a_copy_that_fails_again_and_again_goes_through_this_host() {
    let passing = [s3_error(409, "OperationAborted"), s3_error(429, ""), Fault::ResetBefore];
    let faults = [(s3_error(404, "NoSuchKey"), 1)].into_iter().chain(passing.map(|fault| (fault, 3)));
    for (fault, copies) in faults {
        let server = S3Server::start();
        let proxy = FaultServer::start(Some(server.addr));
        let store = open(&url(proxy.addr, "db"), &impatient());
        store.put(raw(1), vec![content(1000, 1)], new()).await.unwrap();
        let refusal = fault.clone();
        proxy.always(move |seen: &Seen| seen.header("x-amz-copy-source").map(|_| refusal.clone()));
        let mut tried = 0;
        for n in 1..=5 {
            let target = at(n, 1, 1);
            store.copy(raw(1), target, new()).await.unwrap();
            assert_eq!(store.get(target, 0..9999).await.unwrap(), content(1000, 1), "{fault:?}");
            let before = tried;
            tried = proxy.seen().iter().filter(|s| s.header("x-amz-copy-source").is_some()).count();
            assert_eq!(tried > before, n <= copies, "{fault:?}: copy {n}");
        }
    }
}

/// In quiet mode there is nothing to report.
#[tokio::test]
async fn a_deletion_may_be_answered_by_nothing() {
    let keys = [raw(1), raw(2), raw(3)];
    let done = |status| Fault::AnswerAfter { status, body: String::new() };
    let (ignored, no_route) = (answer(200, &[], ""), s3_error(404, "NoSuchKey"));
    for (said, single) in [(done(200), 0), (done(204), 0), (ignored, 6), (no_route, 6)] {
        let server = S3Server::start();
        let proxy = FaultServer::start(Some(server.addr));
        let store = open(&url(proxy.addr, "db"), &impatient());
        let rule = said.clone();
        proxy.always(move |seen: &Seen| (seen.method == "POST").then(|| rule.clone()));
        for _ in 0..2 {
            for id in keys {
                store.put(id, vec![content(100, 1)], new()).await.unwrap();
            }
            store.delete(&keys).await.unwrap();
            assert_eq!(server.keys().len(), 0, "{said:?}");
        }
        let count = |method: &str| proxy.seen().iter().filter(|s| s.method == method).count();
        // What the store does not know is tried once.
        let batches = if single == 0 { 2 } else { 1 };
        assert_eq!((count("POST"), count("DELETE")), (batches, single), "{said:?}");
    }
}

/// It is optional, and is left out where it is refused.
#[tokio::test]
async fn a_store_that_refuses_the_encoding_of_names_is_asked_once() {
    for refusal in [s3_error(400, "InvalidArgument"), s3_error(501, "NotImplemented")] {
        let server = S3Server::start();
        let proxy = FaultServer::start(Some(server.addr));
        let asks = |seen: &Seen| seen.path.contains("encoding-type");
        proxy.always(move |seen: &Seen| asks(seen).then(|| refusal.clone()));
        let store = open(&url(proxy.addr, "db"), &impatient());
        for n in 1..=2 {
            store.put(raw(n), vec![content(100, n)], new()).await.unwrap();
        }
        for scope in [Scope::All, Scope::Level(raw(1).level)] {
            assert_eq!(store.list(scope).await.unwrap().len(), 2);
        }
        assert_eq!(proxy.seen().iter().filter(|seen| asks(seen)).count(), 1);
    }
}

/// Object Lock wants the MD5 where no other checksum comes along.
#[tokio::test]
async fn content_md5_goes_along_where_it_is_asked_for() {
    let server = S3Server::start();
    let proxy = FaultServer::start(Some(server.addr));
    proxy.always(|seen: &Seen| {
        let body = "<Error><Code>InvalidRequest</Code><Message>Content-MD5 OR x-amz-checksum- HTTP header is required for Put \
                    Object requests with Object Lock parameters</Message></Error>";
        (seen.method == "PUT" && seen.header("content-md5").is_none()).then(|| answer(400, &[], body))
    });
    let store = open(&format!("{}&checksum=none", url(proxy.addr, "db")), &patient());
    for n in 1..=2 {
        store.put(raw(n), vec![content(100, n)], replacing()).await.unwrap();
    }
    let puts: Vec<bool> = proxy
        .seen()
        .iter()
        .filter(|s| s.method == "PUT")
        .map(|s| s.header("content-md5").is_some())
        .collect();
    assert_eq!(puts, [false, true, true]);
    let mut upload = store.upload(raw(3), 1 << 30, new()).await.unwrap();
    upload.write(content(9 << 20, 3)).await.unwrap();
    upload.finish().await.unwrap();
    assert!(store.get(raw(3), 0..u64::MAX).await.unwrap() == content(9 << 20, 3));
}

#[tokio::test]
async fn what_is_archived_is_called_so() {
    let server = S3Server::start();
    let proxy = FaultServer::start(Some(server.addr));
    let store = open(&url(proxy.addr, "db"), &impatient());
    store.put(raw(1), vec![content(100, 1)], new()).await.unwrap();
    proxy.push("GET", s3_error(403, "InvalidObjectState"));
    let e = store.get(raw(1), 0..10).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Fatal);
    let text = e.to_string();
    assert!(
        text.contains("is archived") && text.contains("restore-object") && !text.contains("allow s3:"),
        "{text}"
    );
}

/// Whatever part of an answer it comes with, nothing moves the terminal of the one who reads the
/// message.
#[tokio::test]
async fn nothing_that_a_store_says_moves_a_terminal() {
    let evil = "\u{1b}]0;owned\u{7}\u{1b}[31m\u{202e}\nall is well";
    let error =
        format!("<Error><Code>X{evil}</Code><Message>m{evil}</Message><RequestId>{evil}</RequestId></Error>");
    let page = format!("<html><body>{evil}</body></html>");
    let list = |inner: &str| format!("<ListBucketResult>{inner}</ListBucketResult>");
    let answers = [
        answer(403, &[], &error),
        answer(400, &[], &error),
        answer(200, &[], &error),
        answer(200, &[], &page),
        answer(200, &[], &list(&format!("<IsTruncated>{evil}</IsTruncated>"))),
        answer(200, &[], &list(&format!("<Contents><Key>k</Key><Size>{evil}</Size></Contents>"))),
        answer(200, &[], &list("<\u{1b}[31mred></\u{1b}[32mgreen>")),
        answer(307, &[("location", "http://x/\u{202e}")], ""),
    ];
    for said in answers {
        let server = FaultServer::start(None);
        let store = open(&url(server.addr, "db"), &impatient());
        let rule = said.clone();
        server.always(move |_: &Seen| Some(rule.clone()));
        let ids = [raw(1), raw(2)];
        let errors = [
            store.list(Scope::All).await.err(),
            store.delete(&ids).await.err(),
            store.get(raw(1), 0..10).await.err(),
            store.put(raw(1), vec![content(10, 1)], new()).await.err(),
        ];
        for e in errors.into_iter().flatten() {
            let source = std::error::Error::source(&e).map(ToString::to_string).unwrap_or_default();
            let text = format!("{e}{source}");
            assert!(!text.chars().any(|c| c.is_control() || c == '\u{202e}'), "{said:?}: {text:?}");
        }
    }
}

/// As many connections are kept as can be busy at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_burst_of_a_fleet_opens_no_connection() {
    let server = FaultServer::start(None);
    let gate = Duration::from_millis(300);
    let store = open(&url(server.addr, "db"), &patient());
    store.put(raw(1), vec![content(10, 1)], replacing()).await.unwrap();
    let burst = async || {
        let all = (1..=100).map(|n| {
            let store = store.clone();
            tokio::spawn(async move { store.put(raw(n), vec![content(200_000, n)], replacing()).await })
        });
        for one in all.collect::<Vec<_>>() {
            one.await.unwrap().unwrap();
        }
    };
    burst().await;
    let opened = server.connections();
    tokio::time::sleep(gate).await;
    burst().await;
    burst().await;
    // Those that are new stand for ones that were never needed at once before, and not for
    // ones that
    // were closed.
    assert!(server.connections() <= 101, "{opened} {}", server.connections());
}

/// A GET that broke off goes on where it ended. If the object was replaced meanwhile, its rest is
/// that of another one.
#[tokio::test]
async fn an_object_that_is_replaced_while_it_is_read_is_an_error() {
    let server = S3Server::start();
    let proxy = FaultServer::start(Some(server.addr));
    let store = open(&url(proxy.addr, "db"), &patient());
    store.put(raw(1), vec![content(1000, 1)], new()).await.unwrap();
    let rest = [("etag", "\"another\""), ("content-range", "bytes 400-999/1000")];
    proxy.push("GET", Fault::Truncate(400));
    proxy.push("GET", answer(206, &rest, &"x".repeat(600)));
    let e = store.get(raw(1), 0..1000).await.unwrap_err();
    assert!(
        e.kind() == ErrorKind::Corrupt && e.to_string().contains("was replaced while it was read"),
        "{e}"
    );
    assert_eq!(proxy.faults_left(), 0);
}
