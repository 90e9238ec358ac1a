//! Every operation, against a server that checks signatures, checksums and conditions.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lsfast::base::clock::Millis;
use lsfast::base::{Level, Txid};
use lsfast::ltx::TimesId;
use lsfast::store::s3::{Connect, Io};
use lsfast::store::{BoxFuture, ClientOptions, Clients, ErrorKind, Scope, Store};

use super::{at, content, new, raw, replacing};
use crate::support::fault::{Fault, FaultServer};
use crate::support::s3::{S3Server, open, options};

#[tokio::test]
async fn what_is_put_is_listed_read_and_deleted() {
    let server = S3Server::start();
    let store = open(&server.url("a/db"), &options());
    let body =
        vec![Bytes::from_static(b"head"), content(100_000, 1), Bytes::new(), Bytes::from_static(b"tail")];
    let whole = body.concat();
    store.put(raw(1), body, new()).await.unwrap();
    store.put(at(9, 1, 1), vec![content(10, 2)], new()).await.unwrap();
    assert_eq!(
        server.keys(),
        [
            "a/db/0000/0000000000000001-0000000000000001.ltx",
            "a/db/0009/0000000000000001-0000000000000001.ltx"
        ]
    );

    let listed = store.list(Scope::All).await.unwrap();
    assert_eq!(
        listed.iter().map(|e| (e.id, e.size)).collect::<Vec<_>>(),
        [(raw(1), 100_008), (at(9, 1, 1), 10)]
    );
    assert!(listed[0].modified > Millis(1_700_000_000_000));
    assert_eq!(store.list(Scope::Level(Level::SNAPSHOT)).await.unwrap().len(), 1);
    assert_eq!(store.list(Scope::Level(Level::new(1).unwrap())).await.unwrap(), []);

    for range in [0..4, 2..100_008, 100_000..200_000, 100_008..100_010, 7..7] {
        let expected = &whole[range.start as usize..(range.end as usize).min(whole.len())];
        assert_eq!(store.get(raw(1), range.clone()).await.unwrap(), expected, "{range:?}");
    }
    let found = store.head(raw(1)).await.unwrap().unwrap();
    assert_eq!((found.id, found.size, found.modified), (raw(1), 100_008, new().created));
    assert_eq!(store.head(raw(2)).await.unwrap(), None);
    assert_eq!(store.get(raw(2), 0..1).await.unwrap_err().kind(), ErrorKind::NotFound);

    store.delete(&[raw(1), raw(7), at(9, 1, 1)]).await.unwrap();
    store.delete(&[raw(1)]).await.unwrap();
    store.delete(&[]).await.unwrap();
    assert_eq!(server.keys(), Vec::<String>::new());
}

#[tokio::test]
async fn a_listing_has_pages() {
    let server = S3Server::start();
    let store = open(&server.url("db"), &options());
    let dir = server.bucket_dir().join("db/0000");
    std::fs::create_dir_all(&dir).unwrap();
    for n in 1..=2_345u64 {
        std::fs::write(dir.join(raw(n).file_name()), b"x").unwrap();
    }
    std::fs::write(dir.join("0000000000000001-0000000000000001.ltx.tmp"), b"x").unwrap();
    let listed = store.list(Scope::All).await.unwrap();
    assert!(listed.iter().map(|e| e.id).eq((1..=2_345).map(raw)));
    let ids: Vec<_> = listed.iter().map(|e| e.id).collect();
    store.delete(&ids).await.unwrap();
    assert_eq!(store.list(Scope::All).await.unwrap(), []);
}

#[tokio::test]
async fn a_taken_key_is_ours_or_a_conflict() {
    let server = S3Server::start();
    let store = open(&server.url("db"), &options());
    store.put(raw(1), vec![content(5000, 1)], new()).await.unwrap();
    store.put(raw(1), vec![content(5000, 1)], new()).await.unwrap();
    for other in [content(5000, 2), content(4999, 1)] {
        let e = store.put(raw(1), vec![other], new()).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Conflict, "{e}");
        let text = e.to_string();
        for part in [
            "s3://bucket/db/0000/0000000000000001-0000000000000001.ltx",
            "5000 bytes",
            "another program writes to this replica: stop it, or give this database a path of its own",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }
    assert_eq!(store.get(raw(1), 0..9999).await.unwrap(), content(5000, 1));
    store.put(raw(1), vec![content(10, 3)], replacing()).await.unwrap();
    assert_eq!(store.get(raw(1), 0..9999).await.unwrap(), content(10, 3));
}

#[tokio::test]
async fn parts_become_one_object() {
    const PART: usize = 8 << 20;
    let server = S3Server::start();
    let store = open(&server.url("db"), &options());
    for (n, len, piece) in
        [(1, 3, 2), (2, PART, 100_000), (3, PART + 1, 1 << 20), (4, 5 * PART / 2, 3_000_001)]
    {
        let whole = content(len, n);
        let mut upload = store.upload(raw(n), 1 << 30, new()).await.unwrap();
        let mut rest = whole.clone();
        while !rest.is_empty() {
            upload.write(rest.split_to(piece.min(rest.len()))).await.unwrap();
        }
        upload.finish().await.unwrap();
        assert!(store.get(raw(n), 0..u64::MAX).await.unwrap() == whole, "{len}");
        let found = store.head(raw(n)).await.unwrap().unwrap();
        assert_eq!((found.size, found.modified), (len as u64, new().created));
    }
    let e = async {
        let mut upload = store.upload(raw(9), 10, new()).await?;
        upload.write(content(11, 1)).await
    };
    assert!(e.await.unwrap_err().to_string().contains("announced with at most 10"));
}

/// The start is replaced in memory, in a part that waits, or not at all. The part that waits is
/// sent again after a fault like any other.
#[tokio::test]
async fn the_start_of_an_upload_may_be_replaced() {
    const PART: usize = 5 << 20;
    let server = S3Server::start();
    let proxy = FaultServer::start(Some(server.addr));
    let store = open(&crate::support::s3::url(proxy.addr, "db"), &options());
    for (n, len, replaced, lost) in [
        (1, 300, true, false),
        (2, PART, true, false),
        (3, PART + 1, true, true),
        (4, 5 * PART / 2, true, true),
        (5, 5 * PART / 2, false, false),
        (6, PART, false, false),
    ] {
        let mut whole = content(len, n).to_vec();
        let mut upload = store.upload(raw(n), 1 << 30, new()).await.unwrap();
        upload.hold_start();
        let before = Bytes::from(whole.clone());
        upload.write(before.slice(..100)).await.unwrap();
        upload.write(before.slice(100..len - 50)).await.unwrap();
        if lost {
            proxy.push("PUT", Fault::ResetIn);
            proxy.push("PUT", Fault::ResetAfter);
        }
        if replaced {
            whole[..100].fill(b'x');
            upload.replace_start(Bytes::from(vec![b'x'; 100])).await.unwrap();
        }
        upload.write(before.slice(len - 50..)).await.unwrap();
        upload.finish().await.unwrap();
        assert!(store.get(raw(n), 0..u64::MAX).await.unwrap() == whole, "{len}");
    }
}

#[tokio::test]
async fn an_upload_on_a_taken_key_is_ours_or_a_conflict() {
    const LEN: usize = 9 << 20;
    let server = S3Server::start();
    let store = open(&server.url("db"), &options());
    let put = async |seed| {
        let mut upload = store.upload(raw(1), LEN as u64, new()).await?;
        upload.write(content(LEN, seed)).await?;
        upload.finish().await
    };
    put(1).await.unwrap();
    put(1).await.unwrap();
    assert_eq!(put(2).await.unwrap_err().kind(), ErrorKind::Conflict);
    assert!(store.get(raw(1), 0..u64::MAX).await.unwrap() == content(LEN, 1));
}

#[tokio::test]
async fn an_abandoned_upload_is_aborted() {
    let server = S3Server::start();
    let proxy = FaultServer::start(Some(server.addr));
    let store = open(&crate::support::s3::url(proxy.addr, "db"), &options());
    for drop_it in [false, true] {
        let before = proxy.count("DELETE");
        let mut upload = store.upload(raw(1), 1 << 30, new()).await.unwrap();
        upload.write(content(9 << 20, 1)).await.unwrap();
        if drop_it {
            drop(upload);
        } else {
            upload.abort().await;
        }
        while proxy.count("DELETE") == before {
            tokio::task::yield_now().await;
        }
        let last = proxy.seen().into_iter().rfind(|s| s.method == "DELETE").unwrap();
        assert!(last.path.contains("uploadId="), "{}", last.path);
    }
    assert_eq!(store.list(Scope::All).await.unwrap(), []);
}

async fn copies(options: &ClientOptions, len: usize) {
    let server = S3Server::start();
    let store = open(&server.url("db"), options);
    store.put(raw(1), vec![content(len, 1)], replacing()).await.unwrap();
    store.copy(raw(1), at(9, 1, 1), new()).await.unwrap();
    assert_eq!(store.get(at(9, 1, 1), 0..u64::MAX).await.unwrap(), content(len, 1));
    // Again: the target is there, and holds the same.
    store.copy(raw(1), at(9, 1, 1), new()).await.unwrap();
    store.put(at(9, 1, 1), vec![content(len, 2)], replacing()).await.unwrap();
    let e = store.copy(raw(1), at(9, 1, 1), new()).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Conflict, "{e}");
    assert_eq!(store.copy(raw(5), at(9, 5, 5), new()).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn copies_in_one_request() {
    copies(&options(), 100_000).await;
}

#[tokio::test]
async fn copies_in_parts() {
    let parts = ClientOptions { copy_bytes: 1 << 20, copy_part_bytes: 5 << 20, ..options() };
    copies(&parts, 11 << 20).await;
}

/// Keys are glued literally and encoded byte by byte, and the server finds the signature right for
/// each.
#[tokio::test]
async fn odd_prefixes() {
    let server = S3Server::start();
    for prefix in ["a b", "a+b", "t\u{e4}st \u{1f600}", "100%25", "a&b=c;d,e:f@g", "x~y!z'(1)*"] {
        let store = open(&server.url(prefix), &options());
        store.put(raw(1), vec![content(10, 1)], new()).await.unwrap();
        assert_eq!(store.list(Scope::All).await.unwrap().len(), 1, "{prefix}");
        assert_eq!(store.get(raw(1), 0..99).await.unwrap(), content(10, 1));
        store.copy(raw(1), at(9, 1, 1), new()).await.unwrap();
        store.delete(&[raw(1), at(9, 1, 1)]).await.unwrap();
        assert_eq!(server.keys(), Vec::<String>::new(), "{prefix}");
    }
}

/// Leads every connection to one address, whatever its name.
#[derive(Debug)]
pub struct To(pub std::net::SocketAddr);

impl Connect for To {
    fn connect(
        &self,
        _: &http::Uri,
    ) -> BoxFuture<'_, Result<Box<dyn Io>, Box<dyn std::error::Error + Send + Sync>>> {
        let addr = self.0;
        Box::pin(async move {
            let stream = tokio::net::TcpStream::connect(addr).await?;
            Ok(Box::new(hyper_util::rt::TokioIo::new(stream)) as Box<dyn Io>)
        })
    }
}

/// What goes over the wire for an empty prefix, and where the bucket is in the name of the host.
#[tokio::test]
async fn paths_on_the_wire() {
    let server = FaultServer::start(None);
    let name = raw(1).file_name();
    for (url, path) in [
        (format!("s3://bucket?endpoint=http://{}", server.addr), format!("/bucket//0000/{name}")),
        (format!("s3://bucket/a%20b?endpoint=http://{}", server.addr), format!("/bucket/a%20b/0000/{name}")),
        (
            format!("s3://bucket/p?endpoint=http://{}/base/path", server.addr),
            format!("/base/path/bucket/p/0000/{name}"),
        ),
        (
            "s3://bucket/?force-path-style=false&endpoint=http://s3.example:81".to_owned(),
            format!("//0000/{name}"),
        ),
        ("s3://bucket/p?region=eu-north-1".to_owned(), format!("/p/0000/{name}")),
    ] {
        let clients = Clients::with_connector(Arc::new(To(server.addr)));
        let store = open(&url, &ClientOptions { clients, ..options() });
        store.put(raw(1), vec![content(10, 1)], new()).await.unwrap();
        let seen = server.seen().into_iter().rfind(|s| s.method == "PUT").unwrap();
        assert_eq!(seen.path, path);
        assert_eq!(seen.header("x-amz-meta-litestream-timestamp"), Some("2026-11-21T21:14:10.801Z"));
        assert_eq!(seen.header("content-type"), Some("application/octet-stream"));
        assert_eq!(seen.header("if-none-match"), Some("*"));
        assert_eq!(seen.header("content-length"), Some("10"));
        assert!(seen.header("x-amz-checksum-crc32").is_some());
    }
    let seen: Vec<_> = server.seen().into_iter().filter(|s| s.method == "PUT").collect();
    let hosts: Vec<_> = seen.iter().filter_map(|s| s.header("host")).collect();
    assert_eq!(hosts[3..], ["bucket.s3.example:81", "bucket.s3.eu-north-1.amazonaws.com"]);
    let hashes: Vec<_> = seen.iter().filter_map(|s| s.header("x-amz-content-sha256")).collect();
    assert!(hashes[3].len() == 64 && hashes[4] == "UNSIGNED-PAYLOAD", "{hashes:?}");
}

#[test]
fn the_same_replica_has_one_identity() {
    let of = |url: &str| open(url, &options()).identity();
    assert_eq!(of("s3://bucket/db"), "s3 aws bucket/db");
    assert_eq!(of("s3://bucket/db/?region=eu-west-1"), "s3 aws bucket/db");
    assert_eq!(of("s3://bucket/db?endpoint=http://X:80/"), "s3 http://x bucket/db");
}

#[tokio::test]
async fn connections_are_shared_and_one_is_spare() {
    let server = S3Server::start();
    let options = options();
    let one = open(&server.url("one"), &options);
    let two = open(&server.url("two"), &options);
    one.prewarm().await;
    one.prewarm().await;
    assert_eq!(options.clients.connections_opened(), 1);
    for n in 1..=20 {
        one.put(raw(n), vec![content(100, n)], new()).await.unwrap();
        two.put(raw(n), vec![content(100, n)], new()).await.unwrap();
    }
    while options.clients.connections_opened() < 2 {
        tokio::task::yield_now().await;
    }
    one.list(Scope::All).await.unwrap();
    assert_eq!(options.clients.connections_opened(), 2);
    assert_eq!(server.keys().len(), 40);
}

#[tokio::test]
async fn a_connection_that_was_idle_for_too_long_is_not_used_again() {
    let server = FaultServer::start(None);
    let open_with = |idle| {
        let options = ClientOptions { idle, spare: false, ..options() };
        open(&crate::support::s3::url(server.addr, "db"), &options)
    };
    let patient = open_with(Duration::from_secs(600));
    patient.put(raw(1), vec![content(10, 1)], replacing()).await.unwrap();
    patient.put(raw(2), vec![content(10, 1)], replacing()).await.unwrap();
    assert_eq!(server.connections(), 1);
    let limit = Duration::from_millis(300);
    let impatient = open_with(limit);
    impatient.put(raw(1), vec![content(10, 1)], replacing()).await.unwrap();
    assert_eq!(server.connections(), 2);
    tokio::time::sleep(2 * limit).await;
    impatient.put(raw(2), vec![content(10, 1)], replacing()).await.unwrap();
    assert_eq!(server.connections(), 3);
}

#[test]
fn stores_work_from_any_runtime() {
    let server = S3Server::start();
    let options = options();
    let store = open(&server.url("db"), &options);
    let multi = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let single = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for n in 0..6 {
        let work = async {
            store.put(raw(n + 1), vec![content(1000, n)], new()).await.unwrap();
            assert_eq!(store.get(raw(n + 1), 0..9999).await.unwrap(), content(1000, n));
        };
        // The connections of a runtime that is gone are found to be dead, and replaced.
        if n % 2 == 0 { single().block_on(work) } else { multi.block_on(work) }
    }
    assert_eq!(server.keys().len(), 6);
}

/// One listing finds LTX files, old replicas and lists of times; each is read by its own name,
/// below a prefix with empty parts too, which Litestream 0.3 drops.
#[tokio::test]
async fn what_lies_beside_the_levels() {
    let server = S3Server::start();
    let proxy = FaultServer::start(Some(server.addr));
    let old = "generations/c9576ca0d0b8b360/snapshots/00000001.snapshot.lz4";
    let times = TimesId { min: Txid(1), max: Txid(3) };
    for (prefix, cleaned) in [("a b/db", "a b/db/"), ("c/", "c/")] {
        let store = open(&crate::support::s3::url(proxy.addr, &prefix.replace(' ', "%20")), &options());
        let path = server.bucket_dir().join(cleaned).join(old);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "snapshot").unwrap();
        store.put(raw(1), vec![content(10, 2)], new()).await.unwrap();
        store.put_times(times, Bytes::from_static(b"times")).await.unwrap();
        let before = proxy.count("GET");
        let listing = store.list_all().await.unwrap();
        if prefix == "a b/db" {
            assert_eq!(proxy.count("GET"), before + 1, "one listing for everything");
        }
        assert_eq!(listing.files.iter().map(|e| e.id).collect::<Vec<_>>(), [raw(1)], "{prefix}");
        let paths: Vec<_> = listing.sides.iter().map(|e| e.id.path()).collect();
        assert_eq!(paths, [old, "times/0000000000000001-0000000000000003.times"], "{prefix}");
        for (side, expected) in listing.sides.iter().zip(["snapshot", "times"]) {
            assert_eq!(side.size, expected.len() as u64);
            assert!(side.modified > Millis(1_700_000_000_000));
            assert_eq!(store.get_side(side.id, 1..100).await.unwrap(), &expected.as_bytes()[1..]);
        }
        store.delete_times(&[times]).await.unwrap();
        assert_eq!(store.list_all().await.unwrap().sides, listing.sides[..1]);
        let gone = store.get_side(listing.sides[1].id, 0..1).await.unwrap_err();
        assert_eq!(gone.kind(), ErrorKind::NotFound);
    }
}
