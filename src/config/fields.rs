//! What can be said about a replica, wherever it is said: in its URL, in the config file, by flags,
//! by the environment. Each value keeps its origin.
//!
//! Precedence is stated once, by the order in which [`ReplicaFields::or`] is chained: flags, the
//! replica in the config file, the top of the config file, the URL, the environment. That the
//! config file beats the URL is Litestream's rule: a URL fills what the fields leave out.

use std::path::PathBuf;

use super::location::{Checksum, Origin, SignPayload, Sourced};
use super::query::Query;
use super::values::{parse_checksum, parse_concurrency, parse_sign_payload, parse_size};
use super::{ConfigError, Env, Secret};

/// Names of the variables that hold an endpoint, the first one wins.
const ENDPOINT_VARIABLES: [&str; 3] = ["LITESTREAM_S3_ENDPOINT", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"];

macro_rules! fields {
    ($($(#[$doc:meta])* $name:ident: $kind:ty,)+) => {
        /// What is said about a replica.
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct ReplicaFields {
            $($(#[$doc])* pub $name: Option<Sourced<$kind>>,)+
        }

        impl ReplicaFields {
            /// Takes from `next` what is missing here.
            #[must_use]
            pub fn or(self, next: ReplicaFields) -> ReplicaFields {
                ReplicaFields { $($name: self.$name.or(next.$name),)+ }
            }
        }
    };
}

fields! {
    /// The replica URL.
    url: String,
    /// `s3` or `file`.
    kind: String,
    /// Bucket, or the ARN of an access point.
    bucket: String,
    /// What stands before every key, or a directory.
    path: String,
    /// Where the store answers.
    endpoint: String,
    /// Region to sign for.
    region: String,
    /// Bucket in the path instead of the host name.
    force_path_style: bool,
    /// Accept every certificate.
    skip_verify: bool,
    /// A file of further trusted certificates in PEM.
    ca_cert: PathBuf,
    /// Whether bodies are signed.
    sign_payload: SignPayload,
    /// The checksum header of an upload.
    checksum: Checksum,
    /// Litestream's Content-MD5. lsfast always sends it where S3 asks for it.
    require_content_md5: bool,
    /// Storage class of what is uploaded.
    storage_class: String,
    /// Bytes of a part.
    part_size: u64,
    /// Parts under way at once.
    concurrency: u32,
    /// Algorithm of a customer's key.
    sse_customer_algorithm: String,
    /// A customer's key.
    sse_customer_key: Secret,
    /// A file with a customer's key.
    sse_customer_key_path: PathBuf,
    /// Id of a key in AWS KMS.
    sse_kms_key_id: String,
    /// Whether the one who asks pays for what is asked of a bucket of that kind.
    requester_pays: bool,
    /// The account that the bucket must belong to.
    expected_bucket_owner: String,
    /// Access key.
    access_key_id: String,
    /// Its secret.
    secret_access_key: Secret,
    /// Its session token.
    session_token: Secret,
}

impl ReplicaFields {
    /// A URL alone, from the command line.
    pub fn of_url(url: impl Into<String>) -> ReplicaFields {
        ReplicaFields { url: Some(Sourced::new(url.into(), Origin::Url)), ..ReplicaFields::default() }
    }

    /// As [`or`](ReplicaFields::or), for the top of a config file: a session token belongs to its
    /// key, and does not go to a replica with a key of its own.
    #[must_use]
    pub fn or_global(self, mut global: ReplicaFields) -> ReplicaFields {
        if self.access_key_id.is_some() {
            global.session_token = None;
        }
        self.or(global)
    }

    /// The parameters of a URL.
    pub(super) fn of_query(query: &Query) -> Result<ReplicaFields, ConfigError> {
        let text = |name: &str| query.get(name).map(|v| Sourced::new(v.to_owned(), Origin::Url));
        let flag = |name: &'static str| query.flag(name).map(|v| v.map(|v| Sourced::new(v, Origin::Url)));
        Ok(ReplicaFields {
            endpoint: text("endpoint"),
            region: text("region"),
            force_path_style: flag("force-path-style")?,
            skip_verify: flag("skip-verify")?,
            ca_cert: text("ca-cert").map(|v| v.map(PathBuf::from)),
            sign_payload: read(text("sign-payload"), "sign-payload", parse_sign_payload)?,
            checksum: read(text("checksum"), "checksum", parse_checksum)?,
            require_content_md5: flag("require-content-md5")?,
            storage_class: text("storage-class"),
            part_size: read(text("part-size"), "part-size", parse_size)?,
            concurrency: read(text("concurrency"), "concurrency", parse_concurrency)?,
            sse_kms_key_id: text("sse-kms-key-id"),
            requester_pays: flag("requester-pays")?,
            expected_bucket_owner: text("expected-bucket-owner"),
            ..ReplicaFields::default()
        })
    }

    /// What the environment says for every replica. Keys are not among it: see
    /// [`super::CredentialSource`].
    #[must_use]
    pub fn of_env(env: &Env) -> ReplicaFields {
        let first = |names: &[&'static str]| {
            env.first(names).map(|(name, value)| Sourced::new(value.to_owned(), Origin::Env(name)))
        };
        ReplicaFields {
            endpoint: first(&ENDPOINT_VARIABLES),
            region: first(&["AWS_REGION", "AWS_DEFAULT_REGION"]),
            ca_cert: first(&["AWS_CA_BUNDLE", "SSL_CERT_FILE"]).map(|v| v.map(PathBuf::from)),
            ..ReplicaFields::default()
        }
    }
}

/// Reads a parameter's value.
fn read<T>(
    text: Option<Sourced<String>>,
    name: &'static str,
    parse: impl Fn(&str) -> Result<T, &'static str>,
) -> Result<Option<Sourced<T>>, ConfigError> {
    let Some(text) = text else { return Ok(None) };
    match parse(&text.value) {
        Ok(value) => Ok(Some(Sourced::new(value, text.origin))),
        Err(expected) => {
            Err(ConfigError::Value { what: format!("parameter {name}"), value: text.value, expected })
        }
    }
}
