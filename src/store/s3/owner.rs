//! One writer for each replica, also at stores where a create-only PUT may replace an object.
//!
//! # Overview
//!
//! A second PUT of an object that this process has just written, with the same bytes, proves
//! whether the store honours `If-None-Match: *`. A 412 is the proof. A store that accepts the PUT
//! has replaced the object with an identical one.
//!
//! Where the condition is not honoured, a small LIST precedes each create-only PUT. It begins at
//! the newest object that this process wrote. It shows whether that object is still the one written
//! here, and whether a later one exists.
//!
//! # Limits
//!
//! The time between the LIST and the end of the PUT is not covered. A write by another program in
//! that time is found before the next PUT.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::Method;
use http::header::ETAG;

use super::body::Payload;
use super::call::{Call, Reply};
use super::encode::decode_key;
use super::failure::Class;
use super::head::Found;
use super::inner::Inner;
use super::written::{Written, bare};
use super::{put, xml};
use crate::base::clock::Millis;
use crate::base::limits;
use crate::store::api::{CreateOnly, PutOptions, Result};
use crate::store::{ErrorKind, StoreError};

impl Inner {
    /// Records the newest object of this process, if LIST checks need it. `reply` is the response
    /// to its PUT, if one with an ETag exists.
    pub(super) fn wrote(&self, key: &str, size: u64, reply: Option<&Reply>) {
        if self.ways(true).now.create_only {
            return;
        }
        let etag = reply.and_then(|r| r.headers.get(ETAG)).and_then(|v| v.to_str().ok()).map(bare);
        let written = Written { key: key.to_owned(), etag: etag.unwrap_or_default(), size };
        *self.written.lock().unwrap_or_else(PoisonError::into_inner) = Some(written);
    }

    /// Forgets the newest object of this process.
    pub(super) fn forget_written(&self) {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Like `wrote`, for an object that was found to be this process's own.
    pub(super) fn wrote_found(&self, key: &str, found: &Found) {
        if self.ways(true).now.create_only {
            return;
        }
        let written = Written { key: key.to_owned(), etag: bare(&found.etag), size: found.size };
        *self.written.lock().unwrap_or_else(PoisonError::into_inner) = Some(written);
    }

    /// Looks for an object at the key of a create-only PUT, for a store that would replace it.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] if another program has replaced the newest object of this process,
    /// or has written a later one.
    pub(super) async fn taken(&self, key: &str) -> Result<Option<Found>> {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(written) = written.filter(|w| w.key.as_str() < key) else { return self.head(key).await };
        let entries = self.list_from(&written.key, key).await?;
        let newest = entries.iter().find(|e| e.0 == written.key);
        let later = entries.iter().map(|e| e.0.as_str()).filter(|k| *k > written.key.as_str()).min();
        match (newest, later) {
            (Some((_, etag, size)), _) if !written.is(etag, *size) => Err(self.replaced(&written.key)),
            (Some(_), None) => Ok(None),
            (_, Some(later)) if later < key => Err(self.replaced(later)),
            (Some(_), Some(_)) => self.head(key).await,
            // The listing was truncated before the object, or the object no longer exists.
            (None, _) => {
                if let Some(found) = self.head(&written.key).await?
                    && !written.is(&found.etag, found.size)
                {
                    return Err(self.replaced(&written.key));
                }
                self.head(key).await
            }
        }
    }

    /// Key, ETag and size of the objects from `first` to `next`. The common prefix of both keys
    /// bounds the response at stores that ignore `start-after`.
    async fn list_from(&self, first: &str, next: &str) -> Result<Vec<(String, String, u64)>> {
        let same = first.bytes().zip(next.bytes()).take_while(|(a, b)| a == b).count();
        // Both keys begin with the replica's prefix and are ASCII after it, so `same` is a
        // character boundary.
        let prefix = first.get(..same).unwrap_or_default();
        // `start-after` is exclusive; the key without its suffix sorts just before the object.
        let before = first.strip_suffix(".ltx").unwrap_or(first);
        let call = Call::new(Method::GET, None)
            .query("list-type", "2")
            .query("max-keys", "1000")
            .query("prefix", prefix)
            .query("start-after", before);
        let reply = self.run_listing(&call).await.map_err(|f| self.error(&call, f))?;
        let Ok(page) = xml::list(&reply.body) else { return Ok(Vec::new()) };
        let read = |listed: &str| match page.url_encoded && !listed.starts_with(prefix) {
            true => decode_key(listed, true),
            false => listed.to_owned(),
        };
        Ok(page.entries.iter().map(|e| (read(&e.key), e.etag.clone(), e.size)).collect())
    }

    fn replaced(&self, key: &str) -> StoreError {
        let message = format!(
            "{} exists already, and is not what this lsfast wrote: another program writes to this replica; stop one of \
             the two, or give this database a path of its own, and see what lsfast verify says",
            self.object(key)
        );
        StoreError::new(ErrorKind::Conflict, message)
    }

    /// Checks whether the store keeps a create-only PUT from replacing an object, with a second PUT
    /// of `payload`, which this process has just written at `key`. Returns `None` if that was
    /// checked within [`limits::CREATE_ONLY_PROOF`].
    pub(super) async fn prove_create_only(
        &self,
        key: &str,
        payload: Payload,
        options: PutOptions,
    ) -> Result<Option<CreateOnly>> {
        let now = Millis::now();
        let before = self.client.create_only_proven.load(Ordering::Relaxed);
        let fresh = i64::try_from(limits::CREATE_ONLY_PROOF.as_millis()).unwrap_or(i64::MAX);
        if (0..fresh).contains(&(now.0 - before)) {
            return Ok(None);
        }
        let ways = self.ways(true);
        let mut answer = None;
        let mut honoured = ways.now.create_only;
        if honoured {
            self.sum(&payload).await;
            let mut call = put::call(key, &payload, options, ways.now).await;
            // A later batch proves it.
            call.patience = Some(Duration::ZERO);
            honoured = match self.run(&call).await {
                Ok(reply) => {
                    answer = Some(reply);
                    false
                }
                Err(failure) if failure.class == Class::Precondition => true,
                Err(failure) => return Err(self.error(&call, failure)),
            };
        }
        let proof = CreateOnly { proven: now, honoured };
        self.know_create_only(proof);
        if let Some(reply) = answer {
            self.wrote(key, payload.len(), Some(&reply));
        }
        Ok(Some(proof))
    }

    /// Takes over a proof, made now or by an earlier process.
    pub(super) fn know_create_only(&self, proof: CreateOnly) {
        self.client.create_only_proven.store(proof.proven.0, Ordering::Relaxed);
        let refused = &self.client.refused.create_only;
        if proof.honoured || self.client.create_only_warned.swap(true, Ordering::Relaxed) {
            refused.fetch_or(!proof.honoured, Ordering::Relaxed);
            return;
        }
        refused.store(true, Ordering::Relaxed);
        tracing::warn!(
            replica = %self.url,
            "the store does not keep a PUT with If-None-Match from replacing an object: a LIST before each upload sees to it that \
             no other program writes this replica; make sure that none does"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_ours_by_its_etag_and_size() {
        let ours = Written { key: "k".into(), etag: "ab".into(), size: 7 };
        assert!(ours.is("\"AB\"", 7) && ours.is("", 7));
        assert!(!ours.is("\"ab\"", 8) && !ours.is("\"cd\"", 7));
        assert!(Written { etag: String::new(), ..ours }.is("\"cd\"", 7));
    }
}
