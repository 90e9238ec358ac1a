//! Reads the endpoints of stores, and recognises those of known providers.

use std::net::Ipv6Addr;

use super::address::{Endpoint, EndpointUrl, Scheme, is_local};
use super::aws;
use super::error::ConfigError;
use super::provider::{self, Region};
use super::quirks::Addressing;
use super::text::shown;

impl EndpointUrl {
    /// Parses `host`, `host:port` or a whole URL. Without a scheme, loopback and private addresses
    /// use `http`, all others `https`. `what` names the source in errors.
    ///
    /// # Errors
    /// [`ConfigError::Value`] with the name `what`.
    pub fn parse(text: &str, what: &str) -> Result<EndpointUrl, ConfigError> {
        // I7: a query may hold keys or a signature.
        let bad = |expected| ConfigError::Value { what: what.to_owned(), value: shown(text), expected };
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

/// Why hosts of directory buckets are refused.
const EXPRESS: &str = "serves directory buckets (S3 Express One Zone), which need sessions that lsfast does not have, and \
     keep everything in one zone: use a general purpose bucket";

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
        for text in
            ["https://host/?X-Amz-Security-Token=hush", "host:9#hush", "ftp://host?hush", "h?hush:hush@x"]
        {
            let e = EndpointUrl::parse(text, "endpoint").unwrap_err().to_string();
            assert!(!e.contains("hush"), "{e}");
        }
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
