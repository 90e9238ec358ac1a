//! Whether a name can be that of a bucket.

use super::address::Endpoint;
use super::error::ConfigError;

/// Why a directory bucket is refused.
const EXPRESS_BUCKET: &str = "it is a directory bucket (S3 Express One Zone), which needs sessions that lsfast \
     does not have, and keeps everything in one zone: use a general purpose bucket";

/// Refuses a name that no bucket of this endpoint can have.
pub(super) fn check_bucket(bucket: &str, endpoint: &Endpoint) -> Result<(), ConfigError> {
    let bad = |why| Err(ConfigError::Bucket { bucket: bucket.to_owned(), why });
    if bucket.len() > 255
        || !bucket.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
    {
        return bad("it may hold letters, digits, hyphens and dots");
    }
    if bucket == "." || bucket == ".." || bucket.contains("..") {
        return bad("two dots must not follow one another");
    }
    if !endpoint.is_aws() {
        return Ok(());
    }
    // The names of a directory bucket and of its access points end with a suffix for their zone.
    if bucket.ends_with("--x-s3") || bucket.ends_with("--xa-s3") {
        return bad(EXPRESS_BUCKET);
    }
    if !(3..=63).contains(&bucket.len()) {
        return bad("on AWS it has 3 to 63 characters");
    }
    if bucket.bytes().any(|b| b.is_ascii_uppercase() || b == b'_') {
        return bad("on AWS it holds no upper-case letters and no underscores");
    }
    if bucket.starts_with(['-', '.']) || bucket.ends_with(['-', '.']) {
        return bad("on AWS it begins and ends with a letter or a digit");
    }
    if bucket.parse::<std::net::Ipv4Addr>().is_ok() {
        return bad("on AWS it is not an address");
    }
    Ok(())
}
