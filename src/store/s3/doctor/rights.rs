//! Tries each request that replication makes, on scratch objects.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::Method;

use super::requests::{REQUESTS, skip};
use crate::base::clock::Millis;
use crate::base::finding::{Finding, Tell};
use crate::base::limits;
use crate::config::{Addressing, Checksum, Origin};
use crate::store::ErrorKind;
use crate::store::api::{PutOptions, Upload as _};
use crate::store::s3::body::Payload;
use crate::store::s3::call::Call;
use crate::store::s3::failure::{Class, Failure};
use crate::store::s3::headers::CHECKSUM;
use crate::store::s3::inner::Inner;
use crate::store::s3::multipart::Parts;
use crate::store::s3::store::S3Store;
use crate::store::s3::{copy, xml};

/// Size of the scratch object, in bytes.
const SCRATCH_BYTES: usize = 4096;

/// Makes all checks. Stops where the remaining ones make no sense, and always deletes its scratch
/// objects.
pub(super) async fn examine(inner: &Arc<Inner>, tell: Tell<'_>) {
    if !admitted(inner, tell).await {
        return skip(&REQUESTS[3..], "the bucket cannot be used", tell);
    }
    let name = format!("doctor-{:016x}", fastrand::u64(..));
    let keys: Vec<String> =
        ["", "-copy", "-parts"].iter().map(|end| inner.scratch_key(&format!("{name}{end}"))).collect();
    let content =
        Bytes::from(std::iter::repeat_with(|| fastrand::u8(..)).take(SCRATCH_BYTES).collect::<Vec<_>>());
    let made = write_and_read(inner, &keys[0], &content, tell).await;
    if made {
        create_only(inner, tell).await;
        copied(inner, &keys[0], &keys[1], tell).await;
        in_parts(inner, &keys[2], tell).await;
    } else {
        skip(&REQUESTS[7..], "no object can be written", tell);
    }
    // Also deletes objects that seem not to exist, because a response may have been lost.
    removed(inner, &keys, made, tell).await;
}

/// Lists one key below the prefix, to check the signature, the bucket, the region and the right to
/// list.
async fn admitted(inner: &Arc<Inner>, tell: Tell<'_>) -> bool {
    let prefix = format!("{}/", inner.location.prefix);
    let call = Call::new(Method::GET, None)
        .query("list-type", "2")
        .query("max-keys", "1")
        .query("prefix", prefix.as_str());
    let failure = match inner.run_bounded(&call, limits::XML_BYTES).await {
        Ok(reply) => {
            tell(Finding::ok("signature", "the store accepts it"));
            bucket(inner, tell);
            match xml::list(&reply.body) {
                Ok(_) => tell(Finding::ok("list", format!("below {prefix}"))),
                Err(e) => tell(Finding::fail("list", format!("the listing cannot be read: {e}"))),
            }
            return true;
        }
        Err(failure) => failure,
    };
    refused(inner, &failure, tell).await
}

/// Reports the bucket's region, and whether it differs from the configured one.
fn bucket(inner: &Inner, tell: Tell<'_>) {
    let (name, region) = (&inner.location.bucket, inner.region());
    let configured = &inner.location.region;
    if region == configured.value {
        tell(Finding::ok("bucket", format!("{name} in region {region}")));
    } else {
        let detail =
            format!("{name} is in region {region}, not in {} (from {})", configured.value, configured.origin);
        tell(Finding::warn(
            "bucket",
            detail,
            format!("write region={region}, which saves a request at each start"),
        ));
    }
}

/// Reports a refused listing. Returns true if further checks make sense.
async fn refused(inner: &Arc<Inner>, failure: &Failure, tell: Tell<'_>) -> bool {
    let message = failure.message.clone();
    match failure.class {
        // Other rights may exist without the right to list.
        Class::Credentials if matches!(failure.code(), "AccessDenied" | "AllAccessDisabled") => {
            // Some stores answer so for wrong keys too.
            tell(Finding::ok("signature", "the store does not complain about it"));
            bucket(inner, tell);
            tell(Finding::fail("list", message));
            return true;
        }
        Class::Final(ErrorKind::NoBucket | ErrorKind::WrongRegion) | Class::OtherRegion => {
            tell(Finding::ok("signature", "the store does not complain about it"));
            let mut finding = Finding::fail("bucket", message);
            if let Some(advice) = other_addressing(inner).await {
                finding = finding.advise(advice);
            }
            tell(finding);
        }
        _ => {
            let mut finding = Finding::fail("signature", message);
            if !matches!(failure.class, Class::Credentials | Class::Skewed)
                && let Some(advice) = other_addressing(inner).await
            {
                finding = finding.advise(advice);
            }
            tell(finding);
            tell(Finding::skipped("bucket", "the request was not admitted"));
        }
    }
    tell(Finding::skipped("list", "the bucket cannot be used"));
    false
}

/// Returns advice if the bucket answers to the other addressing style, where the user set none.
async fn other_addressing(inner: &Arc<Inner>) -> Option<String> {
    let mut location = inner.location.clone();
    if location.addressing.origin != Origin::Default || location.endpoint.value.is_aws() {
        return None;
    }
    let (other, write) = match location.addressing.value {
        Addressing::Path => (Addressing::VirtualHost, "force-path-style=false"),
        Addressing::VirtualHost => (Addressing::Path, "force-path-style=true"),
    };
    location.addressing.value = other;
    let store = S3Store::open(&inner.url, &location, &inner.options).ok()?;
    let call = Call::new(Method::GET, None).query("list-type", "2").query("max-keys", "1");
    let reply = store.inner.run_bounded(&call, limits::XML_BYTES).await.ok()?;
    xml::list(&reply.body).ok()?;
    Some(format!("this server names buckets the other way: write {write}"))
}

/// Checks PUT, checksum, GET and HEAD. Returns true if the object exists.
async fn write_and_read(inner: &Inner, key: &str, content: &Bytes, tell: Tell<'_>) -> bool {
    let object = inner.object(key);
    if let Err(e) = inner.put_scratch(key, Payload::new(vec![content.clone()])).await {
        tell(Finding::fail("put", e.to_string()));
        skip(&["checksum", "get", "head"], "no object can be written", tell);
        return false;
    }
    tell(Finding::ok("put", format!("{object}, {} bytes", content.len())));
    if inner.location.quirks.checksum == Checksum::None {
        tell(Finding::ok("checksum", "not sent (checksum=none)"));
    } else if inner.client.refused.checksum.load(Ordering::Relaxed) {
        let advice = "write checksum=none, which saves a request at each start; what is uploaded is then protected by TLS only";
        tell(Finding::warn("checksum", format!("the store refuses {CHECKSUM}"), advice));
    } else {
        tell(Finding::ok("checksum", format!("{CHECKSUM} is accepted")));
    }
    match inner.get(key, 0..u64::MAX).await {
        Ok(read) if read == *content => tell(Finding::ok("get", "the same bytes")),
        Ok(read) => tell(Finding::fail(
            "get",
            format!(
                "{object} came back as {} other bytes: something between here and the store changes what passes",
                read.len()
            ),
        )),
        Err(e) => tell(Finding::fail("get", e.to_string())),
    }
    match inner.head(key).await {
        Ok(Some(found)) if found.size == content.len() as u64 => tell(Finding::ok("head", "the same length")),
        Ok(Some(found)) => {
            tell(Finding::fail("head", format!("{object} has {} bytes, not {}", found.size, content.len())));
        }
        Ok(None) => tell(Finding::fail("head", format!("{object} is not found right after it was written"))),
        Err(e) => tell(Finding::fail("head", e.to_string())),
    }
    true
}

async fn create_only(inner: &Inner, tell: Tell<'_>) {
    const ADVICE: &str = "a second writer on the same path is noticed by a LIST before each upload: let only one lsfast write to a path";
    let key = inner.scratch_key(&format!("probe-{:016x}", fastrand::u64(..)));
    let probed = inner.probe_create_only(&key).await;
    if let Err(e) = inner.delete_one(&key).await {
        tracing::debug!(object = %inner.object(&key), error = %e, "a scratch object stays at the store");
    }
    match probed {
        Ok(true) => tell(Finding::ok("create-only", "If-None-Match keeps objects from being replaced")),
        Ok(false) => tell(Finding::warn(
            "create-only",
            "the store ignores or refuses If-None-Match: it replaces an object that must not be",
            ADVICE,
        )),
        Err(e) => tell(Finding::fail("create-only", e.to_string())),
    }
}

async fn copied(inner: &Arc<Inner>, from: &str, to: &str, tell: Tell<'_>) {
    match copy::copy(inner, from, to, replacing()).await {
        Ok(()) if inner.client.refused.copy.load(Ordering::Relaxed) => tell(Finding::warn(
            "copy",
            "the store cannot copy objects",
            "copies go through this host, which costs traffic each time images and levels are made",
        )),
        Ok(()) => tell(Finding::ok("copy", "within the store")),
        Err(e) => tell(Finding::fail("copy", e.to_string())),
    }
}

async fn in_parts(inner: &Arc<Inner>, key: &str, tell: Tell<'_>) {
    let size = limits::PART_BYTES_MIN + 1;
    let sent = async {
        let mut parts = Box::new(Parts::new(Arc::clone(inner), key.to_owned(), size, replacing())?);
        // If it is dropped before its end, the upload is aborted.
        parts.write(Bytes::from(vec![0x5a; usize::try_from(size).unwrap_or(usize::MAX)])).await?;
        parts.finish().await?;
        inner.head(key).await
    };
    match sent.await {
        Ok(Some(found)) if found.size == size => {
            tell(Finding::ok("multipart", format!("two parts, {size} bytes")));
        }
        Ok(found) => {
            let has = found.map_or_else(|| "is not there".into(), |f| format!("has {} bytes", f.size));
            tell(Finding::fail(
                "multipart",
                format!("after an upload in parts the object {has}, not {size} bytes"),
            ));
        }
        Err(e) => tell(
            Finding::fail("multipart", e.to_string())
                .advise("databases larger than one part cannot be stored without it"),
        ),
    }
}

fn replacing() -> PutOptions {
    PutOptions { created: Millis::now(), create_only: false }
}

/// Deletes the scratch objects, and names each one that remains.
async fn removed(inner: &Inner, keys: &[String], made: bool, tell: Tell<'_>) {
    let mut wrong = Vec::new();
    // In one batch, as retention deletes.
    if let Err(e) = inner.delete(keys).await {
        wrong.push(e.to_string());
        for key in keys {
            if let Err(e) = inner.delete_one(key).await {
                tracing::debug!(object = %inner.object(key), error = %e, "a scratch object stays at the store");
            }
        }
    }
    let one_by_one = inner.client.refused.batch_delete.load(Ordering::Relaxed);
    if !made {
        // Deleting an object that does not exist proves little about the right to delete.
        return;
    }
    match (wrong.first(), inner.head(&keys[0]).await) {
        (Some(first), _) => tell(
            Finding::fail("delete", first.clone())
                .advise(format!("remove by hand what is below {}", inner.object(&inner.scratch_key("")))),
        ),
        (None, Ok(Some(_))) => {
            tell(Finding::fail(
                "delete",
                format!("{} is still there after it was deleted", inner.object(&keys[0])),
            ));
        }
        (None, _) if one_by_one => {
            tell(Finding::ok("delete", "the scratch objects are gone, one DELETE for each"));
        }
        (None, _) => tell(Finding::ok("delete", "the scratch objects are gone, by one DeleteObjects")),
    }
}
