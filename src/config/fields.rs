//! The settings of a replica, wherever they are given: in its URL, in the config file, by flags, or
//! by the environment. Each value keeps its origin.
//!
//! The order in which [`ReplicaFields::or`] is chained defines the precedence: flags, the replica
//! in the config file, the top of the config file, the URL, the environment. That the config file
//! takes precedence over the URL is Litestream's rule: a URL only fills in what the fields leave
//! out.

use std::path::PathBuf;

use super::error::ConfigError;
use super::query::Query;
use super::quirks::{Checksum, SignPayload};
use super::sourced::{Origin, Sourced};
use super::values::{parse_bool, parse_checksum, parse_concurrency, parse_sign_payload, parse_size};
use super::{Env, Secret};

/// Environment variables that hold an endpoint; the first one that is set wins.
const ENDPOINT_VARIABLES: [&str; 3] = ["LITESTREAM_S3_ENDPOINT", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"];

/// A value as text that differs for different values.
trait Whole {
    fn whole(&self) -> String;
}

impl Whole for Secret {
    fn whole(&self) -> String {
        self.expose().to_owned()
    }
}

macro_rules! whole {
    ($($kind:ty)+) => {
        $(impl Whole for $kind {
            fn whole(&self) -> String {
                format!("{self:?}")
            }
        })+
    };
}

whole! { String bool PathBuf u32 u64 SignPayload Checksum }

macro_rules! fields {
    ($($(#[$doc:meta])* $name:ident: $kind:ty,)+) => {
        /// The settings of a replica.
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct ReplicaFields {
            $($(#[$doc])* pub $name: Option<Sourced<$kind>>,)+
        }

        impl ReplicaFields {
            /// Takes missing values from `next`.
            #[must_use]
            pub fn or(self, next: ReplicaFields) -> ReplicaFields {
                ReplicaFields { $($name: self.$name.or(next.$name),)+ }
            }

            /// All values in a fixed order.
            pub(super) fn values(&self) -> Vec<Option<String>> {
                vec![$(self.$name.as_ref().map(|field| field.value.whole()),)+]
            }
        }
    };
}

fields! {
    /// URL of the replica.
    url: String,
    /// Kind of replica: `s3` or `file`.
    kind: String,
    /// Bucket, or the ARN of an access point.
    bucket: String,
    /// Prefix of every key, or a directory.
    path: String,
    /// Address of the store.
    endpoint: String,
    /// Region to sign for.
    region: String,
    /// Whether the bucket is in the path instead of the host name.
    force_path_style: bool,
    /// Whether to accept every TLS certificate.
    skip_verify: bool,
    /// A file of additional trusted certificates in PEM form.
    ca_cert: PathBuf,
    /// Whether request bodies are signed.
    sign_payload: SignPayload,
    /// The checksum header of an upload.
    checksum: Checksum,
    /// Litestream's Content-MD5. lsfast always sends it where S3 requires it.
    require_content_md5: bool,
    /// Storage class of uploaded objects.
    storage_class: String,
    /// Size of a part of an upload, in bytes.
    part_size: u64,
    /// How many parts are in flight at the same time.
    concurrency: u32,
    /// Algorithm of the SSE-C key.
    sse_customer_algorithm: String,
    /// The SSE-C key: server-side encryption with a key of the customer.
    sse_customer_key: Secret,
    /// A file with the SSE-C key.
    sse_customer_key_path: PathBuf,
    /// Id of an AWS KMS key.
    sse_kms_key_id: String,
    /// Whether the requester pays for requests to the bucket.
    requester_pays: bool,
    /// The account that the bucket must belong to.
    expected_bucket_owner: String,
    /// Access key id.
    access_key_id: String,
    /// Secret access key.
    secret_access_key: Secret,
    /// Session token of the access key.
    session_token: Secret,
}

impl ReplicaFields {
    /// Fields with only a URL, from the command line.
    pub fn of_url(url: impl Into<String>) -> ReplicaFields {
        ReplicaFields { url: Some(Sourced::new(url.into(), Origin::Url)), ..ReplicaFields::default() }
    }

    /// Like [`or`](ReplicaFields::or), for the top of a config file. A session token belongs to its
    /// key, so a replica with a key of its own does not get the global token.
    #[must_use]
    pub fn or_global(self, mut global: ReplicaFields) -> ReplicaFields {
        if self.access_key_id.is_some() {
            global.session_token = None;
        }
        self.or(global)
    }

    /// The secrets that the config file holds, or takes from variables.
    pub(super) fn file_secrets(&self) -> Vec<Secret> {
        let is_in_file = |origin: &Origin| matches!(origin, Origin::File { .. });
        let id = self.access_key_id.as_ref().filter(|id| is_in_file(&id.origin));
        let hidden = [&self.secret_access_key, &self.session_token, &self.sse_customer_key];
        let hidden = hidden.into_iter().flatten().filter(|secret| is_in_file(&secret.origin));
        id.map(|id| Secret::new(&*id.value)).into_iter().chain(hidden.map(|s| s.value.clone())).collect()
    }

    /// The same fields with empty secrets.
    #[must_use]
    pub(super) fn without_secrets(mut self) -> ReplicaFields {
        let secrets = [&mut self.secret_access_key, &mut self.session_token, &mut self.sse_customer_key];
        for secret in secrets.into_iter().flatten() {
            secret.value = Secret::new("");
        }
        self
    }

    /// The fields that a URL and the config file have in common ([`PARAMETERS`](super::names)).
    pub(super) fn of_parameters<G: Given>(given: &G) -> Result<ReplicaFields, G::Error> {
        Ok(ReplicaFields {
            endpoint: given.text("endpoint")?,
            region: given.text("region")?,
            force_path_style: given.flag("force-path-style")?,
            skip_verify: given.flag("skip-verify")?,
            ca_cert: given.path("ca-cert")?,
            sign_payload: given.parsed("sign-payload", parse_sign_payload)?,
            checksum: given.parsed("checksum", parse_checksum)?,
            require_content_md5: given.flag("require-content-md5")?,
            storage_class: given.text("storage-class")?,
            part_size: given.parsed("part-size", parse_size)?,
            concurrency: given.parsed("concurrency", parse_concurrency)?,
            sse_kms_key_id: given.text("sse-kms-key-id")?,
            requester_pays: given.flag("requester-pays")?,
            expected_bucket_owner: given.text("expected-bucket-owner")?,
            ..ReplicaFields::default()
        })
    }

    /// The fields in the environment, which hold for every replica. Keys are not among them: see
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

/// Where the settings of a replica are given: the parameters of a URL, or a section of the config
/// file.
pub(super) trait Given {
    /// Why a value cannot be read.
    type Error;

    /// The value with this name, parsed. The error of `parse` says what is expected.
    fn parsed<T>(
        &self,
        name: &'static str,
        parse: impl Fn(&str) -> Result<T, &'static str>,
    ) -> Result<Option<Sourced<T>>, Self::Error>;

    /// A path.
    fn path(&self, name: &'static str) -> Result<Option<Sourced<PathBuf>>, Self::Error>;

    /// Any text.
    fn text(&self, name: &'static str) -> Result<Option<Sourced<String>>, Self::Error> {
        self.parsed(name, |text| Ok(text.to_owned()))
    }

    /// True or false.
    fn flag(&self, name: &'static str) -> Result<Option<Sourced<bool>>, Self::Error> {
        self.parsed(name, |text| parse_bool(text).ok_or("true or false"))
    }
}

impl Given for Query {
    type Error = ConfigError;

    fn parsed<T>(
        &self,
        name: &'static str,
        parse: impl Fn(&str) -> Result<T, &'static str>,
    ) -> Result<Option<Sourced<T>>, ConfigError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        match parse(text) {
            Ok(value) => Ok(Some(Sourced::new(value, Origin::Url))),
            Err(expected) => Err(ConfigError::Value {
                what: format!("parameter {name}"),
                value: text.to_owned(),
                expected,
            }),
        }
    }

    fn path(&self, name: &'static str) -> Result<Option<Sourced<PathBuf>>, ConfigError> {
        Ok(self.text(name)?.map(|text| text.map(PathBuf::from)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_that_cannot_be_read_is_named() {
        let of = |query| ReplicaFields::of_parameters(&Query::parse(query, "s3://b").unwrap());
        assert!(of("skipVerify").unwrap().skip_verify.unwrap().value);
        let e = of("skipVerify=maybe").unwrap_err().to_string();
        assert_eq!(e, r#"parameter skip-verify: "maybe" is not true or false"#);
    }
}
