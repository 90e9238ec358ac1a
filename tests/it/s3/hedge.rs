//! Requests whose answers are late.

use lsfast::store::{ClientOptions, Store as _};

use super::{content, new, raw};
use crate::support::fault::{Fault, FaultServer};
use crate::support::s3::{S3Server, open, url};

/// A request that the store does not answer is sent once more, long before an attempt times out.
#[tokio::test]
async fn a_put_and_a_get_without_an_answer_are_hedged() {
    let server = S3Server::start();
    let proxy = FaultServer::start(Some(server.addr));
    let options = ClientOptions { spare: false, ..ClientOptions::default() };
    let store = open(&url(proxy.addr, "db"), &options);
    for n in 1..=20 {
        store.put(raw(n), vec![content(1000, n)], new()).await.unwrap();
        assert_eq!(store.get(raw(n), 0..1000).await.unwrap(), content(1000, n));
    }
    // An attempt times out after ten seconds. Without a hedge each of these takes as long.
    let begun = std::time::Instant::now();
    proxy.push("PUT", Fault::Stall);
    store.put(raw(21), vec![content(1000, 21)], new()).await.unwrap();
    proxy.push("GET", Fault::Stall);
    assert_eq!(store.get(raw(21), 0..1000).await.unwrap(), content(1000, 21));
    assert_eq!(proxy.faults_left(), 0);
    assert!(begun.elapsed() < options.retry.attempt, "{:?}", begun.elapsed());
}
