//! Policies and gateways that refuse a part of S3: optional headers with a 403, or HEAD alone. And
//! a store that keeps half of a part.

use lsfast::store::{ErrorKind, Scope, Store as _};

use super::faults::{answer, impatient, patient};
use super::{at, content, new, raw};
use crate::support::fault::{Fault, FaultServer, Seen};
use crate::support::s3::{S3Server, open, url};

/// Bytes of an object that is uploaded in parts.
const LEN: usize = 9 << 20;

fn servers() -> (S3Server, FaultServer) {
    let server = S3Server::start();
    let proxy = FaultServer::start(Some(server.addr));
    (server, proxy)
}

fn forbidden(name: &str) -> Fault {
    let body = format!("<Error><Code>AccessDenied</Code><Message>{name} is not allowed</Message></Error>");
    answer(403, &[], &body)
}

/// A gateway that knows no checksums said so with a 403, which was taken for wrong rights.
#[tokio::test]
async fn a_checksum_that_is_refused_with_403_is_left_out() {
    let (_server, proxy) = servers();
    proxy.always(|seen: &Seen| {
        let names = ["x-amz-checksum-crc32", "x-amz-checksum-algorithm"];
        names.into_iter().find(|name| seen.header(name).is_some()).map(forbidden)
    });
    let store = open(&url(proxy.addr, "db"), &impatient());
    store.put(raw(1), vec![content(100, 1)], new()).await.unwrap();
    store.put(raw(2), vec![content(100, 2)], new()).await.unwrap();
    assert_eq!(proxy.count("PUT"), 3, "the second knows");
    let other = S3Server::start();
    for parts in [false, true] {
        // Either the first request names it, or each part.
        let proxy = FaultServer::start(Some(other.addr));
        proxy.always(move |seen: &Seen| {
            let is_part = seen.path.contains("partNumber=");
            let name = if is_part { "x-amz-checksum-crc32" } else { "x-amz-checksum-algorithm" };
            (is_part == parts && seen.header(name).is_some()).then(|| forbidden(name))
        });
        let store = open(&url(proxy.addr, if parts { "a" } else { "b" }), &patient());
        let mut upload = store.upload(raw(1), 1 << 30, new()).await.unwrap();
        upload.write(content(LEN, 1)).await.unwrap();
        upload.finish().await.unwrap();
        assert!(store.head(raw(1)).await.unwrap().is_some_and(|entry| entry.size == LEN as u64));
    }
    let proxy = FaultServer::start(Some(other.addr));
    proxy.push("POST", Fault::AnswerWith { headers: Vec::new() });
    proxy.push("POST", forbidden("x-amz-checksum-crc32"));
    let store = open(&url(proxy.addr, "c"), &patient());
    let mut upload = store.upload(raw(1), 1 << 30, new()).await.unwrap();
    upload.write(content(LEN, 1)).await.unwrap();
    upload.finish().await.unwrap();
    assert_eq!(proxy.count("POST"), 3, "the completion once more");
    // Any other 403 is what it was.
    let proxy = FaultServer::start(Some(other.addr));
    proxy.always(|seen: &Seen| (seen.method == "PUT").then(|| forbidden("The user")));
    let store = open(&url(proxy.addr, "d"), &impatient());
    let e = store.put(raw(1), vec![content(100, 1)], new()).await.unwrap_err();
    assert!(e.kind() == ErrorKind::Credentials && proxy.count("PUT") == 1, "{e}");
}

/// With a policy that allows GET and refuses HEAD, no image was copied to level 9.
#[tokio::test]
async fn where_head_is_refused_a_get_of_one_byte_replaces_it() {
    for status in [403, 405] {
        let (_server, proxy) = servers();
        proxy.always(move |seen: &Seen| (seen.method == "HEAD").then(|| answer(status, &[], "")));
        let store = open(&url(proxy.addr, "db"), &impatient());
        store.put(raw(1), vec![content(1000, 1)], new()).await.unwrap();
        let entry = store.head(raw(1)).await.unwrap().expect("it is there");
        assert_eq!(entry.size, 1000);
        let heads = proxy.count("HEAD");
        store.copy(raw(1), at(9, 1, 1), new()).await.unwrap();
        assert!(store.get(at(9, 1, 1), 0..u64::MAX).await.unwrap() == content(1000, 1));
        assert_eq!(store.head(raw(2)).await.unwrap(), None);
        assert_eq!(proxy.count("HEAD"), heads, "it is learnt");
    }
}

/// With such a policy a start whose replica had another writer's batches asked for the next one,
/// and took the refusal for wrong keys. Nothing was stored any more.
#[tokio::test]
async fn where_head_is_refused_an_object_that_is_not_there_is_missing() {
    for status in [403, 405] {
        let (_server, proxy) = servers();
        proxy.always(move |seen: &Seen| (seen.method == "HEAD").then(|| answer(status, &[], "")));
        let before = open(&url(proxy.addr, "db"), &impatient());
        before.put(raw(1), vec![content(1000, 1)], new()).await.unwrap();
        let store = open(&url(proxy.addr, "db"), &impatient());
        assert!(store.head(raw(2)).await.is_err(), "nothing shows that GET is allowed");
        assert_eq!(store.list(Scope::All).await.unwrap().len(), 1);
        assert_eq!(store.head(raw(2)).await.unwrap(), None);
    }
}

/// The next attempt met the object under its name, and took it for another program's.
#[tokio::test]
async fn half_of_a_part_is_the_fault_of_the_store() {
    let (_server, proxy) = servers();
    proxy.always(|seen: &Seen| {
        (seen.method == "HEAD")
            .then_some(Fault::Replace("content-length: 9437184", "content-length: 4718592"))
    });
    let store = open(&url(proxy.addr, "db"), &patient());
    let mut upload = store.upload(raw(1), 1 << 30, new()).await.unwrap();
    upload.write(content(LEN, 1)).await.unwrap();
    let e = upload.finish().await.unwrap_err();
    let said = e.to_string();
    assert!(e.kind() == ErrorKind::Fatal && said.contains("it has 4718592 bytes, not 9437184"), "{e}");
    assert!(said.contains("has damaged the upload") && !said.contains("another program"), "{e}");
}
