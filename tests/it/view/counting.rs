//! A store that counts what is asked of it.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use lsfast::base::LtxId;
use lsfast::store::{BoxFuture, Forward, Listed, Listing, Part, Result, Scope, Store};

/// Counts requests and the bytes of their answers.
#[derive(Debug)]
pub struct Counting {
    inner: Arc<dyn Store>,
    requests: AtomicU64,
    bytes: AtomicU64,
}

impl Counting {
    pub fn new(inner: Arc<dyn Store>) -> Arc<Counting> {
        Arc::new(Counting { inner, requests: AtomicU64::new(0), bytes: AtomicU64::new(0) })
    }

    /// Requests and bytes since the last call.
    pub fn take(&self) -> (u64, u64) {
        (self.requests.swap(0, Ordering::SeqCst), self.bytes.swap(0, Ordering::SeqCst))
    }

    fn asked(&self) {
        self.requests.fetch_add(1, Ordering::SeqCst);
    }
}

impl Forward for Counting {
    fn inner(&self) -> &dyn Store {
        &*self.inner
    }

    fn list<'a>(&'a self, scope: Scope) -> BoxFuture<'a, Result<Vec<lsfast::store::Entry>>> {
        self.asked();
        self.inner.list(scope)
    }

    fn list_all<'a>(&'a self) -> BoxFuture<'a, Result<Listing>> {
        self.asked();
        self.inner.list_all()
    }

    fn list_part<'a>(&'a self, part: Part) -> BoxFuture<'a, Result<Option<Listed>>> {
        self.asked();
        self.inner.list_part(part)
    }

    fn get<'a>(&'a self, id: LtxId, range: Range<u64>) -> BoxFuture<'a, Result<Bytes>> {
        Box::pin(async move {
            self.asked();
            let bytes = self.inner.get(id, range).await?;
            self.bytes.fetch_add(bytes.len() as u64, Ordering::SeqCst);
            Ok(bytes)
        })
    }
}
