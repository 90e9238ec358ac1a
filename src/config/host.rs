//! Interprets host and path of a replica URL.
//!
//! A rule decides if the owner can have meant only one thing:
//!
//! - an ARN, a port, an IP address, or `localhost`;
//! - a known provider, or the host of an endpoint that is set elsewhere;
//! - a first label that is typical for a store (`s3.example.com`);
//! - a plain `http://` or `https://` URL.
//!
//! A name with dots that no rule knows may be a bucket of AWS, a server, or a bucket before its
//! server. Then all readings are returned, and no request is sent.

use super::address::{Endpoint, EndpointUrl, PRIVATE, Scheme, is_local};
use super::ambiguity::{Ambiguity, Reading};
use super::aws::AccessPoint;
use super::bucket::check_bucket;
use super::endpoint::{Recognised, recognise, split_port};
use super::error::ConfigError;
use super::text::shown;

/// First labels of hosts that are typical for object stores.
const WORDS: [&str; 21] = [
    "ceph",
    "garage",
    "minio",
    "minio-api",
    "object",
    "object-storage",
    "object-store",
    "objects",
    "objectstorage",
    "objectstore",
    "oss",
    "radosgw",
    "rgw",
    "rustfs",
    "s3",
    "s3-api",
    "s3api",
    "s3gw",
    "seaweedfs",
    "storage",
    "store",
];

/// Suffixes of file names, which are unlikely in names of buckets.
const FILES: [&str; 5] = [".db", ".sqlite", ".sqlite3", ".db3", ".sqlite-wal"];

/// What a URL names.
#[derive(Debug)]
pub(super) enum HostReading {
    /// A bucket at an endpoint that is set elsewhere, or at AWS.
    Bucket { bucket: String, prefix: String },
    /// A bucket at a server named in the URL.
    Server { server: Box<Recognised>, bucket: String, prefix: String },
    /// An access point of AWS.
    AccessPoint { point: AccessPoint, prefix: String },
}

/// The parts of a URL.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parts<'a> {
    /// The whole URL.
    pub(super) url: &'a str,
    /// Scheme of an `http://` or `https://` URL; `None` for `s3://`.
    pub(super) scheme: Option<Scheme>,
    pub(super) authority: &'a str,
    /// Path, decoded and cleaned, without a slash at either end.
    pub(super) path: &'a str,
    /// The part after the question mark.
    pub(super) query: &'a str,
}

/// Interprets the host. `explicit` is an endpoint that is set next to the URL.
pub(super) fn place(parts: Parts<'_>, explicit: Option<&EndpointUrl>) -> Result<HostReading, ConfigError> {
    let Parts { url, scheme, authority, path, .. } = parts;
    if authority.starts_with("arn:") {
        return Err(ConfigError::AccessPoint { arn: authority.to_owned(), why: "it needs the scheme s3://" });
    }
    // I7: the error does not repeat the authority, because the text after the colon may be a
    // password.
    let (host, port) = split_port(authority).ok_or(ConfigError::Port)?;
    let host = host.to_ascii_lowercase();
    if host.is_empty() {
        return Err(ConfigError::NoBucket(shown(url)));
    }
    let named_elsewhere = explicit.filter(|e| is_at(&host, e));
    let is_server = is_server_name(&host);
    if !(is_server || scheme.is_some() || port.is_some())
        && named_elsewhere.is_none()
        && (explicit.is_some() || !host.contains('.'))
    {
        return Ok(HostReading::Bucket { bucket: authority.to_owned(), prefix: path.to_owned() });
    }
    let text = match scheme {
        Some(scheme) => format!("{}://{authority}", scheme.as_str()),
        None => authority.to_owned(),
    };
    let address = EndpointUrl::parse(&text, &format!("replica URL {:?}", shown(url)))?;
    if let Some(explicit) = named_elsewhere {
        let bucket = address.host.strip_suffix(&explicit.host).and_then(|b| b.strip_suffix('.'));
        let address = EndpointUrl { host: explicit.host.clone(), ..address };
        return server(parts, address, bucket.map(str::to_owned));
    }
    if let Some(bucket) = address.host.strip_suffix(".localhost").map(str::to_owned) {
        return server(parts, EndpointUrl { host: "localhost".to_owned(), ..address }, Some(bucket));
    }
    if is_server || is_decided(parts, &address) {
        return server(parts, address, None);
    }
    let mut ambiguity = ambiguity(parts, &address);
    ambiguity.readings.retain(|r| r.bucket.as_ref().is_none_or(|b| can_be_bucket(b, &r.endpoint)));
    // No other reading has a valid bucket name.
    if ambiguity.readings.iter().all(|r| r.endpoint == address) {
        return server(parts, address, None);
    }
    Err(ConfigError::Ambiguous(Box::new(ambiguity)))
}

/// Whether a host name is that of a server, whatever surrounds it.
fn is_server_name(host: &str) -> bool {
    let known = || {
        let at =
            EndpointUrl { scheme: Scheme::Https, host: host.to_owned(), port: None, path: String::new() };
        recognise(at).map_or(true, |r| r.endpoint.is_aws() || r.provider.is_some() || r.addressing.is_some())
    };
    host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok()
        || host.starts_with('[')
        || host == "localhost"
        || host.ends_with(".localhost")
        || known()
}

/// Whether a host name is that of `server`, with or without a bucket before it.
fn is_at(host: &str, server: &EndpointUrl) -> bool {
    host.strip_suffix(&server.host).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

/// Whether a URL can begin with this bucket, if its endpoint is set next to it.
fn can_be_bucket(name: &str, endpoint: &EndpointUrl) -> bool {
    let host = name.to_ascii_lowercase();
    check_bucket(name, &Endpoint::At(endpoint.clone())).is_ok()
        && !is_server_name(&host)
        && !is_at(&host, endpoint)
}

/// Whether a name with dots is certainly a server.
fn is_decided(parts: Parts<'_>, address: &EndpointUrl) -> bool {
    let labels: Vec<&str> = address.host.split('.').collect();
    let is_word = |at: usize| labels.get(at).is_some_and(|l| WORDS.contains(l));
    if is_word(0) {
        // In `storage.example.com/app.db`, app.db is unlikely to be a bucket.
        let lone_file = !parts.path.contains('/') && FILES.iter().any(|end| parts.path.ends_with(end));
        return !lone_file || address.port.is_some() || parts.scheme.is_some();
    }
    // In `backup.s3.example.com` the bucket may be before the server.
    let bucket_before = labels.len() > 2 && is_word(1);
    let plain = parts.scheme.is_some() || address.port.is_some();
    let private = labels.len() < 3 && PRIVATE.iter().any(|end| address.host.ends_with(end));
    !bucket_before && (plain || private)
}

/// A bucket of this server: before its host, or first in the path.
fn server(
    parts: Parts<'_>,
    address: EndpointUrl,
    bucket: Option<String>,
) -> Result<HostReading, ConfigError> {
    let host = address.host.clone();
    let mut server = recognise(address).map_err(|why| ConfigError::Server { host: host.clone(), why })?;
    let mut path = parts.path;
    if let Endpoint::At(at) = &server.endpoint {
        // The URL may repeat a path that belongs to the address.
        let own = at.path.trim_start_matches('/');
        if let Some(rest) = path.strip_prefix(own).filter(|r| r.is_empty() || r.starts_with('/')) {
            path = rest.trim_start_matches('/');
        }
    }
    let (bucket, prefix) = match bucket.or_else(|| server.bucket.take()) {
        Some(bucket) => (bucket, path),
        None => match path.split_once('/').unwrap_or((path, "")) {
            ("", _) => {
                let scheme = parts.scheme.map_or("s3", Scheme::as_str);
                let server = format!("{scheme}://{}", parts.authority);
                return Err(ConfigError::NoBucketAt { url: shown(parts.url), server });
            }
            (bucket, prefix) => (bucket.to_owned(), prefix),
        },
    };
    Ok(HostReading::Server { server: Box::new(server), bucket, prefix: prefix.to_owned() })
}

/// All readings of a name with dots.
fn ambiguity(parts: Parts<'_>, address: &EndpointUrl) -> Ambiguity {
    let host = &address.host;
    let mut readings = Vec::with_capacity(3);
    let (bucket, prefix) = parts.path.split_once('/').unwrap_or((parts.path, ""));
    let bucket = (!bucket.is_empty()).then_some(bucket);
    readings.push(reading(parts, address.clone(), bucket, prefix));
    if let Some((label, server)) = host.split_once('.')
        && server.contains('.')
    {
        let mut at = EndpointUrl { host: server.to_owned(), ..address.clone() };
        if parts.scheme.is_none() && is_local(server) {
            at.scheme = Scheme::Http;
        }
        readings.push(reading(parts, at, Some(label), parts.path));
    }
    let private = PRIVATE.iter().any(|end| host.ends_with(end));
    let plain = parts.scheme.is_some() || address.port.is_some();
    if !private && !plain && check_bucket(host, &Endpoint::AWS).is_ok() {
        let aws = EndpointUrl {
            scheme: Scheme::Https,
            host: "s3.amazonaws.com".to_owned(),
            port: None,
            path: String::new(),
        };
        let mut of_aws = reading(parts, aws, Some(host), parts.path);
        of_aws.meaning = format!("bucket {host} of AWS");
        readings.push(of_aws);
    }
    Ambiguity { url: parts.url.to_owned(), readings }
}

fn reading(parts: Parts<'_>, endpoint: EndpointUrl, bucket: Option<&str>, prefix: &str) -> Reading {
    let meaning = match bucket {
        Some(bucket) => format!("bucket {bucket} of the server {}", endpoint.authority()),
        None => format!("a bucket of the server {}", endpoint.authority()),
    };
    let place = match (bucket, prefix) {
        (None, _) => "BUCKET/PREFIX".to_owned(),
        (Some(bucket), "") => bucket.to_owned(),
        (Some(bucket), prefix) => format!("{bucket}/{}", encoded(prefix)),
    };
    let more = if parts.query.is_empty() { String::new() } else { format!("&{}", parts.query) };
    let url = format!("s3://{place}?endpoint={endpoint}{more}");
    Reading { meaning, url, endpoint, bucket: bucket.map(str::to_owned) }
}

/// Encodes the characters that have another meaning in a URL's path.
fn encoded(path: &str) -> String {
    path.replace('%', "%25").replace('?', "%3F").replace('#', "%23")
}
