//! What the user asked for, as values: durations, replica URLs, endpoints, credentials, each with
//! its origin.
//!
//! No side effects: the environment comes in as an [`Env`], files are named and not read, nothing
//! is looked up in the network.

mod aws;
mod credentials;
mod duration;
mod endpoint;
mod env;
mod explain;
mod fields;
pub mod file;
mod host;
mod location;
mod provider;
mod query;
mod resolve;
mod settings;
mod text;
mod values;

use std::path::PathBuf;

pub use credentials::{
    CredentialError, CredentialFuture, CredentialSource, Credentials, ProvideCredentials, Secret,
};
pub use duration::{DurationError, parse_duration};
pub use endpoint::{Endpoint, EndpointUrl, Scheme};
pub use env::Env;
pub use explain::Line;
pub use fields::ReplicaFields;
pub use file::Config;
pub use host::{Ambiguity, Reading};
pub use location::{
    Addressing, Checksum, Kind, Location, Origin, Quirks, S3Location, SignPayload, Sourced, TlsOptions,
};
pub use resolve::Overrides;
pub use text::{connection_path, database_path};
pub use values::parse_rate;

/// What is wrong with a replica URL or the environment. Secrets are never part of a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// `{0}` has no scheme; write s3://BUCKET/PREFIX or file:///DIRECTORY
    #[error("replica URL {0:?} has no scheme; write s3://BUCKET/PREFIX or file:///DIRECTORY")]
    NoScheme(String),
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
    /// A server and no bucket.
    #[error("replica URL {url:?} names a server and no bucket; write {server}/BUCKET/PREFIX")]
    NoBucketAt {
        /// The URL.
        url: String,
        /// The server with its scheme.
        server: String,
    },
    /// A file URL with parameters.
    #[error(
        "replica URL {0:?}: a directory has no parameters; write what follows the question mark as %3F..."
    )]
    FileParameter(String),
    /// An endpoint with another bucket before it.
    #[error(
        "the endpoint begins with the bucket {before:?}, and the bucket is {bucket:?}: leave it out of the endpoint"
    )]
    OtherBucket {
        /// In the endpoint.
        before: String,
        /// Beside it.
        bucket: String,
    },
    /// A URL that can mean several places.
    #[error("{0}")]
    Ambiguous(Box<Ambiguity>),
    /// A host that no replica can be on.
    #[error("{host} {why}")]
    Server {
        /// The host.
        host: String,
        /// Why not, and what to write.
        why: &'static str,
    },
    /// An ARN that is no access point.
    #[error("{arn:?} cannot hold a replica: {why}")]
    AccessPoint {
        /// The ARN.
        arn: String,
        /// Why not.
        why: &'static str,
    },
    /// What follows the host is no port. It is not repeated: it may be a password.
    #[error("the replica URL has a colon behind its host, and no port from 1 to 65535 after it")]
    Port,
    /// A file name that is no text.
    #[error("{} is not UTF-8 and cannot be part of a key: rename the file", .0.display())]
    NotText(PathBuf),
    /// A region of nobody, and no endpoint.
    #[error("region {region:?} (from {origin}) is not one of AWS, and no endpoint is set; {advice}")]
    RegionAlone {
        /// The region.
        region: String,
        /// Where it came from.
        origin: Origin,
        /// What to write.
        advice: String,
    },
    /// A character that no key should hold.
    #[error("the {what} {value:?} holds a control character: remove it")]
    Control {
        /// Bucket or path.
        what: &'static str,
        /// What it holds.
        value: String,
    },
    /// Two keys that exclude each other.
    #[error("{first} and {second} of a replica exclude each other: the URL says both")]
    Both {
        /// One key.
        first: &'static str,
        /// The other.
        second: &'static str,
    },
    /// A replica without a place.
    #[error("the replica names no {missing}: {advice}")]
    Incomplete {
        /// The missing key.
        missing: &'static str,
        /// What to write.
        advice: &'static str,
    },
    /// A kind of replica lsfast does not have.
    #[error("lsfast has no {kind} replicas; {advice}")]
    Kind {
        /// The kind.
        kind: String,
        /// What to use instead.
        advice: String,
    },
    /// Half a pair of keys in the config file.
    #[error("{have} is set in {origin} and {missing} is not; set both or none")]
    HalfKeys {
        /// The key that is set.
        have: &'static str,
        /// The key that is not.
        missing: &'static str,
        /// Where.
        origin: Origin,
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
