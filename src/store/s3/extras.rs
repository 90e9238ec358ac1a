//! Headers from the user's settings: storage class, server-side encryption, requester pays and the
//! expected bucket owner.
//!
//! | setting | goes with |
//! |---|---|
//! | storage class, KMS key | requests that create an object: PUT, CreateMultipartUpload, CopyObject |
//! | requester pays, expected bucket owner | every request; the source of a copy has a separate header for the owner |
//! | customer's key (SSE-C) | those that create an object, and those that read or write content: GET, HEAD, UploadPart, CompleteMultipartUpload; the source of a copy has separate headers |

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use md5::{Digest as _, Md5};

use super::call::Call;
use crate::base::limits;
use crate::config::{CustomerKey, KeyPlace, S3Location, Scheme, Secret};
use crate::io::read_small;
use crate::store::{ErrorKind, StoreError};

/// Length of a customer's key, in bytes.
const KEY_BYTES: usize = 32;

type Header = (HeaderName, HeaderValue);

/// The headers to add, by the kind of request.
#[derive(Default)]
pub(super) struct Extras {
    every: Vec<Header>,
    creation: Vec<Header>,
    content: Vec<Header>,
    copy_source: Vec<Header>,
}

impl Extras {
    /// Reads the settings of a replica.
    ///
    /// # Errors
    /// A customer's key that cannot be read or is invalid, and a value that no header can hold.
    pub(super) fn new(location: &S3Location) -> Result<Extras, StoreError> {
        let settings = &location.settings;
        let mut extras = Extras::default();
        if settings.requester_pays {
            extras.every.push(header("x-amz-request-payer", "requester")?);
        }
        if let Some(owner) = &settings.expected_bucket_owner {
            extras.every.push(header("x-amz-expected-bucket-owner", owner)?);
            extras.copy_source.push(header("x-amz-source-expected-bucket-owner", owner)?);
        }
        if let Some(class) = &settings.storage_class {
            extras.creation.push(header("x-amz-storage-class", class)?);
        }
        if let Some(key) = &settings.sse_kms_key_id {
            extras.creation.push(header("x-amz-server-side-encryption", "aws:kms")?);
            extras.creation.push(header("x-amz-server-side-encryption-aws-kms-key-id", key)?);
        }
        if let Some(customer) = &location.customer_key {
            let key = bytes_of(customer)?;
            refuse_over_plain_http(location)?;
            extras.content = customer_headers(CUSTOMER, &customer.algorithm, &key)?;
            extras.copy_source.extend(customer_headers(COPY_SOURCE, &customer.algorithm, &key)?);
        }
        Ok(extras)
    }

    /// Whether objects are encrypted with a key that keeps their ETags from being MD5 sums.
    pub(super) fn encrypts(&self) -> bool {
        !self.content.is_empty() || self.creation.iter().any(|(name, _)| name.as_str().contains("encryption"))
    }

    /// Adds the headers that `call` needs.
    pub(super) fn add(&self, call: &Call<'_>, headers: &mut HeaderMap) {
        for (name, value) in &self.every {
            headers.insert(name.clone(), value.clone());
        }
        if call.key.is_none() || call.method == Method::DELETE {
            return;
        }
        let has = |name: &str| call.query.iter().any(|(n, _)| *n == name);
        let creates = (call.method == Method::PUT && !has("uploadId")) || has("uploads");
        let copies = call.headers.iter().any(|(n, _)| *n == "x-amz-copy-source");
        let creation = self.creation.iter().filter(|_| creates);
        let copy_source = self.copy_source.iter().filter(|_| copies);
        for (name, value) in creation.chain(&self.content).chain(copy_source) {
            headers.insert(name.clone(), value.clone());
        }
    }
}

fn refused(message: impl Into<String>) -> StoreError {
    StoreError::new(ErrorKind::Fatal, message.into())
}

fn header(name: &'static str, value: &str) -> Result<Header, StoreError> {
    let value = HeaderValue::from_str(value)
        .map_err(|_| refused(format!("the value for {name} holds characters that a header can't")))?;
    Ok((HeaderName::from_static(name), value))
}

const CUSTOMER: [&str; 3] = [
    "x-amz-server-side-encryption-customer-algorithm",
    "x-amz-server-side-encryption-customer-key",
    "x-amz-server-side-encryption-customer-key-md5",
];
const COPY_SOURCE: [&str; 3] = [
    "x-amz-copy-source-server-side-encryption-customer-algorithm",
    "x-amz-copy-source-server-side-encryption-customer-key",
    "x-amz-copy-source-server-side-encryption-customer-key-md5",
];

fn customer_headers(
    names: [&'static str; 3],
    algorithm: &str,
    key: &[u8],
) -> Result<Vec<Header>, StoreError> {
    let values = [algorithm.to_owned(), BASE64.encode(key), BASE64.encode(Md5::digest(key))];
    let mut headers = names.iter().zip(values).map(|(n, v)| header(n, &v)).collect::<Result<Vec<_>, _>>()?;
    // I7: the key and its MD5 are hidden in `Debug` output.
    for (_, value) in &mut headers[1..] {
        value.set_sensitive(true);
    }
    Ok(headers)
}

/// The customer's key: 32 raw bytes, or Base64 of them.
fn bytes_of(customer: &CustomerKey) -> Result<Vec<u8>, StoreError> {
    let text = match &customer.place {
        KeyPlace::Text(key) => key.expose().as_bytes().to_vec(),
        KeyPlace::File(path) => read_small(path, limits::CA_BYTES)
            .map_err(|e| refused(format!("the file of the customer's key {}: {e}", path.display())))?,
    };
    let text = Secret::new(String::from_utf8_lossy(&text).into_owned());
    let exposed = text.expose().trim_end_matches(['\r', '\n']);
    let key = match BASE64.decode(exposed.trim()) {
        Ok(key) if key.len() == KEY_BYTES => key,
        _ if exposed.len() == KEY_BYTES => exposed.as_bytes().to_vec(),
        _ => {
            return Err(refused(format!(
                "the customer's key for encryption by the server must have {KEY_BYTES} bytes, in Base64: make one with `openssl rand -base64 {KEY_BYTES}`"
            )));
        }
    };
    Ok(key)
}

/// Each request carries the key, so it must not cross a network in plain text.
fn refuse_over_plain_http(location: &S3Location) -> Result<(), StoreError> {
    let url = location.endpoint_url();
    let here = url.host == "localhost"
        || url.host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if url.scheme == Scheme::Https || here {
        return Ok(());
    }
    Err(refused(format!(
        "{url} is plain HTTP, and a customer's key for encryption by the server would cross the network with each request: use https"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Env, Kind, Location, Origin, Overrides, ReplicaFields, Sourced};

    fn location(url: &str, fill: impl FnOnce(&mut ReplicaFields)) -> S3Location {
        let mut fields = ReplicaFields::of_url(url);
        fill(&mut fields);
        match Location::of_fields(fields, &Overrides::default(), &Env::default()).unwrap().kind {
            Kind::S3(s3) => *s3,
            Kind::File(path) => panic!("{path:?}"),
        }
    }

    fn said<T>(value: T) -> Option<Sourced<T>> {
        Some(Sourced::new(value, Origin::Url))
    }

    fn names(extras: &Extras, call: &Call<'_>) -> Vec<String> {
        let mut headers = HeaderMap::new();
        extras.add(call, &mut headers);
        let mut names: Vec<String> = headers.keys().map(|n| n.as_str().replace("x-amz-", "")).collect();
        names.sort();
        names
    }

    #[test]
    fn each_request_gets_its_headers() {
        let key = BASE64.encode([7; 32]);
        let location = location("s3://bucket/p", |f| {
            f.storage_class = said("STANDARD_IA".to_owned());
            f.sse_kms_key_id = said("key".to_owned());
            f.sse_customer_key = said(Secret::new(key));
        });
        let extras = Extras::new(&location).unwrap();
        let customer: Vec<String> = CUSTOMER.map(|n| n.replace("x-amz-", "")).to_vec();
        let mut creating = customer.clone();
        creating.extend(
            ["server-side-encryption", "server-side-encryption-aws-kms-key-id", "storage-class"]
                .map(String::from),
        );
        creating.sort();
        let key = Some("k");
        assert_eq!(names(&extras, &Call::new(Method::PUT, key)), creating);
        assert_eq!(names(&extras, &Call::new(Method::POST, key).query("uploads", "")), creating);
        for call in [
            Call::new(Method::GET, key),
            Call::new(Method::HEAD, key),
            Call::new(Method::PUT, key).query("partNumber", "1").query("uploadId", "x"),
            Call::new(Method::POST, key).query("uploadId", "x"),
        ] {
            assert_eq!(names(&extras, &call), customer);
        }
        let copy = Call::new(Method::PUT, key).header("x-amz-copy-source", "b/k");
        assert_eq!(names(&extras, &copy).len(), 9);
        assert!(names(&extras, &Call::new(Method::DELETE, key)).is_empty());
        assert!(names(&extras, &Call::new(Method::GET, None)).is_empty());
    }

    #[test]
    fn who_pays_and_whose_bucket_it_is_goes_with_every_request() {
        let location = location("s3://bucket/p?requester-pays=true&expectedBucketOwner=111122223333", |_| ());
        let extras = Extras::new(&location).unwrap();
        let both = ["expected-bucket-owner", "request-payer"];
        for call in [
            Call::new(Method::GET, None),
            Call::new(Method::POST, None).query("delete", ""),
            Call::new(Method::HEAD, Some("k")),
            Call::new(Method::DELETE, Some("k")),
            Call::new(Method::PUT, Some("k")),
        ] {
            assert_eq!(names(&extras, &call), both);
        }
        let copy = Call::new(Method::PUT, Some("k")).header("x-amz-copy-source", "b/k");
        assert_eq!(names(&extras, &copy), [both[0], both[1], "source-expected-bucket-owner"]);
    }

    #[test]
    fn a_key_is_32_bytes_and_never_shown_or_sent_in_the_clear() {
        let fails = |url: &str, key: &str| {
            let key = key.to_owned();
            let location = location(url, |f| f.sse_customer_key = said(Secret::new(key)));
            Extras::new(&location).err().map(|e| e.to_string()).unwrap_or_default()
        };
        assert_eq!(fails("s3://b-b/p", &"k".repeat(32)), "");
        let short = fails("s3://b-b/p", "hush");
        assert!(short.contains("openssl rand") && !short.contains("hush"), "{short}");
        let plain = fails("s3://b/p?endpoint=http://10.0.0.5:9000", &"k".repeat(32));
        assert!(plain.contains("plain HTTP") && !plain.contains("kkk"), "{plain}");
        assert_eq!(fails("s3://b/p?endpoint=http://127.0.0.1:9000", &"k".repeat(32)), "");
    }
}
