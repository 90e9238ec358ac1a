//! From a replica URL, flags and the environment to a [`Location`].
//!
//! Each value is taken from the first place that has it: URL, flag, environment, name of the endpoint, default.

use std::path::PathBuf;

use super::endpoint::{is_local, split_port};
use super::location::{
    Addressing, Checksum, Kind, Location, Origin, Quirks, S3Location, SignPayload, Sourced, TlsOptions,
};
use super::query::Query;
use super::{ConfigError, CredentialSource, Endpoint, EndpointUrl, Env};

const REGION_DEFAULT: &str = "us-east-1";

/// What flags on the command line say, where the URL does not.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--endpoint`
    pub endpoint: Option<String>,
    /// `--region`
    pub region: Option<String>,
    /// `--ca-cert`
    pub ca_cert: Option<PathBuf>,
    /// `--skip-verify`
    pub skip_verify: bool,
}

impl Location {
    /// Resolves `s3://BUCKET/PREFIX?...` or `file:///DIRECTORY`.
    ///
    /// # Errors
    /// [`ConfigError`] saying what to write instead.
    pub fn resolve(url: &str, flags: &Overrides, env: &Env) -> Result<Location, ConfigError> {
        let (scheme, rest) = url.split_once("://").ok_or_else(|| ConfigError::NoScheme(shown(url)))?;
        match scheme {
            "file" => file(url, rest),
            "s3" => s3(url, rest, flags, env),
            other => Err(ConfigError::Scheme { url: shown(url), scheme: other.to_owned() }),
        }
    }

    /// A directory.
    pub fn directory(path: impl Into<PathBuf>) -> Location {
        let path = path.into();
        Location { url: format!("file://{}", path.display()), kind: Kind::File(path) }
    }
}

fn file(url: &str, rest: &str) -> Result<Location, ConfigError> {
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    if let Some(pair) = query.split('&').find(|p| !p.is_empty()) {
        let name = pair.split('=').next().unwrap_or(pair).to_owned();
        return Err(ConfigError::Parameter { url: shown(url), name, nearest: None });
    }
    let path = decode(path).ok_or_else(|| ConfigError::Escape(shown(url)))?;
    if !path.starts_with('/') || path.contains('\0') {
        return Err(ConfigError::File(shown(url)));
    }
    Ok(Location::directory(clean(&path)))
}

fn s3(url: &str, rest: &str, flags: &Overrides, env: &Env) -> Result<Location, ConfigError> {
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (bucket, path) = match place.find('/') {
        Some(at) => place.split_at(at),
        None => (place, "/"),
    };
    if bucket.contains('@') {
        return Err(ConfigError::UserInfo(shown(url)));
    }
    if bucket.is_empty() {
        return Err(ConfigError::NoBucket(shown(url)));
    }
    let query = Query::parse(query, url)?;
    let path = decode(path).ok_or_else(|| ConfigError::Escape(shown(url)))?;
    let prefix = clean(&path).trim_start_matches('/').to_owned();

    let (endpoint, in_name) = endpoint(&query, flags, env)?;
    let region = region(&query, flags, env, in_name)?;
    if endpoint.origin == Origin::Default && is_host_like(bucket) {
        return Err(host_like(url, bucket, &prefix));
    }
    check_bucket(bucket, &endpoint.value)?;
    let addressing = addressing(&query, &endpoint, bucket)?;
    let location = S3Location {
        region,
        bucket: bucket.to_owned(),
        addressing,
        tls: TlsOptions {
            skip_verify: query.flag("skip-verify")?.unwrap_or(flags.skip_verify),
            ca_cert: query.get("ca-cert").map(PathBuf::from).or_else(|| flags.ca_cert.clone()),
        },
        quirks: quirks(&query)?,
        credentials: CredentialSource::from_env(env)?,
        endpoint,
        prefix,
    };
    let slash = if location.prefix.is_empty() { "" } else { "/" };
    let url = format!("s3://{}{slash}{}", location.bucket, location.prefix);
    Ok(Location { url, kind: Kind::S3(Box::new(location)) })
}

type FoundEndpoint = (Sourced<Endpoint>, Option<String>);

fn endpoint(query: &Query, flags: &Overrides, env: &Env) -> Result<FoundEndpoint, ConfigError> {
    let (text, origin, what) = if let Some(text) = query.get("endpoint") {
        (text, Origin::Url, "parameter endpoint")
    } else if let Some(text) = &flags.endpoint {
        (text.as_str(), Origin::Flag("endpoint"), "--endpoint")
    } else if let Some((name, text)) = env.first(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]) {
        (text, Origin::Env(name), name)
    } else {
        return Ok((Sourced::new(Endpoint::Aws, Origin::Default), None));
    };
    let (endpoint, region) = Endpoint::of(EndpointUrl::parse(text, what)?);
    Ok((Sourced::new(endpoint, origin), region))
}

fn region(
    query: &Query,
    flags: &Overrides,
    env: &Env,
    in_name: Option<String>,
) -> Result<Sourced<String>, ConfigError> {
    let region = if let Some(region) = query.get("region") {
        Sourced::new(region.to_owned(), Origin::Url)
    } else if let Some(region) = &flags.region {
        Sourced::new(region.clone(), Origin::Flag("region"))
    } else if let Some(region) = in_name {
        Sourced::new(region, Origin::Endpoint)
    } else if let Some((name, region)) = env.first(&["AWS_REGION", "AWS_DEFAULT_REGION"]) {
        Sourced::new(region.to_owned(), Origin::Env(name))
    } else {
        Sourced::new(REGION_DEFAULT.to_owned(), Origin::Default)
    };
    // It becomes part of a host name and of a header.
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    if region.value.len() > 64 || !region.value.bytes().all(fits) {
        return Err(ConfigError::Value {
            what: format!("region from {}", region.origin),
            value: region.value,
            expected: "a region such as eu-central-1",
        });
    }
    Ok(region)
}

fn addressing(
    query: &Query,
    endpoint: &Sourced<Endpoint>,
    bucket: &str,
) -> Result<Sourced<Addressing>, ConfigError> {
    if let Some(path) = query.flag("force-path-style")? {
        let value = if path { Addressing::Path } else { Addressing::VirtualHost };
        return Ok(Sourced::new(value, Origin::Url));
    }
    // A certificate for *.s3.REGION.amazonaws.com covers one label, so a bucket with a dot goes into the path.
    let value = match endpoint.value {
        Endpoint::Aws if !bucket.contains('.') => Addressing::VirtualHost,
        _ => Addressing::Path,
    };
    Ok(Sourced::new(value, Origin::Default))
}

fn quirks(query: &Query) -> Result<Quirks, ConfigError> {
    let value = |name: &str, value: &str, expected| ConfigError::Value {
        what: format!("parameter {name}"),
        value: value.to_owned(),
        expected,
    };
    let sign_payload = match query.get("sign-payload") {
        None | Some("auto") => SignPayload::Auto,
        Some("always" | "true") => SignPayload::Always,
        Some("never" | "false") => SignPayload::Never,
        Some(other) => return Err(value("sign-payload", other, "auto, always or never")),
    };
    let checksum = match query.get("checksum") {
        None | Some("crc32") => Checksum::Crc32,
        Some("none") => Checksum::None,
        Some(other) => return Err(value("checksum", other, "crc32 or none")),
    };
    Ok(Quirks { sign_payload, checksum, ..Quirks::default() })
}

/// Whether a name in the place of the bucket is more likely a server: a dot, a port, an address, or this machine.
fn is_host_like(name: &str) -> bool {
    name.contains(['.', ':', '[']) || name == "localhost"
}

fn host_like(url: &str, host: &str, prefix: &str) -> ConfigError {
    let bare = split_port(host).map_or(host, |(h, _)| h);
    let scheme = if is_local(bare) { "http" } else { "https" };
    let (bucket, rest) = prefix.split_once('/').unwrap_or((prefix, ""));
    let bucket = if bucket.is_empty() { "BUCKET" } else { bucket };
    let rest = if rest.is_empty() && prefix.is_empty() { "PREFIX" } else { rest };
    let slash = if rest.is_empty() { "" } else { "/" };
    let mut advice =
        format!("if it is a server, write s3://{bucket}{slash}{rest}?endpoint={scheme}://{host}");
    let is_address = bare.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok();
    let label = host.split_once('.').filter(|(_, server)| server.contains(['.', ':']) && !is_address);
    if let Some((label, server)) = label {
        let slash = if prefix.is_empty() { "" } else { "/" };
        let bare = split_port(server).map_or(server, |(h, _)| h);
        let scheme = if is_local(bare) { "http" } else { "https" };
        advice += &format!(
            "; if {label:?} is a bucket of that server, write s3://{label}{slash}{prefix}?endpoint={scheme}://{server}"
        );
    }
    if check_bucket(host, &Endpoint::Aws).is_ok() && host != "localhost" {
        let slash = if prefix.is_empty() { "" } else { "/" };
        advice += &format!(
            "; if it is a bucket of AWS, write s3://{host}{slash}{prefix}?endpoint=https://s3.amazonaws.com"
        );
    }
    ConfigError::HostLike { url: shown(url), host: host.to_owned(), advice }
}

fn check_bucket(bucket: &str, endpoint: &Endpoint) -> Result<(), ConfigError> {
    let bad = |why| Err(ConfigError::Bucket { bucket: bucket.to_owned(), why });
    if bucket.len() > 255
        || !bucket.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
    {
        return bad("it may hold letters, digits, hyphens and dots");
    }
    if bucket == "." || bucket == ".." || bucket.contains("..") {
        return bad("two dots must not stand together");
    }
    if *endpoint != Endpoint::Aws {
        return Ok(());
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

/// Shortens a path as Litestream does for URLs: no empty, `.` or `..` parts, no slash at the end.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Decodes `%41`; `None` for a percent sign without two hex digits, or bytes that are not UTF-8.
pub(super) fn decode(text: &str) -> Option<String> {
    if !text.contains('%') {
        return Some(text.to_owned());
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        if b == b'%' {
            let digit = |b: Option<u8>| char::from(b?).to_digit(16);
            let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
            out.push((high * 16 + low) as u8);
        } else {
            out.push(b);
        }
    }
    String::from_utf8(out).ok()
}

/// The URL for messages: user name, password and parameters are left out.
pub(super) fn shown(url: &str) -> String {
    let url = url.split('?').next().unwrap_or(url);
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find('/').unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) => format!("{scheme}://{}", &rest[at + 1..]),
        None => url.to_owned(),
    }
}

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;
