//! AWS Signature Version 4, for S3, in headers.
//!
//! One function around the `aws-sigv4` crate: paths are encoded once and never normalised (`a//b` is another key
//! than `a/b`), and `x-amz-content-sha256` is sent.

use std::time::SystemTime;

use aws_credential_types::Credentials as Identity;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
    UriPathNormalizationMode, sign as sigv4,
};
use aws_sigv4::sign::v4;
use http::header::{CONTENT_LENGTH, EXPECT, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::config::Credentials;

const SERVICE: &str = "s3";

/// What the signature says about the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signed<'a> {
    /// Its SHA-256 in hex.
    Sha256(&'a str),
    /// Nothing: TLS and a checksum header protect it.
    Unsigned,
}

/// A request that cannot be signed, because a value in it cannot be part of a header or a URL.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The request cannot be signed.
    #[error("the request cannot be signed: {0}")]
    Sigv4(#[from] aws_sigv4::http_request::SigningError),
    /// The request cannot be signed for lack of a parameter.
    #[error("the request cannot be signed: {0}")]
    Params(#[from] v4::signing_params::BuildError),
    /// A header holds characters that HTTP does not allow.
    #[error("the request cannot be signed: header {0} holds characters that HTTP does not allow")]
    Header(String),
}

/// Who signs, for where and when.
#[derive(Debug, Clone, Copy)]
pub struct Signer<'a> {
    /// The keys.
    pub credentials: &'a Credentials,
    /// Region of the bucket.
    pub region: &'a str,
    /// The time by the server's clock.
    pub time: SystemTime,
}

/// Adds `authorization`, `x-amz-date`, `x-amz-content-sha256` and, for temporary credentials,
/// `x-amz-security-token` to `headers`. `url` is the whole URL, encoded as it will be sent.
///
/// # Errors
/// [`SignError`]: a value that fits no header or URL.
pub fn sign(
    signer: Signer<'_>,
    method: &Method,
    url: &str,
    headers: &mut HeaderMap,
    body: Signed<'_>,
) -> Result<(), SignError> {
    sign_for(SERVICE, signer, method, url, headers, body)
}

/// The same for another service of AWS, at a path that needs no encoding.
///
/// # Errors
/// As [`sign`].
pub fn sign_for(
    service: &str,
    signer: Signer<'_>,
    method: &Method,
    url: &str,
    headers: &mut HeaderMap,
    body: Signed<'_>,
) -> Result<(), SignError> {
    let identity = Identity::new(
        signer.credentials.access_key_id.as_str(),
        signer.credentials.secret_access_key.expose(),
        signer.credentials.session_token.as_ref().map(|t| t.expose().to_owned()),
        None,
        "lsfast",
    )
    .into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(signer.region)
        .name(service)
        .time(signer.time)
        .settings(settings())
        .build()?
        .into();
    let body = match body {
        Signed::Sha256(hex) => SignableBody::Precomputed(hex.to_owned()),
        Signed::Unsigned => SignableBody::UnsignedPayload,
    };
    let mut plain = Vec::with_capacity(headers.len());
    for (name, value) in headers.iter().filter(|(n, _)| !unsigned(n)) {
        plain.push((name.as_str(), value.to_str().map_err(|_| SignError::Header(name.to_string()))?));
    }
    let request = SignableRequest::new(method.as_str(), url, plain.into_iter(), body)?;
    let (signed, _) = sigv4(request, &params)?.into_parts();
    for header in signed.into_parts().0 {
        let bad = || SignError::Header(header.name().to_owned());
        let mut value = HeaderValue::from_str(header.value()).map_err(|_| bad())?;
        value.set_sensitive(header.sensitive() || header.name() == "authorization");
        headers.insert(HeaderName::from_static(header.name()), value);
    }
    Ok(())
}

/// Headers that the connection or a proxy may change.
fn unsigned(name: &HeaderName) -> bool {
    [CONTENT_LENGTH, EXPECT, HOST].contains(name)
}

fn settings() -> SigningSettings {
    let mut settings = SigningSettings::default();
    settings.percent_encoding_mode = PercentEncodingMode::Single;
    settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    settings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    /// The key of the examples in "Signature Calculations for the Authorization Header" of the S3 API reference.
    fn example_key() -> Credentials {
        Credentials {
            access_key_id: "AKIAIOSFODNN7EXAMPLE".into(),
            secret_access_key: Secret::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
            session_token: None,
            origin: "a test".into(),
            expires: None,
        }
    }

    /// 2013-05-24T00:00:00Z
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
        let signer = Signer { credentials: &credentials, region: "us-east-1", time: example_time() };
        let url = format!("https://examplebucket.s3.amazonaws.com{path}");
        sign(signer, method, &url, &mut map, Signed::Sha256(body)).unwrap();
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
        let signer = Signer { credentials: &credentials, region: "eu-west-1", time: example_time() };
        let mut headers = HeaderMap::new();
        headers.insert("content-length", HeaderValue::from_static("5"));
        sign(signer, &Method::PUT, "https://h:9000/b//0000/a%20b", &mut headers, Signed::Unsigned).unwrap();
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
}
