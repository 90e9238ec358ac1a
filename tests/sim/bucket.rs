//! A store of S3 in memory with every fault that is known of real ones, by chance of a seed.
//!
//! The client reaches it without a network: each connection is a pipe within the process, and its
//! server a task of the same runtime. So all of it obeys the clock of the simulation.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use fastrand::Rng;
use http::{HeaderMap, Method, Request, Response, Uri};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use lsfast::base::clock::Millis;
use lsfast::config::{Env, Location, Overrides};
use lsfast::store::s3::{Connect, Io};
use lsfast::store::{self, BoxFuture, ClientOptions, Clients, RetryPolicy, Store};
use tokio::sync::Notify;
use xxhash_rust::xxh3::xxh3_128;

use super::manners::Manners;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// An object: its content, when it was written, and the metadata that came with it.
#[derive(Debug, Clone)]
pub struct Object {
    pub body: Bytes,
    written: Millis,
    meta: Vec<(String, String)>,
}

/// The objects by key.
pub type Objects = BTreeMap<String, Object>;

#[derive(Debug)]
struct Inner {
    objects: Objects,
    manners: Manners,
    rng: Rng,
    requests: u64,
    /// No fault, for the checker.
    calm: bool,
    trace: Vec<String>,
    /// After this many further writes one never gets an answer, carried out or not.
    trap: Option<(u8, bool)>,
}

/// The store. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Bucket(Arc<Mutex<Inner>>, Arc<Notify>);

/// What goes wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    ResetBefore,
    /// It is carried out, and the connection ends without an answer.
    ResetAfter,
    /// It is carried out after a while.
    LateBefore,
    /// It is carried out, and answered after a while.
    LateAfter,
    /// It is carried out now, and once more after a while.
    Twice,
    /// The answer breaks off.
    Cut,
    Status(u16),
    /// 200 of something that has not understood a word.
    Lie,
    /// 200 with an ETag of something that has stored nothing: an empty one if true, otherwise the
    /// hash of other content.
    LieWithTag(bool),
}

impl Bucket {
    pub fn new(seed: u64, manners: Manners) -> Bucket {
        let rng = Rng::with_seed(seed);
        let inner = Inner {
            objects: Objects::new(),
            manners,
            rng,
            requests: 0,
            calm: false,
            trace: Vec::new(),
            trap: None,
        };
        Bucket(Arc::new(Mutex::new(inner)), Arc::default())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client of a new process.
    pub fn store(&self) -> Arc<dyn Store> {
        let env = Env::new([("AWS_ACCESS_KEY_ID", "AKIASIM"), ("AWS_SECRET_ACCESS_KEY", "sim")]);
        let url = "s3://bucket/db?endpoint=http://store.test:80&region=us-east-1&force-path-style=true";
        let location = Location::resolve(url, &Overrides::default(), &env).expect("a URL");
        let clients = Clients::with_connector(Arc::new(self.clone()));
        let options =
            ClientOptions { clients, retry: RetryPolicy::of_a_service(), ..ClientOptions::default() };
        store::open(&location, &options).expect("a store")
    }

    pub fn change_manners(&self, change: impl FnOnce(&mut Manners)) {
        change(&mut self.lock().manners);
    }

    /// Whether no request fails.
    pub fn is_sound(&self) -> bool {
        let manners = self.lock().manners;
        manners.faults == 0 && !manners.is_down && manners.refuses.is_none()
    }

    /// Without faults, for what `until` is true.
    pub fn calm(&self, calm: bool) {
        let mut inner = self.lock();
        (inner.calm, inner.trap) = (calm, None);
    }

    pub fn objects(&self) -> Objects {
        self.lock().objects.clone()
    }

    /// Waits until `writes` further writes were asked for, the last of which gets no answer. It is
    /// carried out or not.
    pub async fn trapped(&self, writes: u8, carried_out: bool) {
        self.lock().trap = Some((writes, carried_out));
        self.1.notified().await;
    }

    /// Exchanges what is stored.
    pub fn set_objects(&self, objects: Objects) {
        self.lock().objects = objects;
    }

    /// Changes what is stored.
    pub fn change<T>(&self, change: impl FnOnce(&mut Objects) -> T) -> T {
        change(&mut self.lock().objects)
    }

    /// Requests so far, without those of the checker.
    pub fn requests(&self) -> u64 {
        self.lock().requests
    }

    /// What was asked, and what went wrong with it.
    pub fn trace(&self) -> Vec<String> {
        self.lock().trace.clone()
    }

    async fn serve(&self, request: Request<Incoming>) -> std::io::Result<Response<Answer>> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
        let fault = {
            let mut inner = self.lock();
            let fault = inner.fault(&head.method);
            if !inner.calm {
                inner.requests += 1;
                let line = format!(
                    "{} {} {} {}{}",
                    inner.now(),
                    head.method,
                    head.uri,
                    body.len(),
                    fault.map_or_else(String::new, |f| format!(" {f:?}"))
                );
                inner.trace.push(line);
            }
            fault
        };
        let sprung = self.lock().springs(&head.method);
        if let Some(carried_out) = sprung {
            if carried_out {
                self.lock().carry_out(&head.method, &head.uri, &head.headers, &body);
            }
            self.1.notify_one();
            return std::future::pending().await;
        }
        let late = Duration::from_millis(self.lock().rng.u64(1..20_000));
        let again = |bucket: Bucket| bucket.lock().carry_out(&head.method, &head.uri, &head.headers, &body);
        match fault {
            None => Ok(again(self.clone())),
            Some(Fault::ResetBefore) => Err(std::io::ErrorKind::ConnectionReset.into()),
            Some(Fault::ResetAfter) => {
                again(self.clone());
                Err(std::io::ErrorKind::ConnectionReset.into())
            }
            Some(Fault::LateBefore) => {
                tokio::time::sleep(late).await;
                Ok(again(self.clone()))
            }
            Some(Fault::LateAfter) => {
                let answer = again(self.clone());
                tokio::time::sleep(late).await;
                Ok(answer)
            }
            Some(Fault::Twice) => {
                let answer = again(self.clone());
                let (bucket, method, uri, headers, body) =
                    (self.clone(), head.method.clone(), head.uri.clone(), head.headers.clone(), body.clone());
                tokio::spawn(async move {
                    tokio::time::sleep(late).await;
                    bucket.lock().carry_out(&method, &uri, &headers, &body);
                });
                Ok(answer)
            }
            Some(Fault::Cut) => {
                let mut answer = again(self.clone());
                answer.body_mut().cut = true;
                Ok(answer)
            }
            Some(Fault::Status(status)) => Ok(error(status, "SlowDown")),
            Some(Fault::Lie) => Ok(reply(200, "<html>Down for maintenance</html>")),
            Some(Fault::LieWithTag(is_empty)) => {
                let tag = if is_empty { "\"\"".to_owned() } else { etag(b"something else", true) };
                Ok(with(reply(200, ""), "etag", &tag))
            }
        }
    }
}

impl Connect for Bucket {
    fn connect(&self, _: &Uri) -> BoxFuture<'_, Result<Box<dyn Io>, BoxError>> {
        let bucket = self.clone();
        Box::pin(async move {
            let mut inner = bucket.lock();
            if inner.manners.is_down && !inner.calm {
                inner.requests += 1;
                drop(inner);
                return Err(std::io::Error::from(std::io::ErrorKind::ConnectionRefused).into());
            }
            drop(inner);
            let (ours, theirs) = tokio::io::duplex(256 << 10);
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let bucket = bucket.clone();
                    async move { bucket.serve(request).await }
                });
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(ours), service)
                    .await;
            });
            Ok(Box::new(TokioIo::new(theirs)) as Box<dyn Io>)
        })
    }
}

impl Inner {
    fn now(&self) -> Millis {
        Millis(Millis::now().0 + self.manners.clock)
    }

    /// Whether this write is the one that gets no answer, and whether it is carried out.
    fn springs(&mut self, method: &Method) -> Option<bool> {
        let (writes, carried_out) = self.trap.as_mut().filter(|_| method == Method::PUT && !self.calm)?;
        *writes = writes.saturating_sub(1);
        if *writes > 0 {
            return None;
        }
        let carried_out = *carried_out;
        self.trap = None;
        Some(carried_out)
    }

    fn fault(&mut self, method: &Method) -> Option<Fault> {
        if self.calm {
            return None;
        }
        let writes = method == Method::PUT || method == Method::POST;
        if let Some(status) = self.manners.refuses.filter(|_| writes) {
            return Some(Fault::Status(status));
        }
        if self.rng.u8(..100) >= self.manners.faults {
            return None;
        }
        let of_all = [
            Fault::ResetBefore,
            Fault::ResetAfter,
            Fault::LateBefore,
            Fault::LateAfter,
            Fault::Status(503),
            Fault::Status(500),
        ];
        let lie = match self.rng.u8(..4) {
            0 | 1 => Fault::Lie,
            2 => Fault::LieWithTag(true),
            // Where ETags are no MD5s, it could be the right one.
            _ if self.manners.md5 => Fault::LieWithTag(false),
            _ => Fault::Lie,
        };
        let of_method = if writes { [lie, Fault::Twice] } else { [Fault::Cut, Fault::Cut] };
        let all: Vec<Fault> = of_all.into_iter().chain(of_method).collect();
        Some(all[self.rng.usize(..all.len())])
    }

    fn carry_out(
        &mut self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        body: &Bytes,
    ) -> Response<Answer> {
        let query: Vec<(&str, &str)> = uri
            .query()
            .unwrap_or_default()
            .split('&')
            .map(|p| p.split_once('=').unwrap_or((p, "")))
            .collect();
        let of = |name: &str| query.iter().find(|(n, _)| *n == name).map(|(_, v)| v.replace("%2F", "/"));
        let key = uri.path().trim_start_matches('/').split_once('/').map_or("", |(_, key)| key).to_owned();
        let header = |name: &str| header(headers, name);
        if let Some((status, code, words)) = self.manners.refusal(method, &header) {
            return reply(status, format!("<Error><Code>{code}</Code><Message>{words}</Message></Error>"));
        }
        let answer = match *method {
            Method::GET if key.is_empty() => self.list(&of),
            Method::PUT => {
                let conditional = header("if-none-match").is_some() && !self.manners.ignores_conditions;
                if conditional && self.objects.contains_key(&key) {
                    return error(412, "PreconditionFailed");
                }
                let source = header("x-amz-copy-source").map(|s| s.trim_start_matches('/').to_owned());
                let source = source.as_deref().and_then(|s| Some(s.split_once('/')?.1.to_owned()));
                let body = match &source {
                    None => body.clone(),
                    Some(source) => match self.objects.get(source) {
                        Some(object) => object.body.clone(),
                        None => return error(404, "NoSuchKey"),
                    },
                };
                let meta = headers.iter().filter(|(name, _)| name.as_str().starts_with("x-amz-meta-"));
                let meta =
                    meta.filter_map(|(n, v)| Some((n.to_string(), v.to_str().ok()?.to_owned()))).collect();
                let tag = etag(&body, self.manners.md5);
                self.objects.insert(key, Object { body, written: self.now(), meta });
                let words = source.map_or_else(String::new, |_| {
                    format!(
                        "<CopyObjectResult><ETag>{}</ETag></CopyObjectResult>",
                        tag.replace('"', "&quot;")
                    )
                });
                with(reply(200, words), "etag", &tag)
            }
            Method::GET | Method::HEAD => match self.objects.get(&key) {
                None => error(404, "NoSuchKey"),
                Some(object) => get(object, headers, self.manners.md5),
            },
            Method::POST if query.iter().any(|(n, _)| *n == "delete") && !self.manners.deletes_one => {
                let text = String::from_utf8_lossy(body).into_owned();
                let keys = text.split("<Key>").skip(1).filter_map(|rest| rest.split_once("</Key>"));
                keys.for_each(|(key, _)| drop(self.objects.remove(key)));
                reply(200, "<DeleteResult></DeleteResult>")
            }
            Method::DELETE => {
                self.objects.remove(&key);
                reply(204, "")
            }
            _ => error(501, "NotImplemented"),
        };
        let date = self.now().0.div_euclid(1000);
        let date = jiff::Timestamp::from_second(date).ok();
        let date = date
            .and_then(|d| jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&d).ok());
        with(answer, "date", &date.unwrap_or_default())
    }

    fn list(&self, of: &dyn Fn(&str) -> Option<String>) -> Response<Answer> {
        let prefix = of("prefix").unwrap_or_default();
        let asked = of("start-after").filter(|_| !self.manners.lists_whole);
        let after = of("continuation-token").or(asked).unwrap_or_default();
        let most = of("max-keys").and_then(|n| n.parse().ok()).unwrap_or(1000).min(self.manners.page.max(1));
        let most = if self.calm { 1000 } else { most };
        let begin = std::cmp::max(&prefix, &after).clone();
        let listed: Vec<_> = self
            .objects
            .range(begin..)
            .filter(|(key, _)| **key > after)
            .take_while(|(key, _)| key.starts_with(&prefix))
            .take(most + 1)
            .collect();
        let entry = |(key, object): &(&String, &Object)| {
            format!(
                "<Contents><Key>{key}</Key><LastModified>{}</LastModified><ETag>{}</ETag><Size>{}</Size></Contents>",
                object.written.to_rfc3339(),
                etag(&object.body, self.manners.md5).replace('"', "&quot;"),
                object.body.len()
            )
        };
        let all: String = listed.iter().take(most).map(entry).collect();
        let next = listed.get(most - 1).filter(|_| listed.len() > most);
        let token = next.map(|(key, _)| format!("<NextContinuationToken>{key}</NextContinuationToken>"));
        let more = token.is_some();
        let token = token.filter(|_| !self.manners.no_tokens || self.calm).unwrap_or_default();
        reply(
            200,
            format!("<ListBucketResult><IsTruncated>{more}</IsTruncated>{token}{all}</ListBucketResult>"),
        )
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|v| v.to_str().ok())
}

fn get(object: &Object, headers: &HeaderMap, md5: bool) -> Response<Answer> {
    let tag = etag(&object.body, md5);
    if header(headers, "if-match").is_some_and(|wanted| wanted != tag) {
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
    with(answer, "etag", &tag)
}

fn etag(body: &[u8], md5: bool) -> String {
    use md5::Digest as _;
    let hash = if md5 { u128::from_be_bytes(md5::Md5::digest(body).into()) } else { xxh3_128(body) };
    format!("\"{hash:032x}\"")
}

fn reply(status: u16, body: impl Into<Bytes>) -> Response<Answer> {
    let body = Answer { bytes: Some(body.into()), cut: false };
    let mut response = Response::new(body);
    *response.status_mut() = status.try_into().expect("a status");
    response
}

fn with(mut answer: Response<Answer>, name: &str, value: &str) -> Response<Answer> {
    let name = http::HeaderName::from_bytes(name.as_bytes()).expect("a name");
    answer.headers_mut().insert(name, value.parse().expect("a value"));
    answer
}

fn error(status: u16, code: &str) -> Response<Answer> {
    reply(status, format!("<Error><Code>{code}</Code><Message>This is {code}.</Message></Error>"))
}

/// The body of an answer, which may break off.
#[derive(Debug)]
struct Answer {
    bytes: Option<Bytes>,
    cut: bool,
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
