//! Checks that a success response is true.
//!
//! # Overview
//!
//! A gateway under maintenance, a proxy with its own page or a full store may answer an upload with
//! 200 and store nothing. The response to a PUT is believed if it has S3's form: no body, an ETag,
//! and an ETag and a checksum that match the content where they can be compared. A response of
//! another form is doubtful. A HEAD then decides, and reading the object back where HEAD does not
//! suffice.
//!
//! Three more things are checked, each with one small request:
//!
//! - The first object of a process in a bucket exists (HEAD).
//! - The first object of a new replica is listed under its own name. A store that renames keys
//!   would still return the object by its name, but a restore would not find it.
//! - Each object made of parts exists with its length (HEAD), and with its checksum where the store
//!   keeps one.
//!
//! An ETag is the MD5 of the content only for an object that was written in one piece and is not
//! encrypted with a KMS key or a customer's key. A store with other ETags is remembered. So is a
//! store whose ETags are MD5s: an ETag of another form is then doubtful, and so is one without
//! content (`""`) at any store.

use std::fmt;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::HeaderMap;
use http::header::ETAG;

use super::body::Payload;
use super::call::Reply;
use super::classify::plain_text;
use super::failure::{Class, Failure};
use super::head::Found;
use super::headers::{CHECKSUM, base64_crc};
use super::inner::Inner;
use super::list::clean;
use super::pages::{Begin, readings};
use super::taken_key::Fingerprint;
use crate::base::untrusted;
use crate::store::api::Result;
use crate::store::{ErrorKind, StoreError};

/// Waits before a listing is repeated for an object that the store has but does not list. Some
/// listings lag by seconds.
const LIST_WAITS: [Duration; 4] =
    [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];

/// Why an upload counts as not stored if there is no such object.
const NOT_FOUND: &str = "HEAD does not find it";

/// The reason why a response to a PUT is doubtful.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Doubt {
    /// The response has a body; S3 sends none.
    Text(String),
    /// The response has no ETag.
    NoEtag,
    /// The ETag is the MD5 of other content.
    Etag(String),
    /// The ETag is no MD5, and those before were.
    Form(String),
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Doubt::Text(said) => write!(f, "the answer has the text \"{said}\""),
            Doubt::NoEtag => f.write_str("the answer has no ETag"),
            Doubt::Etag(md5) => write!(f, "the answer has the ETag of other content, {md5}"),
            Doubt::Form(etag) => {
                write!(f, "the answer has the ETag {}, and those before were MD5s", untrusted::quote(etag))
            }
        }
    }
}

/// The ETag without its marks.
fn bare(etag: &str) -> &str {
    etag.trim().trim_start_matches("W/").trim_matches('"').trim()
}

/// The MD5 that an ETag may hold, in lower-case hex.
fn md5_in(etag: &str) -> Option<String> {
    let bare = bare(etag);
    (bare.len() == 32 && bare.bytes().all(|b| b.is_ascii_hexdigit())).then(|| bare.to_ascii_lowercase())
}

/// Whether the response says that the object is encrypted with a key that keeps its ETag from being
/// an MD5.
fn is_encrypted(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
    text("x-amz-server-side-encryption").contains("kms")
        || headers.contains_key("x-amz-server-side-encryption-customer-algorithm")
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> &'h str {
    headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().trim()
}

/// The CRC-32 of the content in a response. An object made of parts has a checksum of checksums
/// (`...-N`) instead, which is left out.
fn crc_in(headers: &HeaderMap) -> Option<&str> {
    Some(text(headers, CHECKSUM)).filter(|c| !c.is_empty() && !c.contains('-'))
}

fn not_stored(found: &str) -> Failure {
    Failure::new(Class::Transient, format!("the store answers that the object is stored, but {found}"))
}

impl Inner {
    /// Checks that a PUT of `payload` with the response `reply` has stored it; returns the failure
    /// if not.
    pub(super) async fn believe(
        &self,
        key: &str,
        payload: &Payload,
        reply: &Reply,
    ) -> Result<Option<Failure>> {
        let crc32 = crc_in(&reply.headers);
        if let Some(crc32) = crc32.filter(|c| *c != base64_crc(payload.crc32())) {
            let found = format!("with the CRC-32 {}, not the one that was sent", untrusted::quote(crc32));
            return Ok(Some(not_stored(&found)));
        }
        let Some(doubt) = self.doubt(payload, reply, crc32.is_some()).await else { return Ok(None) };
        tracing::debug!(object = %self.object(key), %doubt, "the store is asked whether it has the object");
        let print = Fingerprint { size: payload.len(), crc32: payload.crc32(), composite: None };
        // The first time, an object of a store without ETags is read back; after that its HEAD
        // suffices.
        let whole = match doubt {
            Doubt::NoEtag => !self.client.bare_answers.load(Ordering::Relaxed),
            Doubt::Form(_) => false,
            Doubt::Text(_) | Doubt::Etag(_) => true,
        };
        if let Err(found) = self.compare_found(key, &print, self.head(key).await?, whole).await? {
            return Ok(Some(not_stored(&format!("{found} ({doubt})"))));
        }
        match doubt {
            Doubt::NoEtag => self.client.bare_answers.store(true, Ordering::Relaxed),
            Doubt::Text(_) | Doubt::Form(_) => {}
            Doubt::Etag(_) => {
                self.client.opaque_etags.store(true, Ordering::Relaxed);
                tracing::debug!(replica = %self.url, "the store's ETags are not MD5: they are not compared from now on");
            }
        }
        Ok(None)
    }

    /// The reason to doubt a response to a PUT, if there is one.
    async fn doubt(&self, payload: &Payload, reply: &Reply, has_crc: bool) -> Option<Doubt> {
        if !reply.body.trim_ascii().is_empty() {
            return Some(Doubt::Text(plain_text(&reply.body)));
        }
        let etag = text(&reply.headers, ETAG.as_str());
        if bare(etag).is_empty() {
            return Some(Doubt::NoEtag);
        }
        if self.client.opaque_etags.load(Ordering::Relaxed)
            || is_encrypted(&reply.headers)
            || self.extras.encrypts()
        {
            return None;
        }
        let md5 = md5_in(etag);
        if has_crc {
            // The checksum proves the content.
            if md5.is_some() {
                self.client.md5_etags.store(true, Ordering::Relaxed);
            }
            return None;
        }
        let Some(md5) = md5 else {
            return self.client.md5_etags.load(Ordering::Relaxed).then(|| Doubt::Form(etag.to_owned()));
        };
        if payload.md5().await != md5 {
            return Some(Doubt::Etag(md5));
        }
        self.client.md5_etags.store(true, Ordering::Relaxed);
        None
    }

    /// The ETag of a part, and whether it may be that of other content.
    pub(super) async fn believe_part(
        &self,
        payload: &Payload,
        reply: &Reply,
    ) -> std::result::Result<(String, bool), Failure> {
        let crc32 = crc_in(&reply.headers);
        if let Some(crc32) = crc32.filter(|c| *c != base64_crc(payload.crc32())) {
            let found = format!("with the CRC-32 {}, not the one that was sent", untrusted::quote(crc32));
            return Err(not_stored(&found));
        }
        let etag = text(&reply.headers, ETAG.as_str());
        if bare(etag).is_empty() {
            return Err(not_stored(&format!("the answer has no ETag (\"{}\")", plain_text(&reply.body))));
        }
        let doubt = self.doubt(payload, reply, crc32.is_some()).await;
        Ok((etag.to_owned(), doubt.is_some()))
    }

    /// Compares the result of HEAD with the content that was sent; `Err` says how they differ.
    /// `whole` asks for a proof of the content, which may read the whole object.
    async fn compare_found(
        &self,
        key: &str,
        print: &Fingerprint,
        found: Option<Found>,
        whole: bool,
    ) -> Result<std::result::Result<(), String>> {
        let Some(found) = found else { return Ok(Err(NOT_FOUND.to_owned())) };
        if found.size != print.size {
            return Ok(Err(format!("it has {} bytes, not {}", found.size, print.size)));
        }
        let same = match &found.crc32 {
            Some(crc32) if !crc32.contains('-') => *crc32 == base64_crc(print.crc32),
            Some(composite) if print.composite.as_ref() == Some(composite) => true,
            None if !whole => true,
            // A composite checksum that differs is also read back, because stores compute it in
            // different ways.
            _ if whole || print.composite.is_some() => self.crc_of(key, print.size).await? == print.crc32,
            _ => true,
        };
        Ok(if same { Ok(()) } else { Err("with other content".to_owned()) })
    }

    /// Checks that an object made of parts exists. `doubtful` means that the response to its
    /// completion was not that of a completion.
    pub(super) async fn prove_parts(&self, key: &str, print: &Fingerprint, doubtful: bool) -> Result<()> {
        let found = match self.head(key).await {
            // Without the right to read, a check is impossible; without a doubt, it is not needed.
            Err(e) if e.kind() == ErrorKind::Credentials && !doubtful => return Ok(()),
            found => found?,
        };
        let is_there = found.is_some();
        let compared = self.compare_found(key, print, found, doubtful).await?;
        compared.map_err(|why| match is_there {
            true => self.stored_wrong(key, &why),
            false => self.missing(key, &why),
        })
    }

    /// The store has completed the upload, and has not kept what was sent. No other program did
    /// that. The upload is not repeated at once, because the object exists.
    fn stored_wrong(&self, key: &str, why: &str) -> StoreError {
        let message = format!(
            "PUT {}: {}: the store, or a proxy before it, has damaged the upload",
            self.object(key),
            not_stored(why)
        );
        StoreError::new(ErrorKind::Fatal, message)
    }

    fn missing(&self, key: &str, why: &str) -> StoreError {
        let message = format!("PUT {}: {}", self.object(key), not_stored(why));
        StoreError::new(ErrorKind::Transient, message)
    }

    /// Makes the checks that are made once (see the top of this file). `size` is the length of the
    /// object just written.
    pub(super) async fn prove_first(&self, key: &str, size: u64) -> Result<()> {
        if !self.listed.load(Ordering::Relaxed) {
            self.prove_listed(key, size).await?;
            self.listed.store(true, Ordering::Relaxed);
            self.client.prove_once(&self.location.bucket);
            return Ok(());
        }
        if !self.client.is_proven(&self.location.bucket) {
            self.prove_there(key, size).await?;
            self.client.prove_once(&self.location.bucket);
        }
        Ok(())
    }

    async fn prove_there(&self, key: &str, size: u64) -> Result<()> {
        match self.head(key).await {
            Ok(Some(found)) if found.size == size => Ok(()),
            Ok(Some(found)) => Err(self.missing(key, &format!("it has {} bytes, not {size}", found.size))),
            Ok(None) => Err(self.missing(key, NOT_FOUND)),
            Err(e) if e.kind() == ErrorKind::Credentials => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// Checks that a listing contains the object under its own name.
    async fn prove_listed(&self, key: &str, size: u64) -> Result<()> {
        let mut waits = LIST_WAITS.iter();
        loop {
            match self.listed_size(key).await {
                Ok(Some(listed)) if listed == size => return Ok(()),
                Ok(Some(listed)) => {
                    return Err(self.missing(key, &format!("it is listed with {listed} bytes, not {size}")));
                }
                Ok(None) => {}
                // Without the right to list, HEAD is the check.
                Err(e) if e.kind() == ErrorKind::Credentials => return self.prove_there(key, size).await,
                Err(e) => return Err(e),
            }
            self.prove_there(key, size).await?;
            let Some(wait) = waits.next() else { break };
            tokio::time::sleep(*wait).await;
        }
        let root = format!("{}/", self.location.prefix);
        let others = self.list_page(&root, &Begin::First).await?;
        let other = others.entries.first().map_or_else(
            || format!("below {root} nothing is listed"),
            |e| format!("below {root} it lists {}", untrusted::quote(&e.key)),
        );
        Err(StoreError::new(
            ErrorKind::Fatal,
            format!(
                "PUT {}: the store has the object and does not list it under its name ({other}): it renames objects, or a \
                 proxy before it does, and no restore would find them; use the store without that, or another prefix",
                self.object(key)
            ),
        ))
    }

    /// The length of one object according to a listing. Some stores drop empty parts of keys.
    async fn listed_size(&self, key: &str) -> Result<Option<u64>> {
        let cleaned = clean(key).trim_end_matches('/').to_owned();
        for name in [key, cleaned.as_str()] {
            let page = self.list_page(name, &Begin::First).await?;
            let is_it = |listed: &str| readings(listed, page.url_encoded).any(|r| r == key || r == cleaned);
            if let Some(entry) = page.entries.iter().find(|e| is_it(&e.key)) {
                return Ok(Some(entry.size));
            }
            if cleaned == key {
                break;
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etags_that_may_be_md5() {
        let md5 = "d41d8cd98f00b204e9800998ecf8427e";
        for etag in [format!("\"{md5}\""), md5.to_owned(), format!("W/\"{md5}\""), md5.to_uppercase()] {
            assert_eq!(md5_in(&etag).as_deref(), Some(md5), "{etag}");
        }
        for other in
            ["\"x\"", "", "\"d41d8cd98f00b204e9800998ecf8427e-2\"", "zz1d8cd98f00b204e9800998ecf8427e"]
        {
            assert_eq!(md5_in(other), None, "{other}");
        }
        let headers = |name: &'static str, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, http::HeaderValue::from_static(value));
            headers
        };
        assert!(is_encrypted(&headers("x-amz-server-side-encryption", "aws:kms:dsse")));
        assert!(is_encrypted(&headers("x-amz-server-side-encryption-customer-algorithm", "AES256")));
        assert!(!is_encrypted(&headers("x-amz-server-side-encryption", "AES256")));
        assert_eq!(crc_in(&headers(CHECKSUM, "AAAAAA==")), Some("AAAAAA=="));
        assert_eq!(crc_in(&headers(CHECKSUM, "AAAAAA==-2")), None);
    }
}
