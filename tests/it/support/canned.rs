//! Servers that always say the same, for errors that no well-meaning server makes.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// An answer with a status line, further header lines and a body.
pub fn answer(status: &str, headers: &[&str], body: &str) -> String {
    let headers: String = headers.iter().map(|h| format!("{h}\r\n")).collect();
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

/// A server that answers every request with `answer`, then closes. Lives as long as the process.
pub fn plain(answer: String) -> SocketAddr {
    serve(move |mut stream| respond(&mut stream, &answer))
}

/// A TLS server whose certificate is for `name` and signed by itself; also the certificate as PEM.
pub fn tls(name: &str, answer: String) -> (SocketAddr, String) {
    let made = rcgen::generate_simple_self_signed([String::from(name)]).expect("a certificate");
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let certificate = CertificateDer::from(made.cert.der().to_vec());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("protocol versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("a configuration");
    let config = Arc::new(config);
    let address = serve(move |stream| {
        let connection = ServerConnection::new(Arc::clone(&config)).expect("a connection");
        respond(&mut StreamOwned::new(connection, stream), &answer);
    });
    (address, made.cert.pem())
}

/// An address where nobody listens.
pub fn nobody() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.local_addr().expect("an address")
}

fn serve(talk: impl Fn(std::net::TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            talk(stream);
        }
    });
    address
}

fn respond(stream: &mut (impl Read + Write), answer: &str) {
    let mut head = Vec::new();
    let mut byte = [0];
    // A client that goes away in the middle, or speaks no TLS, is part of the test.
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return,
        }
    }
    _ = stream.write_all(answer.as_bytes());
    _ = stream.flush();
}
