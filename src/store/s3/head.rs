//! HEAD: what is known of an object without its content.

use http::header::{CONTENT_LENGTH, ETAG, LAST_MODIFIED};
use http::{HeaderMap, Method};

use super::Inner;
use super::classify::http_date;
use super::failure::Class;
use super::put::{CHECKSUM, CREATED};
use super::request::Call;
use crate::base::clock::Millis;
use crate::store::{ErrorKind, Result, StoreError};

/// An object that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) size: u64,
    /// When it was uploaded.
    pub(super) modified: Millis,
    /// Timestamp of the LTX header, by metadata.
    pub(super) created: Option<Millis>,
    pub(super) etag: String,
    /// CRC-32 in Base64, as the store keeps it: of the content, or `...-N` of the checksums of N parts.
    pub(super) crc32: Option<String>,
}

impl Inner {
    /// `None` if there is no such object.
    pub(super) async fn head(&self, key: &str) -> Result<Option<Found>> {
        let call = Call::new(Method::HEAD, Some(key)).header("x-amz-checksum-mode", "ENABLED");
        match self.run(&call).await {
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

fn found(headers: &HeaderMap) -> Option<Found> {
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
