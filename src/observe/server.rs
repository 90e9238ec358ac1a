//! The event loop that listens and responds.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, VARY,
    WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::commands::{self, Answer, Commands, Started};
use super::heartbeat::{self, Heartbeat};
use super::samples::Samples;
use super::scope::Scope;
use super::standbys::Followers;
use super::status::Status;
use super::visitors::{Connections, is_for_this_machine};
use super::{detail, gate, metrics, page, readiness, snapshot};
use crate::base::clock::Millis;
use crate::base::limits;
use crate::config::{Secret, decode, parse_duration};
use crate::replicate::Vitals;

/// Wait before a failed bind to the address is retried.
const BIND_AGAIN: Duration = Duration::from_secs(10);

/// Wait after a connection could not be accepted, because the process has no free descriptor.
const ACCEPT_AGAIN: Duration = Duration::from_millis(200);

/// What a page may load: its own style sheet, its own script, and itself again.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; \
    frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// A command to the thread.
#[derive(Debug)]
pub(super) enum Command {
    /// Serve this socket.
    Serve(PathBuf, StdUnixListener, Scope),
    /// Stop serving the socket at this path.
    End(PathBuf),
}

/// Data that every connection of a listener needs.
#[derive(Debug, Clone)]
struct Desk {
    scope: Scope,
    vitals: Arc<Vitals>,
    followers: Arc<Followers>,
    samples: Arc<Samples>,
    /// What a request over the network has to show; `None` for nothing.
    token: Option<Secret>,
    /// Whether requests come over the network, where a connection stays open for the next one.
    is_network: bool,
    /// Whether only this machine can connect over the network.
    is_local: bool,
    /// Places for requests that wait for a database.
    waits: Arc<Semaphore>,
    /// `None` where no commands are taken.
    commands: Option<Commands>,
    started: Started,
}

/// Takes over the socket of the process, unless another process answers there.
pub(super) fn listen_at(path: &Path, mode: u32) -> io::Result<StdUnixListener> {
    nobody_listens(path)?;
    crate::io::socket::listen(path, mode)
}

/// Fails with `AddrInUse` if a process answers there.
pub(super) fn nobody_listens(path: &Path) -> io::Result<()> {
    match crate::io::socket::connect(path) {
        Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens there")),
        Err(_) => Ok(()),
    }
}

/// Serves until all senders of commands are gone.
pub(super) async fn run(
    (vitals, followers): (Arc<Vitals>, Arc<Followers>),
    mut commands: mpsc::Receiver<Command>,
    (addr, token, taken): (Option<String>, Option<Secret>, Option<Commands>),
    heart: Option<Heartbeat>,
) {
    let waits = Arc::new(Semaphore::new(limits::OBSERVE_WAITS));
    let started = Started::now();
    let samples = Arc::new(Samples::default());
    let desk = |scope: Scope, commands: Option<Commands>| Desk {
        vitals: Arc::clone(&vitals),
        followers: Arc::clone(&followers),
        samples: Arc::clone(&samples),
        token: None,
        is_network: false,
        is_local: false,
        scope,
        waits: Arc::clone(&waits),
        commands,
        started,
    };
    if let Some(addr) = addr {
        let desk = Desk { token, is_network: true, ..desk(Scope::Process, None) };
        tokio::spawn(serve_address(addr, desk));
    }
    if let Some(heart) = heart {
        tokio::spawn(heartbeat::beat(heart, Arc::clone(&vitals)));
    }
    let mut sockets: HashMap<PathBuf, AbortHandle> = HashMap::new();
    while let Some(command) = commands.recv().await {
        match command {
            Command::Serve(path, listener, scope) => match UnixListener::from_std(listener) {
                Ok(listener) => {
                    let task =
                        tokio::spawn(serve_socket(listener, desk(scope, taken.clone()))).abort_handle();
                    if let Some(old) = sockets.insert(path, task) {
                        old.abort();
                    }
                }
                Err(e) => {
                    tracing::warn!(path = %path.display(), error = %e, "lsfast status cannot be answered here");
                }
            },
            Command::End(path) => {
                if let Some(task) = sockets.remove(&path) {
                    task.abort();
                }
            }
        }
    }
}

async fn serve_socket(listener: UnixListener, desk: Desk) {
    // A request may wait for a database. Whether it does shows only when it has come.
    let max = desk.commands.as_ref().map_or(desk.scope.connections_max(), |_| limits::OBSERVE_WAITS);
    let mut connections = Connections::new(max);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => connections.admit(tokio::spawn(talk(stream, desk.clone())).abort_handle()),
            Err(_) => tokio::time::sleep(ACCEPT_AGAIN).await,
        }
    }
}

async fn serve_address(addr: String, mut desk: Desk) {
    let listener = bind(&addr).await;
    let mut connections = Connections::new(desk.scope.connections_max());
    let at = listener.local_addr();
    desk.is_local = at.as_ref().is_ok_and(|at| at.ip().is_loopback());
    match at {
        Ok(at) => tracing::info!(url = format!("http://{at}/metrics"), "serving metrics"),
        Err(e) => tracing::info!(addr, error = %e, "serving metrics"),
    }
    loop {
        match listener.accept().await {
            Ok((stream, _)) => connections.admit(tokio::spawn(talk(stream, desk.clone())).abort_handle()),
            Err(_) => tokio::time::sleep(ACCEPT_AGAIN).await,
        }
    }
}

/// Retries until the address is free, because the previous process may not have ended yet.
async fn bind(addr: &str) -> TcpListener {
    let mut said = false;
    loop {
        match try_bind(addr).await {
            Ok(listener) => return listener,
            Err(e) if !said => {
                said = true;
                tracing::error!(addr, error = %e, "cannot serve metrics at addr; retrying, nothing else is affected");
            }
            Err(_) => {}
        }
        tokio::time::sleep(BIND_AGAIN).await;
    }
}

/// A port without a host means this machine only: there is no password. `0.0.0.0` or `[::]` has to
/// be written.
async fn try_bind(addr: &str) -> io::Result<TcpListener> {
    let Some(port) = addr.strip_prefix(':') else { return TcpListener::bind(addr).await };
    match TcpListener::bind(format!("127.0.0.1:{port}")).await {
        // The host has no IPv4.
        Err(e) if e.kind() == io::ErrorKind::AddrNotAvailable => {
            TcpListener::bind(format!("[::1]:{port}")).await
        }
        bound => bound,
    }
}

/// A connection.
struct Visit {
    desk: Desk,
    /// When the connection is closed at the latest.
    until: watch::Sender<Instant>,
}

/// Handles the requests of a connection: one over a socket, all that come over the network.
async fn talk(stream: impl AsyncRead + AsyncWrite + Unpin, desk: Desk) {
    let (sender, mut until) = watch::channel(Instant::now() + limits::OBSERVE_TIME);
    let stays_open = desk.is_network;
    let visit = Arc::new(Visit { desk, until: sender });
    let service = service_fn(move |request| {
        let visit = Arc::clone(&visit);
        async move {
            let response = respond(&visit, request).await;
            if visit.desk.is_network {
                visit.until.send_replace(Instant::now() + limits::OBSERVE_IDLE);
            }
            Ok::<_, Infallible>(response.map(Full::new))
        }
    });
    let mut server = http1::Builder::new();
    server.keep_alive(stays_open).max_buf_size(limits::OBSERVE_HEAD_BYTES).header_read_timeout(None);
    let served = server.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(served);
    loop {
        let at = *until.borrow_and_update();
        tokio::select! {
            // A client that disconnects, or does not speak HTTP, gets no response.
            _ = &mut served => return,
            changed = until.changed() => if changed.is_err() { return },
            () = tokio::time::sleep_until(at) => return,
        }
    }
}

async fn respond(visit: &Visit, request: Request<Incoming>) -> Response<Bytes> {
    let desk = &visit.desk;
    let Some(commands) = &desk.commands else {
        return answer(desk, request.method(), request.uri(), request.headers());
    };
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let (status, body) = match commands::is_command(&path) {
        true if method == Method::POST => command(visit, commands, &path, request.into_body()).await,
        true => {
            let mut refusal = plain(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "POST it\n".into());
            refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
            return refusal;
        }
        false => {
            let target = (path.as_str(), request.uri().query());
            let got = commands::get(commands, &desk.vitals, &desk.scope, desk.started, target);
            match got.filter(|_| matches!(method, Method::GET | Method::HEAD)) {
                Some(got) => got,
                None => return answer(desk, &method, request.uri(), request.headers()),
            }
        }
    };
    plain(status, "application/json", body)
}

/// Reads a command and does what it asks for.
async fn command(visit: &Visit, commands: &Commands, path: &str, body: Incoming) -> Answer {
    let bad = |why: String| commands::refuse(StatusCode::BAD_REQUEST, "invalid request body", Some(why));
    let body = match Limited::new(body, limits::OBSERVE_BODY_BYTES).collect().await {
        Ok(body) => body.to_bytes(),
        Err(e) => return bad(e.to_string()),
    };
    let asked = match commands::read(&body) {
        Ok(asked) => asked,
        Err(refusal) => return refusal,
    };
    let desk = &visit.desk;
    let Ok(_place) = desk.waits.try_acquire() else {
        return commands::refuse(StatusCode::SERVICE_UNAVAILABLE, "too many requests wait already", None);
    };
    visit.until.send_replace(Instant::now() + asked.timeout() + limits::OBSERVE_TIME);
    commands::obey(commands, &desk.vitals, &desk.scope, path, &asked).await
}

fn answer(desk: &Desk, method: &Method, uri: &Uri, headers: &HeaderMap) -> Response<Bytes> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        let mut refusal =
            plain(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET is answered\n".into());
        refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refusal;
    }
    if desk.is_local && !is_for_this_machine(uri, headers) {
        let why = "this address is for programs on this machine: ask for localhost or 127.0.0.1\n";
        return plain(StatusCode::MISDIRECTED_REQUEST, "text/plain", why.into());
    }
    // A probe that restarts a container needs no token.
    if let Some(token) = desk.token.as_ref().filter(|_| uri.path() != "/healthz")
        && !gate::shows(headers, token)
    {
        let why = "a token is needed (addr-token of the config file), as a bearer token or as a password\n";
        let mut refusal = plain(StatusCode::UNAUTHORIZED, "text/plain", why.into());
        let challenge = HeaderValue::from_static("Basic realm=\"lsfast\", charset=\"UTF-8\"");
        refusal.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        return refusal;
    }
    let response = shown(desk, uri);
    if desk.is_network && gate::takes_gzip(headers) { compressed(response) } else { response }
}

fn shown(desk: &Desk, uri: &Uri) -> Response<Bytes> {
    let Desk { vitals, followers, scope, samples, .. } = desk;
    let status = || {
        let status = snapshot::of(vitals, followers, scope);
        samples.take(&status, matches!(scope, Scope::Process));
        status
    };
    let html = |body| plain(StatusCode::OK, "text/html; charset=utf-8", body);
    match uri.path() {
        // That this thread answers is all that it says.
        "/healthz" => plain(StatusCode::OK, "text/plain", "ok\n".into()),
        "/readyz" => ready(&snapshot::of(vitals, followers, scope), uri.query()),
        "/metrics" => {
            let _ = status();
            plain(StatusCode::OK, metrics::CONTENT_TYPE, metrics::text(vitals, followers, scope))
        }
        "/status" => {
            plain(StatusCode::OK, "application/json", serde_json::to_string(&status()).unwrap_or_default())
        }
        "/" => html(page::html(&status(), samples, Millis::now())),
        "/db" => {
            let path = uri.query().and_then(|q| q.split('&').find_map(|p| p.strip_prefix("path=")));
            let path = path.and_then(|p| decode(&p.replace('+', " "))).unwrap_or_default();
            match detail::html(&status(), &path, samples, Millis::now()) {
                Some(body) => html(body),
                None => plain(StatusCode::NOT_FOUND, "text/plain", "there is no such database here\n".into()),
            }
        }
        "/style.css" => plain(StatusCode::OK, "text/css", page::STYLE.to_owned()),
        "/page.js" => plain(StatusCode::OK, "text/javascript; charset=utf-8", page::SCRIPT.to_owned()),
        _ => plain(
            StatusCode::NOT_FOUND,
            "text/plain",
            "here are /, /status, /metrics, /healthz and /readyz\n".into(),
        ),
    }
}

/// The response with a compressed body, if that is worth it.
fn compressed(response: Response<Bytes>) -> Response<Bytes> {
    if response.body().len() < limits::OBSERVE_GZIP_BYTES {
        return response;
    }
    let Some(packed) = gate::gzip(response.body()) else { return response };
    let (mut head, _) = response.into_parts();
    head.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    head.headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    Response::from_parts(head, Bytes::from(packed))
}

/// The answer to `/readyz?behind=DURATION`.
fn ready(status: &Status, query: Option<&str>) -> Response<Bytes> {
    let behind = query.and_then(|q| q.split('&').find_map(|p| p.strip_prefix("behind=")));
    let behind = match behind.map(parse_duration) {
        None => readiness::BEHIND_MAX,
        Some(Ok(behind)) => behind,
        Some(Err(e)) => return plain(StatusCode::BAD_REQUEST, "text/plain", format!("behind: {e}\n")),
    };
    let reasons = readiness::reasons(status, behind);
    if reasons.is_empty() {
        return plain(StatusCode::OK, "text/plain", "ok\n".into());
    }
    let body = reasons.iter().map(|r| format!("{r}\n")).collect();
    plain(StatusCode::SERVICE_UNAVAILABLE, "text/plain", body)
}

fn plain(status: StatusCode, content_type: &'static str, body: String) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    for (name, value) in [
        (CONTENT_TYPE, content_type),
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (CONTENT_SECURITY_POLICY, POLICY),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
