//! Copies an object: CopyObject, UploadPartCopy for large objects, or reading and writing through
//! this host where the store supports neither.
//!
//! # Create-only
//!
//! A HEAD of the target guards a create-only copy. Few stores honour `If-None-Match` on a copy, and
//! the others ignore it silently.
//!
//! # Failure
//!
//! A store that refuses copies is remembered, once a copy through this host has succeeded. So is a
//! store whose copies fail again and again in a way that may pass, such as a closed connection. A
//! part copy whose completion may have been lost is settled by comparing the source and the target.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::Method;
use tokio::task::JoinSet;

use super::abort::{AbortOnDrop, Begun};
use super::call::Call;
use super::encode;
use super::failure::{Class, Failure};
use super::head::Found;
use super::headers::CREATED;
use super::inner::Inner;
use super::multipart::Parts;
use super::xml::{self, Part};
use crate::base::limits;
use crate::store::api::{PutOptions, Result, Upload};
use crate::store::{ErrorKind, StoreError};

/// Base time that the server gets for a copy.
const COPY_TIME: Duration = Duration::from_secs(60);

/// How long a failing copy is retried. It is short because copying through this host is the
/// alternative.
const COPY_PATIENCE: Duration = Duration::from_secs(5);

/// Attempts at one copy, each failing in a way that may pass, before it goes through this host.
const COPY_ATTEMPTS_MAX: u32 = 3;

/// Copies in a row that fail in such a way before the store is remembered for it. The last one goes
/// through this host however few attempts were made, as where there is no answer for minutes.
const COPIES_FAILED_MAX: u32 = 3;

/// A copy gets one second more than [`COPY_TIME`] for each of these bytes.
const COPY_BYTES_PER_SECOND: u64 = 8 << 20;

/// Copies `from` to `to` within the bucket.
pub(super) async fn copy(inner: &Arc<Inner>, from: &str, to: &str, options: PutOptions) -> Result<()> {
    let Some(source) = inner.head(from).await? else {
        let message = format!("copy of {}: there is no such object", inner.object(from));
        return Err(StoreError::new(ErrorKind::NotFound, message));
    };
    if options.create_only
        && let Some(target) = inner.head(to).await?
    {
        return inner.settle_copy(from, &source, to, &target).await;
    }
    if inner.client.refused.copy.load(Ordering::Relaxed) {
        return through_host(inner, from, source.size, to, options).await;
    }
    let copied = if source.size <= inner.options.copy_bytes {
        inner.copy_whole(from, &source, to, options).await
    } else {
        copy_parts(inner, from, source.size, to, options).await?
    };
    match copied {
        Ok(()) => {
            inner.client.failed_copies.store(0, Ordering::Relaxed);
            Ok(())
        }
        Err(failure) if another_way_may_do(inner, &failure) => {
            tracing::debug!(replica = %inner.url, error = %failure, "the copy goes through this host");
            let tried = failure.detail.attempts;
            through_host(inner, from, source.size, to, options).await.map_err(|e| e.after(tried))?;
            // The object exists, so the store lacks the copy operation.
            let lasts = !may_pass(&failure)
                || inner.client.failed_copies.load(Ordering::Relaxed) >= COPIES_FAILED_MAX;
            if lasts && !inner.client.refused.copy.swap(true, Ordering::Relaxed) {
                tracing::debug!(replica = %inner.url, "the store cannot copy: copies go through this host from now on");
            }
            Ok(())
        }
        Err(failure) => Err(inner.error(&Call::new(Method::PUT, Some(to)), failure)),
    }
}

/// Whether reading and writing may succeed after this failure: the store does not know copies,
/// forbids them, or keeps failing at them.
fn another_way_may_do(inner: &Inner, failure: &Failure) -> bool {
    match failure.class {
        // A HEAD has just found the source.
        Class::Unsupported | Class::Final(ErrorKind::NotFound) => true,
        Class::Credentials => failure.status() == Some(403),
        Class::Final(ErrorKind::Fatal) => matches!(failure.status(), Some(400..=499)),
        Class::Transient | Class::Stale if may_pass(failure) => {
            let in_a_row = inner.client.failed_copies.fetch_add(1, Ordering::Relaxed) + 1;
            failure.detail.attempts >= COPY_ATTEMPTS_MAX || in_a_row >= COPIES_FAILED_MAX
        }
        Class::Transient => true,
        _ => false,
    }
}

/// Whether a later copy may succeed. A store that fails with a 5xx at copies alone lacks them.
fn may_pass(failure: &Failure) -> bool {
    matches!(failure.class, Class::Transient | Class::Stale) && !matches!(failure.status(), Some(500..=599))
}

/// Copies by reading and writing, one part at a time.
async fn through_host(
    inner: &Arc<Inner>,
    from: &str,
    size: u64,
    to: &str,
    options: PutOptions,
) -> Result<()> {
    let mut upload = Box::new(Parts::new(Arc::clone(inner), to.to_owned(), size, options)?);
    let mut at = 0;
    while at < size {
        let end = size.min(at + limits::GET_PART_BYTES);
        let piece = inner.get(from, at..end).await?;
        if piece.len() as u64 != end - at {
            let message = format!("copy of {}: it became shorter while it was read", inner.object(from));
            return Err(StoreError::new(ErrorKind::Corrupt, message));
        }
        at = end;
        upload.write(piece).await?;
    }
    upload.finish().await
}

type Copied = std::result::Result<(), Failure>;

/// Copies with UploadPartCopy.
async fn copy_parts(
    inner: &Arc<Inner>,
    from: &str,
    size: u64,
    to: &str,
    options: PutOptions,
) -> Result<Copied> {
    let begun = inner.begin_upload(to, options, false).await?;
    let mut guard = AbortOnDrop::new(inner, to, begun.clone());
    let copied = match send_parts(inner, from, size, to, &begun).await {
        Ok(parts) => match inner.complete_upload(to, &begun, &parts, false).await {
            Ok(_) => inner.copied_size(to, size).await,
            Err(failure) => Err(failure),
        },
        Err(failure) => Err(failure),
    };
    match copied {
        Ok(()) => {
            guard.disarm();
            Ok(Ok(()))
        }
        Err(failure) => {
            // A completion may have succeeded although its response was lost.
            let settled = match (inner.head(from).await, inner.head(to).await) {
                (Ok(Some(source)), Ok(Some(target))) => {
                    inner.settle_copy(from, &source, to, &target).await.map(|()| true)
                }
                (Err(e), _) | (_, Err(e)) => Err(e),
                _ => Ok(false),
            };
            match settled {
                Ok(true) => {
                    guard.disarm();
                    Ok(Ok(()))
                }
                // A transient error does not prove that nothing is stored.
                Err(e) if e.is_transient() => {
                    guard.abort().await;
                    Err(e)
                }
                _ => {
                    guard.abort().await;
                    Ok(Err(failure))
                }
            }
        }
    }
}

async fn send_parts(
    inner: &Arc<Inner>,
    from: &str,
    size: u64,
    to: &str,
    begun: &Begun,
) -> std::result::Result<Vec<Part>, Failure> {
    let part_bytes = inner.options.copy_part_bytes.max(size.div_ceil(limits::PARTS_MAX)).max(1);
    let mut sending: JoinSet<std::result::Result<Part, Failure>> = JoinSet::new();
    let mut parts = Vec::new();
    let mut at = 0;
    let mut number = 0;
    while at < size || !sending.is_empty() {
        if at < size && sending.len() < inner.options.transfers.max(1) {
            let end = size.min(at + part_bytes);
            number += 1;
            let (inner, begun) = (Arc::clone(inner), begun.clone());
            let (from, to) = (from.to_owned(), to.to_owned());
            sending.spawn(async move { inner.copy_part(&from, at, end, &to, &begun, number).await });
            at = end;
        } else if let Some(joined) = sending.join_next().await {
            let lost = |e| Failure::new(Class::Final(ErrorKind::Fatal), "a part was lost").with_source(e);
            parts.push(joined.map_err(lost)??);
        }
    }
    parts.sort_by_key(|p| p.number);
    Ok(parts)
}

impl Inner {
    fn copy_source(&self, key: &str) -> String {
        let mut source = String::new();
        encode::push_path(&mut source, &self.location.copy_source());
        source.push('/');
        encode::push_path(&mut source, key);
        source
    }

    async fn copy_whole(&self, from: &str, source: &Found, to: &str, options: PutOptions) -> Copied {
        let mut call = Call::new(Method::PUT, Some(to))
            .header("x-amz-copy-source", self.copy_source(from))
            .header("x-amz-metadata-directive", "REPLACE")
            .header("content-type", "application/octet-stream")
            .header(CREATED, options.created.to_rfc3339());
        call.extra_time = copy_time(source.size);
        call.patience = Some(COPY_PATIENCE);
        let reply = self.run(&call).await?;
        // A response without an ETag comes from a store that did not understand the copy.
        let etag = xml::copy_etag(&reply.body, false).map_err(not_a_copy)?;
        if etag == source.etag {
            return Ok(());
        }
        self.copied_size(to, source.size).await
    }

    async fn copy_part(
        &self,
        from: &str,
        at: u64,
        end: u64,
        to: &str,
        begun: &Begun,
        number: u32,
    ) -> std::result::Result<Part, Failure> {
        let mut call = Call::new(Method::PUT, Some(to))
            .query("partNumber", number.to_string())
            .query("uploadId", begun.id.clone())
            .header("x-amz-copy-source", self.copy_source(from))
            .header("x-amz-copy-source-range", format!("bytes={at}-{}", end - 1));
        call.extra_time = copy_time(end - at);
        call.patience = Some(COPY_PATIENCE);
        call.streak = Some(Arc::clone(&begun.streak));
        let reply = self.run(&call).await?;
        begun.streak.reset();
        let etag = xml::copy_etag(&reply.body, true).map_err(not_a_copy)?;
        Ok(Part { number, etag, crc32: None })
    }

    /// Checks that the copy exists with this size. Its ETag is not comparable where it is encrypted
    /// or was copied in parts.
    async fn copied_size(&self, to: &str, size: u64) -> Copied {
        match self.head(to).await {
            Ok(Some(found)) if found.size == size => Ok(()),
            // Without the right to read, the copy cannot be checked.
            Err(e) if e.kind() == ErrorKind::Credentials => Ok(()),
            Err(e) => Err(Failure::new(Class::Final(e.kind()), e.to_string()).with_source(e)),
            Ok(found) => {
                let has =
                    found.map_or_else(|| "is not there".to_owned(), |f| format!("has {} bytes", f.size));
                let message =
                    format!("the store answers that it is copied, but the copy {has}, not {size} bytes");
                Err(Failure::new(Class::Unsupported, message))
            }
        }
    }

    /// Succeeds if the target holds the same content as the source; otherwise returns a conflict.
    async fn settle_copy(&self, from: &str, source: &Found, to: &str, target: &Found) -> Result<()> {
        let known = |a: &str, b: &str| !a.is_empty() && a == b;
        let same = source.size == target.size
            && (known(&source.etag, &target.etag)
                || known(source.crc32.as_deref().unwrap_or(""), target.crc32.as_deref().unwrap_or(""))
                || self.crc_of(from, source.size).await? == self.crc_of(to, target.size).await?);
        if same { Ok(()) } else { Err(self.conflict(to, source.size, target)) }
    }
}

fn copy_time(size: u64) -> Duration {
    COPY_TIME + Duration::from_secs(size / COPY_BYTES_PER_SECOND)
}

/// A store without CopyObject may take the request for an ordinary PUT of an empty object.
fn not_a_copy(e: xml::XmlError) -> Failure {
    let message = format!("the answer to the copy cannot be read: {e}");
    Failure::new(Class::Unsupported, message).with_source(e)
}
