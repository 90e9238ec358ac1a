//! Finds which reading of an ambiguous URL is an S3 server. It sends one unsigned request for each
//! reading, without any secret.

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use tokio::task::JoinSet;

use super::http::{Connect, Network, chain, tls_config};
use super::resolve::{HostAnswer, Names};
use super::{encode, xml};
use crate::base::limits;
use crate::config::{Ambiguity, EndpointUrl, Proxy, Scheme, TlsOptions};

/// Error codes that only S3 servers send. An unsigned request to an existing bucket is refused, or
/// redirected, with one of them.
const CODES: [&str; 16] = [
    "AccessDenied",
    "AllAccessDisabled",
    "AuthorizationHeaderMalformed",
    "AuthorizationQueryParametersError",
    "Forbidden",
    "InvalidAccessKeyId",
    "InvalidRequest",
    "MissingAuthenticationToken",
    "MissingSecurityHeader",
    "NotImplemented",
    "NotSignedUp",
    "PermanentRedirect",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
    "TemporaryRedirect",
    "Unauthorized",
];

/// What a server's response proves about a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Says {
    /// It is an S3 server that may have the bucket.
    Yes,
    /// The host name or the bucket does not exist, or the server is not an S3 server.
    No,
    /// No response: the port is closed, or the server sends nothing.
    Silent,
    /// A response that proves neither.
    Unknown,
}

/// Probes all readings at once. Returns the only reading whose server is proven to be S3 and does
/// not deny the bucket, if all others deny it. Returns `None` in every other case, and if a reading
/// names no bucket to ask for; the user then has to say which one is meant.
///
/// A host that does not respond proves nothing. If AWS has the bucket and the other host is silent,
/// AWS is chosen, because AWS refuses another store's keys. Any other server that responds alone
/// may belong to a stranger, who would receive signed requests and the database.
///
/// Takes at most [`limits::PROBE_TIME`]. `answers` are the user's own host addresses.
pub async fn settle(ambiguity: &Ambiguity, tls: &TlsOptions, answers: &[HostAnswer]) -> Option<usize> {
    if !ambiguity.can_be_probed() {
        return None;
    }
    let mut asked = JoinSet::new();
    for (i, reading) in ambiguity.readings.iter().enumerate() {
        let (endpoint, bucket, tls) = (reading.endpoint.clone(), reading.bucket.clone()?, tls.clone());
        let names = Names::new(answers);
        asked.spawn(async move { (i, is_there(&endpoint, &bucket, &tls, names).await) });
    }
    choose(&asked.join_all().await, |i| ambiguity.readings[i].endpoint.is_aws_storage())
}

/// The only `Yes` where all others are `No`; for AWS, the others may also be `Silent`.
fn choose(said: &[(usize, Says)], is_aws: impl Fn(usize) -> bool) -> Option<usize> {
    let mut yes = said.iter().filter(|(_, says)| *says == Says::Yes);
    let (Some((only, _)), None) = (yes.next(), yes.next()) else { return None };
    let is_out = |says: Says| says == Says::No || says == Says::Silent && is_aws(*only);
    said.iter().all(|(i, says)| i == only || is_out(*says)).then_some(*only)
}

/// Sends an unsigned `GET /BUCKET` to see whether this is an S3 server that may have the bucket.
async fn is_there(endpoint: &EndpointUrl, bucket: &str, tls: &TlsOptions, names: Names) -> Says {
    let asked = tokio::time::timeout(limits::PROBE_TIME, ask(endpoint, bucket, tls, names)).await;
    match asked {
        Ok(Ok((status, headers, body))) => judge(status, &headers, &body),
        Ok(Err(says)) => says,
        Err(_) => Says::Silent,
    }
}

/// Whether the connection failed, or ended before any response.
fn is_silent(error: &(dyn std::error::Error + 'static)) -> bool {
    use std::io::ErrorKind as K;
    let cut = |e: &std::io::Error| {
        matches!(
            e.kind(),
            K::ConnectionRefused
                | K::ConnectionReset
                | K::ConnectionAborted
                | K::BrokenPipe
                | K::UnexpectedEof
                | K::TimedOut
                | K::HostUnreachable
                | K::NetworkUnreachable
        )
    };
    let ended = |e: &hyper::Error| e.is_incomplete_message() || e.is_canceled() || e.is_closed();
    chain(error).any(|e| e.downcast_ref().is_some_and(cut) || e.downcast_ref().is_some_and(ended))
}

fn unanswered(error: &(dyn std::error::Error + 'static)) -> Says {
    if is_silent(error) { Says::Silent } else { Says::Unknown }
}

/// Whether DNS knows no such name. A DNS server that does not respond does not count.
fn has_no_name(error: &(dyn std::error::Error + 'static)) -> bool {
    let words: Vec<String> = chain(error).map(ToString::to_string).collect();
    let says = |text: &str| words.iter().any(|w| w.contains(text));
    says("dns error") && (says("not known") || says("No address associated"))
}

async fn ask(
    endpoint: &EndpointUrl,
    bucket: &str,
    tls: &TlsOptions,
    names: Names,
) -> Result<(StatusCode, HeaderMap, Bytes), Says> {
    let network = match endpoint.scheme {
        Scheme::Http => Network::plain(names),
        Scheme::Https => Network::new(tls_config(tls).map_err(|_| Says::Unknown)?, names),
    };
    let to: Uri = format!("{}://{}/", endpoint.scheme.as_str(), endpoint.authority())
        .parse()
        .map_err(|_| Says::Unknown)?;
    let stream = match network.connect(&to).await {
        Ok(stream) => stream,
        Err(e) if has_no_name(e.as_ref()) => return Err(Says::No),
        Err(e) => return Err(unanswered(e.as_ref())),
    };
    let (mut sender, connection) = http1::handshake(stream).await.map_err(|e| unanswered(&e))?;
    let forwarder = network.forwarder(&to);
    let mut path = match &forwarder {
        Some(_) => format!("{}://{}{}/", endpoint.scheme.as_str(), endpoint.authority(), endpoint.path),
        None => format!("{}/", endpoint.path),
    };
    encode::push_path(&mut path, bucket);
    let mut request = Request::get(path);
    if let Some(auth) = forwarder.as_ref().and_then(Proxy::basic_auth) {
        request = request.header(header::PROXY_AUTHORIZATION, auth.clone());
    }
    let request = request
        .header(header::HOST, endpoint.authority())
        .header(header::USER_AGENT, concat!("lsfast/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())
        .map_err(|_| Says::Unknown)?;
    let exchange = async move {
        let answer = sender.send_request(request).await.map_err(|e| unanswered(&e))?;
        let (head, body) = answer.into_parts();
        // The headers may be enough: a body that is too long or breaks off counts as empty.
        let body = Limited::new(body, limits::ERROR_BYTES).collect().await;
        Ok((head.status, head.headers, body.map(http_body_util::Collected::to_bytes).unwrap_or_default()))
    };
    tokio::pin!(exchange);
    tokio::select! {
        found = &mut exchange => found,
        // The connection may end together with the response.
        _ = connection => exchange.await,
    }
}

/// What a response proves. Headers alone prove nothing, because a web site served by a CDN carries
/// some of them.
fn judge(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Says {
    let text =
        |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("").to_ascii_lowercase();
    if headers.contains_key("x-amz-cf-id") || text("via").contains("cloudfront") {
        // The origin of the CDN may be S3, but it takes no uploads that way.
        return Says::No;
    }
    if let Some(error) = xml::error(body) {
        return match error.code.as_str() {
            "NoSuchBucket" | "InvalidBucketName" => Says::No,
            code if CODES.contains(&code) => Says::Yes,
            _ => Says::Unknown,
        };
    }
    let lists = status == StatusCode::OK && xml::list(body).is_ok();
    match status.as_u16() {
        _ if lists => Says::Yes,
        // An S3 server with a temporary failure may answer so.
        408 | 425 | 429 | 500..=599 => Says::Unknown,
        _ => Says::No,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_speaks_s3() {
        let error = |code: &str| format!("<Error><Code>{code}</Code><Message>m</Message></Error>");
        let list = "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>b</Name>\
                    <IsTruncated>false</IsTruncated></ListBucketResult>";
        for (status, headers, body, says) in [
            (403, vec![], error("AccessDenied"), Says::Yes),
            (301, vec![("server", "AmazonS3")], error("PermanentRedirect"), Says::Yes),
            (404, vec![("server", "AmazonS3")], error("NoSuchBucket"), Says::No),
            (400, vec![("server", "MinIO")], error("InvalidBucketName"), Says::No),
            (503, vec![], error("SlowDown"), Says::Unknown),
            (200, vec![], list.to_owned(), Says::Yes),
            (403, vec![("server", "MinIO")], String::new(), Says::No),
            (200, vec![("x-amz-request-id", "1")], String::new(), Says::No),
            (502, vec![], "<html><body>Bad Gateway</body></html>".to_owned(), Says::Unknown),
            (403, vec![("x-amz-cf-id", "1")], error("AccessDenied"), Says::No),
            (200, vec![("via", "1.1 x.CloudFront.net (CloudFront)")], list.to_owned(), Says::No),
            (200, vec![("server", "nginx")], "<html><body>Hello</body></html>".to_owned(), Says::No),
            (404, vec![], "<html><head><title>404 Not Found</title></head></html>".to_owned(), Says::No),
        ] {
            let mut map = HeaderMap::new();
            for (name, value) in &headers {
                map.insert(*name, value.parse().unwrap());
            }
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(judge(status, &map, body.as_bytes()), says, "{status} {headers:?} {body}");
        }
    }

    #[test]
    fn one_yes_counts_only_among_noes() {
        use Says::{No, Silent, Unknown, Yes};
        // The last one is AWS.
        for (said, chosen) in [
            ([Yes, No, No], Some(0)),
            ([No, No, Yes], Some(2)),
            ([Yes, No, Unknown], None),
            ([Yes, Yes, No], None),
            ([No, No, No], None),
            ([Unknown, Unknown, Unknown], None),
            ([Silent, No, Yes], Some(2)),
            ([Silent, Silent, Yes], Some(2)),
            ([Silent, Unknown, Yes], None),
            ([Silent, Yes, Yes], None),
            ([Yes, No, Silent], None),
            ([Yes, Silent, No], None),
            ([Silent, Silent, Silent], None),
        ] {
            let said: Vec<_> = said.into_iter().enumerate().collect();
            assert_eq!(choose(&said, |i| i == 2), chosen, "{said:?}");
        }
    }
}
