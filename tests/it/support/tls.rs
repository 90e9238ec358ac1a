//! TLS in front of a plain server, with a certificate authority of the test's own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{HandshakeKind, ServerConfig};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

use super::s3::serve;

/// Handshakes so far.
#[derive(Debug, Default)]
pub struct Handshakes {
    pub full: AtomicU32,
    pub resumed: AtomicU32,
}

/// Decrypts and passes on.
pub struct TlsServer {
    pub addr: SocketAddr,
    pub handshakes: Arc<Handshakes>,
    dir: TempDir,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl TlsServer {
    /// In front of `upstream`, with a certificate for `names`, speaking only `version`.
    pub fn start(
        upstream: SocketAddr,
        names: &[&str],
        version: &'static rustls::SupportedProtocolVersion,
    ) -> TlsServer {
        let dir = tempfile::tempdir().expect("a directory");
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().expect("a key")).expect("an authority");
        std::fs::write(dir.path().join("ca.pem"), ca.pem()).expect("a file");

        let key = KeyPair::generate().expect("a key");
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let cert = CertificateParams::new(names).expect("names").signed_by(&key, &ca).expect("a certificate");
        let config =
            ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_protocol_versions(&[version])
                .expect("a version")
                .with_no_client_auth()
                .with_single_cert(
                    vec![cert.der().clone()],
                    PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
                )
                .expect("a configuration");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let handshakes = Arc::new(Handshakes::default());
        let count = Arc::clone(&handshakes);
        let (stop, stopped) = oneshot::channel();
        let (addr, thread) = serve(stopped, move |stream| {
            let (acceptor, count) = (acceptor.clone(), Arc::clone(&count));
            async move {
                let Ok(mut tls) = acceptor.accept(stream).await else { return };
                match tls.get_ref().1.handshake_kind() {
                    Some(HandshakeKind::Resumed) => count.resumed.fetch_add(1, Ordering::SeqCst),
                    _ => count.full.fetch_add(1, Ordering::SeqCst),
                };
                let Ok(mut plain) = TcpStream::connect(upstream).await else { return };
                let _ = tokio::io::copy_bidirectional(&mut tls, &mut plain).await;
            }
        });
        TlsServer { addr, handshakes, dir, stop: Some(stop), thread: Some(thread) }
    }

    /// The authority's certificate.
    pub fn ca(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    pub fn full(&self) -> u32 {
        self.handshakes.full.load(Ordering::SeqCst)
    }

    pub fn resumed(&self) -> u32 {
        self.handshakes.resumed.load(Ordering::SeqCst)
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
