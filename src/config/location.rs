//! A resolved replica: every value with its origin.

use std::path::PathBuf;

use super::error::ConfigError;
use super::fields::ReplicaFields;
use super::quirks::{Addressing, Quirks, TlsOptions};
use super::settings::{CustomerKey, S3Settings};
use super::sourced::Sourced;
use super::{CredentialSource, Endpoint, EndpointUrl, Secret};

/// A bucket and everything needed to reach it.
#[derive(Debug, Clone)]
pub struct S3Location {
    /// Address of the store.
    pub endpoint: Sourced<Endpoint>,
    /// Region to sign for.
    pub region: Sourced<String>,
    /// Name of the bucket.
    pub bucket: String,
    /// Prefix of `/LLLL/NAME` in every key, used literally: an empty prefix makes keys that begin
    /// with a slash.
    pub prefix: String,
    /// How requests name the bucket.
    pub addressing: Sourced<Addressing>,
    /// How the certificate is verified.
    pub tls: TlsOptions,
    /// Special properties of this store.
    pub quirks: Quirks,
    /// Name of the provider, if the endpoint belongs to a known one.
    pub provider: Option<&'static str>,
    /// ARN of the access point, if `bucket` is the label of one.
    pub access_point: Option<String>,
    /// Source of the credentials.
    pub credentials: CredentialSource,
    /// Settings that become headers or limits.
    pub settings: S3Settings,
    /// The customer's key for encryption by the server (SSE-C).
    pub customer_key: Option<CustomerKey>,
    /// Secrets that the config file holds or takes from variables: a program of `--exec` does not
    /// inherit variables with these values.
    pub file_secrets: Vec<Secret>,
    /// All settings of this replica but its secrets, with their origins; read only to explain them.
    pub origins: Box<ReplicaFields>,
}

impl S3Location {
    /// Address of the endpoint for the region.
    #[must_use]
    pub fn endpoint_url(&self) -> EndpointUrl {
        self.endpoint.value.url(&self.region.value)
    }

    /// A text that is equal only for the same location: endpoint, bucket and prefix. AWS has the
    /// same bucket names in every region, so its endpoints count as one.
    #[must_use]
    pub fn identity(&self) -> String {
        let endpoint = match &self.endpoint.value {
            Endpoint::Aws { .. } => "aws".to_owned(),
            Endpoint::At(url) => url.to_string(),
        };
        format!("s3 {endpoint} {}/{}", self.bucket, self.prefix)
    }

    /// How a copy request names the bucket of its source.
    #[must_use]
    pub fn copy_source(&self) -> String {
        match &self.access_point {
            Some(arn) => format!("{arn}/object"),
            None => self.bucket.clone(),
        }
    }
}

/// The kind of store.
#[derive(Debug, Clone)]
pub enum Kind {
    /// A directory.
    File(PathBuf),
    /// An S3 bucket.
    S3(Box<S3Location>),
}

/// One resolved replica.
#[derive(Debug, Clone)]
pub struct Location {
    /// URL for messages, without secrets and parameters.
    pub url: String,
    /// The kind of store and its settings.
    pub kind: Kind,
}

impl Location {
    /// A text that is equal only for the same location.
    #[must_use]
    pub fn identity(&self) -> String {
        match &self.kind {
            Kind::File(path) => format!("file {}", path.display()),
            Kind::S3(s3) => s3.identity(),
        }
    }

    /// The server of an S3 bucket and its region, for messages.
    #[must_use]
    pub fn server(&self) -> Option<String> {
        match &self.kind {
            Kind::File(_) => None,
            Kind::S3(s3) => Some(format!("{} region {}", s3.endpoint_url(), s3.region.value)),
        }
    }

    /// What to write on a command line to reach the same place, without secrets: a URL with its
    /// parameters, or the path of a directory.
    #[must_use]
    pub fn address(&self) -> String {
        let s3 = match &self.kind {
            Kind::File(path) => return path.display().to_string(),
            Kind::S3(s3) => s3,
        };
        let name = s3.access_point.as_ref().unwrap_or(&s3.bucket);
        let mut address = format!("s3://{name}/{}?region={}", encoded(&s3.prefix), encoded(&s3.region.value));
        let mut add = |name: &str, value: &str| address += &format!("&{name}={}", encoded(value));
        // A bucket with a dot in its name could be a server.
        if !s3.endpoint.value.is_aws() || s3.access_point.is_none() && s3.bucket.contains('.') {
            add("endpoint", &s3.endpoint_url().to_string());
            add("force-path-style", &(s3.addressing.value == Addressing::Path).to_string());
        }
        if s3.tls.skip_verify {
            add("skip-verify", "true");
        }
        if let Some(file) = &s3.tls.ca_cert {
            add("ca-cert", &file.to_string_lossy());
        }
        if s3.settings.requester_pays {
            add("requester-pays", "true");
        }
        if let Some(owner) = &s3.settings.expected_bucket_owner {
            add("expected-bucket-owner", owner);
        }
        address
    }

    /// A location below this one. Litestream joins the path of a database in a directory to that of
    /// the replica in the same way.
    ///
    /// # Errors
    /// [`ConfigError::Control`] for a control character.
    pub fn join(&self, relative: &str) -> Result<Location, ConfigError> {
        if relative.chars().any(char::is_control) {
            return Err(ConfigError::Control { what: "path", value: relative.to_owned() });
        }
        let s3 = match &self.kind {
            Kind::File(path) => return Ok(Location::directory(path.join(relative))),
            Kind::S3(s3) => s3,
        };
        let root = if s3.prefix.starts_with('/') { "/" } else { "" };
        let parts = s3.prefix.split('/').chain(relative.split('/')).filter(|p| !p.is_empty() && *p != ".");
        let prefix = format!("{root}{}", parts.collect::<Vec<_>>().join("/"));
        let name = s3.access_point.as_ref().unwrap_or(&s3.bucket);
        let url = format!("s3://{name}/{prefix}");
        Ok(Location { url, kind: Kind::S3(Box::new(S3Location { prefix, ..(**s3).clone() })) })
    }
}

/// Text as a part of a URL.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'/' | b':' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => out.push(char::from(byte)),
            _ => out += &format!("%{byte:02X}"),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Env, Overrides};

    #[test]
    fn an_address_leads_to_the_same_place() {
        let env = Env::new([("AWS_ACCESS_KEY_ID", "AKID"), ("AWS_SECRET_ACCESS_KEY", "hush")]);
        for url in [
            "s3://bucket/a/b.db?region=eu-central-1",
            "s3://bucket/with%20space%25?endpoint=http://127.0.0.1:9000&skip-verify=true",
            "s3://minio.example.com:9000/bucket/db",
            "https://s3.example.com/bucket/db?region=x-1&requester-pays=true&ca-cert=/etc/ca.pem",
            "s3://bucket.s3.eu-west-1.amazonaws.com/db",
            "file:///dir/app",
        ] {
            let location = Location::resolve(url, &Overrides::default(), &env).unwrap();
            let address = location.address();
            assert!(!address.contains("hush") && !address.contains("AKID"), "{address}");
            if let Kind::File(path) = &location.kind {
                assert_eq!(address, path.display().to_string());
                continue;
            }
            let again =
                Location::resolve(&address, &Overrides::default(), &Env::new([] as [(String, String); 0]))
                    .unwrap();
            let (Kind::S3(one), Kind::S3(two)) = (&location.kind, &again.kind) else { panic!("{address}") };
            assert_eq!(location.identity(), again.identity(), "{address}");
            assert_eq!((&one.prefix, &one.region.value), (&two.prefix, &two.region.value), "{address}");
            assert_eq!(one.endpoint_url().to_string(), two.endpoint_url().to_string(), "{address}");
            assert_eq!((one.addressing.value, &one.tls), (two.addressing.value, &two.tls), "{address}");
        }
    }
}
