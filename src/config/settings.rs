//! The settings of a resolved bucket (region, style, quirks, keys), and checks of their values.

use std::path::PathBuf;
use std::sync::Arc;

use super::endpoint::Recognised;
use super::error::ConfigError;
use super::quirks::{Addressing, Checksum, Quirks, SignPayload};
use super::sourced::{Origin, Sourced};
use super::{CredentialSource, Credentials, Endpoint, ReplicaFields, Secret, provider};
use crate::base::limits;

const REGION_DEFAULT: &str = "us-east-1";

/// Settings of a bucket that become headers or limits. None of them is secret.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct S3Settings {
    /// Whether the requester pays for requests to the bucket.
    pub requester_pays: bool,
    /// The account that the bucket must belong to.
    pub expected_bucket_owner: Option<String>,
    /// Storage class of uploaded objects.
    pub storage_class: Option<String>,
    /// Id of an AWS KMS key.
    pub sse_kms_key_id: Option<String>,
    /// How many parts are in flight at the same time.
    pub concurrency: Option<u32>,
}

impl S3Settings {
    /// Takes the settings out of the fields.
    ///
    /// # Errors
    /// [`ConfigError`], if a value cannot be part of a header.
    pub(super) fn of(fields: &ReplicaFields) -> Result<S3Settings, ConfigError> {
        let header = |name, field: &Option<Sourced<String>>| {
            check_header(name, field.as_ref())?;
            Ok(field.as_ref().map(|f| f.value.clone()))
        };
        Ok(S3Settings {
            requester_pays: fields.requester_pays.as_ref().is_some_and(|pays| pays.value),
            expected_bucket_owner: header("expected-bucket-owner", &fields.expected_bucket_owner)?,
            storage_class: header("storage-class", &fields.storage_class)?,
            sse_kms_key_id: header("sse-kms-key-id", &fields.sse_kms_key_id)?,
            concurrency: fields.concurrency.as_ref().map(|c| c.value),
        })
    }
}

/// A key of the customer for encryption by the server (SSE-C).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomerKey {
    /// The algorithm, as in the header.
    pub algorithm: String,
    /// The key, or where it is.
    pub place: KeyPlace,
}

/// Where a customer's key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyPlace {
    /// Given in the configuration.
    Text(Secret),
    File(PathBuf),
}

impl CustomerKey {
    pub(super) fn of(fields: &ReplicaFields) -> Option<CustomerKey> {
        let place = match (&fields.sse_customer_key, &fields.sse_customer_key_path) {
            (Some(key), _) => KeyPlace::Text(key.value.clone()),
            (None, Some(path)) => KeyPlace::File(path.value.clone()),
            (None, None) => return None,
        };
        let algorithm = fields.sse_customer_algorithm.as_ref().map_or("AES256", |a| &a.value).to_owned();
        Some(CustomerKey { algorithm, place })
    }
}

/// The endpoint and what its name reveals, with bucket and prefix.
pub(super) struct Found {
    pub(super) endpoint: Sourced<Endpoint>,
    pub(super) server: Recognised,
    pub(super) bucket: String,
    pub(super) prefix: String,
    pub(super) access_point: Option<String>,
}

/// The name of a value in messages: that of its parameter, flag or variable, if that suffices.
pub(super) fn what(name: &str, origin: &Origin) -> String {
    match origin {
        Origin::Url => format!("parameter {name}"),
        Origin::Flag(flag) => format!("--{flag}"),
        Origin::Env(variable) => (*variable).to_owned(),
        other => format!("{name} from {other}"),
    }
}

pub(super) fn check_region(region: &Sourced<String>) -> Result<(), ConfigError> {
    // The region becomes part of a host name and of a header.
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    if region.value.is_empty() || region.value.len() > 64 || !region.value.bytes().all(fits) {
        return Err(ConfigError::Value {
            what: format!("region from {}", region.origin),
            value: region.value.clone(),
            expected: "a region such as eu-central-1",
        });
    }
    Ok(())
}

pub(super) fn region(
    found: &Found,
    fields: &ReplicaFields,
    env: Option<&Sourced<String>>,
) -> Result<Sourced<String>, ConfigError> {
    let in_name = || {
        let origin = match found.server.provider {
            Some(p) if matches!(p.region, provider::Region::Always(_)) => Origin::Provider(p.name),
            _ => Origin::Endpoint,
        };
        found.server.region.clone().map(|r| Sourced::new(r, origin))
    };
    let region = fields
        .region
        .clone()
        .or_else(in_name)
        .or_else(|| env.cloned())
        .unwrap_or_else(|| Sourced::new(REGION_DEFAULT.to_owned(), Origin::Default));
    check_region(&region)?;
    Ok(region)
}

pub(super) fn addressing(found: &Found, fields: &ReplicaFields) -> Sourced<Addressing> {
    if let Some(style) = found.server.addressing {
        return Sourced::new(style, Origin::Endpoint);
    }
    if let Some(path) = &fields.force_path_style {
        let value = if path.value { Addressing::Path } else { Addressing::VirtualHost };
        return Sourced::new(value, path.origin.clone());
    }
    // A certificate for *.s3.REGION.amazonaws.com covers only one label, so a bucket with a dot
    // goes into the path.
    let is_label = found.bucket.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    match (found.server.provider, &found.endpoint.value) {
        (_, Endpoint::Aws { .. }) if is_label => Sourced::new(Addressing::VirtualHost, Origin::Default),
        (Some(p), _) if is_label => Sourced::new(p.addressing, Origin::Provider(p.name)),
        _ => Sourced::new(Addressing::Path, Origin::Default),
    }
}

pub(super) fn quirks(found: &Found, fields: &ReplicaFields) -> Result<Quirks, ConfigError> {
    let provider = found.server.provider;
    if let Some(size) = fields.part_size.as_ref().filter(|s| s.value < limits::PART_BYTES_MIN) {
        return Err(ConfigError::Value {
            what: format!("part-size from {}", size.origin),
            value: size.value.to_string(),
            expected: "at least 5MiB (5242880), as S3 demands",
        });
    }
    Ok(Quirks {
        sign_payload: fields.sign_payload.as_ref().map_or(SignPayload::Auto, |s| s.value),
        checksum: match &fields.checksum {
            Some(checksum) => checksum.value,
            None => provider.map_or(Checksum::Crc32, |p| p.checksum),
        },
        create_only: if found.endpoint.value.is_aws() {
            Some(true)
        } else {
            provider.and_then(|p| p.create_only)
        },
        part_bytes: fields.part_size.as_ref().map(|s| s.value),
    })
}

/// Keys that are set next to the replica.
pub(super) fn static_keys(fields: &ReplicaFields) -> Result<Option<CredentialSource>, ConfigError> {
    let half =
        |have, missing, origin: &Origin| ConfigError::HalfKeys { have, missing, origin: origin.clone() };
    let (id, secret) = match (&fields.access_key_id, &fields.secret_access_key, &fields.session_token) {
        (Some(id), Some(secret), _) => (id, secret),
        (Some(id), None, _) => return Err(half("access-key-id", "secret-access-key", &id.origin)),
        (None, Some(secret), _) => return Err(half("secret-access-key", "access-key-id", &secret.origin)),
        (None, None, Some(token)) => return Err(half("session-token", "access-key-id", &token.origin)),
        (None, None, None) => return Ok(None),
    };
    Ok(Some(CredentialSource::Static(Arc::new(Credentials {
        access_key_id: id.value.clone(),
        secret_access_key: secret.value.clone(),
        session_token: fields.session_token.as_ref().map(|t| t.value.clone()),
        origin: id.origin.to_string(),
        expires: None,
    }))))
}

/// Checks a value that becomes the value of a header.
fn check_header(name: &'static str, value: Option<&Sourced<String>>) -> Result<(), ConfigError> {
    match value.filter(|v| !v.value.bytes().all(|b| b.is_ascii_graphic())) {
        None => Ok(()),
        Some(bad) => Err(ConfigError::Value {
            what: what(name, &bad.origin),
            value: bad.value.clone(),
            expected: "made of letters, digits and signs alone",
        }),
    }
}

pub(super) fn check_text(what: &'static str, value: &str) -> Result<(), ConfigError> {
    if value.chars().any(char::is_control) {
        return Err(ConfigError::Control { what, value: value.to_owned() });
    }
    Ok(())
}
