//! One connection out of all addresses of a host name (RFC 8305, "happy eyeballs").
//!
//! The addresses are tried in DNS order, with IPv6 and IPv4 alternating. The next address is tried
//! when the previous one has failed, or has not answered within [`limits::CONNECT_STAGGER`]. The
//! first connection wins. A dead address therefore costs only that delay, not the time until TCP
//! gives up.

use std::error::Error as StdError;
use std::future::{Future, ready};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::{fmt, io};

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tower_service::Service;

use super::resolve::Names;
use crate::base::limits;

type BoxError = Box<dyn StdError + Send + Sync>;

/// Most addresses of one name that are tried; further ones are ignored.
const ADDRESSES_MAX: usize = 16;

/// Opens TCP connections by host name.
#[derive(Debug, Clone)]
pub(super) struct Race {
    names: Names,
}

/// A host name without an address. The message equals that of the client library, because callers
/// recognise it by that.
#[derive(Debug)]
struct Unresolved(io::Error);

impl fmt::Display for Unresolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("dns error")
    }
}

impl StdError for Unresolved {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.0)
    }
}

/// A resolver that returns one address for every name.
#[derive(Debug, Clone)]
struct Only(SocketAddr);

impl Service<Name> for Only {
    type Response = std::option::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = std::future::Ready<io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Name) -> Self::Future {
        ready(Ok(Some(self.0).into_iter()))
    }
}

impl Race {
    pub(super) fn new(names: Names) -> Race {
        Race { names }
    }

    async fn connect(mut self, to: Uri) -> Result<TokioIo<TcpStream>, BoxError> {
        let host = to.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let addresses = if host.parse::<IpAddr>().is_ok() {
            // An IP address; the connector reads it from the URL itself.
            vec![None]
        } else {
            let name = host.parse::<Name>().map_err(|e| Unresolved(io::Error::other(e)))?;
            let found: Vec<SocketAddr> = self.names.call(name).await.map_err(Unresolved)?.collect();
            if found.is_empty() {
                return Err(Unresolved(io::Error::other("it has no address")).into());
            }
            in_turn(found).into_iter().take(ADDRESSES_MAX).map(Some).collect()
        };
        let mut waiting = addresses.into_iter();
        let mut racing = JoinSet::new();
        let mut last: Option<BoxError> = None;
        loop {
            if let Some(address) = waiting.next() {
                racing.spawn(one(to.clone(), address));
            } else if racing.is_empty() {
                return Err(last.unwrap_or_else(|| io::Error::from(io::ErrorKind::NotFound).into()));
            }
            // The losers are dropped, which closes their sockets.
            let ended = if waiting.len() > 0 {
                tokio::time::timeout(limits::CONNECT_STAGGER, racing.join_next()).await
            } else {
                Ok(racing.join_next().await)
            };
            match ended {
                Ok(Some(Ok(Ok(stream)))) => return Ok(stream),
                // Messages name the error of the first address.
                Ok(Some(Ok(Err(e)))) => last = last.or(Some(e)),
                Ok(Some(Err(e))) => last = last.or(Some(e.into())),
                Ok(None) | Err(_) => {}
            }
        }
    }
}

/// Alternates between the address families, beginning with that of the first address.
fn in_turn(all: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = all.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = all.into_iter().partition(|a| a.is_ipv6() == first_is_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut turned = Vec::new();
    loop {
        match (first.next(), second.next()) {
            (None, None) => return turned,
            (a, b) => turned.extend(a.into_iter().chain(b)),
        }
    }
}

async fn one(to: Uri, address: Option<SocketAddr>) -> Result<TokioIo<TcpStream>, BoxError> {
    fn set<R>(connector: &mut HttpConnector<R>) {
        connector.enforce_http(false);
        // Without TCP_NODELAY, a body that does not fill its last segment waits for the peer's
        // delayed acknowledgement.
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(limits::CONNECT_TIME));
        connector.set_keepalive(Some(limits::POOL_IDLE_TIME));
    }
    match address {
        Some(address) => {
            let mut connector = HttpConnector::new_with_resolver(Only(address));
            set(&mut connector);
            std::future::poll_fn(|cx| connector.poll_ready(cx)).await?;
            Ok(connector.call(to).await?)
        }
        None => {
            let mut connector = HttpConnector::new();
            set(&mut connector);
            std::future::poll_fn(|cx| connector.poll_ready(cx)).await?;
            Ok(connector.call(to).await?)
        }
    }
}

impl Service<Uri> for Race {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        Box::pin(self.clone().connect(to))
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::store::s3::resolve::HostAnswer;

    fn answers(of: &[SocketAddr]) -> Vec<HostAnswer> {
        of.iter().map(|a| format!("store.test={a}").parse().unwrap()).collect()
    }

    #[test]
    fn both_kinds_in_turn() {
        let of = |text: &[&str]| text.iter().map(|t| t.parse().unwrap()).collect::<Vec<SocketAddr>>();
        assert_eq!(
            in_turn(of(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1"])),
            of(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"])
        );
        assert_eq!(in_turn(of(&["1.1.1.1:1", "2.2.2.2:1"])), of(&["1.1.1.1:1", "2.2.2.2:1"]));
        assert!(in_turn(Vec::new()).is_empty());
    }

    /// A listener with a full queue: the kernel drops further connection attempts, as a dead host
    /// does.
    async fn deaf() -> (socket::Listener, Vec<TcpStream>) {
        let listener = socket::Listener::bind();
        let mut queued = Vec::new();
        loop {
            let connecting = TcpStream::connect(listener.addr);
            match tokio::time::timeout(Duration::from_millis(300), connecting).await {
                Ok(Ok(stream)) => queued.push(stream),
                _ => return (listener, queued),
            }
            assert!(queued.len() < 64, "the queue is not bounded");
        }
    }

    mod socket {
        use crate::store::s3::race::tests::{Ipv4Addr, SocketAddr};

        pub(super) struct Listener {
            pub(super) addr: SocketAddr,
            _socket: tokio::net::TcpListener,
        }

        impl Listener {
            pub(super) fn bind() -> Listener {
                let socket = tokio::net::TcpSocket::new_v4().unwrap();
                socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
                let socket = socket.listen(1).unwrap();
                Listener { addr: socket.local_addr().unwrap(), _socket: socket }
            }
        }
    }

    #[tokio::test]
    async fn an_address_that_does_not_answer_costs_little() {
        let good = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let good = good.local_addr().map(|a| (good, a)).unwrap();
        let (dead, _queued) = deaf().await;
        let refused = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let race = Race::new(Names::new(&answers(&[dead.addr, refused, good.1])));
        let began = Instant::now();
        let stream = race.connect("http://store.test/".parse().unwrap()).await.unwrap();
        assert_eq!(stream.inner().peer_addr().unwrap(), good.1);
        // The bound is not about speed: TCP retries after one second and gives up after five.
        assert!(began.elapsed() < Duration::from_millis(900), "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn the_first_failure_is_told() {
        let refused = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let race = Race::new(Names::new(&answers(&[refused, refused])));
        let e = race.connect("http://store.test/".parse().unwrap()).await.unwrap_err();
        assert!(
            crate::store::s3::http::connect_words(&"http://store.test/".parse().unwrap(), e)
                .contains("refused")
        );
        let e =
            Race::new(Names::new(&[])).connect("http://nothing.invalid/".parse().unwrap()).await.unwrap_err();
        assert_eq!(e.to_string(), "dns error");
    }
}
