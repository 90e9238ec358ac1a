//! The address of a store, and whether it is that of AWS or of a private network.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use super::aws;

/// Suffixes of names that exist only in private networks, so no bucket of AWS has them.
pub(super) const PRIVATE: [&str; 8] =
    [".local", ".internal", ".lan", ".home", ".home.arpa", ".svc", ".test", ".localdomain"];

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

    pub(super) const fn port(self) -> u16 {
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
        if is_local(&self.host) || PRIVATE.iter().any(|end| self.host.ends_with(end)) {
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
