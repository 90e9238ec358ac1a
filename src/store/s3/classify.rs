//! Classifies error responses: the code, message, region and times they carry, and the [`Class`] of
//! failure.

use std::time::{Duration, SystemTime};

use http::header::{DATE, HeaderName, LOCATION, RETRY_AFTER};
use http::{HeaderMap, StatusCode};

use super::failure::{Class, Detail};
use super::http_date::http_date;
use super::xml;
use crate::base::untrusted;
use crate::store::ErrorKind;

const BUCKET_REGION: HeaderName = HeaderName::from_static("x-amz-bucket-region");

/// Stores refuse signatures that are more than some minutes off (15 for S3), with one of several
/// codes. A refused signature counts as skewed if the clocks differ by more than this.
const SKEW_MIN: Duration = Duration::from_secs(240);

/// Longest error code that is kept, in characters. The longest one in use has 47.
const CODE_MAX: usize = 64;

/// Reads the code, message, region and times of an error response. `signed_at` is the time in the
/// request's signature.
pub(super) fn read(
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    signed_at: SystemTime,
) -> (Class, Detail) {
    let text = |name: &HeaderName| headers.get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let xml = xml::error(body).unwrap_or_default();
    let said = if xml.message.is_empty() { plain_text(body) } else { quote(&xml.message) };
    let code = plain_code(status, untrusted::line(&xml.code, CODE_MAX), &said);
    let region = [text(&BUCKET_REGION), Some(xml.region), region_in(&xml.endpoint)]
        .into_iter()
        .flatten()
        .find(|r| !r.is_empty() && r.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'));
    let date = text(&DATE).as_deref().and_then(http_date);
    let detail = Detail {
        status: Some(status),
        code,
        said,
        retry_after: text(&RETRY_AFTER).as_deref().and_then(retry_after),
        date,
        signed_at: Some(signed_at),
        region,
        signed_for: String::new(),
        location: text(&LOCATION),
        attempts: 1,
        source: None,
    };
    let mut class = class(status, &detail);
    if class == Class::Credentials && date.is_some_and(|d| apart(d, signed_at) > SKEW_MIN) {
        class = Class::Skewed;
    }
    (class, detail)
}

/// Replaces the code where the message says more: some stores (Garage) answer AccessDenied for
/// everything and name the bad key or signature only in the message.
fn plain_code(status: StatusCode, code: String, said: &str) -> String {
    if !matches!(status.as_u16(), 400 | 401 | 403)
        || !matches!(code.as_str(), "AccessDenied" | "Forbidden" | "")
    {
        return code;
    }
    let said = said.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|w| said.contains(w));
    if says(&[
        "invalid signature",
        "signature mismatch",
        "signature does not match",
        "signature doesn't match",
    ]) {
        "SignatureDoesNotMatch".to_owned()
    } else if says(&["no such key:", "no such access key", "unknown access key", "invalid access key"]) {
        "InvalidAccessKeyId".to_owned()
    } else {
        code
    }
}

/// The table of codes and statuses. Codes come first because they say more than the status.
fn class(status: StatusCode, detail: &Detail) -> Class {
    match detail.code.as_str() {
        "RequestTimeTooSkewed" => return Class::Skewed,
        "SlowDown" | "SlowDownRead" | "SlowDownWrite" | "ServiceUnavailable" | "InternalError" | "InternalFailure"
        | "RequestTimeout" | "OperationAborted" | "RequestLimitExceeded" | "BandwidthLimitExceeded" | "Throttling"
        | "ThrottlingException" | "Throttled" | "TooManyRequests" | "TooManyRequestsException" | "Busy"
        | "PriorRequestNotComplete" | "XMinioServerNotInitialized" | "ConditionalRequestConflict"
        // The body was damaged or cut off in transit.
        | "BadDigest" | "IncompleteBody" | "XAmzContentSHA256Mismatch" => return Class::Transient,
        "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "AccessDenied" | "ExpiredToken" | "ExpiredTokenException"
        | "InvalidToken" | "TokenRefreshRequired" | "AccountProblem" | "AllAccessDisabled" | "InvalidSecurity"
        | "NotSignedUp" | "InvalidClientTokenId" | "UnrecognizedClientException" | "MissingAuthenticationToken"
        | "MissingSecurityHeader" | "Unauthorized" | "UnauthorizedAccess" | "Forbidden" => return Class::Credentials,
        "AuthorizationHeaderMalformed" | "PermanentRedirect" | "IllegalLocationConstraintException"
        | "IncorrectEndpoint" | "InvalidRegion" => {
            return if detail.region.is_some() { Class::OtherRegion } else { Class::Final(ErrorKind::WrongRegion) };
        }
        "TemporaryRedirect" => return Class::Redirect,
        // The status is 403, but the object is archived: this is not a matter of rights.
        "InvalidObjectState" => return Class::Final(ErrorKind::Fatal),
        "NoSuchBucket" => return Class::Final(ErrorKind::NoBucket),
        "NoSuchKey" | "NoSuchUpload" | "NotFound" => return Class::Final(ErrorKind::NotFound),
        "PreconditionFailed" => return Class::Precondition,
        "NotImplemented" | "MethodNotAllowed" => return Class::Unsupported,
        "QuotaExceeded" | "XMinioStorageFull" | "InsufficientStorage" | "XMinioAdminBucketQuotaExceeded"
        | "ServiceQuotaExceeded" => return Class::Final(ErrorKind::Full),
        _ => {}
    }
    match status.as_u16() {
        301 | 308 | 400 if detail.region.is_some() => Class::OtherRegion,
        301 | 308 => Class::Final(ErrorKind::WrongRegion),
        302 | 307 => Class::Redirect,
        401 | 403 => Class::Credentials,
        404 => Class::Final(ErrorKind::NotFound),
        405 | 501 => Class::Unsupported,
        412 => Class::Precondition,
        507 => Class::Final(ErrorKind::Full),
        408 | 409 | 425 | 429 | 500..=599 => Class::Transient,
        _ => Class::Final(ErrorKind::Fatal),
    }
}

/// The region in `bucket.s3.REGION.amazonaws.com` or `bucket.s3-REGION.amazonaws.com`.
fn region_in(endpoint: &str) -> Option<String> {
    let name = endpoint.trim_end_matches(".cn").strip_suffix(".amazonaws.com")?;
    let last = name.rsplit('.').next()?;
    let region = last.strip_prefix("s3-").unwrap_or(last);
    (region.contains('-')).then(|| region.to_owned())
}

pub(super) fn apart(a: SystemTime, b: SystemTime) -> Duration {
    a.duration_since(b).or_else(|e| Ok::<_, ()>(e.duration())).unwrap_or_default()
}

/// Parses `Retry-After` in seconds. No store uses the form with a date.
fn retry_after(text: &str) -> Option<Duration> {
    text.trim().parse::<u32>().ok().map(|s| Duration::from_secs(u64::from(s)))
}

/// One line of printable characters, cut to a limit.
fn quote(text: &str) -> String {
    untrusted::quote(text).trim_end_matches('.').to_owned()
}

/// The text of an HTML page or a plain body, without tags.
pub(super) fn plain_text(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(4096)]);
    let text =
        text.split_once("<body").map_or(&*text, |(_, rest)| rest.split_once('>').map_or("", |(_, b)| b));
    let mut plain = String::new();
    let mut tag = false;
    for c in text.chars() {
        match c {
            '<' => tag = true,
            '>' if tag => {
                tag = false;
                plain.push(' ');
            }
            c if !tag => plain.push(c),
            _ => {}
        }
    }
    quote(&plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, code: &str, headers: &[(&'static str, &'static str)]) -> (Class, Detail) {
        let headers: HeaderMap = headers
            .iter()
            .map(|(n, v)| (HeaderName::from_static(n), http::HeaderValue::from_static(v)))
            .collect();
        let body = match code {
            "" => String::new(),
            code if code.starts_with('<') => code.to_owned(),
            code => format!("<Error><Code>{code}</Code><Message>words.</Message></Error>"),
        };
        read(StatusCode::from_u16(status).unwrap(), &headers, body.as_bytes(), SystemTime::now())
    }

    #[test]
    fn the_table() {
        use ErrorKind::{Fatal, Full, NoBucket, NotFound, WrongRegion};
        for (status, code, class) in [
            (500, "InternalError", Class::Transient),
            (503, "SlowDown", Class::Transient),
            (503, "", Class::Transient),
            (502, "<html><body>Bad Gateway</body></html>", Class::Transient),
            (429, "", Class::Transient),
            (400, "RequestTimeout", Class::Transient),
            (400, "BadDigest", Class::Transient),
            (409, "ConditionalRequestConflict", Class::Transient),
            (409, "OperationAborted", Class::Transient),
            (403, "RequestTimeTooSkewed", Class::Skewed),
            (403, "InvalidAccessKeyId", Class::Credentials),
            (403, "SignatureDoesNotMatch", Class::Credentials),
            (403, "AccessDenied", Class::Credentials),
            (403, "", Class::Credentials),
            (401, "", Class::Credentials),
            (400, "ExpiredToken", Class::Credentials),
            (400, "InvalidToken", Class::Credentials),
            (404, "NoSuchBucket", Class::Final(NoBucket)),
            (404, "NoSuchKey", Class::Final(NotFound)),
            (404, "", Class::Final(NotFound)),
            (412, "PreconditionFailed", Class::Precondition),
            (412, "", Class::Precondition),
            (501, "NotImplemented", Class::Unsupported),
            (405, "", Class::Unsupported),
            (307, "TemporaryRedirect", Class::Redirect),
            (301, "PermanentRedirect", Class::Final(WrongRegion)),
            (
                301,
                "<Error><Code>PermanentRedirect</Code><Endpoint>b.s3-eu-west-1.amazonaws.com</Endpoint></Error>",
                Class::OtherRegion,
            ),
            (
                400,
                "<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-1</Region></Error>",
                Class::OtherRegion,
            ),
            (507, "", Class::Final(Full)),
            (403, "QuotaExceeded", Class::Final(Full)),
            (403, "InvalidObjectState", Class::Final(Fatal)),
            (400, "InvalidArgument", Class::Final(Fatal)),
            (416, "InvalidRange", Class::Final(Fatal)),
        ] {
            assert_eq!(of(status, code, &[]).0, class, "{status} {code}");
        }
    }

    #[test]
    fn words_that_say_more_than_the_code() {
        for (said, code) in [
            ("Forbidden: Invalid signature", "SignatureDoesNotMatch"),
            ("Forbidden: No such key: AKIAEXAMPLE", "InvalidAccessKeyId"),
            ("Access Denied", "AccessDenied"),
        ] {
            let xml = format!("<Error><Code>AccessDenied</Code><Message>{said}</Message></Error>");
            let (class, detail) = of(403, &xml, &[]);
            assert_eq!((class, detail.code.as_str()), (Class::Credentials, code));
        }
        let gone = "<Error><Code>NoSuchKey</Code><Message>No such key: x</Message></Error>";
        assert_eq!(of(404, gone, &[]).1.code, "NoSuchKey");
    }

    #[test]
    fn headers_say_the_region_and_the_time() {
        let (class, detail) = of(400, "", &[("x-amz-bucket-region", "eu-north-1")]);
        assert_eq!((class, detail.region.as_deref()), (Class::OtherRegion, Some("eu-north-1")));
        let (class, detail) = of(403, "SignatureDoesNotMatch", &[("date", "Sat, 21 Nov 2020 23:17:31 GMT")]);
        assert_eq!(class, Class::Skewed);
        assert_eq!(detail.date, Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_606_000_651)));
        let (_, detail) = of(503, "SlowDown", &[("retry-after", "7")]);
        assert_eq!(detail.retry_after, Some(Duration::from_secs(7)));
        assert_eq!(of(301, "", &[("x-amz-bucket-region", "evil/../x")]).1.region, None);
    }

    #[test]
    fn pages_are_quoted_without_their_tags() {
        let (_, detail) = of(
            502,
            "<html><head><title>x</title></head><body bgcolor=\"white\"><h1>502 Bad\nGateway</h1></body></html>",
            &[],
        );
        assert_eq!(detail.said, "502 Bad Gateway");
        assert_eq!(of(400, "InvalidArgument", &[]).1.said, "words");
        let long = "<b>".to_owned() + &"x".repeat(5000);
        assert_eq!(of(500, &long, &[]).1.said.chars().count(), crate::base::limits::UNTRUSTED_CHARS);
    }
}
