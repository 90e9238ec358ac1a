//! AbortMultipartUpload: removes the parts of an upload that is given up.
//!
//! While writes fail, the removal waits for [`limits::BACKOFF_REFUSED`]: the caller waits too, and
//! each request would be one more in the outage. If the process ends meanwhile, the parts stay
//! until a rule of the bucket for unfinished uploads removes them.

use std::sync::Arc;

use http::Method;
use tokio::runtime::Handle;

use super::call::Call;
use super::down::Doing;
use super::failure::Class;
use super::inner::Inner;
use super::streak::Streak;
use crate::base::limits;
use crate::store::ErrorKind;

/// A multipart upload that the store has begun.
#[derive(Debug, Clone)]
pub(super) struct Begun {
    pub(super) id: String,
    /// Whether its parts carry a checksum.
    pub(super) checksum: bool,
    /// Failures in succession that its parts share.
    pub(super) streak: Arc<Streak>,
}

impl Inner {
    /// Whether the caller waits by itself now, because the last write failed after all its
    /// attempts.
    fn is_resting(&self, key: &str) -> bool {
        self.options.retry.rest_when_down && self.client.down.is(Doing::writing(key))
    }

    pub(super) async fn abort_upload(&self, key: &str, begun: &Begun) {
        let call = Call::new(Method::DELETE, Some(key)).query("uploadId", begun.id.as_str());
        match self.run(&call).await {
            Ok(_) => {}
            Err(f) if f.class == Class::Final(ErrorKind::NotFound) => {}
            Err(f) => {
                tracing::debug!(object = %self.object(key), error = %f, "an unfinished upload stays at the store");
            }
        }
    }
}

/// Aborts an upload on drop, unless it was completed.
#[derive(Debug)]
pub(super) struct AbortOnDrop {
    inner: Arc<Inner>,
    key: String,
    begun: Option<Begun>,
}

impl AbortOnDrop {
    pub(super) fn new(inner: &Arc<Inner>, key: &str, begun: Begun) -> AbortOnDrop {
        AbortOnDrop { inner: Arc::clone(inner), key: key.to_owned(), begun: Some(begun) }
    }

    /// Disarms the guard: nothing is left to abort.
    pub(super) fn disarm(&mut self) {
        self.begun = None;
    }

    /// Aborts now, or on drop, after a wait, if the last write failed.
    pub(super) async fn abort(mut self) {
        if self.inner.is_resting(&self.key) {
            return;
        }
        if let Some(begun) = self.begun.take() {
            self.inner.abort_upload(&self.key, &begun).await;
        }
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        let Some(begun) = self.begun.take() else { return };
        // Without a runtime nothing can be sent: a rule of the bucket for unfinished uploads has to
        // remove the parts.
        let Ok(runtime) = Handle::try_current() else { return };
        let (inner, key) = (Arc::clone(&self.inner), std::mem::take(&mut self.key));
        runtime.spawn(async move {
            if inner.is_resting(&key) {
                tokio::time::sleep(limits::BACKOFF_REFUSED).await;
            }
            inner.abort_upload(&key, &begun).await;
        });
    }
}
