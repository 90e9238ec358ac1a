//! A store that notes when each level-0 object was stored, and its content.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc::UnboundedSender;

use crate::base::{Level, LtxId};
use crate::io::monotonic;
use crate::store::{BoxFuture, Forward, PutOptions, Result, Store, Upload};

/// One stored level-0 object.
#[derive(Debug)]
pub(super) struct Stored {
    /// When the store responded, by the monotonic clock.
    pub(super) at: Duration,
    /// Its content; only the beginning if it was uploaded in parts, as the first image is.
    pub(super) body: Vec<Bytes>,
    /// Its length, in bytes.
    pub(super) bytes: u64,
    /// Whether `body` is the whole object.
    pub(super) whole: bool,
}

/// How many bytes are kept of an object uploaded in parts, rounded up to whole pieces. The page
/// with the number of the last commit is among the first ones.
const HEAD_BYTES: u64 = 256 << 10;

/// Passes every call on to `inner`, and tells what was stored.
pub(super) struct TimedStore {
    inner: Arc<dyn Store>,
    stored: UnboundedSender<Stored>,
}

impl TimedStore {
    pub(super) fn new(inner: Arc<dyn Store>, stored: UnboundedSender<Stored>) -> TimedStore {
        TimedStore { inner, stored }
    }
}

impl fmt::Debug for TimedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl Forward for TimedStore {
    fn inner(&self) -> &dyn Store {
        &*self.inner
    }

    fn put<'a>(&'a self, id: LtxId, body: Vec<Bytes>, options: PutOptions) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            // Clones references; the bytes are not copied.
            let copy = body.clone();
            self.inner.put(id, body, options).await?;
            if id.level == Level::RAW {
                // The receiver is gone once the measurement is over.
                let at = monotonic();
                let bytes = copy.iter().map(|b| b.len() as u64).sum();
                _ = self.stored.send(Stored { at, body: copy, bytes, whole: true });
            }
            Ok(())
        })
    }

    fn upload<'a>(
        &'a self,
        id: LtxId,
        size_max: u64,
        options: PutOptions,
    ) -> BoxFuture<'a, Result<Box<dyn Upload>>> {
        Box::pin(async move {
            let inner = self.inner.upload(id, size_max, options).await?;
            let stored = (id.level == Level::RAW).then(|| self.stored.clone());
            Ok(Box::new(TimedUpload { inner, stored, head: Vec::new(), bytes: 0 }) as Box<dyn Upload>)
        })
    }
}

struct TimedUpload {
    inner: Box<dyn Upload>,
    stored: Option<UnboundedSender<Stored>>,
    head: Vec<Bytes>,
    bytes: u64,
}

impl Upload for TimedUpload {
    fn hold_start(&mut self) {
        self.inner.hold_start();
    }

    fn replace_start<'a>(&'a mut self, start: Bytes) -> BoxFuture<'a, Result<()>> {
        self.inner.replace_start(start)
    }

    fn write<'a>(&'a mut self, bytes: Bytes) -> BoxFuture<'a, Result<()>> {
        if self.bytes < HEAD_BYTES {
            self.head.push(bytes.clone());
        }
        self.bytes += bytes.len() as u64;
        self.inner.write(bytes)
    }

    fn finish(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        let TimedUpload { inner, stored, head: body, bytes } = *self;
        Box::pin(async move {
            inner.finish().await?;
            if let Some(stored) = stored {
                _ = stored.send(Stored { at: monotonic(), body, bytes, whole: false });
            }
            Ok(())
        })
    }

    fn abort(self: Box<Self>) -> BoxFuture<'static, ()> {
        self.inner.abort()
    }
}
