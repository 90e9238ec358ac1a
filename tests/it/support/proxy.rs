//! A forward proxy: CONNECT, requests with the whole URL, and SOCKS 5. Whatever host a client
//! names, it is connected to the server of the test.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::s3::serve;

/// User and password that an HTTP client has to give, as `Proxy-Authorization` has them.
pub const BASIC_AUTH: &str = "Basic dXNlcjpodXNo";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    Http,
    Socks,
}

/// The proxy, on a free port of the loopback interface. Dropping it ends it.
pub struct ForwardProxy {
    pub addr: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl ForwardProxy {
    pub fn start(speaks: Speaks, upstream: SocketAddr) -> ForwardProxy {
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let (stop, stopped) = oneshot::channel();
        let shared = Arc::clone(&seen);
        let (addr, thread) = serve(stopped, move |stream| {
            let seen = Arc::clone(&shared);
            async move {
                let _ = match speaks {
                    Speaks::Http => http(stream, upstream, &seen).await,
                    Speaks::Socks => socks(stream, upstream, &seen).await,
                };
            }
        });
        ForwardProxy { addr, seen, stop: Some(stop), thread: Some(thread) }
    }

    /// First lines of requests, or the host and port that a SOCKS client asked for.
    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().expect("no panic").clone()
    }
}

impl Drop for ForwardProxy {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn head(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    Ok(head)
}

async fn http(mut client: TcpStream, upstream: SocketAddr, seen: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let first = head(&mut client).await?;
    let text = String::from_utf8_lossy(&first).into_owned();
    let line = text.lines().next().unwrap_or_default().to_owned();
    seen.lock().expect("no panic").push(line.clone());
    let authorized =
        text.to_lowercase().contains(&format!("proxy-authorization: {}", BASIC_AUTH.to_lowercase()));
    if !authorized {
        let refusal =
            b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        return client.write_all(refusal).await;
    }
    let mut server = TcpStream::connect(upstream).await?;
    if line.starts_with("CONNECT ") {
        client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    } else {
        // The server gets paths only. One request for each connection keeps this simple.
        let (method, rest) = line.split_once(' ').unwrap_or_default();
        let url: http::Uri = rest.split(' ').next().unwrap_or_default().parse().expect("a URL");
        assert!(url.host().is_some(), "a proxy needs the whole URL: {line}");
        let path = url.path_and_query().map_or("/", |p| p.as_str());
        let mut headers: Vec<&str> = text.lines().skip(1).filter(|l| !l.is_empty()).collect();
        headers.retain(|l| !l.to_lowercase().starts_with("proxy-"));
        let request =
            format!("{method} {path} HTTP/1.1\r\n{}\r\nconnection: close\r\n\r\n", headers.join("\r\n"));
        server.write_all(request.as_bytes()).await?;
    }
    tokio::io::copy_bidirectional(&mut client, &mut server).await.map(drop)
}

async fn socks(
    mut client: TcpStream,
    upstream: SocketAddr,
    seen: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut hello = [0; 2];
    client.read_exact(&mut hello).await?;
    let mut methods = vec![0; hello[1].into()];
    client.read_exact(&mut methods).await?;
    client.write_all(&[5, 0]).await?;
    let mut request = [0; 5];
    client.read_exact(&mut request).await?;
    assert_eq!(request[..4], [5, 1, 0, 3], "CONNECT to a name");
    let mut name = vec![0; request[4].into()];
    client.read_exact(&mut name).await?;
    let port = client.read_u16().await?;
    seen.lock().expect("no panic").push(format!("{}:{port}", String::from_utf8_lossy(&name)));
    let mut server = TcpStream::connect(upstream).await?;
    client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await.map(drop)
}
