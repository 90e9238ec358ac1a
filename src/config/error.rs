//! What can be wrong with the settings of a replica.

use std::path::PathBuf;

use super::ambiguity::Ambiguity;
use super::names::PARAMETERS;
use super::sourced::Origin;

/// Errors of a replica URL or of the environment. Secrets are never part of a message (I7).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The URL has no scheme.
    #[error("replica URL {0:?} has no scheme; write s3://BUCKET/PREFIX or file:///DIRECTORY")]
    NoScheme(String),
    /// A file URL does not name an absolute directory.
    #[error("replica URL {0:?} names no absolute directory; write file:///DIRECTORY with three slashes")]
    File(String),
    /// An S3 URL has no bucket.
    #[error("replica URL {0:?} names no bucket; write s3://BUCKET/PREFIX")]
    NoBucket(String),
    /// The URL contains a user name or a password.
    #[error(
        "replica URL {0:?} holds a user name or a password, which would show in process lists; remove it and set \
         AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY instead"
    )]
    UserInfo(String),
    /// The bucket name is not valid.
    #[error("{bucket:?} cannot be a bucket name: {why}")]
    Bucket {
        /// The bucket name.
        bucket: String,
        /// The rule that the name breaks.
        why: &'static str,
    },
    /// The URL names a server, but no bucket.
    #[error("replica URL {url:?} names a server and no bucket; write {server}/BUCKET/PREFIX")]
    NoBucketAt {
        /// The URL as written, without secrets and parameters.
        url: String,
        /// The server with its scheme.
        server: String,
    },
    /// A file URL has parameters.
    #[error(
        "replica URL {0:?}: a directory has no parameters; write what follows the question mark as %3F..."
    )]
    FileParameter(String),
    /// The endpoint begins with another bucket than the one that is set.
    #[error(
        "the endpoint begins with the bucket {before:?}, and the bucket is {bucket:?}: leave it out of the endpoint"
    )]
    OtherBucket {
        /// The bucket in the endpoint.
        before: String,
        /// The bucket that is set next to the endpoint.
        bucket: String,
    },
    /// The URL has several readings.
    #[error("{0}")]
    Ambiguous(Box<Ambiguity>),
    /// The host cannot hold a replica.
    #[error("{host} {why}")]
    Server {
        /// The host name.
        host: String,
        /// The reason and the remedy.
        why: &'static str,
    },
    /// The ARN is not that of a supported access point.
    #[error("{arn:?} cannot hold a replica: {why}")]
    AccessPoint {
        /// The ARN as written.
        arn: String,
        /// The reason.
        why: &'static str,
    },
    /// The text after the host and its colon is not a port. It is not repeated, because it may be a
    /// password (I7).
    #[error("the replica URL has a colon after its host that no port from 1 to 65535 follows")]
    Port,
    /// A file name is not UTF-8.
    #[error("{} is not UTF-8 and cannot be part of a key: rename the file", .0.display())]
    NotText(PathBuf),
    /// The region is not known to belong to AWS or to one other provider, and no endpoint is set.
    #[error("region {region:?} (from {origin}) is not one of AWS, and no endpoint is set; {advice}")]
    RegionAlone {
        /// Name of the region.
        region: String,
        /// Where the region was set.
        origin: Origin,
        /// The remedy.
        advice: String,
    },
    /// A value contains a control character.
    #[error("the {what} {value:?} holds a control character: remove it")]
    Control {
        /// The name of the value: bucket or path.
        what: &'static str,
        value: String,
    },
    /// Two keys exclude each other.
    #[error("{first} and {second} of a replica exclude each other: the URL says both")]
    Both {
        /// The first key.
        first: &'static str,
        /// The second key.
        second: &'static str,
    },
    /// A key that every replica needs is missing.
    #[error("the replica names no {missing}: {advice}")]
    Incomplete {
        /// The missing key.
        missing: &'static str,
        /// The remedy.
        advice: &'static str,
    },
    /// lsfast does not support this kind of replica.
    #[error("lsfast has no {kind} replicas; {advice}")]
    Kind {
        /// Name of the kind.
        kind: String,
        /// An alternative.
        advice: String,
    },
    /// Only one half of a pair of keys is set in the config file.
    #[error("{have} is set in {origin} and {missing} is not; set both or none")]
    HalfKeys {
        /// The key that is set.
        have: &'static str,
        /// The missing key.
        missing: &'static str,
        /// Where the first key is set.
        origin: Origin,
    },
    /// The URL has an unknown parameter.
    #[error("replica URL {url:?}: unknown parameter {name:?}{}", hint(.nearest))]
    Parameter {
        /// The URL without secrets and parameters.
        url: String,
        /// The name as written.
        name: String,
        /// The most similar known name.
        nearest: Option<&'static str>,
    },
    /// A value does not fit its parameter.
    #[error("{what}: {value:?} is not {expected}")]
    Value {
        /// Name of the parameter or variable.
        what: String,
        value: String,
        /// The values that are allowed.
        expected: &'static str,
    },
    /// A percent sign does not encode a byte, or the bytes are not UTF-8.
    #[error(
        "replica URL {0:?}: a percent sign must be followed by two hex digits, together valid UTF-8; write %25 for a percent sign"
    )]
    Escape(String),
    /// Only one half of a pair of credentials is set.
    #[error("{have} is set and {missing} is not; set both or none")]
    HalfCredentials {
        /// The variable that is set.
        have: &'static str,
        /// The missing variable.
        missing: &'static str,
    },
}

fn hint(nearest: &Option<&'static str>) -> String {
    match nearest {
        Some(name) => format!("; did you mean {name:?}?"),
        None => format!("; known are {}", PARAMETERS.join(", ")),
    }
}
