//! Decides who wrote an object, when the key of a create-only PUT turns out to be taken.

use super::body::Payload;
use super::head::Found;
use super::headers::base64_crc;
use super::inner::Inner;
use crate::base::{limits, untrusted};
use crate::store::api::Result;
use crate::store::{ErrorKind, StoreError};

/// Size and checksums of content that may no longer be in memory.
#[derive(Debug, Clone)]
pub(super) struct Fingerprint {
    pub(super) size: u64,
    pub(super) crc32: u32,
    /// The store's checksum of an object made of parts, if each part was sent with one.
    pub(super) composite: Option<String>,
}

impl Inner {
    /// Succeeds if the object found at `key` equals `payload`; otherwise returns a conflict.
    pub(super) async fn settle(&self, key: &str, payload: &Payload, found: &Found) -> Result<()> {
        let same = if found.size != payload.len() {
            false
        } else if let Some(crc32) = whole_crc(found) {
            crc32 == base64_crc(payload.crc32())
        } else {
            payload.equals(&self.get(key, 0..payload.len()).await?)
        };
        if same { self.note_own(key, found) } else { Err(self.conflict(key, payload.len(), found)) }
    }

    /// Like `settle`, for content of which only the fingerprint is left.
    pub(super) async fn settle_by(&self, key: &str, print: &Fingerprint, found: &Found) -> Result<()> {
        let same = if found.size != print.size {
            false
        } else if let Some(crc32) = whole_crc(found) {
            crc32 == base64_crc(print.crc32)
        } else if print.composite.is_some() && found.crc32.is_some() {
            found.crc32 == print.composite
        } else {
            self.crc_of(key, print.size).await? == print.crc32
        };
        if same { self.note_own(key, found) } else { Err(self.conflict(key, print.size, found)) }
    }

    fn note_own(&self, key: &str, found: &Found) -> Result<()> {
        self.wrote_found(key, found);
        tracing::debug!(object = %self.object(key), "the object is there already, with the same content");
        Ok(())
    }

    /// The CRC-32 of an object, which is read in pieces.
    pub(super) async fn crc_of(&self, key: &str, size: u64) -> Result<u32> {
        let mut crc = crc32fast::Hasher::new();
        let mut at = 0;
        while at < size {
            let end = size.min(at + limits::GET_PART_BYTES);
            let piece = self.get(key, at..end).await?;
            if piece.is_empty() {
                break;
            }
            at += piece.len() as u64;
            crc.update(&piece);
        }
        Ok(crc.finalize())
    }

    pub(super) fn conflict(&self, key: &str, size: u64, found: &Found) -> StoreError {
        let etag = if found.etag.is_empty() {
            String::new()
        } else {
            format!(", ETag {}", untrusted::quote(&found.etag))
        };
        StoreError::new(
            ErrorKind::Conflict,
            format!(
                "{} exists already with other content: {} bytes, written {}{etag}, where lsfast has {size} bytes to \
                 write; another program writes to this replica: stop it, or give this database a path of its own",
                self.object(key),
                found.size,
                found.modified,
            ),
        )
    }
}

/// The store's CRC-32 of the content. An object made of parts has a checksum of checksums (`...-N`)
/// instead, which is left out.
fn whole_crc(found: &Found) -> Option<&str> {
    found.crc32.as_deref().filter(|c| !c.contains('-'))
}
