//! Counts what is downloaded.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use crate::base::LtxId;
use crate::store::{BoxFuture, Forward, Result, Store};

/// A store that counts the bytes of its answers.
#[derive(Debug)]
pub(super) struct Metered {
    inner: Arc<dyn Store>,
    bytes: AtomicU64,
}

impl Metered {
    pub(super) fn new(inner: Arc<dyn Store>) -> Arc<Metered> {
        Arc::new(Metered { inner, bytes: AtomicU64::new(0) })
    }

    /// Bytes that were downloaded so far, without listings.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl Forward for Metered {
    fn inner(&self) -> &dyn Store {
        &*self.inner
    }

    fn get<'a>(&'a self, id: LtxId, range: Range<u64>) -> BoxFuture<'a, Result<Bytes>> {
        Box::pin(async move {
            let bytes = self.inner.get(id, range).await?;
            self.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            Ok(bytes)
        })
    }
}
