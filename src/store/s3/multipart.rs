//! Writes an object in parts: CreateMultipartUpload, UploadPart, CompleteMultipartUpload,
//! AbortMultipartUpload.
//!
//! # Overview
//!
//! The part size follows from the greatest possible length, so that 10,000 parts always suffice. At
//! most [`ClientOptions::transfers`](super::ClientOptions::transfers) parts are in flight; with the
//! part being filled, one more than that is in memory. An object that fits into one part is written
//! with one PUT.
//!
//! If the first bytes may be replaced, the first part waits in memory too. It is sent when they are
//! replaced, otherwise last.
//!
//! # Failure and crash
//!
//! A lost response to the completion is settled by the object under the key. After a crash, the
//! store's own rule for unfinished uploads removes the parts.
//!
//! # Cancellation
//!
//! Dropping an upload stops its parts and aborts it at the store in a background task.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use tokio::task::JoinSet;

use super::abort::{AbortOnDrop, Begun};
use super::body::Payload;
use super::call::{Call, Reply};
use super::failure::{Class, Failure};
use super::first_part::FirstPart;
use super::headers::{CHECKSUM, CREATED, base64_crc};
use super::inner::Inner;
use super::optional_headers;
use super::part_sums::{composite, joined};
use super::retry::Retry;
use super::streak::Streak;
use super::taken_key::Fingerprint;
use super::xml::{self, Part};
use crate::base::limits;
use crate::store::api::{BoxFuture, PutOptions, Result, Upload};
use crate::store::{ErrorKind, StoreError};

/// Extra time for the store to assemble an object. Only some stores send white space meanwhile.
const COMPLETE_TIME: Duration = Duration::from_secs(300);

/// Waits between looks for an object that the store may still be assembling for an earlier attempt.
const SETTLE_WAITS: [Duration; 3] =
    [Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(3)];

/// Bytes of a part, for an object of at most `size_max` bytes.
pub(super) fn part_bytes(size_max: u64, wanted: Option<u64>) -> u64 {
    const STEP: u64 = 1 << 20;
    let needed = size_max.div_ceil(limits::PARTS_MAX).next_multiple_of(STEP);
    wanted.unwrap_or(limits::PART_BYTES).max(needed).max(limits::PART_BYTES_MIN)
}

/// A part that the store has confirmed.
#[derive(Debug)]
struct Sent {
    part: Part,
    crc32: u32,
    len: u64,
    /// Whether the ETag may be that of other content.
    doubtful: bool,
}

impl Inner {
    /// Begins a multipart upload.
    pub(super) async fn begin_upload(&self, key: &str, options: PutOptions, checksum: bool) -> Result<Begun> {
        let mut ways = self.ways(false);
        ways.now.checksum &= checksum;
        loop {
            let mut call = Call::new(Method::POST, Some(key))
                .query("uploads", "")
                .header("content-type", "application/octet-stream")
                .header(CREATED, options.created.to_rfc3339());
            if ways.now.checksum {
                call = call.header("x-amz-checksum-algorithm", "CRC32");
            }
            match self.run(&call).await {
                Ok(reply) => {
                    let id = xml::upload_id(&reply.body).map_err(|e| {
                        let message = format!("{}: {e}", self.subject(&call));
                        StoreError::new(ErrorKind::Transient, message).with_source(e)
                    })?;
                    if checksum {
                        self.remember_refusal(&ways);
                    }
                    let streak = Arc::new(Streak::new(self.options.retry.backoff()));
                    return Ok(Begun { id, checksum: ways.now.checksum, streak });
                }
                Err(failure) => ways.next(failure).map_err(|f| self.error(&call, f))?,
            }
        }
    }

    async fn upload_part(&self, key: &str, begun: &Begun, number: u32, payload: Payload) -> Result<Sent> {
        self.sum(&payload).await;
        let mut call = Call::new(Method::PUT, Some(key))
            .query("partNumber", number.to_string())
            .query("uploadId", begun.id.as_str())
            .content(payload.clone());
        let is_refused = self.client.refused.checksum.load(Ordering::Relaxed);
        let mut crc32 = (begun.checksum && !is_refused).then(|| base64_crc(payload.crc32()));
        if let Some(crc32) = &crc32 {
            call = call.header(CHECKSUM, crc32.as_str());
        }
        call.streak = Some(Arc::clone(&begun.streak));
        let mut with_md5 = self.client.wants_md5.load(Ordering::Relaxed);
        if with_md5 {
            call = call.header("content-md5", payload.md5_base64().await);
        }
        let mut retry = Retry::new(self, &call);
        loop {
            let reply = match self.run(&call).await {
                Ok(reply) => reply,
                Err(f) if !with_md5 && optional_headers::asks_for_md5(&f) => {
                    with_md5 = true;
                    self.client.wants_md5.store(true, Ordering::Relaxed);
                    call = call.header("content-md5", payload.md5_base64().await);
                    continue;
                }
                Err(f) if crc32.is_some() && optional_headers::may_be_refusal(&f) => {
                    call.headers.retain(|(name, _)| *name != CHECKSUM);
                    // Only what succeeds without the header was refused for it.
                    let Ok(reply) = self.run(&call).await else { return Err(self.error(&call, f)) };
                    self.refuse_checksum();
                    crc32 = None;
                    reply
                }
                Err(f) => return Err(self.error(&call, f)),
            };
            match self.believe_part(&payload, &reply).await {
                Ok((etag, doubtful)) => {
                    begun.streak.reset();
                    let part = Part { number, etag, crc32: crc32.clone() };
                    return Ok(Sent { part, crc32: payload.crc32(), len: payload.len(), doubtful });
                }
                Err(failure) => retry.after(failure).await.map_err(|f| self.error(&call, f))?,
            }
        }
    }

    /// Completes the upload, which makes the object visible. Returns true if the response is not
    /// that of a completion. A failure of class `Precondition` means that the key is taken.
    /// `NotFound` means that the upload no longer exists, as after an earlier attempt whose
    /// response was lost.
    pub(super) async fn complete_upload(
        &self,
        key: &str,
        begun: &Begun,
        parts: &[Part],
        create_only: bool,
    ) -> std::result::Result<bool, Failure> {
        let mut sums = parts.iter().all(|part| part.crc32.is_some());
        loop {
            let plain: Vec<Part>;
            let listed = if sums {
                parts
            } else {
                plain = parts.iter().map(|part| Part { crc32: None, ..part.clone() }).collect();
                &plain
            };
            match self.complete_with(key, begun, listed, create_only).await {
                Err(f) if sums && optional_headers::blames_checksum(&f) => {
                    self.refuse_checksum();
                    sums = false;
                }
                done => return done,
            }
        }
    }

    async fn complete_with(
        &self,
        key: &str,
        begun: &Begun,
        parts: &[Part],
        create_only: bool,
    ) -> std::result::Result<bool, Failure> {
        let doubtful = |reply: &Reply| xml::complete_etag(&reply.body).is_err();
        let call = |guarded: bool| {
            let mut call = Call::new(Method::POST, Some(key))
                .query("uploadId", begun.id.as_str())
                .xml(xml::complete_request(parts));
            if guarded {
                call = call.header("if-none-match", "*");
            }
            call.extra_time = COMPLETE_TIME;
            call
        };
        if create_only && self.ways(true).now.create_only {
            match self.run(&call(true)).await {
                Ok(reply) => return Ok(doubtful(&reply)),
                Err(f) if optional_headers::blames_checksum(&f) => return Err(f),
                // A store may honour the condition on PUT only, so this refusal is not remembered
                // for PUT.
                Err(f)
                    if matches!(f.class, Class::Unsupported | Class::Final(ErrorKind::Fatal))
                        || optional_headers::blames_condition(&f) => {}
                Err(f) => return Err(f),
            }
        }
        if create_only {
            match self.taken(key).await {
                Ok(None) => {}
                Ok(Some(_)) => return Err(Failure::new(Class::Precondition, "the object exists")),
                Err(e) => return Err(Failure::new(Class::Final(e.kind()), e.to_string()).with_source(e)),
            }
        }
        self.run(&call(false)).await.map(|reply| doubtful(&reply))
    }
}

/// An upload in parts.
#[derive(Debug)]
pub(super) struct Parts {
    inner: Arc<Inner>,
    key: String,
    options: PutOptions,
    part_bytes: u64,
    size_max: u64,
    /// The part being filled.
    filling: Vec<Bytes>,
    filled: u64,
    total: u64,
    // Declared before `begun`, so that parts stop before the upload is aborted.
    sending: JoinSet<Result<Sent>>,
    begun: Option<(Begun, AbortOnDrop)>,
    next: u32,
    sent: Vec<Sent>,
    first: FirstPart,
}

impl Parts {
    pub(super) fn new(inner: Arc<Inner>, key: String, size_max: u64, options: PutOptions) -> Result<Parts> {
        let part_bytes = part_bytes(size_max, inner.location.quirks.part_bytes);
        Ok(Parts {
            inner,
            key,
            options,
            part_bytes,
            size_max,
            filling: Vec::new(),
            filled: 0,
            total: 0,
            begun: None,
            next: 1,
            sending: JoinSet::new(),
            sent: Vec::new(),
            first: FirstPart::Free,
        })
    }

    async fn add(&mut self, mut bytes: Bytes) -> Result<()> {
        self.total += bytes.len() as u64;
        if self.total > self.size_max {
            let message = format!(
                "PUT {}: {} bytes were written to an upload announced with at most {}",
                self.inner.object(&self.key),
                self.total,
                self.size_max
            );
            return Err(StoreError::new(ErrorKind::Fatal, message));
        }
        while !bytes.is_empty() {
            // A full part waits for one more byte, because it may be the only part.
            if self.filled == self.part_bytes {
                self.send_part().await?;
            }
            let room = usize::try_from(self.part_bytes - self.filled).unwrap_or(usize::MAX);
            let piece = bytes.split_to(room.min(bytes.len()));
            self.filled += piece.len() as u64;
            self.filling.push(piece);
        }
        Ok(())
    }

    /// Sends the filled part, or holds it back if its first bytes may be replaced.
    async fn send_part(&mut self) -> Result<()> {
        let (number, pieces) = (self.next, std::mem::take(&mut self.filling));
        (self.next, self.filled) = (number + 1, 0);
        if number == 1 && matches!(self.first, FirstPart::Announced) {
            self.first = FirstPart::Held(pieces);
            return Ok(());
        }
        self.send_pieces(number, pieces).await
    }

    async fn send_held(&mut self) -> Result<()> {
        match std::mem::replace(&mut self.first, FirstPart::Free) {
            FirstPart::Held(pieces) => self.send_pieces(1, pieces).await,
            FirstPart::Announced | FirstPart::Free => Ok(()),
        }
    }

    async fn replace(&mut self, start: Bytes) -> Result<()> {
        assert!(self.first.replace_start(&mut self.filling, start), "the replacement was announced");
        self.send_held().await
    }

    /// Sends a part in the background, once fewer than `transfers` parts are in flight.
    async fn send_pieces(&mut self, number: u32, pieces: Vec<Bytes>) -> Result<()> {
        let begun = match &self.begun {
            Some((begun, _)) => begun.clone(),
            None => {
                let begun = self.inner.begin_upload(&self.key, self.options, true).await?;
                let guard = AbortOnDrop::new(&self.inner, &self.key, begun.clone());
                self.begun.insert((begun, guard)).0.clone()
            }
        };
        while self.sending.len() >= self.inner.options.transfers.max(1) {
            self.join_one().await?;
        }
        let (payload, inner, key) = (Payload::new(pieces), Arc::clone(&self.inner), self.key.clone());
        self.sending.spawn(async move { inner.upload_part(&key, &begun, number, payload).await });
        Ok(())
    }

    async fn join_one(&mut self) -> Result<()> {
        match self.sending.join_next().await {
            Some(Ok(sent)) => self.sent.push(sent?),
            Some(Err(e)) => {
                let message = format!("PUT {}: a part was lost: {e}", self.inner.object(&self.key));
                return Err(StoreError::new(ErrorKind::Fatal, message).with_source(e));
            }
            None => {}
        }
        Ok(())
    }

    async fn complete(&mut self) -> Result<()> {
        if self.next == 1 {
            let payload = Payload::new(std::mem::take(&mut self.filling));
            self.inner.put(&self.key, payload, self.options).await?;
            return self.inner.prove_first(&self.key, self.total).await;
        }
        if self.filled > 0 {
            self.send_part().await?;
        }
        self.send_held().await?;
        while !self.sending.is_empty() {
            self.join_one().await?;
        }
        self.sent.sort_by_key(|s| s.part.number);
        let print = self.fingerprint();
        let Some((begun, guard)) = &mut self.begun else { return Ok(()) };
        assert!(self.sent.iter().map(|s| s.part.number).eq(1..self.next), "every part is there, once");
        let parts: Vec<Part> = self.sent.iter().map(|s| s.part.clone()).collect();
        let call = Call::new(Method::POST, Some(&self.key));
        let mut retry = Retry::new(&self.inner, &call);
        let failure = loop {
            let done = self.inner.complete_upload(&self.key, begun, &parts, self.options.create_only).await;
            let doubtful = match done {
                Ok(doubtful) => doubtful,
                Err(failure) => break failure,
            };
            let of_parts = self.sent.iter().any(|s| s.doubtful);
            // I1: the object is checked before the upload counts as stored.
            let proven = self.inner.prove_parts(&self.key, &print, doubtful || of_parts).await;
            match proven {
                Ok(()) => {
                    guard.disarm();
                    if of_parts {
                        self.inner.client.opaque_etags.store(true, Ordering::Relaxed);
                    }
                    if self.options.create_only {
                        self.inner.wrote(&self.key, self.total, None);
                    }
                    return self.inner.prove_first(&self.key, self.total).await;
                }
                // The upload still exists: the store did not take the request as its completion.
                Err(e) if doubtful && e.is_transient() => {
                    let failure = Failure::new(Class::Transient, e.to_string());
                    retry.after_doubt(failure).await.map_err(|f| self.inner.error(&call, f))?;
                }
                Err(e) => return Err(e),
            }
        };
        self.settle_lost(&call, &print, failure).await
    }

    /// Decides by the object under the key. An earlier attempt may have succeeded although its
    /// response was lost. The upload then no longer exists, which stores report in different ways.
    async fn settle_lost(&self, call: &Call<'_>, print: &Fingerprint, failure: Failure) -> Result<()> {
        let inner = &self.inner;
        let taken = failure.class == Class::Precondition;
        let given_up = matches!(failure.class, Class::Stale | Class::Transient | Class::Unreachable);
        if given_up && inner.options.retry.rest_when_down {
            // The caller waits first, and then looks.
            return Err(inner.error(call, failure));
        }
        // The store may still be working on the earlier attempt.
        let mut looks = if taken || given_up { [].iter() } else { SETTLE_WAITS.iter() };
        let look = Call::new(Method::HEAD, Some(&self.key));
        let mut retry = Retry::new(inner, &look);
        loop {
            let settled = match inner.head(&self.key).await {
                Ok(Some(found)) => inner.settle_by(&self.key, print, &found).await.map(|()| true),
                Ok(None) => Ok(false),
                Err(e) => Err(e),
            };
            match settled {
                Ok(true) => return Ok(()),
                Ok(false) => match looks.next() {
                    Some(wait) => tokio::time::sleep(*wait).await,
                    None => return Err(inner.error(call, failure)),
                },
                // A transient error does not prove that nothing is stored.
                Err(e) if e.is_transient() => {
                    let again = Failure::new(Class::Transient, e.to_string());
                    if retry.after(again).await.is_err() {
                        return Err(e);
                    }
                }
                Err(e) if taken => return Err(e),
                Err(_) => return Err(inner.error(call, failure)),
            }
        }
    }

    fn fingerprint(&self) -> Fingerprint {
        let parts: Option<Vec<&str>> = self.sent.iter().map(|s| s.part.crc32.as_deref()).collect();
        Fingerprint {
            size: self.total,
            crc32: joined(self.sent.iter().map(|s| (s.crc32, s.len))),
            composite: parts.and_then(|p| composite(&p)),
        }
    }

    /// Stops the parts in flight and aborts the upload.
    async fn stop(&mut self) {
        self.sending.shutdown().await;
        if let Some((_, guard)) = self.begun.take() {
            guard.abort().await;
        }
    }
}

impl Upload for Parts {
    fn hold_start(&mut self) {
        self.first = FirstPart::Announced;
    }

    fn replace_start<'a>(&'a mut self, start: Bytes) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.replace(start))
    }

    fn write<'a>(&'a mut self, bytes: Bytes) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.add(bytes))
    }

    fn finish(mut self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        Box::pin(async move {
            let done = self.complete().await;
            // After a success nothing is left to stop.
            self.stop().await;
            done
        })
    }

    fn abort(mut self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move { self.stop().await })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_thousand_parts_are_enough_for_every_length() {
        const MIB: u64 = 1 << 20;
        assert_eq!(part_bytes(0, None), 5 * MIB);
        assert_eq!(part_bytes(1 << 30, None), 5 * MIB);
        assert_eq!(part_bytes(1 << 30, Some(1)), 5 * MIB);
        assert_eq!(part_bytes(1 << 30, Some(64 * MIB)), 64 * MIB);
        for size in [50_000 * MIB, 50_000 * MIB + 1, 5 << 40] {
            let part = part_bytes(size, Some(1));
            assert!(size.div_ceil(part) <= limits::PARTS_MAX, "{size}");
            assert_eq!(part % MIB, 0);
        }
    }
}
