//! A store of S3 in memory with every fault that is known of real ones, by chance of a seed.
//!
//! The client reaches it without a network: each connection is a pipe within the process, and its
//! server a task of the same runtime. So all of it obeys the clock of the simulation.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use http::{HeaderMap, Method, Request, Response, Uri};
use http_body_util::BodyExt as _;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use lsfast::base::clock::Millis;
use lsfast::config::{Env, Location, Overrides};
use lsfast::store::s3::{Connect, Io};
use lsfast::store::{self, BoxFuture, ClientOptions, Clients, RetryPolicy, Store};
use tokio::sync::Notify;

use super::answers::{self, Answer, error, etag, get, header, reply, with};
use super::manners::Manners;
use super::{give_up, tells};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Requests of one history. One that asks for more would never end.
const REQUESTS_MAX: u64 = 20_000;

/// An object: its content, when it was written, and the metadata that came with it.
#[derive(Debug, Clone)]
pub struct Object {
    pub body: Bytes,
    pub written: Millis,
    pub tag: String,
    pub meta: Meta,
}

/// The metadata of an object.
type Meta = Vec<(String, String)>;

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
    /// Uploads in parts: their metadata, and their parts.
    uploads: BTreeMap<String, (Meta, BTreeMap<u32, Bytes>)>,
    /// The next write, if it is a batch, is answered as if it were stored, and is not.
    swallows: bool,
}

/// The store. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Bucket(Arc<Mutex<Inner>>, Arc<Notify>, &'static str);

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
    /// 200 with the right ETag, and nothing is stored.
    Swallow,
    /// Other bytes than those that were asked for.
    OtherRange,
    Status(u16),
    /// 200 of something that has not understood a word.
    Lie,
    /// 200 with an ETag of something that has stored nothing: an empty one if true, otherwise the
    /// hash of other content.
    LieWithTag(bool),
}

impl Bucket {
    pub fn new(name: &'static str, seed: u64, manners: Manners) -> Bucket {
        let rng = Rng::with_seed(seed);
        let inner = Inner {
            objects: Objects::new(),
            manners,
            rng,
            requests: 0,
            calm: false,
            trace: Vec::new(),
            trap: None,
            uploads: BTreeMap::new(),
            swallows: false,
        };
        Bucket(Arc::new(Mutex::new(inner)), Arc::default(), name)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client of a new process.
    pub fn store(&self) -> Arc<dyn Store> {
        let env = Env::new([("AWS_ACCESS_KEY_ID", "AKIASIM"), ("AWS_SECRET_ACCESS_KEY", "sim")]);
        let place = "endpoint=http://store.test:80&region=us-east-1&force-path-style=true";
        let url = format!("s3://{}/db?{place}", self.2);
        let location = Location::resolve(&url, &Overrides::default(), &env).expect("a URL");
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
        (inner.calm, inner.trap, inner.swallows) = (calm, None, false);
    }

    /// The first write of a process is answered as if it were carried out, and is not.
    pub fn swallow(&self) {
        self.lock().swallows = true;
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
            let fault = match head.method == Method::PUT && std::mem::take(&mut inner.swallows) {
                true if head.uri.path().contains("/0000/") => Some(Fault::Swallow),
                _ => inner.fault(&head.method),
            };
            if !inner.calm {
                inner.requests += 1;
                if inner.requests > REQUESTS_MAX {
                    give_up(&format!("{REQUESTS_MAX} requests, the last one {} {}", head.method, head.uri));
                }
                let line = format!(
                    "{} {} {} {}{}",
                    inner.now(),
                    head.method,
                    head.uri,
                    body.len(),
                    fault.map_or_else(String::new, |f| format!(" {f:?}"))
                );
                if tells() {
                    eprintln!("  {line}");
                }
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
            Some(Fault::OtherRange) => {
                let mut inner = self.lock();
                let mut headers = head.headers.clone();
                // The first bytes, or all of them.
                match inner.rng.bool() {
                    true => drop(headers.insert("range", "bytes=0-99".parse().expect("a value"))),
                    false => drop(headers.remove("range")),
                }
                Ok(inner.carry_out(&head.method, &head.uri, &headers, &body))
            }
            Some(Fault::Swallow) => {
                let md5 = self.lock().manners.md5;
                Ok(with(reply(200, ""), "etag", &etag(&body, md5)))
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
        let of_method = match *method {
            _ if writes => [lie, Fault::Twice],
            Method::GET => [Fault::Cut, Fault::OtherRange],
            _ => [Fault::Cut, Fault::Cut],
        };
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
        if let Some(answer) = self.in_parts(method, &key, headers, body, &of) {
            return answer;
        }
        let answer = match *method {
            Method::GET if key.is_empty() => answers::list(&self.objects, &self.manners, self.calm, &of),
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
                let meta = meta_of(headers);
                let tag = etag(&body, self.manners.md5);
                self.objects.insert(key, Object { body, written: self.now(), tag: tag.clone(), meta });
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
                Some(object) => get(object, headers),
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

    /// Requests of an upload in parts.
    fn in_parts(
        &mut self,
        method: &Method,
        key: &str,
        headers: &HeaderMap,
        body: &Bytes,
        of: &dyn Fn(&str) -> Option<String>,
    ) -> Option<Response<Answer>> {
        if *method == Method::POST && of("uploads").is_some() {
            let id = format!("{}", self.uploads.len() + 1);
            let words = format!("<InitiateMultipartUploadResult><UploadId>{id}</UploadId>");
            self.uploads.insert(id, (meta_of(headers), BTreeMap::new()));
            return Some(reply(200, words + "</InitiateMultipartUploadResult>"));
        }
        let id = of("uploadId")?;
        let Some((meta, parts)) = self.uploads.get_mut(&id) else {
            return Some(error(404, "NoSuchUpload"));
        };
        Some(match *method {
            Method::PUT => {
                parts.insert(of("partNumber").and_then(|n| n.parse().ok()).unwrap_or(0), body.clone());
                with(reply(200, ""), "etag", &etag(body, self.manners.md5))
            }
            Method::DELETE => {
                self.uploads.remove(&id);
                reply(204, "")
            }
            _ => {
                let conditional =
                    header(headers, "if-none-match").is_some() && !self.manners.ignores_conditions;
                if conditional && self.objects.contains_key(key) {
                    return Some(error(412, "PreconditionFailed"));
                }
                let (meta, all) = (meta.clone(), parts.values().flatten().copied().collect::<Vec<u8>>());
                let tag = format!("{}-{}\"", etag(&all, self.manners.md5).trim_end_matches('"'), parts.len());
                self.uploads.remove(&id);
                let object = Object { body: all.into(), written: self.now(), tag: tag.clone(), meta };
                self.objects.insert(key.to_owned(), object);
                let tag = tag.replace('"', "&quot;");
                let words = format!("<CompleteMultipartUploadResult><ETag>{tag}</ETag>");
                reply(200, words + "</CompleteMultipartUploadResult>")
            }
        })
    }
}

fn meta_of(headers: &HeaderMap) -> Meta {
    let meta = headers.iter().filter(|(name, _)| name.as_str().starts_with("x-amz-meta-"));
    meta.filter_map(|(n, v)| Some((n.to_string(), v.to_str().ok()?.to_owned()))).collect()
}
