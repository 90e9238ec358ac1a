//! PUT: one object from memory.
//!
//! # Stores without create-only
//!
//! Where the store refuses or ignores `If-None-Match`, a LIST precedes each create-only PUT
//! (`owner`).
//!
//! # A key that is taken
//!
//! A 412 means that the key is taken. If an earlier attempt of this PUT took it and its response
//! was lost, the PUT has succeeded; otherwise another writer took it, which is a conflict. The
//! content decides (`taken_key`).

use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::Method;

use super::body::Payload;
use super::call::Call;
use super::failure::Class;
use super::headers::{CHECKSUM, CREATED, base64_crc};
use super::inner::Inner;
use super::optional_headers::Wishes;
use super::retry::Retry;
use crate::base::clock::Millis;
use crate::base::limits;
use crate::store::api::{PutOptions, Result};
use crate::store::{ErrorKind, StoreError};

/// How many times an object may appear and vanish again between two requests before the PUT fails.
const RACES_MAX: u32 = 1;

pub(super) async fn call<'a>(
    key: &'a str,
    payload: &Payload,
    options: PutOptions,
    wishes: Wishes,
) -> Call<'a> {
    let mut call = Call::new(Method::PUT, Some(key))
        .content(payload.clone())
        .header("content-type", "application/octet-stream")
        .header(CREATED, options.created.to_rfc3339());
    if wishes.create_only {
        call = call.header("if-none-match", "*");
    }
    if wishes.md5 {
        call = call.header("content-md5", payload.md5_base64().await);
    }
    if wishes.checksum {
        call = call.header(CHECKSUM, base64_crc(payload.crc32()));
    }
    call
}

impl Inner {
    /// Writes one object.
    pub(super) async fn put(&self, key: &str, payload: Payload, options: PutOptions) -> Result<()> {
        let mut ways = self.ways(options.create_only);
        let mut races = 0;
        self.sum(&payload).await;
        // Retries for success responses that turn out to be false.
        let mut retry = Retry::new(self, &Call::new(Method::PUT, Some(key)));
        loop {
            if options.create_only
                && !ways.now.create_only
                && let Some(found) = self.taken(key).await?
            {
                return self.settle(key, &payload, &found).await;
            }
            let call = call(key, &payload, options, ways.now).await;
            let failure = match self.run(&call).await {
                Ok(reply) => {
                    self.remember_refusal(&ways);
                    // I1: a success response alone does not count; it has to be plausible.
                    let Some(failure) = self.believe(key, &payload, &reply).await? else {
                        if options.create_only {
                            self.wrote(key, payload.len(), Some(&reply));
                        }
                        return Ok(());
                    };
                    retry.after_doubt(failure).await.map_err(|f| self.error(&call, f))?;
                    continue;
                }
                Err(failure) => failure,
            };
            if options.create_only && failure.class == Class::Precondition {
                if let Some(found) = self.head(key).await? {
                    return self.settle(key, &payload, &found).await;
                }
                // The object was deleted in between, so the key is free again.
                races += 1;
                if races > RACES_MAX {
                    let message = format!(
                        "{}: the store refuses the name as taken, and has no such object",
                        self.subject(&call)
                    );
                    let e = StoreError::new(ErrorKind::Transient, message);
                    // A store that goes on like this is broken, and not merely busy.
                    return Err(e.with_retry_after(Some(limits::BACKOFF_REFUSED)));
                }
            } else {
                ways.next(failure).map_err(|f| self.error(&call, f))?;
            }
        }
    }

    /// A PUT that may replace an object, otherwise like any other.
    pub(super) async fn put_scratch(&self, key: &str, payload: Payload) -> Result<()> {
        self.put(key, payload, PutOptions { created: Millis::now(), create_only: false }).await
    }

    /// Whether the store refuses a second create-only PUT of other content to `key`.
    pub(super) async fn probe_create_only(&self, key: &str) -> Result<bool> {
        let options = PutOptions { created: Millis::now(), create_only: true };
        self.put(key, Payload::new(vec![Bytes::from_static(b"first")]), options).await?;
        let ways = self.ways(true);
        if !ways.now.create_only {
            return Ok(false);
        }
        let second = Payload::new(vec![Bytes::from_static(b"second")]);
        let call = call(key, &second, options, ways.now).await;
        match self.run(&call).await {
            Ok(_) => {
                self.client.refused.create_only.store(true, Ordering::Relaxed);
                tracing::debug!(replica = %self.url, "the store ignores If-None-Match: LIST comes before PUT from now on");
                Ok(false)
            }
            Err(failure) if failure.class == Class::Precondition => Ok(true),
            Err(failure) => Err(self.error(&call, failure)),
        }
    }
}
