//! Resolves the settings of a replica to a [`Location`].
//!
//! Each value is taken from the first place that sets it: flag, replica in the config file, top of
//! the config file, URL, environment, host name of the endpoint, rules of the provider, default.
//! The region has one exception: the region in the name of an endpoint takes precedence over that
//! of the environment, because hosts of AWS set `AWS_REGION` by themselves.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::ambiguity::Ambiguity;
use super::aws::{self, AccessPoint};
use super::bucket::check_bucket;
use super::endpoint::{Recognised, recognise};
use super::error::ConfigError;
use super::host::{HostReading, Parts, place};
use super::location::{Kind, Location, S3Location};
use super::query::Query;
use super::quirks::{Addressing, TlsOptions};
use super::settings::{
    CustomerKey, Found, S3Settings, addressing, check_region, check_text, quirks, region, static_keys, what,
};
use super::sourced::{Origin, Sourced};
use super::text::{clean, decode, has_user_info, shown};
use super::{CredentialSource, Endpoint, EndpointUrl, Env, ReplicaFields, Scheme, provider};

/// Values of command line flags. They take precedence over everything else.
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
    /// Ambiguous URLs that have been settled, each with the URL of the right reading: see
    /// [`Overrides::settle`].
    pub settled: BTreeMap<String, String>,
}

impl Overrides {
    /// Settles an ambiguous URL: from now on it means the reading with this index.
    pub fn settle(&mut self, ambiguity: &Ambiguity, reading: usize) {
        self.settled.insert(ambiguity.url.clone(), ambiguity.readings[reading].url.clone());
    }

    fn fields(&self) -> ReplicaFields {
        let text = |v: &Option<String>, name| v.clone().map(|v| Sourced::new(v, Origin::Flag(name)));
        ReplicaFields {
            endpoint: text(&self.endpoint, "endpoint"),
            region: text(&self.region, "region"),
            ca_cert: self.ca_cert.clone().map(|v| Sourced::new(v, Origin::Flag("ca-cert"))),
            skip_verify: self.skip_verify.then(|| Sourced::new(true, Origin::Flag("skip-verify"))),
            ..ReplicaFields::default()
        }
    }
}

impl Location {
    /// Resolves `s3://BUCKET/PREFIX?...`, `s3://HOST/BUCKET/PREFIX`, `https://HOST/BUCKET/PREFIX`
    /// or `file:///DIRECTORY`.
    ///
    /// # Errors
    /// [`ConfigError`], with the remedy in its message; [`ConfigError::Ambiguous`] for a URL with
    /// several readings.
    pub fn resolve(url: &str, flags: &Overrides, env: &Env) -> Result<Location, ConfigError> {
        Location::of_fields(ReplicaFields::of_url(url), flags, env)
    }

    /// Resolves the settings of a replica.
    ///
    /// # Errors
    /// The same as for [`resolve`](Location::resolve).
    pub fn of_fields(fields: ReplicaFields, flags: &Overrides, env: &Env) -> Result<Location, ConfigError> {
        let fields = flags.fields().or(fields);
        if let Some(path) = fields.path.as_ref().filter(|p| p.value.contains("://")) {
            let (what, value) = (format!("path from {}", path.origin), shown(&path.value));
            return Err(ConfigError::Value {
                what,
                value,
                expected: "a path: write a URL under the key url",
            });
        }
        if let Some(url) = &fields.url {
            let url = flags.settled.get(&url.value).unwrap_or(&url.value).clone();
            let (scheme, rest) = url.split_once("://").ok_or_else(|| ConfigError::NoScheme(shown(&url)))?;
            match scheme {
                _ if fields.path.is_some() => {
                    return Err(ConfigError::Both { first: "url", second: "path" });
                }
                "file" => return file(&url, rest),
                _ if fields.bucket.is_some() => {
                    return Err(ConfigError::Both { first: "url", second: "bucket" });
                }
                "s3" => return s3_url(&url, None, rest, fields, env),
                "http" => return s3_url(&url, Some(Scheme::Http), rest, fields, env),
                "https" => return s3_url(&url, Some(Scheme::Https), rest, fields, env),
                other => return Err(no_such_kind(other, &fields)),
            }
        }
        match fields.kind.as_ref().map(|k| k.value.as_str()) {
            Some("s3") => s3_fields(fields, env),
            Some("file") | None => {
                if fields.kind.is_none() && (fields.bucket.is_some() || fields.endpoint.is_some()) {
                    let advice = "write type: s3 for a bucket, or type: file for a directory";
                    return Err(ConfigError::Incomplete { missing: "type", advice });
                }
                let Some(path) = &fields.path else {
                    let advice = "write url: s3://BUCKET/PREFIX, or type: file and path: DIRECTORY";
                    return Err(ConfigError::Incomplete { missing: "place", advice });
                };
                check_text("path", &path.value)?;
                Ok(Location::directory(env.absolute(Path::new(&path.value))))
            }
            Some(other) => Err(no_such_kind(other, &fields)),
        }
    }

    /// The location of a directory.
    pub fn directory(path: impl Into<PathBuf>) -> Location {
        let path = path.into();
        Location { url: format!("file://{}", path.display()), kind: Kind::File(path) }
    }
}

fn no_such_kind(kind: &str, fields: &ReplicaFields) -> ConfigError {
    let known: String = kind.chars().filter(char::is_ascii_alphanumeric).take(16).collect();
    let advice = match known.as_str() {
        "gs" | "gcs" => {
            let text = fields.url.as_ref().map_or("", |u| u.value.as_str());
            let place = text.split_once("://").map_or("", |(_, rest)| rest.split('?').next().unwrap_or(""));
            let place = match (&fields.bucket, &fields.path) {
                (Some(bucket), Some(path)) => format!("{}/{}", bucket.value, path.value),
                (Some(bucket), None) => format!("{}/PREFIX", bucket.value),
                _ if place.is_empty() || place.contains('@') => "BUCKET/PREFIX".to_owned(),
                _ => place.to_owned(),
            };
            format!(
                "Google Cloud Storage speaks S3 too: make an HMAC key, and write \
                 s3://{place}?endpoint=https://storage.googleapis.com"
            )
        }
        "oss" => "Alibaba Cloud OSS speaks S3 too: write s3://BUCKET/PREFIX?endpoint=https://s3.oss-REGION.aliyuncs.com"
            .to_owned(),
        _ => "write s3://BUCKET/PREFIX or file:///DIRECTORY".to_owned(),
    };
    ConfigError::Kind { kind: known, advice }
}

fn file(url: &str, rest: &str) -> Result<Location, ConfigError> {
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    if !query.is_empty() {
        return Err(ConfigError::FileParameter(shown(url)));
    }
    let path = decode(path).ok_or_else(|| ConfigError::Escape(shown(url)))?;
    if !path.starts_with('/') || path.contains('\0') {
        return Err(ConfigError::File(shown(url)));
    }
    Ok(Location::directory(clean(&path)))
}

fn s3_url(
    url: &str,
    scheme: Option<Scheme>,
    rest: &str,
    fields: ReplicaFields,
    env: &Env,
) -> Result<Location, ConfigError> {
    let (whole, query) = rest.split_once('?').unwrap_or((rest, ""));
    if whole.is_empty() || whole.starts_with('/') {
        return Err(ConfigError::NoBucket(shown(url)));
    }
    if has_user_info(rest) {
        return Err(ConfigError::UserInfo(shown(url)));
    }
    let of_query = ReplicaFields::of_parameters(&Query::parse(query, url)?)?;
    let fields = fields.or(of_query);
    if scheme.is_none() && whole.starts_with("arn:") {
        let (point, path) = access_point(whole)?;
        let prefix = unescaped(path, url)?;
        return finish(HostReading::AccessPoint { point, prefix }, fields, env);
    }
    let (authority, path) = whole.split_at(whole.find('/').unwrap_or(whole.len()));
    let path = unescaped(path, url)?;
    let beside = fields.endpoint.clone().or_else(|| ReplicaFields::of_env(env).endpoint);
    let beside = beside.map(|e| endpoint_url(&e)).transpose()?;
    let parts = Parts { url, scheme, authority, path: &path, query };
    finish(place(parts, beside.as_ref())?, fields, env)
}

/// The path of a URL, decoded and without superfluous slashes.
fn unescaped(path: &str, url: &str) -> Result<String, ConfigError> {
    let path = decode(path).ok_or_else(|| ConfigError::Escape(shown(url)))?;
    Ok(clean(&path).trim_start_matches('/').to_owned())
}

fn access_point(text: &str) -> Result<(AccessPoint, &str), ConfigError> {
    AccessPoint::parse(text).map_err(|why| ConfigError::AccessPoint { arn: text.to_owned(), why })
}

fn s3_fields(fields: ReplicaFields, env: &Env) -> Result<Location, ConfigError> {
    // As in Litestream, the path is put before the keys unchanged.
    let prefix = fields.path.as_ref().map_or_else(String::new, |p| p.value.clone());
    let bucket = fields.bucket.as_ref().map_or("", |b| b.value.as_str());
    if bucket.starts_with("arn:") {
        let (point, rest) = access_point(bucket)?;
        if !rest.is_empty() {
            let why = "write what follows the access point's name under the key path";
            return Err(ConfigError::AccessPoint { arn: bucket.to_owned(), why });
        }
        return finish(HostReading::AccessPoint { point, prefix }, fields, env);
    }
    let bucket = bucket.to_owned();
    finish(HostReading::Bucket { bucket, prefix }, fields, env)
}

fn endpoint_url(endpoint: &Sourced<String>) -> Result<EndpointUrl, ConfigError> {
    EndpointUrl::parse(&endpoint.value, &what("endpoint", &endpoint.origin))
}

fn finish(place: HostReading, fields: ReplicaFields, env: &Env) -> Result<Location, ConfigError> {
    let from_env = ReplicaFields::of_env(env);
    let found = find(place, &fields, &from_env)?;
    check_text("bucket", &found.bucket)?;
    check_text("path", &found.prefix)?;
    let region = region(&found, &fields, from_env.region.as_ref())?;
    check_bucket(&found.bucket, &found.endpoint.value)?;
    let settings = S3Settings::of(&fields)?;
    let addressing = addressing(&found, &fields);
    let quirks = quirks(&found, &fields)?;
    let credentials = match static_keys(&fields)? {
        Some(keys) => keys,
        None => CredentialSource::from_env(env)?,
    };
    let ca_cert = fields.ca_cert.clone().or(from_env.ca_cert);
    let location = S3Location {
        region,
        addressing,
        tls: TlsOptions {
            skip_verify: fields.skip_verify.as_ref().is_some_and(|s| s.value),
            // If SSL_CERT_FILE is set, the system's certificates are read from it anyway.
            ca_cert: ca_cert
                .as_ref()
                .filter(|c| c.origin != Origin::Env("SSL_CERT_FILE"))
                .map(|c| c.value.clone()),
        },
        quirks,
        provider: provider_name(&found),
        credentials,
        settings,
        customer_key: CustomerKey::of(&fields),
        file_secrets: fields.file_secrets(),
        origins: Box::new(ReplicaFields { ca_cert, ..fields }.without_secrets()),
        endpoint: found.endpoint,
        bucket: found.bucket,
        prefix: found.prefix,
        access_point: found.access_point,
    };
    let slash = if location.prefix.is_empty() { "" } else { "/" };
    let name = location.access_point.as_ref().unwrap_or(&location.bucket);
    let url = format!("s3://{name}{slash}{}", location.prefix);
    Ok(Location { url, kind: Kind::S3(Box::new(location)) })
}

fn provider_name(found: &Found) -> Option<&'static str> {
    if found.endpoint.value.is_aws() { Some("AWS") } else { found.server.provider.map(|p| p.name) }
}

fn find(place: HostReading, fields: &ReplicaFields, from_env: &ReplicaFields) -> Result<Found, ConfigError> {
    let (named, bucket, prefix, access_point) = match place {
        HostReading::Bucket { bucket, prefix } => (None, bucket, prefix, None),
        HostReading::Server { server, bucket, prefix } => (Some(server), bucket, prefix, None),
        HostReading::AccessPoint { point, prefix } => {
            let address =
                EndpointUrl { scheme: Scheme::Https, host: point.host(), port: None, path: String::new() };
            let server = Recognised {
                endpoint: Endpoint::At(address),
                region: Some(point.region.clone()),
                bucket: None,
                provider: None,
                addressing: Some(Addressing::VirtualHost),
            };
            (Some(Box::new(server)), point.label(), prefix, Some(point.arn()))
        }
    };
    let beside = match (&fields.endpoint, &named) {
        (Some(endpoint), _) => Some(endpoint),
        (None, Some(_)) => None,
        (None, None) => from_env.endpoint.as_ref(),
    };
    let (mut server, origin) = match (beside, named) {
        (Some(endpoint), _) => {
            let url = endpoint_url(endpoint)?;
            let host = url.host.clone();
            let server = recognise(url).map_err(|why| ConfigError::Server { host, why })?;
            (server, endpoint.origin.clone())
        }
        (None, Some(server)) => (*server, fields.bucket.as_ref().map_or(Origin::Url, |b| b.origin.clone())),
        (None, None) => by_region(fields, from_env)?,
    };
    let bucket = match (server.bucket.take(), bucket) {
        (Some(before), bucket) if bucket.is_empty() => before,
        // The endpoint was written with a bucket before it.
        (Some(before), bucket) if before != bucket => {
            return Err(ConfigError::OtherBucket { before, bucket });
        }
        (_, bucket) => bucket,
    };
    if bucket.is_empty() {
        return Err(ConfigError::Incomplete {
            missing: "bucket",
            advice: "write bucket: NAME next to type: s3",
        });
    }
    let endpoint = Sourced::new(server.endpoint.clone(), origin);
    Ok(Found { endpoint, server, bucket, prefix, access_point })
}

/// AWS, unless the region is one that only another provider has.
fn by_region(fields: &ReplicaFields, env: &ReplicaFields) -> Result<(Recognised, Origin), ConfigError> {
    let aws =
        Recognised { endpoint: Endpoint::AWS, region: None, bucket: None, provider: None, addressing: None };
    let Some(region) = fields.region.as_ref().or(env.region.as_ref()) else {
        return Ok((aws, Origin::Default));
    };
    check_region(region)?;
    if aws::is_region(&region.value) {
        return Ok((aws, Origin::Default));
    }
    let owners = provider::of_region(&region.value);
    if let [(provider, host)] = owners.as_slice()
        && let Ok(server) = EndpointUrl::parse(host, "endpoint").map(recognise)
    {
        let host = host.clone();
        let server = server.map_err(|why| ConfigError::Server { host, why })?;
        return Ok((server, Origin::Provider(provider.name)));
    }
    let lines: Vec<String> =
        owners.iter().map(|(p, host)| format!("endpoint {host} for {}", p.name)).collect();
    let advice = if lines.is_empty() {
        "set the endpoint of your provider, or a region of AWS such as eu-central-1".to_owned()
    } else {
        format!("set {}", lines.join(", or "))
    };
    Err(ConfigError::RegionAlone { region: region.value.clone(), origin: region.origin.clone(), advice })
}

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;
