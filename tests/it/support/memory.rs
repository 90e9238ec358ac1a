//! An S3 server in memory that can be told to misbehave: it checks no signatures.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use http::{HeaderMap, Method, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use lsfast::base::clock::Millis;
use sha2::{Digest as _, Sha256};
use tokio::sync::oneshot;

use super::s3::{BUCKET, serve};

#[derive(Debug, Default)]
struct State {
    /// Each object, and when it was written.
    objects: Mutex<BTreeMap<String, (Bytes, Millis)>>,
    /// Whether a listing always begins at the first key.
    lists_whole: AtomicBool,
    requests: Mutex<Vec<String>>,
    /// Whether conditions are ignored.
    ignores: AtomicBool,
    /// The status that PUT and POST are answered with; 0 for what is right.
    refuses: AtomicU16,
    /// Whether no request is ever answered.
    hangs: AtomicBool,
    /// Whether a PUT is not carried out yet, and never answered.
    delays: AtomicBool,
    /// Whether no object can be read from the next 412 on.
    goes_blind: AtomicBool,
    /// Whether no object can be read now.
    is_blind: AtomicBool,
    /// PUTs to be carried out before the next one: keys and bodies.
    delayed: Mutex<Vec<(String, Bytes)>>,
}

/// The server, on a free port of the loopback interface. Dropping it ends it.
pub struct MemoryS3 {
    pub addr: SocketAddr,
    state: Arc<State>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl MemoryS3 {
    pub fn start() -> MemoryS3 {
        let state: Arc<State> = Arc::default();
        let (stop, stopped) = oneshot::channel();
        let shared = Arc::clone(&state);
        let (addr, thread) = serve(stopped, move |stream| {
            let state = Arc::clone(&shared);
            let service = service_fn(move |request: http::Request<Incoming>| {
                let state = Arc::clone(&state);
                async move {
                    let (head, body) = request.into_parts();
                    let body = body.collect().await?.to_bytes();
                    if head.method == Method::PUT && state.delays.load(Ordering::Relaxed) {
                        state.delayed.lock().expect("no panic").push((key_of(&head.uri), body));
                        std::future::pending::<()>().await;
                        unreachable!("it is never answered");
                    }
                    if state.hangs.load(Ordering::Relaxed) {
                        state.requests.lock().expect("no panic").push(format!("{} hangs", head.method));
                        std::future::pending::<()>().await;
                    }
                    Ok::<_, hyper::Error>(state.answer(&head.method, &head.uri, &head.headers, body))
                }
            });
            async move {
                let _ =
                    Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
            }
        });
        MemoryS3 { addr, state, stop: Some(stop), thread: Some(thread) }
    }

    /// Takes `If-None-Match`, and replaces objects all the same.
    pub fn ignore_conditions(self) -> MemoryS3 {
        self.state.ignores.store(true, Ordering::Relaxed);
        self
    }

    /// Ignores `start-after`, as some stores do.
    pub fn ignore_start_after(&self) {
        self.state.lists_whole.store(true, Ordering::Relaxed);
    }

    /// Puts an object there as if it had been written at this time.
    pub fn place(&self, key: String, body: impl Into<Bytes>, written: Millis) {
        self.state.objects.lock().expect("no panic").insert(key, (body.into(), written));
    }

    /// LIST requests so far.
    pub fn lists(&self) -> usize {
        self.requests().iter().filter(|r| r.contains("list-type=2")).count()
    }

    /// Answers whatever writes with this status; 0 for what is right.
    pub fn refuse(&self, status: u16) {
        self.state.refuses.store(status, Ordering::Relaxed);
    }

    /// Answers nothing any more.
    pub fn hang(&self) {
        self.state.hangs.store(true, Ordering::Relaxed);
    }

    /// Carries out no PUT until the next one after [`MemoryS3::carry_on`].
    pub fn delay(&self) {
        self.state.delays.store(true, Ordering::Relaxed);
    }

    /// The next PUT comes after those that were delayed, which are carried out then.
    pub fn carry_on(&self) {
        self.state.delays.store(false, Ordering::Relaxed);
    }

    /// From the next 412 on, refuses each GET of an object.
    pub fn go_blind(&self) {
        self.state.goes_blind.store(true, Ordering::Relaxed);
    }

    /// Reads are answered again.
    pub fn see_again(&self) {
        self.state.goes_blind.store(false, Ordering::Relaxed);
        self.state.is_blind.store(false, Ordering::Relaxed);
    }

    /// PUTs that are delayed.
    pub fn delayed(&self) -> usize {
        self.state.delayed.lock().expect("no panic").len()
    }

    pub fn url(&self, prefix: &str) -> String {
        format!("s3://{BUCKET}/{prefix}?endpoint=http://{}&region=us-east-1&force-path-style=true", self.addr)
    }

    /// Requests so far, as `METHOD PATH?QUERY`.
    pub fn requests(&self) -> Vec<String> {
        self.state.requests.lock().expect("no panic").clone()
    }

    pub fn count(&self, method: &str) -> usize {
        self.requests().iter().filter(|r| r.starts_with(method)).count()
    }

    /// Changes objects behind the back of all programs.
    pub fn objects<T>(&self, change: impl FnOnce(&mut BTreeMap<String, (Bytes, Millis)>) -> T) -> T {
        change(&mut self.state.objects.lock().expect("no panic"))
    }

    /// Keys, sorted.
    pub fn keys(&self) -> Vec<String> {
        self.state.objects.lock().expect("no panic").keys().cloned().collect()
    }
}

impl Drop for MemoryS3 {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn key_of(uri: &http::Uri) -> String {
    uri.path().trim_start_matches('/').split_once('/').map_or("", |(_, key)| key).to_owned()
}

fn etag(body: &[u8]) -> String {
    let hex: String = Sha256::digest(body)[..16].iter().map(|b| format!("{b:02x}")).collect();
    format!("\"{hex}\"")
}

fn reply(status: u16, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status.try_into().expect("a status");
    response
}

fn error(status: u16, code: &str) -> Response<Full<Bytes>> {
    reply(status, format!("<Error><Code>{code}</Code><Message>This is {code}.</Message></Error>"))
}

impl State {
    fn answer(
        &self,
        method: &Method,
        uri: &http::Uri,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Response<Full<Bytes>> {
        self.requests.lock().expect("no panic").push(format!("{method} {uri}"));
        let query: Vec<(&str, &str)> =
            uri.query().unwrap_or_default().split('&').filter_map(|p| p.split_once('=')).collect();
        let of = |name: &str| query.iter().find(|(n, _)| *n == name).map(|(_, v)| v.replace("%2F", "/"));
        let key = key_of(uri);
        let refused = self.refuses.load(Ordering::Relaxed);
        if refused != 0 && (method == Method::PUT || method == Method::POST) {
            return error(refused, if refused == 403 { "AccessDenied" } else { "Refused" });
        }
        let mut objects = self.objects.lock().expect("no panic");
        match *method {
            Method::GET if key.is_empty() => self.list(&objects, &of),
            Method::PUT => {
                for (key, body) in self.delayed.lock().expect("no panic").drain(..) {
                    // They are create-only.
                    objects.entry(key).or_insert((body, Millis::now()));
                }
                let conditional =
                    headers.contains_key("if-none-match") && !self.ignores.load(Ordering::Relaxed);
                if conditional && objects.contains_key(&key) {
                    self.is_blind.store(self.goes_blind.load(Ordering::Relaxed), Ordering::Relaxed);
                    return error(412, "PreconditionFailed");
                }
                let source = headers.get("x-amz-copy-source").and_then(|s| s.to_str().ok());
                let source =
                    source.map(|s| s.trim_start_matches('/').split_once('/').map_or("", |(_, key)| key));
                let body = match source {
                    None => body,
                    Some(source) => match objects.get(source) {
                        Some((body, _)) => body.clone(),
                        None => return error(404, "NoSuchKey"),
                    },
                };
                let tag = etag(&body);
                objects.insert(key, (body, Millis::now()));
                let answer = source.map_or_else(String::new, |_| {
                    let tag = tag.replace('"', "&quot;");
                    format!("<CopyObjectResult><ETag>{tag}</ETag></CopyObjectResult>")
                });
                let mut response = reply(200, answer);
                response.headers_mut().insert("etag", tag.parse().expect("a header"));
                response
            }
            Method::GET if self.is_blind.load(Ordering::Relaxed) => error(403, "AccessDenied"),
            Method::GET | Method::HEAD => match objects.get(&key) {
                None => error(404, "NoSuchKey"),
                Some((object, _)) => {
                    let range = headers.get("range").and_then(|r| r.to_str().ok()?.strip_prefix("bytes="));
                    let range = range.and_then(|r| r.split_once('-'));
                    let range = range.map(|(a, z)| {
                        (
                            a.parse().unwrap_or(0),
                            z.parse::<usize>().map_or(object.len(), |z| z + 1).min(object.len()),
                        )
                    });
                    let mut response = match range {
                        Some((from, to)) if from < to => {
                            let mut part = reply(206, object.slice(from..to));
                            let span = format!("bytes {from}-{}/{}", to - 1, object.len());
                            part.headers_mut().insert("content-range", span.parse().expect("a header"));
                            part
                        }
                        Some(_) => error(416, "InvalidRange"),
                        None => reply(200, object.clone()),
                    };
                    response.headers_mut().insert("etag", etag(object).parse().expect("a header"));
                    response
                }
            },
            Method::DELETE => {
                objects.remove(&key);
                reply(204, "")
            }
            _ => error(501, "NotImplemented"),
        }
    }

    fn list(
        &self,
        objects: &BTreeMap<String, (Bytes, Millis)>,
        of: &dyn Fn(&str) -> Option<String>,
    ) -> Response<Full<Bytes>> {
        let prefix = of("prefix").unwrap_or_default();
        let asked = of("start-after").filter(|_| !self.lists_whole.load(Ordering::Relaxed));
        let after = of("continuation-token").or(asked).unwrap_or_default();
        let most: usize = of("max-keys").and_then(|n| n.parse().ok()).unwrap_or(1000);
        let begin = std::cmp::max(&prefix, &after).clone();
        let listed: Vec<_> = objects
            .range(begin..)
            .filter(|(key, _)| **key > after)
            .take_while(|(key, _)| key.starts_with(&prefix))
            .take(most + 1)
            .collect();
        let entry = |(key, (body, written)): &(&String, &(Bytes, Millis))| {
            format!(
                "<Contents><Key>{key}</Key><LastModified>{}</LastModified><ETag>{}</ETag><Size>{}</Size></Contents>",
                written.to_rfc3339(),
                etag(body).replace('"', "&quot;"),
                body.len()
            )
        };
        let all: String = listed.iter().take(most).map(entry).collect();
        let next = listed.get(most.saturating_sub(1)).filter(|_| listed.len() > most);
        let next = next.map(|(key, _)| format!("<NextContinuationToken>{key}</NextContinuationToken>"));
        reply(
            200,
            format!(
                "<ListBucketResult><IsTruncated>{}</IsTruncated>{}{all}</ListBucketResult>",
                next.is_some(),
                next.unwrap_or_default()
            ),
        )
    }
}
