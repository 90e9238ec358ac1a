//! DeleteObjects in batches, or one DELETE for each object where the store lacks DeleteObjects.
//!
//! A store that has no failure to report may answer with an empty body. That could be a server that
//! did not understand the request, so one of the objects is looked for.

use std::sync::atomic::Ordering;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::Method;
use md5::{Digest, Md5};

use super::call::Call;
use super::failure::{Class, Failure};
use super::inner::Inner;
use super::optional_headers::may_be_refusal;
use super::retry::Retry;
use super::xml;
use crate::base::{count, limits, untrusted};
use crate::store::api::Result;
use crate::store::{ErrorKind, StoreError};

/// Error codes of single objects for which a retry may succeed.
const LATER: [&str; 4] = ["InternalError", "SlowDown", "ServiceUnavailable", "OperationAborted"];

impl Inner {
    /// Deletes objects. A missing object is not an error.
    pub(super) async fn delete(&self, keys: &[String]) -> Result<()> {
        for batch in keys.chunks(limits::DELETE_BATCH) {
            if batch.len() == 1 || self.client.refused.batch_delete.load(Ordering::Relaxed) {
                for key in batch {
                    self.delete_one(key).await?;
                }
            } else {
                self.delete_batch(batch).await?;
            }
        }
        Ok(())
    }

    pub(super) async fn delete_one(&self, key: &str) -> Result<()> {
        let call = Call::new(Method::DELETE, Some(key));
        match self.run(&call).await {
            Ok(_) => Ok(()),
            Err(failure) if failure.class == Class::Final(ErrorKind::NotFound) => Ok(()),
            Err(failure) => Err(self.error(&call, failure)),
        }
    }

    async fn delete_batch(&self, batch: &[String]) -> Result<()> {
        let mut left: Vec<&str> = batch.iter().map(String::as_str).collect();
        let mut call = delete_call(&left);
        let mut retry = Retry::new(self, &call);
        while !left.is_empty() {
            let failure = match self.attempt_whole(&call, &retry.plan, limits::XML_BYTES).await {
                Ok(reply) if reply.body.trim_ascii().is_empty() => {
                    if self.is_still_there(left[0]).await? {
                        self.delete_each(&left, true).await?;
                    }
                    return Ok(());
                }
                Ok(reply) => match self.not_deleted(&reply.body, &mut left)? {
                    Some(later) => later,
                    None => return Ok(()),
                },
                // The bucket is there, or the code would say so: the route is missing.
                Err(failure) if failure.class == Class::Final(ErrorKind::NotFound) => {
                    return self.delete_each(&left, true).await;
                }
                Err(failure) if may_be_refusal(&failure) => {
                    return self.delete_each(&left, failure.class == Class::Unsupported).await;
                }
                Err(failure) => failure,
            };
            retry.after(failure).await.map_err(|f| self.error(&call, f))?;
            call = delete_call(&left);
        }
        Ok(())
    }

    /// One DELETE for each object: for this batch, or from now on.
    async fn delete_each(&self, keys: &[&str], from_now_on: bool) -> Result<()> {
        if from_now_on && !self.client.refused.batch_delete.swap(true, Ordering::Relaxed) {
            tracing::debug!(replica = %self.url, "the store has no DeleteObjects: one DELETE each from now on");
        }
        for key in keys {
            self.delete_one(key).await?;
        }
        Ok(())
    }

    /// Whether an object is there, as far as the store lets it be known.
    async fn is_still_there(&self, key: &str) -> Result<bool> {
        match self.head(key).await {
            Ok(found) => Ok(found.is_some()),
            Err(e) if e.is_transient() => Err(e),
            Err(_) => Ok(false),
        }
    }

    /// Reads which objects were not deleted. Keeps in `left` those that can be retried, and returns
    /// the failure to back off for.
    fn not_deleted(&self, body: &[u8], left: &mut Vec<&str>) -> Result<Option<Failure>> {
        let subject = format!("DELETE s3://{}", self.location.bucket);
        let errors = xml::delete_errors(body)
            .map_err(|e| StoreError::new(ErrorKind::Corrupt, format!("{subject}: {e}")).with_source(e))?;
        let failed: Vec<_> = errors
            .into_iter()
            .filter(|e| !matches!(e.code.as_str(), "NoSuchKey" | "NoSuchVersion"))
            .collect();
        if let Some(e) = failed.iter().find(|e| !LATER.contains(&e.code.as_str())) {
            let kind = if e.code == "AccessDenied" { ErrorKind::Credentials } else { ErrorKind::Fatal };
            let advice = if e.code == "AccessDenied" { "; allow s3:DeleteObject on it" } else { "" };
            return Err(StoreError::new(
                kind,
                format!(
                    "{subject}: {} of {} still there, among them {} ({}: {}){advice}",
                    failed.len(),
                    count(left.len(), "object"),
                    untrusted::quote(&e.key),
                    untrusted::quote(&e.code),
                    untrusted::quote(&e.message).trim_end_matches('.')
                ),
            ));
        }
        let Some(first) = failed.first() else { return Ok(None) };
        let failure = Failure::new(
            Class::Transient,
            format!(
                "{} still there ({})",
                if failed.len() == 1 {
                    "1 object is".to_owned()
                } else {
                    format!("{} objects are", failed.len())
                },
                untrusted::quote(&first.code)
            ),
        );
        left.retain(|key| failed.iter().any(|e| e.key == *key));
        Ok(Some(failure))
    }
}

fn delete_call<'a>(keys: &[&str]) -> Call<'a> {
    let xml = xml::delete_request(keys.iter().copied());
    // S3 requires proof that the list of keys arrived whole; Content-MD5 is the form that every
    // store knows.
    let md5 = BASE64.encode(Md5::digest(xml.as_bytes()));
    Call::new(Method::POST, None).query("delete", "").header("content-md5", md5).xml(xml)
}
