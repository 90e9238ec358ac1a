//! A resolved replica: every value with its origin.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use super::error::ConfigError;
use super::fields::ReplicaFields;
use super::{CredentialSource, Endpoint, EndpointUrl};

/// Where a value was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The replica URL.
    Url,
    /// A flag on the command line.
    Flag(&'static str),
    /// An environment variable.
    Env(&'static str),
    /// A line of the config file.
    File {
        /// Path of the file.
        path: Arc<str>,
        /// Line, from 1.
        line: u32,
    },
    /// The host name of the endpoint.
    Endpoint,
    /// The rules for the provider of this name.
    Provider(&'static str),
    /// The value was not set anywhere.
    Default,
}

impl Origin {
    /// Whether the user wrote this value for this replica, so that no better guess may replace it.
    /// An environment variable does not count: hosts of AWS set `AWS_REGION` by themselves.
    #[must_use]
    pub fn is_explicit(&self) -> bool {
        matches!(self, Origin::Url | Origin::Flag(_) | Origin::File { .. } | Origin::Endpoint)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Url => f.write_str("the replica URL"),
            Origin::Flag(name) => write!(f, "the flag --{name}"),
            Origin::Env(name) => write!(f, "the environment ({name})"),
            Origin::File { path, line } => write!(f, "the config file ({path}:{line})"),
            Origin::Endpoint => f.write_str("the name of the endpoint"),
            Origin::Provider(name) => write!(f, "what {name} needs"),
            Origin::Default => f.write_str("the default"),
        }
    }
}

/// A value and its origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sourced<T> {
    /// The value itself.
    pub value: T,
    /// Where the value was set.
    pub origin: Origin,
}

impl<T> Sourced<T> {
    /// Combines a value with its origin.
    pub const fn new(value: T, origin: Origin) -> Sourced<T> {
        Sourced { value, origin }
    }

    /// Converts the value and keeps the origin.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Sourced<U> {
        Sourced { value: change(self.value), origin: self.origin }
    }
}

/// How a request names the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Addressing {
    /// `https://BUCKET.host/KEY`
    VirtualHost,
    /// `https://host/BUCKET/KEY`
    Path,
}

/// Whether the signature covers request bodies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SignPayload {
    /// Only over plain HTTP: TLS already protects the body.
    #[default]
    Auto,
    /// On every request.
    Always,
    /// On no request.
    Never,
}

/// The checksum header of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Checksum {
    /// `x-amz-checksum-crc32`, until the store refuses it.
    #[default]
    Crc32,
    /// No checksum header.
    None,
}

/// Differences between S3 implementations.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Quirks {
    /// Whether bodies are signed.
    pub sign_payload: SignPayload,
    /// The checksum header of an upload.
    pub checksum: Checksum,
    /// Whether the store answers `If-None-Match: *` with 412 if the object exists. `None`: unknown,
    /// so try it.
    pub create_only: Option<bool>,
    /// Size of the parts of an upload in bytes; `None` for the default.
    pub part_bytes: Option<u64>,
}

/// How TLS certificates are verified.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct TlsOptions {
    /// Whether to accept every certificate.
    pub skip_verify: bool,
    /// A file of additional trusted certificates in PEM form.
    pub ca_cert: Option<PathBuf>,
}

/// A bucket and everything needed to reach it.
#[derive(Debug, Clone)]
pub struct S3Location {
    /// Address of the store.
    pub endpoint: Sourced<Endpoint>,
    /// Region to sign for.
    pub region: Sourced<String>,
    /// Name of the bucket.
    pub bucket: String,
    /// Prefix of `/LLLL/NAME` in every key, used literally: an empty prefix makes keys that begin
    /// with a slash.
    pub prefix: String,
    /// How requests name the bucket.
    pub addressing: Sourced<Addressing>,
    /// How the certificate is verified.
    pub tls: TlsOptions,
    /// Special properties of this store.
    pub quirks: Quirks,
    /// Name of the provider, if the endpoint belongs to a known one.
    pub provider: Option<&'static str>,
    /// ARN of the access point, if `bucket` is the label of one.
    pub access_point: Option<String>,
    /// Source of the credentials.
    pub credentials: CredentialSource,
    /// All settings of this replica, with their origins. Settings without a field of their own are
    /// read from here.
    pub fields: Box<ReplicaFields>,
}

impl S3Location {
    /// Address of the endpoint for the region.
    #[must_use]
    pub fn endpoint_url(&self) -> EndpointUrl {
        self.endpoint.value.url(&self.region.value)
    }

    /// A text that is equal only for the same location: endpoint, bucket and prefix. AWS has the
    /// same bucket names in every region, so its endpoints count as one.
    #[must_use]
    pub fn identity(&self) -> String {
        let endpoint = match &self.endpoint.value {
            Endpoint::Aws { .. } => "aws".to_owned(),
            Endpoint::At(url) => url.to_string(),
        };
        format!("s3 {endpoint} {}/{}", self.bucket, self.prefix)
    }

    /// How a copy request names the bucket of its source.
    #[must_use]
    pub fn copy_source(&self) -> String {
        match &self.access_point {
            Some(arn) => format!("{arn}/object"),
            None => self.bucket.clone(),
        }
    }
}

/// The kind of store.
#[derive(Debug, Clone)]
pub enum Kind {
    /// A directory.
    File(PathBuf),
    /// An S3 bucket.
    S3(Box<S3Location>),
}

/// One resolved replica.
#[derive(Debug, Clone)]
pub struct Location {
    /// URL for messages, without secrets and parameters.
    pub url: String,
    /// The kind of store and its settings.
    pub kind: Kind,
}

impl Location {
    /// A text that is equal only for the same location.
    #[must_use]
    pub fn identity(&self) -> String {
        match &self.kind {
            Kind::File(path) => format!("file {}", path.display()),
            Kind::S3(s3) => s3.identity(),
        }
    }

    /// A location below this one. Litestream joins the path of a database in a directory to that of
    /// the replica in the same way.
    ///
    /// # Errors
    /// [`ConfigError::Control`] for a control character.
    pub fn join(&self, relative: &str) -> Result<Location, ConfigError> {
        if relative.chars().any(char::is_control) {
            return Err(ConfigError::Control { what: "path", value: relative.to_owned() });
        }
        let s3 = match &self.kind {
            Kind::File(path) => return Ok(Location::directory(path.join(relative))),
            Kind::S3(s3) => s3,
        };
        let root = if s3.prefix.starts_with('/') { "/" } else { "" };
        let parts = s3.prefix.split('/').chain(relative.split('/')).filter(|p| !p.is_empty() && *p != ".");
        let prefix = format!("{root}{}", parts.collect::<Vec<_>>().join("/"));
        let name = s3.access_point.as_ref().unwrap_or(&s3.bucket);
        let url = format!("s3://{name}/{prefix}");
        Ok(Location { url, kind: Kind::S3(Box::new(S3Location { prefix, ..(**s3).clone() })) })
    }
}
