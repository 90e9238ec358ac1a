//! Messages for failures: what happened, and what to do.

use http::Method;

use super::failure::{Class, Detail};
use crate::config::{Addressing, Credentials, EndpointUrl, Origin, S3Location, Scheme};
use crate::store::ErrorKind;

/// The request that a message describes.
#[derive(Debug, Clone, Copy)]
pub(super) struct About<'a> {
    pub(super) location: &'a S3Location,
    pub(super) credentials: &'a Credentials,
    pub(super) region: &'a str,
    pub(super) method: &'a Method,
    pub(super) keyed: bool,
}

/// The message for a classified error response.
pub(super) fn sentence(class: Class, detail: &Detail, about: About<'_>) -> String {
    match class {
        Class::Credentials => credentials(detail, about),
        Class::OtherRegion | Class::Final(ErrorKind::WrongRegion) => region(detail, about),
        Class::Final(ErrorKind::NoBucket) => bucket(about),
        Class::Skewed => format!(
            "{} refuses the time of the request ({}): set this machine's clock",
            endpoint(about),
            said(detail)
        ),
        Class::Redirect => {
            if let Some(to) = turns_to_tls(detail, about) {
                let path = about.location.endpoint_url().path;
                return format!(
                    "{} redirects to https: write endpoint={to}{path} in the replica URL",
                    endpoint(about)
                );
            }
            let to = match &detail.location {
                Some(location) => {
                    origin(location).map_or_else(|| "another address".to_owned(), |to| to.to_string())
                }
                None => "nowhere".to_owned(),
            };
            format!(
                "{} redirects to {to}, which lsfast does not follow: correct the endpoint",
                endpoint(about)
            )
        }
        Class::Unsupported => format!("{} does not know this request ({})", endpoint(about), said(detail)),
        Class::Final(ErrorKind::Full) => {
            format!("{} is full ({}): raise its quota", endpoint(about), said(detail))
        }
        Class::Final(ErrorKind::NotFound) if !about.keyed => format!(
            "{} answers {}, and no object was asked for: the store, or what is in front of it, is not working, or the \
             endpoint is wrong",
            endpoint(about),
            said(detail)
        ),
        Class::Final(ErrorKind::NotFound) => format!("there is no such object ({})", said(detail)),
        Class::Final(_) if detail.code == "InvalidObjectState" => format!(
            "the object is archived (Glacier or another class that has to be thawed; {}): restore it with aws s3api \
             restore-object, and take the replica's prefix out of the bucket's rule that archives objects",
            said(detail)
        ),
        Class::Final(_) if tls_expected(detail) => {
            let url = about.location.endpoint_url();
            format!("{url} wants TLS: write endpoint=https://{}{}", url.authority(), url.path)
        }
        _ => format!("{} answered {}", endpoint(about), said(detail)),
    }
}

/// The endpoint to write, where the store redirects from HTTP to HTTPS at the same host.
pub(super) fn turns_to_tls(detail: &Detail, about: About<'_>) -> Option<EndpointUrl> {
    let from = about.location.endpoint.value.url(about.region);
    let mut to = origin(detail.location.as_deref()?)?;
    // The host may begin with the bucket.
    let bucket = format!("{}.", about.location.bucket);
    if to.host != from.host
        && let Some(host) = to.host.strip_prefix(&bucket)
    {
        to.host = host.to_owned();
    }
    (from.scheme == Scheme::Http && to.scheme == Scheme::Https && to.host == from.host).then_some(to)
}

/// Scheme, host and port of the target of a redirect. The rest may hold a password, a signature or
/// a session token (I7).
fn origin(location: &str) -> Option<EndpointUrl> {
    let (scheme, rest) = location.split_once("://")?;
    let authority = rest.split(['/', '?', '#', '\\']).next()?;
    let place = authority.rsplit('@').next()?;
    EndpointUrl::parse(&format!("{}://{place}", scheme.to_ascii_lowercase()), "redirect").ok()
}

/// Whether this is what a server answers to plain HTTP on a TLS port: nginx, Go's net/http or
/// Apache.
fn tls_expected(detail: &Detail) -> bool {
    let said = detail.said.to_ascii_lowercase();
    detail.code.is_empty()
        && [
            "plain http request was sent to https port",
            "http request to an https server",
            "speaking plain http",
        ]
        .iter()
        .any(|s| said.contains(s))
}

fn endpoint(about: About<'_>) -> String {
    about.location.endpoint.value.url(about.region).to_string()
}

/// The response in the form `403 AccessDenied: words of the server`.
fn said(detail: &Detail) -> String {
    let mut text = detail.status.map_or_else(String::new, |s| s.as_u16().to_string());
    if !detail.code.is_empty() {
        text = format!("{text} {}", detail.code);
    }
    if !detail.said.is_empty() {
        text = format!("{text}: {}", detail.said);
    }
    text
}

fn credentials(detail: &Detail, about: About<'_>) -> String {
    let endpoint = endpoint(about);
    let (id, origin) = (about.credentials.abbreviated_id(), &about.credentials.origin);
    let key = format!("access key {id} from {origin}");
    match detail.code.as_str() {
        "InvalidAccessKeyId" | "InvalidClientTokenId" | "UnrecognizedClientException" => {
            format!(
                "{endpoint} does not know the {key}: check that the key is right and belongs to this endpoint"
            )
        }
        "SignatureDoesNotMatch" => format!(
            "{endpoint} says that the secret key does not belong to the {key}: check the secret key for missing or \
             extra characters, and that no proxy changes the request"
        ),
        "ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired" => {
            format!(
                "{endpoint} says that the session token of the {key} has expired: get new temporary credentials"
            )
        }
        "InvalidToken" => format!(
            "{endpoint} does not accept the session token of the {key}: set the token that was issued with this key, \
             or unset AWS_SESSION_TOKEN"
        ),
        // A HEAD response has no body, so it does not name the cause.
        "" => {
            let (action, resource) = permission(about);
            format!(
                "{endpoint} refuses the {key} ({}): check the secret key, and allow {action} on {resource}",
                said(detail)
            )
        }
        "AccessDenied" | "AllAccessDisabled" => {
            let (action, resource) = permission(about);
            let more = match (about.method, about.keyed) {
                (&Method::GET | &Method::HEAD, true) => {
                    " (and s3:ListBucket, without which a missing object looks forbidden)"
                }
                _ => "",
            };
            format!(
                "the {key} may not do this at {endpoint} ({}): allow {action} on {resource}{more}",
                said(detail)
            )
        }
        _ => {
            format!("{endpoint} does not accept the {key} ({}): check the account and its keys", said(detail))
        }
    }
}

/// The action to allow, and the resource.
fn permission(about: About<'_>) -> (&'static str, String) {
    let bucket = &about.location.bucket;
    let objects = match about.location.prefix.as_str() {
        "" => format!("arn:aws:s3:::{bucket}/*"),
        prefix => format!("arn:aws:s3:::{bucket}/{prefix}/*"),
    };
    match (about.method, about.keyed) {
        (&Method::GET, false) => ("s3:ListBucket", format!("arn:aws:s3:::{bucket}")),
        (&Method::GET | &Method::HEAD, _) => ("s3:GetObject", objects),
        (&Method::DELETE, _) | (&Method::POST, false) => {
            ("s3:DeleteObject and s3:AbortMultipartUpload", objects)
        }
        _ => ("s3:PutObject", objects),
    }
}

fn bucket(about: About<'_>) -> String {
    let location = about.location;
    let endpoint = endpoint(about);
    let from = match &location.endpoint.origin {
        Origin::Default => " (no endpoint was given)".to_owned(),
        origin => format!(" (the endpoint from {origin})"),
    };
    let flag = if location.endpoint.origin == Origin::Default {
        String::new()
    } else {
        format!(" --endpoint-url {endpoint}")
    };
    let style = match (location.addressing.value, &location.endpoint.origin) {
        (Addressing::VirtualHost, Origin::Default) | (Addressing::Path, _) => "",
        (Addressing::VirtualHost, _) => ", or try force-path-style=true",
    };
    format!(
        "bucket {} does not exist at {endpoint}{from}: correct the replica URL{style}, or create it with \
         aws s3 mb s3://{}{flag}",
        location.bucket, location.bucket
    )
}

fn region(detail: &Detail, about: About<'_>) -> String {
    let (bucket, now) = (&about.location.bucket, about.region);
    let from = &about.location.region.origin;
    match &detail.region {
        Some(region) => format!(
            "bucket {bucket} is in region {region}, not in {now} (from {from}): write region={region} in the \
             replica URL"
        ),
        None => format!(
            "bucket {bucket} is not in region {now} (from {from}; {}): name its region with region=... in the \
             replica URL",
            said(detail)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_is_named_without_its_secrets() {
        let of = |location: &str| origin(location).map(|to| to.to_string());
        let signed =
            "HTTPS://user:PassWord@Store.example:8443/bucket/x?X-Amz-Signature=51671&X-Amz-Security-Token=t";
        assert_eq!(of(signed).as_deref(), Some("https://store.example:8443"));
        assert_eq!(of("http://store.example?token=t@x").as_deref(), Some("http://store.example"));
        for none in ["/bucket/x?X-Amz-Signature=1", "", "https://user:pass/word@store", "x://\u{202e}"] {
            assert_eq!(of(none), None, "{none}");
        }
    }
}
