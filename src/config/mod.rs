//! What the user asked for, as values: durations, replica URLs, endpoints, credentials, each with its origin.
//!
//! No side effects: the environment comes in as an [`Env`], files are named and not read, nothing is looked up in
//! the network.

mod credentials;
mod duration;
mod endpoint;
mod env;
mod location;
mod query;
mod resolve;

pub use credentials::{
    CredentialError, CredentialFuture, CredentialSource, Credentials, ProvideCredentials, Secret,
};
pub use duration::{DurationError, parse_duration};
pub use endpoint::{Endpoint, EndpointUrl, Scheme};
pub use env::Env;
pub use location::{
    Addressing, Checksum, Kind, Location, Origin, Quirks, S3Location, SignPayload, Sourced, TlsOptions,
};
pub use resolve::Overrides;

/// What is wrong with a replica URL or the environment. Secrets are never part of a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// `{0}` has no scheme; write s3://BUCKET/PREFIX or file:///DIRECTORY
    #[error("replica URL {0:?} has no scheme; write s3://BUCKET/PREFIX or file:///DIRECTORY")]
    NoScheme(String),
    /// A scheme lsfast does not have.
    #[error(
        "replica URL {url:?}: lsfast has no {scheme}:// replicas; write s3://BUCKET/PREFIX or file:///DIRECTORY"
    )]
    Scheme {
        /// The URL without user name and password.
        url: String,
        /// Its scheme.
        scheme: String,
    },
    /// A file URL that does not name an absolute directory.
    #[error("replica URL {0:?} names no absolute directory; write file:///DIRECTORY with three slashes")]
    File(String),
    /// An S3 URL without a bucket.
    #[error("replica URL {0:?} names no bucket; write s3://BUCKET/PREFIX")]
    NoBucket(String),
    /// User name or password in the URL.
    #[error(
        "replica URL {0:?} holds a user name or a password, which would show in process lists; remove it and set \
         AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY instead"
    )]
    UserInfo(String),
    /// A bucket name that cannot be one.
    #[error("{bucket:?} cannot be a bucket name: {why}")]
    Bucket {
        /// The name.
        bucket: String,
        /// The rule it breaks.
        why: &'static str,
    },
    /// A bucket that looks like a server.
    #[error("replica URL {url:?}: {host:?} looks like a server, not like a bucket of AWS; {advice}")]
    HostLike {
        /// The URL.
        url: String,
        /// What stands where the bucket belongs.
        host: String,
        /// The lines to write.
        advice: String,
    },
    /// A query parameter nobody knows.
    #[error("replica URL {url:?}: unknown parameter {name:?}{}", hint(.nearest))]
    Parameter {
        /// The URL.
        url: String,
        /// The name as written.
        name: String,
        /// The nearest known name.
        nearest: Option<&'static str>,
    },
    /// A value that does not fit its parameter.
    #[error("{what}: {value:?} is not {expected}")]
    Value {
        /// Which parameter or variable.
        what: String,
        /// What it holds.
        value: String,
        /// What it may hold.
        expected: &'static str,
    },
    /// Percent signs that encode nothing, or bytes that are not UTF-8.
    #[error(
        "replica URL {0:?}: a percent sign must be followed by two hex digits, together valid UTF-8; write %25 for a percent sign"
    )]
    Escape(String),
    /// Half a pair of credentials.
    #[error("{have} is set and {missing} is not; set both or none")]
    HalfCredentials {
        /// The variable that is set.
        have: &'static str,
        /// The variable that is not.
        missing: &'static str,
    },
}

fn hint(nearest: &Option<&'static str>) -> String {
    match nearest {
        Some(name) => format!("; did you mean {name:?}?"),
        None => format!("; known are {}", query::NAMES.join(", ")),
    }
}
