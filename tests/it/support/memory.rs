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
use sha2::{Digest as _, Sha256};
use tokio::sync::oneshot;

use super::s3::{BUCKET, serve};

#[derive(Debug, Default)]
struct State {
    objects: Mutex<BTreeMap<String, Bytes>>,
    requests: Mutex<Vec<String>>,
    /// Whether conditions are ignored.
    ignores: AtomicBool,
    /// The status that PUT and POST are answered with; 0 for what is right.
    refuses: AtomicU16,
    /// Whether no request is ever answered.
    hangs: AtomicBool,
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

    /// Answers whatever writes with this status; 0 for what is right.
    pub fn refuse(&self, status: u16) {
        self.state.refuses.store(status, Ordering::Relaxed);
    }

    /// Answers nothing any more.
    pub fn hang(&self) {
        self.state.hangs.store(true, Ordering::Relaxed);
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
        let key = uri.path().trim_start_matches('/').split_once('/').map_or("", |(_, key)| key).to_owned();
        let refused = self.refuses.load(Ordering::Relaxed);
        if refused != 0 && (method == Method::PUT || method == Method::POST) {
            return error(refused, if refused == 403 { "AccessDenied" } else { "Refused" });
        }
        let mut objects = self.objects.lock().expect("no panic");
        match *method {
            Method::GET if key.is_empty() => {
                let (prefix, after) =
                    (of("prefix").unwrap_or_default(), of("start-after").unwrap_or_default());
                let most = of("max-keys").and_then(|n| n.parse().ok()).unwrap_or(1000);
                let listed = objects.iter().filter(|(k, _)| k.starts_with(&prefix) && **k > after).take(most);
                let entry = |(key, body): (&String, &Bytes)| {
                    format!(
                        "<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>{}</ETag>\
                         <Size>{}</Size></Contents>",
                        etag(body).replace('"', "&quot;"),
                        body.len()
                    )
                };
                let all: String = listed.map(entry).collect();
                reply(
                    200,
                    format!("<ListBucketResult><IsTruncated>false</IsTruncated>{all}</ListBucketResult>"),
                )
            }
            Method::PUT => {
                let conditional =
                    headers.contains_key("if-none-match") && !self.ignores.load(Ordering::Relaxed);
                if conditional && objects.contains_key(&key) {
                    return error(412, "PreconditionFailed");
                }
                let tag = etag(&body);
                objects.insert(key, body);
                let mut response = reply(200, "");
                response.headers_mut().insert("etag", tag.parse().expect("a header"));
                response
            }
            Method::GET | Method::HEAD => match objects.get(&key) {
                None => error(404, "NoSuchKey"),
                Some(object) => {
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
}
