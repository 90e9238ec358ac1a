//! HEAD: the size, time, ETag and checksum of an object, without its content.
//!
//! Some policies and gateways allow GET and refuse HEAD. There a GET of the first byte has the same
//! headers in its answer, and replaces HEAD for the rest of the process. So it does where HEAD does
//! not find what a GET reads.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use http::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, LAST_MODIFIED};
use http::{HeaderMap, Method, StatusCode};

use super::call::Call;
use super::failure::{Class, Failure};
use super::get::get_call;
use super::headers::{CHECKSUM, CREATED};
use super::http_date::http_date;
use super::inner::Inner;
use super::optional_headers::may_be_refusal;
use super::retry::Retry;
use super::web_page::unbelievable;
use crate::base::clock::Millis;
use crate::base::limits;
use crate::config::Checksum;
use crate::store::api::Result;
use crate::store::{ErrorKind, StoreError};

/// An object that exists.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Found {
    pub(super) size: u64,
    /// When it was uploaded.
    pub(super) modified: Millis,
    /// Timestamp of the LTX header, from the object's metadata.
    pub(super) created: Option<Millis>,
    pub(super) etag: String,
    /// CRC-32 in Base64 as the store keeps it: of the content, or `...-N` for the checksum of the
    /// checksums of N parts.
    pub(super) crc32: Option<String>,
}

impl Inner {
    /// Looks an object up. Returns `None` if there is no such object.
    pub(super) async fn head(&self, key: &str) -> Result<Option<Found>> {
        if self.client.refused.head.load(Ordering::Relaxed) {
            let call = get_call(key, 0..1);
            return self.head_by_get(&call).await.map_err(|f| self.error(&call, f));
        }
        let plain = Call::new(Method::HEAD, Some(key));
        let refused = &self.client.refused.checksum_mode;
        let asks = self.location.quirks.checksum == Checksum::Crc32 && !refused.load(Ordering::Relaxed);
        let mut call =
            if asks { plain.clone().header("x-amz-checksum-mode", "ENABLED") } else { plain.clone() };
        let mut done = self.run(&call).await;
        // A HEAD response has no body that names the error. If the request succeeds without the
        // header, the header was the cause.
        if asks && done.as_ref().is_err_and(|f| may_be_refusal(f) || f.status() == Some(403)) {
            call = plain;
            done = self.run(&call).await;
            let understood = match &done {
                Ok(_) => true,
                Err(failure) => failure.class == Class::Final(ErrorKind::NotFound),
            };
            if understood && !refused.swap(true, Ordering::Relaxed) {
                tracing::debug!(replica = %self.url, "the store refuses x-amz-checksum-mode: it is left out from now on");
            }
        }
        match done {
            Ok(reply) if is_web_page(&reply.headers) => {
                Err(self.error(&call, unbelievable("that of a web page", b"")))
            }
            Ok(reply) => match found(&reply.headers) {
                Some(found) => Ok(Some(found)),
                None => {
                    let message =
                        format!("{}: the answer lacks the length of the object", self.subject(&call));
                    Err(StoreError::new(ErrorKind::Corrupt, message))
                }
            },
            Err(failure) if failure.class == Class::Final(ErrorKind::NotFound) => Ok(None),
            Err(failure) if matches!(failure.status(), Some(403 | 405 | 501)) => {
                // An object that is not there proves nothing: some stores answer 404 to whatever a
                // policy does not allow. It does where another object answers.
                let found = match self.head_by_get(&get_call(key, 0..1)).await {
                    Ok(Some(found)) => Some(found),
                    Ok(None) if self.shows_listed().await => None,
                    _ => return Err(self.error(&call, failure)),
                };
                if !self.client.refused.head.swap(true, Ordering::Relaxed) {
                    tracing::debug!(replica = %self.url, error = %failure, "the store refuses HEAD: GET of one byte is sent from now on");
                }
                Ok(found)
            }
            Err(failure) => Err(self.error(&call, failure)),
        }
    }

    /// Whether a GET shows an object that a listing has named.
    async fn shows_listed(&self) -> bool {
        let listed = *self.listed_last.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(id) = listed else { return false };
        matches!(self.head_by_get(&get_call(&self.key(id), 0..1)).await, Ok(Some(_)))
    }

    /// Looks an object up that is known to have been there.
    pub(super) async fn head_of_stored(&self, key: &str) -> Result<Option<Found>> {
        match self.head(key).await? {
            Some(found) => Ok(Some(found)),
            None if self.client.refused.head.load(Ordering::Relaxed) => Ok(None),
            None => self.is_gone(key).await,
        }
    }

    /// Asks once more for an object that HEAD has not found: a server in front of the store may
    /// know GET alone, and what it misses would be stored again.
    async fn is_gone(&self, key: &str) -> Result<Option<Found>> {
        let call = get_call(key, 0..1);
        match self.head_by_get(&call).await {
            Ok(None) => Ok(None),
            Ok(Some(found)) => {
                if !self.client.refused.head.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        replica = %self.url,
                        "HEAD says that objects are missing which GET reads: GET of one byte is sent from now on"
                    );
                }
                Ok(Some(found))
            }
            Err(failure) => {
                let e = self.error(&call, failure);
                // Without the right to read there is nothing but HEAD.
                if e.is_transient() { Err(e) } else { Ok(None) }
            }
        }
    }

    /// Looks an object up by reading its first byte.
    async fn head_by_get(&self, call: &Call<'_>) -> std::result::Result<Option<Found>, Failure> {
        let mut retry = Retry::new(self, call);
        loop {
            let failure = match self.attempt(call, &retry.plan).await {
                Ok(answer) if is_web_page(&answer.headers) => unbelievable("that of a web page", b""),
                Ok(mut answer) => {
                    let is_part = answer.status == StatusCode::PARTIAL_CONTENT;
                    let size = if is_part { total(&answer.headers) } else { None };
                    if is_part {
                        // Reads the end of the message, so that the connection can be reused.
                        answer.body.collect(limits::ERROR_BYTES).await?;
                    }
                    match found(&answer.headers) {
                        Some(found) => return Ok(Some(Found { size: size.unwrap_or(found.size), ..found })),
                        None => unbelievable("without a length", b""),
                    }
                }
                Err(f) if f.class == Class::Final(ErrorKind::NotFound) => return Ok(None),
                // The object is empty: it has no first byte.
                Err(f) if f.status() == Some(416) => return Ok(Some(Found::default())),
                Err(failure) => failure,
            };
            retry.after(failure).await?;
        }
    }
}

/// The length of the object, in a response with a part of it.
fn total(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_RANGE)?.to_str().ok()?.rsplit_once('/')?.1.trim().parse().ok()
}

/// Objects of a replica are stored as application/octet-stream, never as HTML.
fn is_web_page(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|v| v.as_bytes().starts_with(b"text/html"))
}

pub(super) fn found(headers: &HeaderMap) -> Option<Found> {
    let text = |name| headers.get(name).and_then(|v: &http::HeaderValue| v.to_str().ok());
    let modified = text(LAST_MODIFIED.as_str()).and_then(http_date).map(Millis::from_system);
    Some(Found {
        size: text(CONTENT_LENGTH.as_str())?.parse().ok()?,
        modified: modified.unwrap_or_default(),
        created: text(CREATED).and_then(Millis::parse_rfc3339),
        etag: text(ETAG.as_str()).unwrap_or_default().to_owned(),
        crc32: text(CHECKSUM).map(str::to_owned),
    })
}
