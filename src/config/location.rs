//! A resolved replica: every value with its origin.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use super::fields::ReplicaFields;
use super::{ConfigError, CredentialSource, Endpoint, EndpointUrl};

/// Where a value came from.
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
        /// The file.
        path: Arc<str>,
        /// The line, from 1.
        line: u32,
    },
    /// The name of the endpoint.
    Endpoint,
    /// What is known about the provider of this name.
    Provider(&'static str),
    /// Nobody said anything.
    Default,
}

impl Origin {
    /// Whether the user wrote this value for this replica, so that it must not be replaced by a
    /// better guess. A variable of the environment does not count: hosts of AWS set
    /// `AWS_REGION` by themselves.
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

/// A value and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sourced<T> {
    /// The value.
    pub value: T,
    /// Its origin.
    pub origin: Origin,
}

impl<T> Sourced<T> {
    /// A value with its origin.
    pub const fn new(value: T, origin: Origin) -> Sourced<T> {
        Sourced { value, origin }
    }

    /// Another value with the same origin.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Sourced<U> {
        Sourced { value: change(self.value), origin: self.origin }
    }
}

/// How a bucket is named in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Addressing {
    /// `https://BUCKET.host/KEY`
    VirtualHost,
    /// `https://host/BUCKET/KEY`
    Path,
}

/// Whether the body is part of the signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SignPayload {
    /// Over plain HTTP only: TLS protects the body already.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The checksum header of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Checksum {
    /// `x-amz-checksum-crc32`, until the store refuses it.
    #[default]
    Crc32,
    /// None.
    None,
}

/// What differs between stores that all speak S3.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Quirks {
    /// Whether bodies are signed.
    pub sign_payload: SignPayload,
    /// Which checksum goes with an upload.
    pub checksum: Checksum,
    /// Whether the store answers 412 to `If-None-Match: *` on an object that exists. `None`: not
    /// known, try it.
    pub create_only: Option<bool>,
    /// Size of the parts of an upload in bytes, where the default does not do.
    pub part_bytes: Option<u64>,
}

/// How TLS is checked.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct TlsOptions {
    /// Accept every certificate.
    pub skip_verify: bool,
    /// A file of further trusted certificates in PEM.
    pub ca_cert: Option<PathBuf>,
}

/// A bucket and what is needed to reach it.
#[derive(Debug, Clone)]
pub struct S3Location {
    /// Where the store answers.
    pub endpoint: Sourced<Endpoint>,
    /// Region to sign for.
    pub region: Sourced<String>,
    /// Bucket.
    pub bucket: String,
    /// What stands before `/LLLL/NAME` in every key, literally: an empty one gives keys that begin
    /// with a slash.
    pub prefix: String,
    /// How the bucket is named.
    pub addressing: Sourced<Addressing>,
    /// How the certificate is checked.
    pub tls: TlsOptions,
    /// What is special about this store.
    pub quirks: Quirks,
    /// What a provider of this name is known for, where the endpoint is one's.
    pub provider: Option<&'static str>,
    /// The ARN of an access point, where `bucket` is the label of one.
    pub access_point: Option<String>,
    /// Who we are.
    pub credentials: CredentialSource,
    /// All that was said about this replica, with its origins; what has no other place here is used
    /// from here.
    pub fields: Box<ReplicaFields>,
}

impl S3Location {
    /// The endpoint's address for the region.
    #[must_use]
    pub fn endpoint_url(&self) -> EndpointUrl {
        self.endpoint.value.url(&self.region.value)
    }

    /// What tells this place from every other: endpoint, bucket and prefix. The names of buckets at
    /// AWS are the same from every region.
    #[must_use]
    pub fn identity(&self) -> String {
        let endpoint = match &self.endpoint.value {
            Endpoint::Aws { .. } => "aws".to_owned(),
            Endpoint::At(url) => url.to_string(),
        };
        format!("s3 {endpoint} {}/{}", self.bucket, self.prefix)
    }

    /// How a copy names the bucket of its source.
    #[must_use]
    pub fn copy_source(&self) -> String {
        match &self.access_point {
            Some(arn) => format!("{arn}/object"),
            None => self.bucket.clone(),
        }
    }
}

/// What kind of store.
#[derive(Debug, Clone)]
pub enum Kind {
    /// A directory.
    File(PathBuf),
    /// A bucket.
    S3(Box<S3Location>),
}

/// One replica, resolved.
#[derive(Debug, Clone)]
pub struct Location {
    /// The URL for messages, without secrets and without parameters.
    pub url: String,
    /// What and where.
    pub kind: Kind,
}

impl Location {
    /// What tells this place from every other.
    #[must_use]
    pub fn identity(&self) -> String {
        match &self.kind {
            Kind::File(path) => format!("file {}", path.display()),
            Kind::S3(s3) => s3.identity(),
        }
    }

    /// The place of something below this one, as Litestream joins the path of a database of a
    /// directory to that of the replica.
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
