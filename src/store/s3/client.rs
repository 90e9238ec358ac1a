//! One client for each endpoint of the process: its connections, the clock correction, and the
//! features that the store was found not to support.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use http::header::PROXY_AUTHORIZATION;
use http::uri::{Authority, PathAndQuery, Scheme as HttpScheme};
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::time::Instant;

use super::body::Chunks;
use super::call::Call;
use super::date::StoreClock;
use super::down::Down;
use super::failure::{Class, Failure};
use super::hedge::{self, Hedge};
use super::http::{Connect, Network, find, innermost, tls_config};
use super::pool::{Conn, Pool};
use super::resolve::{HostAnswer, Names};
pub(super) use super::wire::Wire;
use crate::config::{Endpoint, EndpointUrl, Proxy, S3Location, Scheme, TlsOptions};
use crate::store::{StoreError, requests};

/// The clients of a process, one for each endpoint and way of checking certificates.
#[derive(Clone, Default)]
pub struct Clients(Arc<Registry>);

/// The endpoint (`None` for AWS) and how its certificate is checked.
type ClientKey = (Option<EndpointUrl>, TlsOptions);

#[derive(Default)]
struct Registry {
    connector: Option<Arc<dyn Connect>>,
    clients: Mutex<HashMap<ClientKey, Arc<Client>>>,
}

impl Clients {
    /// Clients that connect to their servers through `connector` instead of the network.
    #[cfg(feature = "internals")]
    pub fn with_connector(connector: Arc<dyn Connect>) -> Clients {
        Clients(Arc::new(Registry { connector: Some(connector), clients: Mutex::default() }))
    }

    /// Number of connections that all clients have opened since the start.
    #[cfg(feature = "internals")]
    #[must_use]
    pub fn connections_opened(&self) -> u64 {
        let clients = self.0.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.values().map(|c| c.connections_opened()).sum()
    }

    pub(super) fn get(
        &self,
        location: &S3Location,
        answers: &[HostAnswer],
        spare: bool,
        idle: Duration,
    ) -> Result<Arc<Client>, StoreError> {
        let endpoint = match &location.endpoint.value {
            Endpoint::Aws { .. } => None,
            Endpoint::At(url) => Some(url.clone()),
        };
        let plain = endpoint.as_ref().is_some_and(|url| url.scheme == Scheme::Http);
        // Plain HTTP checks no certificate, so the TLS options make no difference.
        let tls = if plain { TlsOptions::default() } else { location.tls.clone() };
        let mut clients = self.0.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&(endpoint.clone(), tls.clone())) {
            return Ok(Arc::clone(client));
        }
        let connector = match &self.0.connector {
            Some(connector) => Arc::clone(connector),
            None if plain => Arc::new(Network::plain(Names::new(answers))),
            None => Arc::new(Network::new(tls_config(&tls)?, Names::new(answers))),
        };
        warn_of_the_way(location, plain);
        let client = Arc::new(Client::new(connector, spare, idle));
        clients.insert((endpoint, tls), Arc::clone(&client));
        Ok(client)
    }
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clients")
    }
}

/// Warns of a connection that others can read or change, once for each endpoint.
fn warn_of_the_way(location: &S3Location, plain: bool) {
    let url = location.endpoint_url();
    if plain && url.is_public() {
        tracing::warn!(
            endpoint = %url,
            "plain HTTP to a public host: anyone on the network path can read the database; uploads are signed, so changes to \
             them are noticed; use https"
        );
    } else if !plain && location.tls.skip_verify {
        tracing::warn!(
            endpoint = %url,
            "the certificate is not checked (skip-verify): a server in the store's place can read the database; \
             uploads are signed; name the authority with ca-cert instead"
        );
    }
}

/// Features that the store has refused. They are remembered for the life of the process, so that
/// each is tried once.
#[derive(Debug, Default)]
pub(super) struct Refused {
    pub(super) checksum: AtomicBool,
    /// `x-amz-checksum-mode`, sent with HEAD.
    pub(super) checksum_mode: AtomicBool,
    /// HEAD of an object, where GET is allowed.
    pub(super) head: AtomicBool,
    pub(super) create_only: AtomicBool,
    pub(super) batch_delete: AtomicBool,
    /// `encoding-type`, sent with listings.
    pub(super) encoding_type: AtomicBool,
    pub(super) copy: AtomicBool,
}

/// The client of one endpoint.
#[derive(Debug)]
pub(super) struct Client {
    connector: Arc<dyn Connect>,
    spare: bool,
    idle: Duration,
    pools: Mutex<HashMap<String, Arc<Pool>>>,
    pub(super) clock: StoreClock,
    skew_ms: AtomicI64,
    regions: Mutex<HashMap<String, String>>,
    /// Buckets in which this process has found an object right after writing it.
    proven: Mutex<HashSet<String>>,
    pub(super) refused: Refused,
    /// Copies that have failed in a row in a way that may pass.
    pub(super) failed_copies: AtomicU32,
    /// The store requires Content-MD5.
    pub(super) wants_md5: AtomicBool,
    /// The store's responses to uploads carry no ETag, and the uploads succeed nevertheless.
    pub(super) bare_answers: AtomicBool,
    /// The store's ETags were found not to be MD5 sums.
    pub(super) opaque_etags: AtomicBool,
    /// An ETag of the store had the form of an MD5, and was not that of other content.
    pub(super) md5_etags: AtomicBool,
    /// Whether the last calls that read, or that write, have failed.
    pub(super) down: Down,
    /// Calls that wait for their next attempt, or are making it.
    pub(super) retrying: AtomicUsize,
    /// Second attempts at small PUTs.
    pub(super) puts: Hedge,
    /// Second attempts at small GETs.
    pub(super) gets: Hedge,
    /// When it was last proven whether the store honours create-only PUTs, in milliseconds since
    /// 1970; 0 for never.
    pub(super) create_only_proven: AtomicI64,
    /// Whether the warning that they are not honoured was logged.
    pub(super) create_only_warned: AtomicBool,
}

impl Client {
    fn new(connector: Arc<dyn Connect>, spare: bool, idle: Duration) -> Client {
        Client {
            connector,
            spare,
            idle,
            pools: Mutex::default(),
            clock: StoreClock::default(),
            skew_ms: AtomicI64::new(0),
            regions: Mutex::default(),
            proven: Mutex::default(),
            refused: Refused::default(),
            failed_copies: AtomicU32::new(0),
            wants_md5: AtomicBool::new(false),
            bare_answers: AtomicBool::new(false),
            opaque_etags: AtomicBool::new(false),
            md5_etags: AtomicBool::new(false),
            down: Down::default(),
            retrying: AtomicUsize::new(0),
            puts: Hedge::default(),
            gets: Hedge::default(),
            create_only_proven: AtomicI64::new(0),
            create_only_warned: AtomicBool::new(false),
        }
    }

    /// The hedge for a call; `None` for calls that are large or have other effects.
    pub(super) fn hedge(&self, call: &Call<'_>) -> Option<&Hedge> {
        let small = call.payload.len() + call.answer_bytes <= hedge::HEDGE_BYTES;
        if !small || call.key.is_none() || !call.query.is_empty() {
            return None;
        }
        match call.method {
            Method::PUT if call.content => Some(&self.puts),
            Method::GET => Some(&self.gets),
            _ => None,
        }
    }

    #[cfg(feature = "internals")]
    fn connections_opened(&self) -> u64 {
        let pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        pools.values().map(|p| p.opened()).sum()
    }

    /// The time for signatures. It follows the server's clock once the server has refused a
    /// signature for its time.
    pub(super) fn now(&self) -> SystemTime {
        let skew = self.skew_ms.load(Ordering::Relaxed);
        let by = Duration::from_millis(skew.unsigned_abs());
        if skew >= 0 { SystemTime::now() + by } else { SystemTime::now() - by }
    }

    /// Corrects the clock to the server's time.
    pub(super) fn correct_clock(&self, server: SystemTime) {
        let skew = match server.duration_since(SystemTime::now()) {
            Ok(ahead) => i64::try_from(ahead.as_millis()).unwrap_or(0),
            Err(behind) => -i64::try_from(behind.duration().as_millis()).unwrap_or(0),
        };
        self.skew_ms.store(skew, Ordering::Relaxed);
    }

    /// The region that the store named for a bucket, if it has named one.
    pub(super) fn region_of(&self, bucket: &str) -> Option<String> {
        self.regions.lock().unwrap_or_else(PoisonError::into_inner).get(bucket).cloned()
    }

    /// Whether an object that this process wrote was found in the bucket.
    pub(super) fn is_proven(&self, bucket: &str) -> bool {
        self.proven.lock().unwrap_or_else(PoisonError::into_inner).contains(bucket)
    }

    pub(super) fn prove_once(&self, bucket: &str) {
        let mut proven = self.proven.lock().unwrap_or_else(PoisonError::into_inner);
        if !proven.contains(bucket) {
            proven.insert(bucket.to_owned());
        }
    }

    pub(super) fn remember_region(&self, bucket: &str, region: String) {
        self.regions.lock().unwrap_or_else(PoisonError::into_inner).insert(bucket.to_owned(), region);
    }

    pub(super) fn pool(&self, scheme: Scheme, authority: &str) -> Result<Arc<Pool>, Failure> {
        let name = format!("{}://{authority}", scheme.as_str());
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = pools.get(&name) {
            return Ok(Arc::clone(pool));
        }
        let broken = |_| {
            let message = format!("{authority:?} is not a host: correct the endpoint or the bucket");
            Failure::new(Class::Final(crate::store::ErrorKind::Fatal), message)
        };
        let scheme = if scheme == Scheme::Http { HttpScheme::HTTP } else { HttpScheme::HTTPS };
        let to = Uri::builder()
            .scheme(scheme)
            .authority(Authority::try_from(authority).map_err(|e| broken(e.into()))?)
            .path_and_query(PathAndQuery::from_static("/"))
            .build()
            .map_err(broken)?;
        let pool = Pool::new(to, Arc::clone(&self.connector), self.spare, self.idle);
        pools.insert(name, Arc::clone(&pool));
        Ok(pool)
    }

    /// Sends one request, waits for the head of the response, and counts both.
    pub(super) async fn send(&self, wire: Wire) -> Result<Answer, Failure> {
        let operation = wire.operation();
        let (body, taken) = wire.payload.body();
        let answer = self.exchange(wire, body, &taken).await;
        let code = answer.as_ref().map_or(0, |answer| answer.status.as_u16());
        requests::answered(operation, code, taken.load(Ordering::Relaxed));
        answer
    }

    async fn exchange(&self, wire: Wire, body: Chunks, taken: &AtomicU64) -> Result<Answer, Failure> {
        let pool = self.pool(wire.scheme, &wire.authority)?;
        // The place is taken before the deadline starts. It is released before a body is read,
        // because the reader may need another response first.
        let place = pool.place().await;
        let deadline = Instant::now() + wire.head_time;
        let late = || {
            let message =
                format!("{} did not answer within {}s", wire.authority, wire.head_time.as_secs_f32());
            Failure::new(Class::Transient, message)
        };
        let connecting = tokio::time::timeout_at(deadline, pool.checkout(wire.fresh));
        let mut conn = connecting.await.map_err(|_| late())??;

        let mut request = Request::new(body);
        *request.method_mut() = wire.method.clone();
        let target = match pool.forwarder() {
            Some(_) => format!("{}://{}{}", wire.scheme.as_str(), wire.authority, wire.path),
            None => wire.path,
        };
        *request.uri_mut() = target.parse().map_err(|e: http::uri::InvalidUri| {
            Failure::new(Class::Final(crate::store::ErrorKind::Fatal), format!("the key makes no URL: {e}"))
        })?;
        *request.headers_mut() = wire.headers;
        if let Some(auth) = pool.forwarder().and_then(Proxy::basic_auth) {
            request.headers_mut().insert(PROXY_AUTHORIZATION, auth.clone());
        }

        let sending = conn.sender.send_request(request);
        let watched = watch(sending, taken, wire.payload.len(), wire.stall, deadline);
        let response = match watched.await {
            Watched::Done(Ok(response)) => response,
            Watched::Done(Err(e)) => return Err(send_failure(&wire.authority, wire.scheme, conn.reused, e)),
            Watched::Stalled => {
                let message = format!("{} took no byte for {}s", wire.authority, wire.stall.as_secs_f32());
                return Err(Failure::new(Class::Transient, message));
            }
            Watched::Late => return Err(late()),
        };
        drop(place);
        let (head, incoming) = response.into_parts();
        let mut answer = Answer {
            status: head.status,
            headers: head.headers,
            body: AnswerBody {
                incoming,
                conn: Some(conn),
                pool,
                deadline: Instant::now() + wire.body_time,
                stall: wire.stall,
            },
        };
        if answer.body.incoming.is_end_stream() {
            answer.body.finish();
        }
        Ok(answer)
    }
}

enum Watched<T> {
    Done(T),
    Stalled,
    Late,
}

/// Waits for `sending` for as long as the connection keeps taking bytes of the body, or has taken
/// them all.
async fn watch<F: Future>(
    sending: F,
    taken: &AtomicU64,
    len: u64,
    stall: Duration,
    deadline: Instant,
) -> Watched<F::Output> {
    let mut sending = std::pin::pin!(sending);
    let mut before = 0;
    loop {
        let look = (Instant::now() + stall).min(deadline);
        if let Ok(done) = tokio::time::timeout_at(look, sending.as_mut()).await {
            return Watched::Done(done);
        }
        let now = taken.load(Ordering::Relaxed);
        if Instant::now() >= deadline {
            return Watched::Late;
        }
        if now == before && now < len {
            return Watched::Stalled;
        }
        before = now;
    }
}

fn send_failure(authority: &str, scheme: Scheme, reused: bool, error: hyper::Error) -> Failure {
    if error.is_parse() {
        let hint = match scheme {
            Scheme::Http => format!("; if it serves TLS, write endpoint=https://{authority}"),
            Scheme::Https => String::new(),
        };
        let message = format!("{authority} does not answer in HTTP{hint}");
        return Failure::new(Class::Unreachable, message).with_source(error);
    }
    // A request on a reused connection may have met the server's own idle timeout.
    let class = if reused { Class::Stale } else { Class::Transient };
    let message = if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        format!("{authority} closed the connection before it answered")
    } else if let Some(io) = find::<std::io::Error>(&error) {
        format!("the connection to {authority} broke: {}", innermost(io))
    } else {
        format!("the connection to {authority} broke: {}", innermost(&error))
    };
    Failure::new(class, message).with_source(error)
}

/// The head of a response, with a body still to be read.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: AnswerBody,
}

/// The body of a response. Once it is read to its end, its connection returns to the pool. If it is
/// dropped earlier, the connection is closed.
#[derive(Debug)]
pub(super) struct AnswerBody {
    incoming: Incoming,
    conn: Option<Conn>,
    pool: Arc<Pool>,
    deadline: Instant,
    stall: Duration,
}

impl AnswerBody {
    /// The next bytes, or `None` at the end of the body.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            if self.conn.is_none() {
                return Ok(None);
            }
            let until = (Instant::now() + self.stall).min(self.deadline);
            match tokio::time::timeout_at(until, self.incoming.frame()).await {
                Err(_) => return Err(Failure::new(Class::Transient, "the answer stalled")),
                Ok(Some(Err(e))) => {
                    let message = format!("the answer broke off: {}", innermost(&e));
                    return Err(Failure::new(Class::Transient, message).with_source(e));
                }
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        requests::received(data.len());
                        if self.incoming.is_end_stream() {
                            self.finish();
                        }
                        return Ok(Some(data));
                    }
                }
                Ok(None) => self.finish(),
            }
        }
    }

    /// The whole body; an error if it is longer than `max` bytes.
    pub(super) async fn collect(&mut self, max: usize) -> Result<Bytes, Failure> {
        let mut all = BytesMut::new();
        let mut first = Bytes::new();
        let mut frames = 0u32;
        while let Some(data) = self.next().await? {
            if first.len() + all.len() + data.len() > max {
                let kind = crate::store::ErrorKind::Fatal;
                return Err(Failure::new(
                    Class::Final(kind),
                    format!("the answer is longer than {max} bytes"),
                ));
            }
            frames += 1;
            match frames {
                1 => first = data,
                2 => {
                    all.extend_from_slice(&std::mem::take(&mut first));
                    all.extend_from_slice(&data);
                }
                _ => all.extend_from_slice(&data),
            }
        }
        Ok(if frames > 1 { all.freeze() } else { first })
    }

    fn finish(&mut self) {
        if let Some(conn) = self.conn.take() {
            self.pool.park(conn);
        }
    }
}
