//! AWS Signature Version 4 for S3, in headers.
//!
//! # What is signed
//!
//! | line | content |
//! |---|---|
//! | 1 | method |
//! | 2 | path as it is sent: encoded once and never normalised (`a//b` and `a/b` are different keys) |
//! | 3 | query parameters, sorted by name and value |
//! | then | each signed header as `name:value`, in order, and an empty line |
//! | then | names of the signed headers, joined by `;` |
//! | last | SHA-256 of the body in hex, or `UNSIGNED-PAYLOAD` |
//!
//! Four HMACs derive the signing key from the secret key, the day, the region and the service. The
//! key is kept until one of these changes.

use std::fmt::{self, Write as _};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use hmac::{Hmac, KeyInit, Mac};
use http::header::{AUTHORIZATION, CONTENT_LENGTH, EXPECT, HOST, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use jiff::Timestamp;
use jiff::tz::Offset;
use sha2::{Digest, Sha256};

use super::encode::push_hex;
use crate::config::{Credentials, Secret};

const SERVICE: &str = "s3";

const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const CONTENT: HeaderName = HeaderName::from_static("x-amz-content-sha256");
const TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");

/// Headers that the connection or a proxy may change. The host is signed from a separate argument.
const UNSIGNED: [HeaderName; 5] = [AUTHORIZATION, CONTENT_LENGTH, EXPECT, HOST, USER_AGENT];

/// Initial capacity of the buffer for the text to sign, in bytes. It fits a usual request; a longer
/// one grows the buffer.
const TEXT_BYTES: usize = 1024;

/// What the signature covers of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signed<'a> {
    /// The body's SHA-256 in hex.
    Sha256(&'a str),
    /// The body is not signed: TLS and a checksum header protect it.
    Unsigned,
}

/// A request that cannot be signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// A header holds characters that HTTP does not allow.
    #[error("the request cannot be signed: header {0} holds characters that HTTP does not allow")]
    Header(String),
    /// The time is outside the calendar's range.
    #[error("the request cannot be signed: {0}")]
    Time(#[from] jiff::Error),
}

/// The credentials, region and time of a signature.
#[derive(Debug, Clone, Copy)]
pub struct Signer<'a> {
    /// The access key, the secret key and the session token.
    pub credentials: &'a Credentials,
    /// Region of the bucket.
    pub region: &'a str,
    /// The time by the server's clock.
    pub time: SystemTime,
    /// The signing key that was derived for an earlier request.
    pub kept: &'a SigningKey,
}

/// The signing key that was used last.
#[derive(Default)]
pub struct SigningKey(Mutex<Option<Derived>>);

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // I7: the signing key appears in no `Debug` output.
        f.write_str("(hidden)")
    }
}

/// A signing key, and the values it was derived from.
struct Derived {
    secret: Secret,
    day: String,
    region: String,
    service: &'static str,
    key: Hmac<Sha256>,
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
}

impl SigningKey {
    fn get(&self, secret: &Secret, day: &str, region: &str, service: &'static str) -> Hmac<Sha256> {
        // A panic elsewhere cannot leave the key half changed, because this section calls no other
        // code.
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(d) = &*kept
            && (&d.secret, d.day.as_str(), d.region.as_str(), d.service) == (secret, day, region, service)
        {
            return d.key.clone();
        }
        let mut key = keyed(format!("AWS4{}", secret.expose()).as_bytes());
        for text in [day, region, service, "aws4_request"] {
            key.update(text.as_bytes());
            key = keyed(&key.finalize().into_bytes());
        }
        let (day, region) = (day.to_owned(), region.to_owned());
        *kept = Some(Derived { secret: secret.clone(), day, region, service, key: key.clone() });
        key
    }
}

/// Adds `authorization`, `x-amz-date`, `x-amz-content-sha256` and, for temporary credentials,
/// `x-amz-security-token` to `headers`. `host` is the value of the `host` header; `path` is the
/// path with its query as it is sent.
///
/// # Errors
/// [`SignError`] if a value does not fit into a header, or if the time is out of range.
pub fn sign(
    signer: Signer<'_>,
    method: &Method,
    (host, path): (&str, &str),
    headers: &mut HeaderMap,
    body: Signed<'_>,
) -> Result<(), SignError> {
    sign_for(SERVICE, signer, method, (host, path), headers, body)
}

/// Like [`sign`], for another AWS service and a path that needs no encoding.
///
/// # Errors
/// Those of [`sign`].
pub fn sign_for(
    service: &'static str,
    signer: Signer<'_>,
    method: &Method,
    (host, path): (&str, &str),
    headers: &mut HeaderMap,
    body: Signed<'_>,
) -> Result<(), SignError> {
    let Signer { credentials, region, .. } = signer;
    let time = stamp(signer.time)?;
    let day = &time[..8];
    let content = match body {
        Signed::Sha256(hex) => hex,
        Signed::Unsigned => "UNSIGNED-PAYLOAD",
    };
    headers.insert(DATE, value(&DATE, &time)?);
    headers.insert(CONTENT, value(&CONTENT, content)?);
    if let Some(token) = &credentials.session_token {
        headers.insert(TOKEN, hidden(value(&TOKEN, token.expose())?));
    }
    let mut names: Vec<&str> =
        headers.keys().filter(|n| !UNSIGNED.contains(n)).map(HeaderName::as_str).collect();
    names.push(HOST.as_str());
    names.sort_unstable();
    let signed = names.join(";");

    let mut text = String::with_capacity(TEXT_BYTES);
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    text.extend([method.as_str(), "\n", if path.is_empty() { "/" } else { path }, "\n"]);
    push_sorted(&mut text, query);
    text.push('\n');
    for name in names {
        text.extend([name, ":"]);
        if name == HOST {
            text.push_str(host);
        } else {
            push_values(&mut text, name, headers)?;
        }
        text.push('\n');
    }
    text.extend(["\n", &signed, "\n", content]);
    let hash = Sha256::digest(&text);

    let scope = format!("{day}/{region}/{service}/aws4_request");
    text.clear();
    text.extend(["AWS4-HMAC-SHA256\n", &time, "\n", &scope, "\n"]);
    push_hex(&mut text, &hash);
    let mut mac = signer.kept.get(&credentials.secret_access_key, day, region, service);
    mac.update(text.as_bytes());

    text.clear();
    text.extend(["AWS4-HMAC-SHA256 Credential=", &credentials.access_key_id, "/", &scope]);
    text.extend([", SignedHeaders=", &signed, ", Signature="]);
    push_hex(&mut text, &mac.finalize().into_bytes());
    headers.insert(AUTHORIZATION, hidden(value(&AUTHORIZATION, &text)?));
    Ok(())
}

fn value(name: &HeaderName, text: &str) -> Result<HeaderValue, SignError> {
    HeaderValue::from_str(text).map_err(|_| SignError::Header(name.to_string()))
}

fn hidden(mut value: HeaderValue) -> HeaderValue {
    // I7: hidden in `Debug` output.
    value.set_sensitive(true);
    value
}

/// The time in the form `20130524T000000Z`.
fn stamp(time: SystemTime) -> Result<String, SignError> {
    let t = Offset::UTC.to_datetime(Timestamp::try_from(time)?);
    let mut text = String::with_capacity(16);
    // Writing to a string cannot fail.
    _ = write!(text, "{:04}{:02}{:02}T", t.year(), t.month(), t.day());
    _ = write!(text, "{:02}{:02}{:02}Z", t.hour(), t.minute(), t.second());
    Ok(text)
}

/// Appends the parameters of an encoded query, sorted.
fn push_sorted(text: &mut String, query: &str) {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let mut pairs: Vec<_> = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).collect();
    pairs.sort_unstable();
    for (i, (name, value)) in pairs.into_iter().enumerate() {
        text.extend([if i == 0 { "" } else { "&" }, name, "=", value]);
    }
}

/// Appends the values of a header without the spaces that a proxy may remove.
fn push_values(text: &mut String, name: &str, headers: &HeaderMap) -> Result<(), SignError> {
    for (i, value) in headers.get_all(name).iter().enumerate() {
        let value = value.to_str().map_err(|_| SignError::Header(name.to_owned()))?;
        let words = value.split(' ').filter(|word| !word.is_empty());
        text.push_str(if i == 0 { "" } else { "," });
        for (j, word) in words.enumerate() {
            text.extend([if j == 0 { "" } else { " " }, word]);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use aws_sigv4::http_request::{
        PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
        UriPathNormalizationMode,
    };
    use aws_sigv4::sign::v4;
    use proptest::prelude::*;

    use super::*;
    use crate::config::Secret;

    /// The key of the examples in "Signature Calculations for the Authorization Header" of the S3
    /// API reference.
    fn example_key() -> Credentials {
        Credentials {
            access_key_id: "AKIAIOSFODNN7EXAMPLE".into(),
            secret_access_key: Secret::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
            session_token: None,
            origin: "a test".into(),
            expires: None,
        }
    }

    /// The time 2013-05-24T00:00:00Z.
    fn example_time() -> SystemTime {
        SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_369_353_600)
    }

    fn signature(
        method: &Method,
        path: &str,
        headers: &[(&'static str, &'static str)],
        body: &str,
    ) -> (String, String) {
        let mut map: HeaderMap =
            headers.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect();
        let credentials = example_key();
        let kept = SigningKey::default();
        let signer =
            Signer { credentials: &credentials, region: "us-east-1", time: example_time(), kept: &kept };
        let to = ("examplebucket.s3.amazonaws.com", path);
        sign(signer, method, to, &mut map, Signed::Sha256(body)).unwrap();
        assert_eq!(map["x-amz-content-sha256"], body);
        assert_eq!(map["x-amz-date"], "20130524T000000Z");
        assert!(map["authorization"].is_sensitive());
        let line = map["authorization"].to_str().unwrap();
        let field = |name: &str| {
            let at = line.find(name).unwrap() + name.len();
            line[at..].split(',').next().unwrap().to_owned()
        };
        (field("SignedHeaders="), field("Signature="))
    }

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn the_published_examples() {
        let (names, signature_) = signature(&Method::GET, "/test.txt", &[("range", "bytes=0-9")], EMPTY);
        assert_eq!(names, "host;range;x-amz-content-sha256;x-amz-date");
        assert_eq!(signature_, "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");

        let put = [("date", "Fri, 24 May 2013 00:00:00 GMT"), ("x-amz-storage-class", "REDUCED_REDUNDANCY")];
        let hash = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072";
        let (_, signature_) = signature(&Method::PUT, "/test%24file.text", &put, hash);
        assert_eq!(signature_, "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd");

        let (_, signature_) = signature(&Method::GET, "/?lifecycle", &[], EMPTY);
        assert_eq!(signature_, "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");

        let (_, signature_) = signature(&Method::GET, "/?max-keys=2&prefix=J", &[], EMPTY);
        assert_eq!(signature_, "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
    }

    #[test]
    fn a_session_token_is_sent_and_signed_and_the_body_may_be_left_out() {
        let mut credentials = example_key();
        credentials.session_token = Some(Secret::new("the-token"));
        let kept = SigningKey::default();
        let signer =
            Signer { credentials: &credentials, region: "eu-west-1", time: example_time(), kept: &kept };
        let mut headers = HeaderMap::new();
        headers.insert("content-length", HeaderValue::from_static("5"));
        sign(signer, &Method::PUT, ("h:9000", "/b//0000/a%20b"), &mut headers, Signed::Unsigned).unwrap();
        assert_eq!(headers["x-amz-security-token"], "the-token");
        assert!(headers["x-amz-security-token"].is_sensitive());
        assert_eq!(headers["x-amz-content-sha256"], "UNSIGNED-PAYLOAD");
        let line = headers["authorization"].to_str().unwrap();
        assert!(line.contains("/20130524/eu-west-1/s3/aws4_request"), "{line}");
        assert!(
            line.contains("SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-security-token,"),
            "{line}"
        );
    }

    /// The signature that AWS's own crate computes, as it is set up for this service.
    fn by_aws(
        service: &str,
        signer: Signer<'_>,
        method: &Method,
        url: &str,
        headers: &mut HeaderMap,
        body: Signed<'_>,
    ) -> anyhow::Result<()> {
        let keys = signer.credentials;
        let token = keys.session_token.as_ref().map(|t| t.expose().to_owned());
        let identity = aws_credential_types::Credentials::new(
            keys.access_key_id.as_str(),
            keys.secret_access_key.expose(),
            token,
            None,
            "a test",
        )
        .into();
        let mut settings = SigningSettings::default();
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        let unsigned = UNSIGNED.iter().filter(|name| **name != HOST);
        settings.excluded_headers = Some(unsigned.map(|name| name.to_string().into()).collect());
        // Other services have the defaults: the path is encoded once more, and normalised.
        if service == SERVICE {
            settings.percent_encoding_mode = PercentEncodingMode::Single;
            settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        }
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(signer.region)
            .name(service)
            .time(signer.time)
            .settings(settings)
            .build()?
            .into();
        let body = match body {
            Signed::Sha256(hex) => SignableBody::Precomputed(hex.to_owned()),
            Signed::Unsigned => SignableBody::UnsignedPayload,
        };
        let plain: Vec<_> =
            headers.iter().map(|(n, v)| Ok((n.as_str(), v.to_str()?))).collect::<anyhow::Result<_>>()?;
        let request = SignableRequest::new(method.as_str(), url, plain.into_iter(), body)?;
        let (signed, _) = aws_sigv4::http_request::sign(request, &params)?.into_parts();
        for header in signed.into_parts().0 {
            headers.insert(HeaderName::from_static(header.name()), HeaderValue::from_str(header.value())?);
        }
        Ok(())
    }

    /// Values of headers: spaces at the ends and in rows, commas, quotes, nothing at all.
    const VALUE: &str = "[ ,\"=;:a-c-]{0,8}| {0,3}[!-~]{0,3} {0,3}[!-~]{0,3} {0,3}";

    /// Characters of keys and parameters that are encoded, or look as if they were.
    const ODD: &str = "[a/.~+%?#&=;:@!$'()*,\\[\\] \"<>|^`{}\u{e9}\u{65e5}\u{1f600}]{0,12}|%2[Ff]{1}|\\.{1,2}/{1,2}.{0,3}|.{0,20}";

    proptest! {
        #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

        /// All cases share one key cache, so that a stale key would show.
        #[test]
        fn signatures_are_those_of_aws(
            key in ODD,
            method in proptest::sample::select(&[Method::PUT, Method::GET, Method::HEAD, Method::POST, Method::DELETE][..]),
            query in proptest::collection::vec(("[a-c-]{1,3}", ODD), 0..4),
            given in proptest::collection::vec(
                (proptest::sample::select(&[
                    "x-amz-meta-a", "x-amz-meta-b", "x-amz-checksum-crc32", "x-amz-tagging", "range", "if-none-match",
                    "content-type", "content-md5", "content-length", "expect", "user-agent", "host", "cache-control",
                ][..]), VALUE),
                0..6,
            ),
            (secret, token, region) in ("[a-b]{1}", proptest::option::of("[!-~]{1,9}"), "[a-b]{1}"),
            (seconds, day) in (0..3u64, 0..3u64),
            signed in proptest::bool::ANY,
            service in proptest::sample::select(&["s3", "sts", "sso", "sso-oauth", "signin"][..]),
        ) {
            static KEPT: SigningKey = SigningKey(Mutex::new(None));
            let mut credentials = example_key();
            (credentials.secret_access_key, credentials.session_token) = (Secret::new(secret), token.map(Secret::new));
            let time = example_time() + std::time::Duration::from_secs(day * 86_400 + seconds) - std::time::Duration::from_secs(1);
            let signer = Signer { credentials: &credentials, region: &region, time, kept: &KEPT };
            let mut path = String::from("/");
            if service == SERVICE {
                path.push_str("bucket/");
                crate::store::s3::encode::push_path(&mut path, &key);
            }
            for (i, (name, value)) in query.iter().enumerate() {
                path.push(if i == 0 { '?' } else { '&' });
                crate::store::s3::encode::push_query(&mut path, name);
                path.push('=');
                crate::store::s3::encode::push_query(&mut path, value);
            }
            let mut ours = HeaderMap::new();
            for (name, value) in &given {
                let value = if *name == "host" { "h:9000" } else { value };
                // A name that comes again has several values.
                ours.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
            }
            let mut theirs = ours.clone();
            // Only one of several hosts is sent.
            if given.iter().any(|(n, _)| *n == "host") {
                theirs.insert(HOST, HeaderValue::from_static("h:9000"));
            }
            let body = if signed { Signed::Sha256(EMPTY) } else { Signed::Unsigned };
            sign_for(service, signer, &method, ("h:9000", &path), &mut ours, body).unwrap();
            by_aws(service, signer, &method, &format!("https://h:9000{path}"), &mut theirs, body).unwrap();
            prop_assert_eq!(ours.get("authorization"), theirs.get("authorization"), "{} {:?}", path, ours);
            for name in ["x-amz-date", "x-amz-content-sha256", "x-amz-security-token"] {
                prop_assert_eq!(ours.get(name), theirs.get(name));
            }
        }
    }
}
