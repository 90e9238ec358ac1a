//! Connections: TCP by host name with happy eyeballs, and TLS by rustls. Clients share one TLS
//! configuration, so that sessions resume.

use std::error::Error as StdError;
use std::path::Path;
use std::sync::Arc;
use std::{fmt, io};

use http::Uri;
use hyper_rustls::HttpsConnector;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, InvalidMessage, RootCertStore, SignatureScheme,
};

use super::failure::{Class, Failure};
use super::proxy::{self, ProxyError};
use super::race::Race;
use super::resolve::Names;
use super::stream::{BoxError, Io, open};
use crate::base::{limits, untrusted};
use crate::config::{Proxies, Proxy, ProxyKind, TlsOptions};
use crate::io::read_small;
use crate::store::api::BoxFuture;
use crate::store::{ErrorKind, StoreError};

/// Opens connections: to the network in production, to a simulation in tests.
pub trait Connect: Send + Sync + fmt::Debug {
    /// Opens a stream to the scheme, host and port of `to`, TLS included.
    fn connect(&self, to: &Uri) -> BoxFuture<'_, Result<Box<dyn Io>, BoxError>>;

    /// The HTTP proxy that the streams to `to` end at. Requests to it need the whole URL.
    fn forwarder(&self, _to: &Uri) -> Option<Proxy> {
        None
    }
}

/// Connects over the network.
#[derive(Clone)]
pub(in crate::store) struct Network {
    http: Race,
    tls: Option<(HttpsConnector<Race>, Arc<ClientConfig>)>,
    proxies: &'static Proxies,
}

impl Network {
    /// Uses TLS where the scheme asks for it.
    pub(in crate::store) fn new(tls: Arc<ClientConfig>, names: Names) -> Network {
        let plain = Network::plain(names);
        let connector = HttpsConnector::from((plain.http.clone(), Arc::clone(&tls)));
        Network { tls: Some((connector, tls)), ..plain }
    }

    /// Without TLS; the system's certificates are not read.
    pub(in crate::store) fn plain(names: Names) -> Network {
        Network { http: Race::new(names), tls: None, proxies: Proxies::of_process() }
    }

    /// Like `plain`, for services of this host and its link, which no proxy reaches.
    pub(in crate::store) fn direct(names: Names) -> Network {
        Network { proxies: Proxies::none(), ..Network::plain(names) }
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Network")
    }
}

impl Connect for Network {
    fn connect(&self, to: &Uri) -> BoxFuture<'_, Result<Box<dyn Io>, BoxError>> {
        let (network, to) = (self.clone(), to.clone());
        Box::pin(async move {
            if let Some(proxy) = network.proxies.on_the_way(&to) {
                return proxy::connect(&proxy, network.http, network.tls.map(|(_, tls)| tls), to).await;
            }
            match (network.tls, to.scheme_str()) {
                (Some((tls, _)), _) => open(tls, to).await,
                (None, Some("http")) => open(network.http, to).await,
                (None, _) => Err("this endpoint was opened without TLS".into()),
            }
        })
    }

    fn forwarder(&self, to: &Uri) -> Option<Proxy> {
        let proxy = self.proxies.on_the_way(to).filter(|_| to.scheme_str() == Some("http"))?;
        matches!(proxy.kind(), ProxyKind::Http { .. }).then_some(proxy)
    }
}

/// The TLS configuration for `options`.
pub(in crate::store) fn tls_config(options: &TlsOptions) -> Result<Arc<ClientConfig>, StoreError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let broken = |e: rustls::Error| StoreError::new(ErrorKind::Fatal, format!("TLS cannot be set up: {e}"));
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(broken)?;
    let mut config = if options.skip_verify {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AcceptAll(provider)))
            .with_no_client_auth()
    } else {
        builder.with_root_certificates(roots(options.ca_cert.as_deref())?).with_no_client_auth()
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The system's root certificates and those of `ca_cert`.
fn roots(ca_cert: Option<&Path>) -> Result<RootCertStore, StoreError> {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(native.certs);
    if let Some(path) = ca_cert {
        let refuse = |why: String| {
            StoreError::new(ErrorKind::Tls, format!("CA certificate {}: {why}", path.display()))
        };
        let pem = read_small(path, limits::CA_BYTES).map_err(|e| refuse(e.to_string()))?;
        let mut added = 0;
        for cert in CertificateDer::pem_slice_iter(&pem) {
            let cert = cert.map_err(|e| refuse(format!("not a certificate in PEM: {e}")))?;
            roots.add(cert).map_err(|e| refuse(format!("not usable as a certificate authority: {e}")))?;
            added += 1;
        }
        if added == 0 {
            return Err(refuse("it holds no \"BEGIN CERTIFICATE\"; name a file in PEM".into()));
        }
    }
    if roots.is_empty() {
        let why = native.errors.first().map_or(String::new(), |e| format!(" ({e})"));
        return Err(StoreError::new(
            ErrorKind::Tls,
            format!(
                "this machine has no trusted certificates{why}: install its package ca-certificates, or name a \
                 file in PEM with --ca-cert"
            ),
        ));
    }
    Ok(roots)
}

/// Accepts every certificate. The signatures of the handshake are still checked.
#[derive(Debug)]
struct AcceptAll(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAll {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// The message for a failed connection to `to`.
pub(in crate::store) fn connect_words(to: &Uri, error: BoxError) -> String {
    connect_failure(to, error).message
}

/// Classifies a failed connection to `to`.
pub(super) fn connect_failure(to: &Uri, error: BoxError) -> Failure {
    let host = to.host().unwrap_or_default();
    let place = to.authority().map_or(host, |a| a.as_str());
    if let Some(tls) = find::<rustls::Error>(error.as_ref()) {
        let transient = matches!(tls, rustls::Error::General(_));
        let message = tls_sentence(host, place, tls);
        let class = if transient { Class::Transient } else { Class::Final(ErrorKind::Tls) };
        return Failure::new(class, message).with_source(error);
    }
    let text = innermost(error.as_ref());
    if let Some(at_proxy) = find::<ProxyError>(error.as_ref()) {
        let message = format!("no connection to {place}: {}", at_proxy.words(&text));
        return Failure::new(Class::Unreachable, message).with_source(error);
    }
    if chain(error.as_ref()).any(|e| e.to_string().starts_with("dns error")) {
        let message =
            format!("the name {host} cannot be resolved ({text}): check the endpoint and the name service");
        return Failure::new(Class::Unreachable, message).with_source(error);
    }
    let kind = find::<io::Error>(error.as_ref()).map(io::Error::kind);
    let (class, message) = match kind {
        Some(io::ErrorKind::ConnectionRefused) => (
            Class::Unreachable,
            format!("nothing listens at {place} (connection refused): check the endpoint"),
        ),
        Some(io::ErrorKind::TimedOut) => (
            Class::Unreachable,
            format!(
                "{place} does not answer within {}s: check the endpoint and the firewall",
                limits::CONNECT_TIME.as_secs()
            ),
        ),
        Some(io::ErrorKind::UnexpectedEof) if to.scheme_str() == Some("https") => {
            (Class::Transient, format!("{place} closed the connection while TLS was being set up"))
        }
        _ => (Class::Unreachable, format!("no connection to {place}: {text}")),
    };
    Failure::new(class, message).with_source(error)
}

fn tls_sentence(host: &str, place: &str, error: &rustls::Error) -> String {
    use CertificateError as Cert;
    let own_ca = "name the file of its CA with --ca-cert, or switch the check off with ?skip-verify=true";
    match error {
        rustls::Error::InvalidCertificate(Cert::NotValidForNameContext { presented, .. }) => {
            let names: Vec<&str> = presented.iter().map(|n| plain_name(n)).collect();
            format!(
                "the certificate of {place} is for {}, not for {host}: use one of those names in the endpoint, or \
                 switch the check off with ?skip-verify=true",
                if names.is_empty() { "no name".to_owned() } else { untrusted::quote(&names.join(", ")) }
            )
        }
        rustls::Error::InvalidCertificate(Cert::NotValidForName) => format!(
            "the certificate of {place} is not for {host}: correct the endpoint, or switch the check off with \
             ?skip-verify=true"
        ),
        rustls::Error::InvalidCertificate(Cert::UnknownIssuer) => {
            format!(
                "the certificate of {place} is signed by an authority that this machine does not trust: {own_ca}"
            )
        }
        rustls::Error::InvalidCertificate(Cert::Expired | Cert::ExpiredContext { .. }) => {
            format!(
                "the certificate of {place} has expired: renew it on the server, and check this machine's clock"
            )
        }
        rustls::Error::InvalidCertificate(Cert::NotValidYet | Cert::NotValidYetContext { .. }) => {
            format!("the certificate of {place} is not valid yet: check this machine's clock")
        }
        rustls::Error::InvalidCertificate(other) => {
            format!("the certificate of {place} is not accepted ({other}): {own_ca}")
        }
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            format!("{place} does not speak TLS: if it serves plain HTTP, write endpoint=http://{place}")
        }
        other => format!("TLS with {place} failed: {other}"),
    }
}

/// Reduces `DnsName("a.example")` to `a.example`: rustls presents names in their debug form.
fn plain_name(name: &str) -> &str {
    name.split_once("(\"").and_then(|(_, rest)| rest.strip_suffix("\")")).unwrap_or(name)
}

/// An error and its causes, outermost first. Looks into `io::Error`, whose `source` skips the error
/// it carries.
pub(super) fn chain<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |e| cause(*e))
}

fn cause<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}

pub(super) fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    chain(error).find_map(|e| e.downcast_ref::<T>())
}

/// The message of the last cause.
pub(super) fn innermost(error: &(dyn StdError + 'static)) -> String {
    chain(error).last().map(ToString::to_string).unwrap_or_default()
}
