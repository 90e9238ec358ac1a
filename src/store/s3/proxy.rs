//! Connections by way of a proxy.
//!
//! TLS to the store is end to end: the proxy sees the host name and the amount of data. A plain
//! HTTP endpoint behind an HTTP proxy gets requests with the whole URL, which the proxy reads.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::Uri;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use rustls::ClientConfig;
use tower_service::Service;

use super::race::Race;
use super::stream::{BoxError, Io, open};
use crate::config::{Proxy, ProxyKind};
use crate::store::api::BoxFuture;

/// A connection that failed at the proxy or on the way to it.
#[derive(Debug)]
pub(super) struct ProxyError {
    /// The proxy, without user and password.
    proxy: String,
    source: BoxError,
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.proxy)
    }
}

impl std::error::Error for ProxyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(self.source.as_ref())
    }
}

impl ProxyError {
    /// The failure in words that follow "no connection to the store": what happened and what to do.
    pub(super) fn words(&self, innermost: &str) -> String {
        let proxy = &self.proxy;
        // The library has words for these, but no kinds.
        let text = self.source.to_string();
        if text.contains("proxy authorization required") {
            return format!(
                "the proxy {proxy} asks for a user and a password, or refuses them: write them into its URL, as in \
                 http://USER:PASSWORD@HOST:PORT"
            );
        }
        if text.contains("unsuccessful") {
            return format!(
                "the proxy {proxy} refuses to connect: allow the host there, or list it in NO_PROXY to reach it directly"
            );
        }
        format!(
            "the proxy {proxy} cannot be used ({innermost}): check the variable, or list the host in NO_PROXY"
        )
    }
}

/// Opens a stream to `to` through `proxy`. For plain HTTP through an HTTP proxy it is a stream to
/// the proxy.
pub(super) async fn connect(
    proxy: &Proxy,
    race: Race,
    tls: Option<Arc<ClientConfig>>,
    to: Uri,
) -> Result<Box<dyn Io>, BoxError> {
    let at = |e: BoxError| -> BoxError { ProxyError { proxy: proxy.to_string(), source: e }.into() };
    let over_tls = to.scheme_str() == Some("https");
    match (proxy.kind(), tls) {
        (ProxyKind::Http { tls: false }, _) if !over_tls => open(race, proxy.uri().clone()).await.map_err(at),
        (ProxyKind::Http { tls: true }, Some(tls)) if !over_tls => {
            open(HttpsConnector::from((race, tls)), proxy.uri().clone()).await.map_err(at)
        }
        (ProxyKind::Http { tls: false }, Some(tls)) => {
            let through = Through(tunnel(proxy, race), proxy.to_string());
            open(HttpsConnector::from((through, tls)), to).await
        }
        (ProxyKind::Http { tls: true }, Some(tls)) => {
            let outer = HttpsConnector::from((race, Arc::clone(&tls)));
            let through = Through(tunnel(proxy, outer), proxy.to_string());
            open(HttpsConnector::from((through, tls)), to).await
        }
        (ProxyKind::Socks5, tls) => {
            let through = Through(socks(proxy, Plain(race)), proxy.to_string());
            let to = with_port(to)?;
            match tls {
                Some(tls) => open(HttpsConnector::from((through, tls)), to).await,
                None => open(through, to).await,
            }
        }
        (ProxyKind::Http { .. }, None) => Err("this endpoint was opened without TLS".into()),
    }
}

/// The same place with its port, which SOCKS needs in any case.
fn with_port(to: Uri) -> Result<Uri, http::Error> {
    if to.port().is_some() {
        return Ok(to);
    }
    let (host, https) = (to.host().unwrap_or_default(), to.scheme_str() == Some("https"));
    let authority = format!("{host}:{}", if https { 443 } else { 80 });
    Uri::builder()
        .scheme(if https { "https" } else { "http" })
        .authority(authority)
        .path_and_query("/")
        .build()
}

/// [`Race`] with the kind of error that the SOCKS connector needs.
#[derive(Debug, Clone)]
struct Plain(Race);

impl Service<Uri> for Plain {
    type Response = <Race as Service<Uri>>::Response;
    type Error = std::io::Error;
    type Future = BoxFuture<'static, Result<Self::Response, std::io::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), std::io::Error>> {
        self.0.poll_ready(cx).map_err(std::io::Error::other)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let opening = self.0.call(to);
        Box::pin(async move { opening.await.map_err(std::io::Error::other) })
    }
}

fn tunnel<C>(proxy: &Proxy, inner: C) -> Tunnel<C> {
    let tunnel = Tunnel::new(proxy.uri().clone(), inner);
    match proxy.basic_auth() {
        Some(auth) => tunnel.with_auth(auth.clone()),
        None => tunnel,
    }
}

fn socks<C>(proxy: &Proxy, inner: C) -> SocksV5<C> {
    let socks = SocksV5::new(proxy.uri().clone(), inner);
    match proxy.user_and_password() {
        Some((user, password)) => socks.with_auth(user.to_owned(), password.to_owned()),
        None => socks,
    }
}

/// A stream through the proxy, which is opened before TLS begins.
#[derive(Debug, Clone)]
struct Through<C>(C, String);

impl<C> Service<Uri> for Through<C>
where
    C: Service<Uri>,
    C::Future: Send + 'static,
    C::Error: Into<BoxError>,
{
    type Response = C::Response;
    type Error = ProxyError;
    type Future = BoxFuture<'static, Result<C::Response, ProxyError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ProxyError>> {
        self.0.poll_ready(cx).map_err(|e| ProxyError { proxy: self.1.clone(), source: e.into() })
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let (opening, proxy) = (self.0.call(to), self.1.clone());
        Box::pin(async move { opening.await.map_err(|e| ProxyError { proxy, source: e.into() }) })
    }
}
