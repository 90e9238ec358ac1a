//! The order of the checks of a bucket.

use std::sync::Arc;
use std::time::Duration;

use super::requests::{REQUESTS, skip};
use super::{reach, rights};
use crate::base::clock::Millis;
use crate::base::finding::{Finding, Tell};
use crate::base::limits;
use crate::config::{Addressing, CredentialError, CredentialSource, Credentials, S3Location, Secret};
use crate::store::s3::inner::Inner;
use crate::store::s3::store::S3Store;
use crate::store::{ClientOptions, RetryPolicy};

/// Examines `location`, whose chain of credentials is set already; if there are none, `missing`
/// says why. `url` is its name in messages.
pub async fn examine(
    url: &str,
    location: &S3Location,
    missing: Option<CredentialError>,
    options: &ClientOptions,
    tell: Tell<'_>,
) {
    let mut location = location.clone();
    // The scratch upload has two parts, of the smallest size allowed.
    location.quirks.part_bytes = Some(limits::PART_BYTES_MIN);
    let options = ClientOptions { retry: patience(), spare: false, ..options.clone() };
    let missing = match location.credentials {
        CredentialSource::Missing => Some(missing.unwrap_or(CredentialError::Missing)),
        CredentialSource::Static(_) | CredentialSource::Provider(_) => None,
    };
    if missing.is_some() {
        // The connection can be examined without keys.
        location.credentials = CredentialSource::Static(Arc::new(nobody()));
    }
    let inner = match S3Store::open(url, &location, &options) {
        Ok(store) => store.inner,
        Err(e) => {
            tell(Finding::fail("tls", e.to_string()));
            return skip(&REQUESTS, "the endpoint cannot be used", tell);
        }
    };
    tell(Finding::ok("endpoint", place(&inner)));
    if !reach::reach(&inner, tell).await {
        return skip(&REQUESTS, "the server cannot be reached", tell);
    }
    if !credentials(&inner, missing, tell).await {
        return skip(&REQUESTS, "there are no credentials", tell);
    }
    rights::examine(&inner, tell).await;
}

/// A person is waiting, so there are fewer retries than in replication.
fn patience() -> RetryPolicy {
    RetryPolicy { total: Duration::from_secs(5), unreachable: Duration::ZERO, ..RetryPolicy::default() }
}

fn nobody() -> Credentials {
    Credentials {
        access_key_id: String::new(),
        secret_access_key: Secret::new(""),
        session_token: None,
        origin: String::new(),
        expires: None,
    }
}

fn place(inner: &Inner) -> String {
    let (location, url) = (&inner.location, reach::host_of(inner));
    format!(
        "{url} (from {}), region {} (from {}), bucket {} by {} (from {})",
        location.endpoint.origin,
        location.region.value,
        location.region.origin,
        location.bucket,
        match location.addressing.value {
            Addressing::Path => "path",
            Addressing::VirtualHost => "name",
        },
        location.addressing.origin,
    )
}

async fn credentials(inner: &Inner, missing: Option<CredentialError>, tell: Tell<'_>) -> bool {
    let found = match missing {
        Some(e) => Err(e),
        None => inner.location.credentials.credentials().await,
    };
    match found {
        Ok(keys) => {
            let until =
                keys.expires.map_or_else(String::new, |t| format!(", until {}", Millis::from_system(t)));
            let detail = format!("access key {} from {}{until}", keys.abbreviated_id(), keys.origin);
            tell(Finding::ok("credentials", detail));
            true
        }
        Err(e) => {
            tell(Finding::fail("credentials", e.to_string()));
            false
        }
    }
}
