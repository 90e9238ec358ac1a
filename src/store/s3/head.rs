//! HEAD: the size, time, ETag and checksum of an object, without its content.

use std::sync::atomic::Ordering;

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, LAST_MODIFIED};
use http::{HeaderMap, Method};

use super::call::Call;
use super::failure::Class;
use super::headers::{CHECKSUM, CREATED};
use super::http_date::http_date;
use super::inner::Inner;
use super::optional_headers::may_be_refusal;
use super::web_page::unbelievable;
use crate::base::clock::Millis;
use crate::config::Checksum;
use crate::store::api::Result;
use crate::store::{ErrorKind, StoreError};

/// An object that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
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
        let plain = Call::new(Method::HEAD, Some(key));
        let refused = &self.client.refused.checksum_mode;
        let asks = self.location.quirks.checksum == Checksum::Crc32 && !refused.load(Ordering::Relaxed);
        let mut call =
            if asks { plain.clone().header("x-amz-checksum-mode", "ENABLED") } else { plain.clone() };
        let mut done = self.run(&call).await;
        // A HEAD response has no body that names the error. If the request succeeds without the
        // header, the header was the cause.
        if asks && done.as_ref().is_err_and(may_be_refusal) {
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
            Err(failure) => Err(self.error(&call, failure)),
        }
    }
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
