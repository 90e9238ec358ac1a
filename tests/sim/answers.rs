//! What the store answers: listings, objects and errors, in whole or in part.

use std::pin::Pin;
use std::task::{Context, Poll};

use http::{HeaderMap, Response};
use hyper::body::{Body, Bytes, Frame, SizeHint};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::bucket::{Object, Objects};
use super::manners::Manners;

/// A page of a listing.
pub fn list(
    objects: &Objects,
    manners: &Manners,
    calm: bool,
    of: &dyn Fn(&str) -> Option<String>,
) -> Response<Answer> {
    let prefix = of("prefix").unwrap_or_default();
    let token = of("continuation-token");
    let asked = of("start-after").filter(|_| !manners.lists_whole);
    let most = of("max-keys").and_then(|n| n.parse().ok()).unwrap_or(1000).min(manners.page.max(1));
    let most = if calm { 1000 } else { most };
    let mut below: Vec<(&String, &Object)> =
        objects.range(prefix.clone()..).take_while(|(key, _)| key.starts_with(&prefix)).collect();
    if manners.unordered {
        // Tokens are numbers of hashes, because keys have no order.
        below.sort_by_key(|(key, _)| xxh3_64(key.as_bytes()));
        let after = token.and_then(|t| t.parse::<u64>().ok());
        below.retain(|(key, _)| after.is_none_or(|after| xxh3_64(key.as_bytes()) > after));
    } else {
        let after = token.or(asked).unwrap_or_default();
        below.retain(|(key, _)| **key > after);
    }
    let entry = |(key, object): &(&String, &Object)| {
        format!(
            "<Contents><Key>{key}</Key><LastModified>{}</LastModified><ETag>{}</ETag><Size>{}</Size></Contents>",
            object.written.to_rfc3339(),
            object.tag.replace('"', "&quot;"),
            object.body.len()
        )
    };
    let all: String = below.iter().take(most).map(entry).collect();
    let next = below.get(most - 1).filter(|_| below.len() > most);
    let token = next.map(|(key, _)| match manners.unordered {
        true => format!("<NextContinuationToken>{}</NextContinuationToken>", xxh3_64(key.as_bytes())),
        false => format!("<NextContinuationToken>{key}</NextContinuationToken>"),
    });
    let more = token.is_some();
    let token = token.filter(|_| !manners.no_tokens || calm).unwrap_or_default();
    reply(200, format!("<ListBucketResult><IsTruncated>{more}</IsTruncated>{token}{all}</ListBucketResult>"))
}

pub fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|v| v.to_str().ok())
}

/// An object, or the range of it that is asked for.
pub fn get(object: &Object, headers: &HeaderMap) -> Response<Answer> {
    let tag = &object.tag;
    if header(headers, "if-match").is_some_and(|wanted| wanted != *tag) {
        return error(412, "PreconditionFailed");
    }
    let len = object.body.len();
    let range = header(headers, "range").and_then(|r| r.strip_prefix("bytes=")?.split_once('-'));
    let range =
        range.map(|(a, z)| (a.parse().unwrap_or(0), z.parse::<usize>().map_or(len, |z| z + 1).min(len)));
    let mut answer = match range {
        Some((from, to)) if from < to => with(
            reply(206, object.body.slice(from..to)),
            "content-range",
            &format!("bytes {from}-{}/{len}", to - 1),
        ),
        Some(_) => return error(416, "InvalidRange"),
        None => reply(200, object.body.clone()),
    };
    for (name, value) in &object.meta {
        answer = with(answer, name, value);
    }
    with(answer, "etag", tag)
}

pub fn etag(body: &[u8], md5: bool) -> String {
    use md5::Digest as _;
    let hash = if md5 { u128::from_be_bytes(md5::Md5::digest(body).into()) } else { xxh3_128(body) };
    format!("\"{hash:032x}\"")
}

pub fn reply(status: u16, body: impl Into<Bytes>) -> Response<Answer> {
    let body = Answer { bytes: Some(body.into()), cut: false };
    let mut response = Response::new(body);
    *response.status_mut() = status.try_into().expect("a status");
    response
}

pub fn with(mut answer: Response<Answer>, name: &str, value: &str) -> Response<Answer> {
    let name = http::HeaderName::from_bytes(name.as_bytes()).expect("a name");
    answer.headers_mut().insert(name, value.parse().expect("a value"));
    answer
}

pub fn error(status: u16, code: &str) -> Response<Answer> {
    reply(status, format!("<Error><Code>{code}</Code><Message>This is {code}.</Message></Error>"))
}

/// The body of an answer, which may break off.
#[derive(Debug)]
pub struct Answer {
    bytes: Option<Bytes>,
    pub cut: bool,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<std::io::Result<Frame<Bytes>>>> {
        Poll::Ready(match self.bytes.take() {
            Some(bytes) if self.cut => {
                let half = bytes.slice(..bytes.len() / 2);
                if half.is_empty() {
                    Some(Err(std::io::ErrorKind::ConnectionReset.into()))
                } else {
                    Some(Ok(Frame::data(half)))
                }
            }
            Some(bytes) if bytes.is_empty() => None,
            Some(bytes) => Some(Ok(Frame::data(bytes))),
            None if self.cut => Some(Err(std::io::ErrorKind::ConnectionReset.into())),
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.as_ref().is_none_or(Bytes::is_empty) && !self.cut
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |b| b.len() as u64))
    }
}
