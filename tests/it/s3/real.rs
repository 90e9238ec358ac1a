//! The same against a real store, by hand:
//!
//! ```text
//! LSFAST_TEST_S3='s3://bucket/prefix?endpoint=http://127.0.0.1:8333' \
//!     AWS_ACCESS_KEY_ID=... AWS_SECRET_ACCESS_KEY=... cargo test --test it s3::real --
//!     --ignored --nocapture
//! ```

use lsfast::config::{Env, Kind, Location, Overrides};
use lsfast::store::{ClientOptions, ErrorKind, S3Store, Scope, Store};

use super::{at, content, new, raw, replacing};
use crate::support::logs::Logs;

/// A store at the URL of the environment, with its prefix replaced.
fn open(prefix: &str, options: &ClientOptions) -> S3Store {
    let url = std::env::var("LSFAST_TEST_S3").expect("LSFAST_TEST_S3 names a replica");
    let env = Env::new(std::env::vars());
    let location = Location::resolve(&url, &Overrides::default(), &env).expect("a location");
    let Kind::S3(mut s3) = location.kind else { panic!("not S3") };
    s3.prefix = prefix.to_owned();
    S3Store::open(&format!("s3://{}/{prefix}", s3.bucket), &s3, options).expect("a store")
}

async fn clear(store: &S3Store) {
    let ids: Vec<_> = store.list(Scope::All).await.unwrap().iter().map(|e| e.id).collect();
    store.delete(&ids).await.unwrap();
    assert_eq!(store.list(Scope::All).await.unwrap(), []);
}

async fn every_operation(store: &S3Store) {
    clear(store).await;
    store.put(raw(1), vec![content(70_000, 1)], new()).await.unwrap();
    store.put(raw(1), vec![content(70_000, 1)], new()).await.unwrap();
    let e = store.put(raw(1), vec![content(70_000, 2)], new()).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Conflict, "{e}");
    println!("{e}");
    assert!(store.get(raw(1), 0..u64::MAX).await.unwrap() == content(70_000, 1));
    assert!(store.get(raw(1), 69_990..80_000).await.unwrap() == content(70_000, 1)[69_990..]);
    assert_eq!(store.get(raw(1), 70_000..80_000).await.unwrap().len(), 0);
    let head = store.head(raw(1)).await.unwrap().unwrap();
    assert_eq!((head.size, head.modified), (70_000, new().created));
    assert_eq!(store.head(raw(2)).await.unwrap(), None);
    assert_eq!(store.get(raw(2), 0..10).await.unwrap_err().kind(), ErrorKind::NotFound);
    store.put(raw(3), vec![], new()).await.unwrap();
    assert_eq!(store.get(raw(3), 0..10).await.unwrap().len(), 0);

    const BIG: usize = 20 << 20;
    for again in [false, true] {
        let mut upload = store.upload(at(9, 1, 1), BIG as u64, new()).await.unwrap();
        upload.write(content(BIG, 3)).await.unwrap();
        upload.finish().await.unwrap_or_else(|e| panic!("again {again}: {e}"));
    }
    let mut upload = store.upload(at(9, 1, 1), BIG as u64, new()).await.unwrap();
    upload.write(content(BIG, 4)).await.unwrap();
    assert_eq!(upload.finish().await.unwrap_err().kind(), ErrorKind::Conflict);
    assert!(store.get(at(9, 1, 1), 0..u64::MAX).await.unwrap() == content(BIG, 3));
    let head = store.head(at(9, 1, 1)).await.unwrap().unwrap();
    assert_eq!((head.size, head.modified), (BIG as u64, new().created));

    store.copy(raw(1), at(1, 1, 1), new()).await.unwrap();
    store.copy(raw(1), at(1, 1, 1), new()).await.unwrap();
    store.copy(at(9, 1, 1), at(9, 1, 2), new()).await.unwrap();
    assert!(store.get(at(9, 1, 2), 0..u64::MAX).await.unwrap() == content(BIG, 3));
    assert!(store.get(at(1, 1, 1), 0..u64::MAX).await.unwrap() == content(70_000, 1));
    let head = store.head(at(1, 1, 1)).await.unwrap().unwrap();
    assert_eq!(head.modified, new().created);
    let ids: Vec<_> = store.list(Scope::All).await.unwrap().iter().map(|e| e.id).collect();
    assert_eq!(ids, [raw(1), raw(3), at(1, 1, 1), at(9, 1, 1), at(9, 1, 2)]);
    store.put(raw(1), vec![content(10, 1)], replacing()).await.unwrap();
    assert_eq!(store.get(raw(1), 0..99).await.unwrap().len(), 10);
    clear(store).await;
}

#[tokio::test]
#[ignore = "needs a store, see the top of the file"]
async fn all_of_it() {
    let logs = Logs::capture();
    for (copy_bytes, prefix) in [
        (5 << 30, "lsfast-test/plain"),
        (6 << 20, "lsfast-test/copies in parts"),
        (5 << 30, "lsfast-test/t\u{e4}st +&%\u{1f600}=a"),
        (5 << 30, "lsfast-test/trailing/"),
        (5 << 30, "lsfast-test/dou//ble"),
        (5 << 30, "/lsfast-test-leading"),
        (5 << 30, ""),
    ] {
        println!("prefix {prefix:?}");
        let options = ClientOptions { copy_bytes, copy_part_bytes: 6 << 20, ..ClientOptions::default() };
        every_operation(&open(prefix, &options)).await;
    }
    for (level, line) in logs.own() {
        println!("{level} {line}");
    }
}

#[tokio::test]
#[ignore = "needs a store, see the top of the file"]
async fn many_objects() {
    let store = open("lsfast-test/many", &ClientOptions::default());
    clear(&store).await;
    for n in 1..=2_100 {
        store.put(raw(n), vec![content(100, n)], new()).await.unwrap();
    }
    assert!(store.list(Scope::All).await.unwrap().iter().map(|e| e.id).eq((1..=2_100).map(raw)));
    clear(&store).await;
}
