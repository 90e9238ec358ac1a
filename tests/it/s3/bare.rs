//! Stores that leave out or refuse what others send or take.

use lsfast::base::Txid;
use lsfast::store::Store;

use super::faults::{answer, impatient, patient};
use super::{content, new, raw};
use crate::support::fault::{FaultServer, Seen, s3_error};
use crate::support::s3::{S3Server, open, url};

/// Without the type or the ETag of an object: the file is not damaged.
#[tokio::test]
async fn a_200_that_is_no_object_is_the_fault_of_the_store() {
    let error = "<?xml version=\"1.0\"?><Error><Code>SlowDown</Code></Error>";
    for said in [answer(200, &[], ""), answer(200, &[], error), answer(200, &[], "\n<Error/>")] {
        let server = S3Server::start();
        let proxy = FaultServer::start(Some(server.addr));
        let store = open(&url(proxy.addr, "db"), &patient());
        store.put(raw(1), vec![content(100, 1)], new()).await.unwrap();
        proxy.push("GET", said);
        assert_eq!(store.get(raw(1), 0..100).await.unwrap(), content(100, 1));
        assert_eq!(proxy.faults_left(), 0);
    }
}

/// The whole listing is the way that is left.
#[tokio::test]
async fn a_store_that_refuses_start_after_lists_no_page_after_a_file() {
    let server = S3Server::start();
    let proxy = FaultServer::start(Some(server.addr));
    let store = open(&url(proxy.addr, "db"), &impatient());
    store.put(raw(1), vec![content(100, 1)], new()).await.unwrap();
    let starts = |seen: &Seen| seen.path.contains("start-after");
    proxy.always(move |seen: &Seen| starts(seen).then(|| s3_error(400, "InvalidArgument")));
    assert!(store.list_page_after(Txid(1)).await.unwrap().is_none());
}
