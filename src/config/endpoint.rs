//! Endpoints: the addresses of stores.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::aws;
use super::error::ConfigError;
use super::location::Addressing;
use super::provider::{self, Region};

/// Whether a connection is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Plain HTTP: the connection is not encrypted, so payloads are signed by default.
    Http,
    /// HTTP over TLS.
    Https,
}

impl Scheme {
    /// `http` or `https`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }

    const fn port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }
}

/// The address of a server: `https://host[:port][/path]`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct EndpointUrl {
    /// Whether the connection is encrypted.
    pub scheme: Scheme,
    /// Host name in lower case, or an IP address. An IPv6 address is in brackets.
    pub host: String,
    /// Port; `None` for the scheme's default.
    pub port: Option<u16>,
    /// Prefix of every request path, before the bucket: empty, or `/a/b` without a slash at its
    /// end.
    pub path: String,
}

impl EndpointUrl {
    /// Parses `host`, `host:port` or a whole URL. Without a scheme, loopback and private addresses
    /// use `http`, all others `https`. `what` names the source in errors.
    ///
    /// # Errors
    /// [`ConfigError::Value`] with the name `what`.
    pub fn parse(text: &str, what: &str) -> Result<EndpointUrl, ConfigError> {
        let bad = |expected| ConfigError::Value { what: what.to_owned(), value: text.to_owned(), expected };
        if text.contains('@') {
            // I7: the value may contain a password, so the error does not repeat it.
            return Err(ConfigError::Value {
                what: what.to_owned(),
                value: "...@...".to_owned(),
                expected: "a URL without user name and password",
            });
        }
        let (scheme, rest) = match text.split_once("://") {
            Some(("http", rest)) => (Some(Scheme::Http), rest),
            Some(("https", rest)) => (Some(Scheme::Https), rest),
            Some(_) => return Err(bad("an http:// or https:// URL")),
            None => (None, text),
        };
        if rest.contains(['?', '#']) {
            return Err(bad("a URL without a query"));
        }
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let (host, port) = split_port(authority).ok_or_else(|| bad("a host with a port from 1 to 65535"))?;
        if !is_host(host) {
            return Err(bad("a host name or an address"));
        }
        let host = host.to_ascii_lowercase();
        let scheme = scheme.unwrap_or(if is_local(&host) { Scheme::Http } else { Scheme::Https });
        let port = port.filter(|p| *p != scheme.port());
        Ok(EndpointUrl { scheme, host, port, path: path.trim_end_matches('/').to_owned() })
    }

    /// Whether this is an address of Amazon S3, with or without a bucket before it, so that only
    /// Amazon can answer there. Other hosts in Amazon's domains belong to its customers.
    #[must_use]
    pub fn is_aws_storage(&self) -> bool {
        let known = aws::host(&self.host);
        self.port.is_none() && matches!(known, Some(aws::AwsHost::Api { .. } | aws::AwsHost::Fixed { .. }))
    }

    /// Whether the host may be anywhere on the Internet: neither on this machine nor in a private
    /// network.
    #[must_use]
    pub fn is_public(&self) -> bool {
        if is_local(&self.host) || super::host::PRIVATE.iter().any(|end| self.host.ends_with(end)) {
            return false;
        }
        match self.host.trim_matches(['[', ']']).parse::<IpAddr>() {
            // 100.64.0.0/10 is used inside the networks of providers and by private overlay
            // networks.
            Ok(IpAddr::V4(ip)) => {
                let [a, b, ..] = ip.octets();
                !(ip.is_link_local() || (a == 100 && (64..128).contains(&b)))
            }
            Ok(IpAddr::V6(ip)) => !ip.is_unicast_link_local(),
            Err(_) => true,
        }
    }

    /// `host` or `host:port`, as in a Host header.
    #[must_use]
    pub fn authority(&self) -> String {
        match self.port {
            Some(port) => format!("{}:{port}", self.host),
            None => self.host.clone(),
        }
    }
}

impl fmt::Display for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme.as_str(), self.authority(), self.path)
    }
}

impl fmt::Debug for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The endpoint rule of Amazon, or one fixed address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// Amazon S3: the host follows from the region.
    Aws {
        /// Use the hosts that have IPv6 addresses too.
        dual_stack: bool,
        /// Use the hosts with FIPS-validated cryptography.
        fips: bool,
    },
    /// A server named by the user.
    At(EndpointUrl),
}

/// What the address of an endpoint reveals.
#[derive(Debug, Clone)]
pub(super) struct Recognised {
    pub(super) endpoint: Endpoint,
    /// The region in the name, or the only region of the provider.
    pub(super) region: Option<String>,
    /// The bucket before the provider's host.
    pub(super) bucket: Option<String>,
    pub(super) provider: Option<&'static provider::Provider>,
    /// The addressing style that this address requires.
    pub(super) addressing: Option<Addressing>,
}

impl Endpoint {
    /// The regular hosts of Amazon S3.
    pub const AWS: Endpoint = Endpoint::Aws { dual_stack: false, fips: false };

    /// Whether this is Amazon S3.
    #[must_use]
    pub fn is_aws(&self) -> bool {
        matches!(self, Endpoint::Aws { .. })
    }

    /// The address for a region.
    #[must_use]
    pub fn url(&self, region: &str) -> EndpointUrl {
        let (dual_stack, fips) = match self {
            Endpoint::At(url) => return url.clone(),
            Endpoint::Aws { dual_stack, fips } => (*dual_stack, *fips),
        };
        let fips = if fips { "-fips" } else { "" };
        let dual_stack = if dual_stack { ".dualstack" } else { "" };
        let host = format!("s3{fips}{dual_stack}.{region}.{}", aws::suffix(region));
        EndpointUrl { scheme: Scheme::Https, host, port: None, path: String::new() }
    }
}

/// Why hosts of directory buckets are refused.
const EXPRESS: &str = "serves directory buckets (S3 Express One Zone), which need sessions that lsfast does not have, and \
     keep everything in one zone: use a general purpose bucket";

/// Why a directory bucket is refused.
pub(super) const EXPRESS_BUCKET: &str = "it is a directory bucket (S3 Express One Zone), which needs sessions that lsfast \
     does not have, and keeps everything in one zone: use a general purpose bucket";

/// Recognises addresses of Amazon and of other providers.
pub(super) fn recognise(url: EndpointUrl) -> Result<Recognised, &'static str> {
    let none =
        |endpoint| Recognised { endpoint, region: None, bucket: None, provider: None, addressing: None };
    // Another port means a proxy or a tunnel, which is used exactly as it was named.
    if url.port.is_some() {
        return Ok(none(Endpoint::At(url)));
    }
    match aws::host(&url.host) {
        None => {}
        Some(aws::AwsHost::Website) => {
            return Err("serves web sites and takes no uploads: name the bucket alone, s3://BUCKET/PREFIX");
        }
        Some(aws::AwsHost::Express) => return Err(EXPRESS),
        Some(aws::AwsHost::Api { dual_stack, fips, region, bucket }) => {
            if url.scheme == Scheme::Https && url.path.is_empty() {
                let endpoint = Endpoint::Aws { dual_stack, fips };
                return Ok(Recognised { region, bucket, ..none(endpoint) });
            }
            let host = bucket.as_ref().map_or(&*url.host, |b| &url.host[b.len() + 1..]).to_owned();
            return Ok(Recognised { region, bucket, ..none(Endpoint::At(EndpointUrl { host, ..url })) });
        }
        Some(aws::AwsHost::Fixed { host, region, bucket, virtual_host }) => {
            let style = if virtual_host { Addressing::VirtualHost } else { Addressing::Path };
            let endpoint = Endpoint::At(EndpointUrl { host, ..url });
            return Ok(Recognised { region, bucket, addressing: Some(style), ..none(endpoint) });
        }
    }
    let Some(found) = provider::of_host(&url.host) else { return Ok(none(Endpoint::At(url))) };
    let region = match found.provider.region {
        Region::Always(region) => Some(region.to_owned()),
        Region::InName => found.region.map(str::to_owned),
    };
    let bucket = found.bucket.map(str::to_owned);
    let path = if url.path.is_empty() { found.path.to_owned() } else { url.path.clone() };
    let endpoint = Endpoint::At(EndpointUrl { host: found.host(), path, ..url });
    Ok(Recognised { region, bucket, provider: Some(found.provider), ..none(endpoint) })
}

/// Splits host and port; `None` if the port is not a number. IPv6 addresses keep their brackets.
pub(super) fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let after_bracket = authority.rfind(']').map_or(0, |at| at + 1);
    match authority[after_bracket..].rfind(':') {
        None => Some((authority, None)),
        Some(at) => {
            let (host, port) = authority.split_at(after_bracket + at);
            match port[1..].parse::<u16>() {
                Ok(port) if port != 0 => Some((host, Some(port))),
                _ => None,
            }
        }
    }
}

fn is_host(host: &str) -> bool {
    if let Some(inner) = host.strip_prefix('[') {
        return inner.strip_suffix(']').is_some_and(|ip| ip.parse::<Ipv6Addr>().is_ok());
    }
    host.len() <= 253
        && host.split('.').all(|label| !label.is_empty())
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
}

/// Whether the host is this machine or one in the local network.
pub(super) fn is_local(host: &str) -> bool {
    let name = host.trim_matches(['[', ']']);
    match name.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => ip.is_loopback() || ip.is_private() || ip == Ipv4Addr::UNSPECIFIED,
        Ok(IpAddr::V6(ip)) => ip.is_loopback() || ip.is_unique_local(),
        Err(_) => {
            name == "localhost"
                || name.ends_with(".localhost")
                || name.ends_with(".local")
                || !name.contains('.')
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        for (text, shown) in [
            ("https://S3.Example.com", "https://s3.example.com"),
            ("https://s3.example.com:443/", "https://s3.example.com"),
            ("s3.example.com", "https://s3.example.com"),
            ("s3.example.com:9000", "https://s3.example.com:9000"),
            ("localhost:9000", "http://localhost:9000"),
            ("192.168.1.5:9000", "http://192.168.1.5:9000"),
            ("[::1]:9000", "http://[::1]:9000"),
            ("minio:9000", "http://minio:9000"),
            ("http://8.8.8.8", "http://8.8.8.8"),
            ("https://x.supabase.co/storage/v1/s3/", "https://x.supabase.co/storage/v1/s3"),
        ] {
            assert_eq!(EndpointUrl::parse(text, "endpoint").unwrap().to_string(), shown);
        }
        for bad in [
            "",
            "https://",
            "ftp://x",
            "https://a b",
            "host:0",
            "host:99999",
            "[::1",
            "https://h?x=1",
            "..",
            "a..b",
            "a.",
        ] {
            EndpointUrl::parse(bad, "endpoint").unwrap_err();
        }
        let e = EndpointUrl::parse("https://key:hush@host", "endpoint").unwrap_err().to_string();
        assert!(!e.contains("hush"), "{e}");
    }

    #[test]
    fn amazon_is_recognised() {
        let of = |s| {
            let found = recognise(EndpointUrl::parse(s, "endpoint").unwrap()).unwrap();
            let region = found.region.clone().unwrap_or_else(|| "us-east-1".into());
            (found.endpoint.is_aws(), found.endpoint.url(&region).to_string())
        };
        for (text, aws, url) in [
            ("https://s3.amazonaws.com", true, "https://s3.us-east-1.amazonaws.com"),
            ("s3.eu-central-1.amazonaws.com", true, "https://s3.eu-central-1.amazonaws.com"),
            ("s3-us-west-2.amazonaws.com", true, "https://s3.us-west-2.amazonaws.com"),
            ("s3.cn-north-1.amazonaws.com.cn", true, "https://s3.cn-north-1.amazonaws.com.cn"),
            (
                "s3-fips.dualstack.us-east-2.amazonaws.com",
                true,
                "https://s3-fips.dualstack.us-east-2.amazonaws.com",
            ),
            ("http://s3.amazonaws.com", false, "http://s3.amazonaws.com"),
            ("https://s3.example.com", false, "https://s3.example.com"),
            ("https://amazonaws.com.evil.org", false, "https://amazonaws.com.evil.org"),
        ] {
            assert_eq!(of(text), (aws, url.to_owned()), "{text}");
        }
        let express = "backups--use1-az4--x-s3.s3express-use1-az4.us-east-1.amazonaws.com";
        for host in [express, "s3express-control.eu-north-1.amazonaws.com"] {
            let why = recognise(EndpointUrl::parse(host, "endpoint").unwrap()).unwrap_err();
            assert!(why.contains("S3 Express"), "{why}");
        }
        for (url, storage, public) in [
            ("https://s3.eu-west-1.amazonaws.com", true, true),
            ("https://b.c.s3.amazonaws.com", true, true),
            ("https://s3-accesspoint.eu-west-1.amazonaws.com", true, true),
            ("https://ec2-1-2-3-4.compute-1.amazonaws.com", false, true),
            ("https://b.s3-website-eu-west-1.amazonaws.com", false, true),
            ("https://s3.eu-west-1.amazonaws.com:8443", false, true),
            ("https://s3.eu-west-1.amazonaws.com.evil.org", false, true),
            ("https://s3.example.com", false, true),
            ("http://8.8.8.8:9000", false, true),
            ("http://10.0.0.1:9000", false, false),
            ("http://100.100.1.2", false, false),
            ("http://169.254.1.2", false, false),
            ("http://[fe80::1]", false, false),
            ("http://[2001:db8::1]", false, true),
            ("http://minio:9000", false, false),
            ("http://minio.storage.svc", false, false),
            ("http://store.internal", false, false),
        ] {
            let url = EndpointUrl::parse(url, "endpoint").unwrap();
            assert_eq!((url.is_aws_storage(), url.is_public()), (storage, public), "{url}");
        }
        let website = EndpointUrl::parse("b.s3-website.eu-central-1.amazonaws.com", "endpoint").unwrap();
        recognise(website).unwrap_err();
    }
}
