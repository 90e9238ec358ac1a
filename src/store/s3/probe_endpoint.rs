//! Which reading of an ambiguous URL is an S3 server: one unsigned request to each, and nothing secret in it.

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use tokio::task::JoinSet;

use super::encode;
use super::http::{Connect, Network, tls_config};
use super::names::{HostAnswer, Names};
use super::xml;
use crate::base::limits;
use crate::config::{Ambiguity, EndpointUrl, Scheme, TlsOptions};

/// Names that servers of S3 give themselves.
const SERVERS: [&str; 8] =
    ["amazons3", "ceph", "garage", "minio", "rustfs", "seaweedfs", "tigris", "cloudserver"];

/// Asks all readings at once, and returns the only one whose server answers as S3 and does not deny the bucket. `None`
/// if none does, or more than one, or if a reading names no bucket to ask for: then the user has to say what is meant.
/// Takes at most [`limits::PROBE_TIME`].
/// `answers` are the user's own names of servers.
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
    let said = asked.join_all().await;
    let mut those = said.into_iter().filter(|(_, yes)| *yes).map(|(i, _)| i);
    match (those.next(), those.next()) {
        (Some(only), None) => Some(only),
        _ => None,
    }
}

/// Whether this is a server of S3 that may have the bucket. An unsigned `GET /BUCKET` tells: the owner of a bucket is
/// not asked who wants to know, and is told to sign, or to look elsewhere.
async fn is_there(endpoint: &EndpointUrl, bucket: &str, tls: &TlsOptions, names: Names) -> bool {
    let asked = tokio::time::timeout(limits::PROBE_TIME, ask(endpoint, bucket, tls, names)).await;
    match asked {
        Ok(Some((status, headers, body))) => is_s3(status, &headers, &body),
        Ok(None) | Err(_) => false,
    }
}

async fn ask(
    endpoint: &EndpointUrl,
    bucket: &str,
    tls: &TlsOptions,
    names: Names,
) -> Option<(StatusCode, HeaderMap, Bytes)> {
    let network = match endpoint.scheme {
        Scheme::Http => Network::plain(names),
        Scheme::Https => Network::new(tls_config(tls).ok()?, names),
    };
    let to: Uri = format!("{}://{}/", endpoint.scheme.as_str(), endpoint.authority()).parse().ok()?;
    let stream = network.connect(&to).await.ok()?;
    let (mut sender, connection) = http1::handshake(stream).await.ok()?;
    let mut path = format!("{}/", endpoint.path);
    encode::push_path(&mut path, bucket);
    let request = Request::get(path)
        .header(header::HOST, endpoint.authority())
        .header(header::USER_AGENT, concat!("lsfast/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())
        .ok()?;
    let exchange = async move {
        let answer = sender.send_request(request).await.ok()?;
        let (head, body) = answer.into_parts();
        // Headers may be enough: a body that is too long or breaks off is taken as none.
        let body = Limited::new(body, limits::ERROR_BYTES).collect().await;
        Some((head.status, head.headers, body.map(http_body_util::Collected::to_bytes).unwrap_or_default()))
    };
    tokio::pin!(exchange);
    tokio::select! {
        found = &mut exchange => found,
        // The connection may end together with the answer.
        _ = connection => exchange.await,
    }
}

fn is_s3(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> bool {
    let error = xml::error(body);
    if let Some(error) = &error
        && ["NoSuchBucket", "InvalidBucketName"].contains(&error.code.as_str())
    {
        return false;
    }
    let server = headers.get(header::SERVER).and_then(|v| v.to_str().ok()).unwrap_or("").to_ascii_lowercase();
    let named = headers.keys().any(|k| k.as_str().starts_with("x-amz-"))
        || SERVERS.iter().any(|name| server.starts_with(name));
    let speaks = error.is_some_and(|e| !e.code.is_empty()) || xml::list(body).is_ok();
    // Without a word of S3 in it, 404 may be anybody's.
    speaks || (named && status != StatusCode::NOT_FOUND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_speaks_s3() {
        let error = |code: &str| format!("<Error><Code>{code}</Code><Message>m</Message></Error>");
        let list = "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>b</Name>\
                    <IsTruncated>false</IsTruncated></ListBucketResult>";
        for (status, headers, body, yes) in [
            (403, vec![], error("AccessDenied"), true),
            (301, vec![("server", "AmazonS3")], error("PermanentRedirect"), true),
            (404, vec![("server", "AmazonS3")], error("NoSuchBucket"), false),
            (400, vec![("server", "MinIO")], error("InvalidBucketName"), false),
            (200, vec![], list.to_owned(), true),
            (403, vec![("server", "MinIO")], String::new(), true),
            (403, vec![("x-amz-request-id", "1")], String::new(), true),
            (404, vec![("x-amz-request-id", "1")], String::new(), false),
            (200, vec![("server", "nginx")], "<html><body>Hello</body></html>".to_owned(), false),
            (404, vec![], "<html><head><title>404 Not Found</title></head></html>".to_owned(), false),
            (200, vec![], String::new(), false),
        ] {
            let mut map = HeaderMap::new();
            for (name, value) in &headers {
                map.insert(*name, value.parse().unwrap());
            }
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(is_s3(status, &map, body.as_bytes()), yes, "{status} {headers:?} {body}");
        }
    }
}
