//! Checks the connection to the server: DNS, TCP, certificate, clock.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{DATE, HOST};
use http::{HeaderMap, HeaderValue, Method, Uri};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use tower_service::Service as _;

use super::certificate::Certificate;
use crate::base::clock::Millis;
use crate::base::finding::{Finding, Tell};
use crate::base::{count, limits};
use crate::config::{Addressing, EndpointUrl, Proxies, Proxy, Scheme, TlsOptions};
use crate::store::s3::client::Wire;
use crate::store::s3::http::{connect_words, tls_config};
use crate::store::s3::http_date;
use crate::store::s3::inner::Inner;
use crate::store::s3::resolve::Names;

/// A certificate that expires within this many days is reported.
const ENDS_SOON_DAYS: i64 = 14;

/// Clocks that differ by more than this are reported, in milliseconds. Stores refuse a difference
/// of 15 minutes or more.
const SKEW_MAX_MS: i64 = 60_000;

/// Most addresses of one name that are tried.
const ADDRESSES_MAX: usize = 16;

/// The host that receives requests for the bucket.
pub(super) fn host_of(inner: &Inner) -> EndpointUrl {
    let mut url = inner.location.endpoint.value.url(&inner.region());
    if inner.location.addressing.value == Addressing::VirtualHost {
        url.host = format!("{}.{}", inner.location.bucket, url.host);
    }
    url
}

/// Checks DNS, TCP, certificate and clock. Returns false if the server is unreachable.
pub(super) async fn reach(inner: &Inner, tell: Tell<'_>) -> bool {
    let url = host_of(inner);
    if let Some(proxy) = Proxies::of_process().on_the_way_to(&url) {
        return by_proxy(inner, &url, &proxy, tell).await && clock(inner, &url, tell).await;
    }
    let Some(addresses) = resolve(inner, &url, tell).await else { return false };
    let Some(address) = connect(&url, &addresses, tell).await else { return false };
    if url.scheme == Scheme::Https && !encrypt(&url, address, &inner.location.tls, tell).await {
        return false;
    }
    clock(inner, &url, tell).await
}

/// Checks the way through a proxy. The name of the store need not be known on this host.
async fn by_proxy(inner: &Inner, url: &EndpointUrl, proxy: &Proxy, tell: Tell<'_>) -> bool {
    let began = Instant::now();
    let pool = match inner.client.pool(url.scheme, &url.authority()) {
        Ok(pool) => pool,
        Err(failure) => {
            tell(Finding::fail("proxy", failure.message));
            return false;
        }
    };
    match pool.prewarm().await {
        Ok(()) => {
            let ms = began.elapsed().as_secs_f64() * 1e3;
            let what = if url.scheme == Scheme::Https {
                "connected to the store, TLS checked,"
            } else {
                "connected"
            };
            tell(Finding::ok("proxy", format!("{what} through {proxy} in {ms:.1} ms")));
            true
        }
        Err(failure) => {
            tell(Finding::fail("proxy", failure.message));
            false
        }
    }
}

async fn resolve(inner: &Inner, url: &EndpointUrl, tell: Tell<'_>) -> Option<Vec<SocketAddr>> {
    let port = url.port.unwrap_or(if url.scheme == Scheme::Https { 443 } else { 80 });
    if let Ok(ip) = url.host.trim_matches(['[', ']']).parse::<IpAddr>() {
        tell(Finding::ok("dns", format!("{ip} is an address")));
        return Some(vec![SocketAddr::new(ip, port)]);
    }
    let asked = match url.host.parse() {
        Ok(name) => {
            tokio::time::timeout(limits::CONNECT_TIME, Names::new(&inner.options.answers).call(name)).await
        }
        Err(_) => Ok(Err(io::Error::other("it is not a host name"))),
    };
    let found: io::Result<Vec<SocketAddr>> = match asked {
        Ok(found) => found.map(|all| {
            all.map(|a| SocketAddr::new(a.ip(), if a.port() == 0 { port } else { a.port() })).collect()
        }),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    };
    match found {
        Ok(all) if !all.is_empty() => {
            let shown: Vec<String> = all.iter().map(|a| a.ip().to_string()).collect();
            tell(Finding::ok("dns", format!("{} is {}", url.host, shown.join(", "))));
            Some(all)
        }
        other => {
            let why = other.err().map_or_else(|| "no address".into(), |e| e.to_string());
            let advice = match inner.location.addressing.value {
                Addressing::VirtualHost => {
                    "check the endpoint and the name service; a server that has no names for its buckets wants force-path-style=true"
                }
                Addressing::Path => "check the endpoint and the name service",
            };
            tell(
                Finding::fail("dns", format!("the name {} cannot be resolved ({why})", url.host))
                    .advise(advice),
            );
            None
        }
    }
}

/// Connects to each address. Returns the first one that accepts.
async fn connect(url: &EndpointUrl, addresses: &[SocketAddr], tell: Tell<'_>) -> Option<SocketAddr> {
    let (mut good, mut bad, mut first) = (Vec::new(), Vec::new(), None);
    for address in addresses.iter().take(ADDRESSES_MAX) {
        let began = Instant::now();
        let connecting = tokio::net::TcpStream::connect(address);
        let connected = tokio::time::timeout(limits::CONNECT_TIME, connecting).await;
        match connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(_) => {
                good.push(format!("{address} in {:.1} ms", began.elapsed().as_secs_f64() * 1e3));
                first = first.or(Some(*address));
            }
            Err(e) => bad.push(format!("{address}: {e}")),
        }
    }
    match (good.is_empty(), bad.is_empty()) {
        (false, true) => tell(Finding::ok("tcp", good.join(", "))),
        (false, false) => tell(Finding::warn(
            "tcp",
            format!("{}; no answer from {}", good.join(", "), bad.join(", ")),
            "lsfast takes an address that answers; the others cost time at each new connection",
        )),
        _ => tell(
            Finding::fail("tcp", format!("nothing answers at {}: {}", url.authority(), bad.join(", ")))
                .advise("check the port in the endpoint, that the server runs, and the firewall"),
        ),
    }
    first
}

/// Protocol version and certificates that a handshake showed.
struct Shown {
    version: String,
    chain: Vec<Certificate>,
}

async fn encrypt(url: &EndpointUrl, to: SocketAddr, tls: &TlsOptions, tell: Tell<'_>) -> bool {
    let shown = match tls_config(tls) {
        Ok(config) => handshake(url, to, config).await,
        Err(e) => Err(e.to_string()),
    };
    match shown {
        Ok(shown) => {
            let detail = format!("{}, {}", shown.version, chain(&shown.chain));
            let left = shown.chain.first().map(|c| (c.until.0 - Millis::now().0) / 86_400_000);
            if tls.skip_verify {
                let advice =
                    "the certificate is not checked (skip-verify): name its authority with --ca-cert instead";
                tell(Finding::warn("tls", detail, advice));
            } else if let Some(days) = left.filter(|d| *d < ENDS_SOON_DAYS) {
                tell(Finding::warn(
                    "tls",
                    detail,
                    format!("the certificate expires in {}: renew it on the server", count(days, "day")),
                ));
            } else {
                tell(Finding::ok("tls", detail));
            }
            true
        }
        Err(words) => {
            // Repeats the handshake without a check, to report the server's certificate.
            let open = TlsOptions { skip_verify: true, ca_cert: None };
            let seen = match tls_config(&open) {
                Ok(config) => handshake(url, to, config).await.ok(),
                Err(_) => None,
            };
            let seen = seen.map_or_else(String::new, |s| format!("; it shows {}", chain(&s.chain)));
            tell(Finding::fail("tls", format!("{words}{seen}")));
            false
        }
    }
}

fn chain(all: &[Certificate]) -> String {
    let Some(leaf) = all.first() else { return "no certificate".into() };
    let mut by: Vec<&str> = all.iter().map(|c| c.issuer.as_str()).collect();
    by.dedup();
    format!("{} by {}, until {}", leaf.subject, by.join(" by "), leaf.until)
}

/// Makes a handshake on a separate connection, on a thread that may block.
async fn handshake(url: &EndpointUrl, to: SocketAddr, config: Arc<ClientConfig>) -> Result<Shown, String> {
    let (host, place) = (url.host.trim_matches(['[', ']']).to_owned(), url.authority());
    let work = move || -> io::Result<Shown> {
        let name = ServerName::try_from(host).map_err(io::Error::other)?;
        let mut stream = TcpStream::connect_timeout(&to, limits::CONNECT_TIME)?;
        stream.set_read_timeout(Some(limits::CONNECT_TIME))?;
        stream.set_write_timeout(Some(limits::CONNECT_TIME))?;
        let mut connection = ClientConnection::new(config, name).map_err(io::Error::other)?;
        while connection.is_handshaking() {
            connection.complete_io(&mut stream)?;
        }
        let version = match connection.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_3) => "TLS 1.3".to_owned(),
            Some(rustls::ProtocolVersion::TLSv1_2) => "TLS 1.2".to_owned(),
            other => format!("{other:?}"),
        };
        let certificates = connection.peer_certificates().unwrap_or_default();
        Ok(Shown { version, chain: certificates.iter().filter_map(|c| Certificate::read(c)).collect() })
    };
    let done = tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| Err(io::Error::other(e)));
    done.map_err(|e| match format!("https://{place}/").parse::<Uri>() {
        Ok(uri) => connect_words(&uri, e.into()),
        Err(_) => e.to_string(),
    })
}

/// Sends one unsigned request, to read the server's `Date`.
async fn clock(inner: &Inner, url: &EndpointUrl, tell: Tell<'_>) -> bool {
    let mut headers = HeaderMap::new();
    if let Ok(host) = HeaderValue::from_str(&url.authority()) {
        headers.insert(HOST, host);
    }
    let time = Duration::from_secs(10);
    let wire = Wire {
        scheme: url.scheme,
        authority: url.authority(),
        method: Method::GET,
        path: format!("{}/", url.path),
        headers,
        payload: crate::store::s3::body::Payload::default(),
        head_time: time,
        body_time: time,
        stall: time,
        fresh: true,
    };
    let answer = match inner.client.send(wire).await {
        Ok(answer) => answer,
        Err(e) => {
            tell(Finding::fail("http", e.message));
            return false;
        }
    };
    let Some(date) = answer.headers.get(DATE).and_then(|v| v.to_str().ok()).and_then(http_date) else {
        tell(Finding::ok("clock", format!("{} does not say its time", url.authority())));
        return true;
    };
    let ahead = Millis::from_system(date).0 - Millis::now().0;
    let seconds = ahead.abs() / 1000;
    if ahead.abs() <= SKEW_MAX_MS {
        tell(Finding::ok("clock", format!("{seconds}s apart from {}", url.authority())));
    } else {
        let way = if ahead > 0 { "behind" } else { "ahead of" };
        tell(Finding::warn(
            "clock",
            format!("this machine is {seconds}s {way} {}", url.authority()),
            "set this machine's clock (systemd-timesyncd, chrony); lsfast signs by the server's time, other programs are refused",
        ));
    }
    true
}
