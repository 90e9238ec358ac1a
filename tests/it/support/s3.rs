//! An S3 server in this process: it verifies signatures, checksums and conditions, and keeps
//! objects as files.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use lsfast::config::{Env, Location, Overrides};
use lsfast::store::{ClientOptions, RetryPolicy, S3Store};
use s3s::auth::{S3Auth, SimpleAuth};
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

pub const ACCESS_KEY: &str = "AKIATESTTESTTESTTEST";
pub const SECRET_KEY: &str = "a-secret-that-no-output-may-show";
pub const BUCKET: &str = "bucket";

/// A server on a free port of the loopback interface, with one bucket. It runs on a thread of its
/// own, so that plain tests and other processes can use it; dropping it ends it and removes its
/// files.
pub struct S3Server {
    pub addr: SocketAddr,
    root: TempDir,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl S3Server {
    pub fn start() -> S3Server {
        S3Server::start_for(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY))
    }

    /// With keys of the test's own.
    pub fn start_for(keys: impl S3Auth) -> S3Server {
        let root = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(root.path().join(BUCKET)).expect("a bucket");
        let (addr, stop, thread) = serve_objects(root.path(), "127.0.0.1:0", keys);
        S3Server { addr, root, stop: Some(stop), thread: Some(thread) }
    }

    /// Ends it; its objects and its address stay its own.
    pub fn stop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }

    /// Starts it again at the same address, with the usual keys.
    pub fn start_again(&mut self) {
        let keys = SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY);
        let (addr, stop, thread) = serve_objects(self.root.path(), &self.addr.to_string(), keys);
        assert_eq!(addr, self.addr);
        (self.stop, self.thread) = (Some(stop), Some(thread));
    }

    /// Where the objects of the bucket lie as files.
    pub fn bucket_dir(&self) -> PathBuf {
        self.root.path().join(BUCKET)
    }

    /// `s3://bucket/PREFIX?endpoint=http://127.0.0.1:PORT`
    pub fn url(&self, prefix: &str) -> String {
        url(self.addr, prefix)
    }

    /// Keys of all objects, sorted.
    pub fn keys(&self) -> Vec<String> {
        let bucket = self.bucket_dir();
        let mut keys = Vec::new();
        let mut waiting = vec![bucket.clone()];
        while let Some(dir) = waiting.pop() {
            for entry in std::fs::read_dir(dir).expect("a directory") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    waiting.push(path);
                } else {
                    keys.push(path.strip_prefix(&bucket).expect("below").to_string_lossy().into_owned());
                }
            }
        }
        keys.sort();
        keys
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn serve_objects(
    root: &Path,
    addr: &str,
    keys: impl S3Auth,
) -> (SocketAddr, oneshot::Sender<()>, JoinHandle<()>) {
    let mut service = S3ServiceBuilder::new(FileSystem::new(root).expect("s3s-fs"));
    service.set_auth(keys);
    let service = service.build();
    let (stop, stopped) = oneshot::channel();
    let (addr, thread) = serve_at(addr, stopped, move |stream| {
        let service = service.clone();
        async move {
            let server = Builder::new(TokioExecutor::new());
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        }
    });
    (addr, stop, thread)
}

/// Accepts connections on a free port, on a thread with a runtime of its own, until `stopped`.
pub fn serve<F, Fut>(stopped: oneshot::Receiver<()>, handle: F) -> (SocketAddr, JoinHandle<()>)
where
    F: Fn(tokio::net::TcpStream) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    serve_at("127.0.0.1:0", stopped, handle)
}

fn serve_at<F, Fut>(addr: &str, stopped: oneshot::Receiver<()>, handle: F) -> (SocketAddr, JoinHandle<()>)
where
    F: Fn(tokio::net::TcpStream) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let listener = std::net::TcpListener::bind(addr).expect("a port");
    listener.set_nonblocking(true).expect("nonblocking");
    let addr = listener.local_addr().expect("an address");
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            let listener = TcpListener::from_std(listener).expect("a listener");
            let accept = async {
                while let Ok((stream, _)) = listener.accept().await {
                    let _ = stream.set_nodelay(true);
                    tokio::spawn(handle(stream));
                }
            };
            tokio::select! {
                () = accept => {}
                _ = stopped => {}
            }
        });
    });
    (addr, thread)
}

pub fn url(addr: SocketAddr, prefix: &str) -> String {
    format!("s3://{BUCKET}/{prefix}?endpoint=http://{addr}")
}

/// The keys of the server, as the environment has them.
pub fn env() -> Env {
    Env::new([("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY)])
}

/// Waits that are short enough for a test, and clients of its own.
pub fn options() -> ClientOptions {
    let retry = RetryPolicy { wait_first: std::time::Duration::from_millis(1), ..RetryPolicy::default() };
    ClientOptions { retry, ..ClientOptions::default() }
}

/// A store at `url` with the keys of the server.
pub fn open(url: &str, options: &ClientOptions) -> S3Store {
    open_as(url, &env(), options).expect("a store")
}

pub fn open_as(url: &str, env: &Env, options: &ClientOptions) -> lsfast::store::Result<S3Store> {
    let location = Location::resolve(url, &Overrides::default(), env).expect("a location");
    match &location.kind {
        lsfast::config::Kind::S3(s3) => S3Store::open(&location.url, s3, options),
        lsfast::config::Kind::File(path) => panic!("{} is a directory", path.display()),
    }
}
