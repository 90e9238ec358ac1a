//! The least store that speaks S3: objects in memory, each request counted. Signatures are not
//! looked at.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::allocator;

pub const BUCKET: &str = "bucket";

/// Far longer than anything takes, on any machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What came, by kind.
#[derive(Debug, Default, Clone, Copy)]
pub struct Requests {
    pub lists: u64,
    pub gets: u64,
    pub heads: u64,
    pub puts: u64,
    pub copies: u64,
    /// Anything else, which is refused.
    pub others: u64,
    /// Of the bodies of PUTs.
    pub put_bytes: u64,
    /// Of the heads of all requests.
    pub head_bytes: u64,
    /// Of the bodies of answers to GETs.
    pub get_bytes: u64,
}

impl Requests {
    pub fn all(&self) -> u64 {
        self.lists + self.gets + self.heads + self.puts + self.copies + self.others
    }

    pub fn since(&self, before: &Requests) -> Requests {
        Requests {
            lists: self.lists - before.lists,
            gets: self.gets - before.gets,
            heads: self.heads - before.heads,
            puts: self.puts - before.puts,
            copies: self.copies - before.copies,
            others: self.others - before.others,
            put_bytes: self.put_bytes - before.put_bytes,
            head_bytes: self.head_bytes - before.head_bytes,
            get_bytes: self.get_bytes - before.get_bytes,
        }
    }
}

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<String, Vec<u8>>,
    requests: Requests,
    /// PUTs are held before their answer.
    held: bool,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// A running server; it ends with the process.
#[derive(Debug)]
pub struct Server {
    addr: SocketAddr,
    shared: Arc<Shared>,
}

struct Request {
    method: String,
    path: String,
    query: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
    head_bytes: u64,
}

struct Answer {
    status: u16,
    length: u64,
    headers: String,
    body: Vec<u8>,
}

impl Server {
    pub fn start() -> anyhow::Result<Server> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let of_threads = Arc::clone(&shared);
        std::thread::spawn(move || {
            allocator::ignore_this_thread();
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&of_threads);
                std::thread::spawn(move || {
                    allocator::ignore_this_thread();
                    // The client's end of a connection is the end of it.
                    _ = serve(&stream, &shared);
                });
            }
        });
        Ok(Server { addr, shared })
    }

    pub fn url(&self, prefix: &str) -> String {
        format!("s3://{BUCKET}/{prefix}?endpoint=http://{}&region=us-east-1&force-path-style=true", self.addr)
    }

    pub fn requests(&self) -> Requests {
        self.shared.lock().requests
    }

    /// Bytes of all objects on a level.
    pub fn stored_bytes(&self, level: &str) -> u64 {
        let state = self.shared.lock();
        state.objects.iter().filter(|(key, _)| key.contains(level)).map(|(_, body)| body.len() as u64).sum()
    }

    /// From now on PUTs get no answer, or again one.
    pub fn hold(&self, held: bool) {
        self.shared.lock().held = held;
        self.shared.changed.notify_all();
    }

    /// Waits until it is so.
    pub fn wait(&self, what: &str, done: impl Fn(&Requests) -> bool) -> anyhow::Result<()> {
        let end = Instant::now() + PATIENCE;
        let mut state = self.shared.lock();
        while !done(&state.requests) {
            let left = end.saturating_duration_since(Instant::now());
            anyhow::ensure!(!left.is_zero(), "waited in vain for {what}: {:?}", state.requests);
            state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, request: Request) -> Answer {
        let mut state = self.lock();
        let answer = state.answer(request);
        self.changed.notify_all();
        answer
    }
}

fn empty(status: u16) -> Answer {
    Answer { status, length: 0, headers: String::new(), body: Vec::new() }
}

fn text(body: String) -> Answer {
    Answer { status: 200, length: body.len() as u64, headers: String::new(), body: body.into_bytes() }
}

impl State {
    fn answer(&mut self, request: Request) -> Answer {
        self.requests.head_bytes += request.head_bytes;
        let bucket = format!("/{BUCKET}");
        let key = request.path.strip_prefix(&bucket).unwrap_or("").trim_start_matches('/').to_owned();
        match request.method.as_str() {
            "GET" if key.is_empty() && request.query.contains("list-type=2") => self.list(&request.query),
            "GET" if request.query.is_empty() => self.get(&key, request.headers.get("range")),
            "HEAD" => {
                self.requests.heads += 1;
                match self.objects.get(&key) {
                    Some(body) => Answer { length: body.len() as u64, ..empty(200) },
                    None => empty(404),
                }
            }
            "PUT" if request.query.is_empty() => self.put(key, request),
            _ => {
                self.requests.others += 1;
                empty(501)
            }
        }
    }

    fn list(&mut self, query: &str) -> Answer {
        self.requests.lists += 1;
        let prefix =
            query.split('&').find_map(|p| p.strip_prefix("prefix=")).unwrap_or("").replace("%2F", "/");
        let mut xml = String::from("<ListBucketResult><IsTruncated>false</IsTruncated>");
        for (key, body) in
            self.objects.range(prefix.clone()..).take_while(|(key, _)| key.starts_with(&prefix))
        {
            let size = body.len();
            xml += &format!(
                "<Contents><Key>{key}</Key><LastModified>2026-11-21T21:14:10.000Z</LastModified><Size>{size}</Size></Contents>"
            );
        }
        text(xml + "</ListBucketResult>")
    }

    fn get(&mut self, key: &str, range: Option<&String>) -> Answer {
        self.requests.gets += 1;
        let Some(body) = self.objects.get(key) else { return empty(404) };
        let size = body.len();
        let bounds = range.and_then(|r| r.strip_prefix("bytes=")?.split_once('-'));
        let (first, last) = bounds.map_or((0, size - 1), |(a, b)| {
            (a.parse().unwrap_or(0), b.parse().unwrap_or(size - 1).min(size - 1))
        });
        if first >= size {
            return empty(416);
        }
        let body = body[first..=last].to_vec();
        self.requests.get_bytes += body.len() as u64;
        let headers = format!("Content-Range: bytes {first}-{last}/{size}\r\n");
        Answer { status: if range.is_some() { 206 } else { 200 }, length: body.len() as u64, headers, body }
    }

    fn put(&mut self, key: String, request: Request) -> Answer {
        let Some(source) = request.headers.get("x-amz-copy-source") else {
            self.requests.puts += 1;
            self.requests.put_bytes += request.body.len() as u64;
            if request.headers.contains_key("if-none-match") && self.objects.contains_key(&key) {
                return empty(412);
            }
            self.objects.insert(key, request.body);
            return empty(200);
        };
        self.requests.copies += 1;
        let source = source.trim_start_matches('/').trim_start_matches(BUCKET).trim_start_matches('/');
        let Some(body) = self.objects.get(source).cloned() else { return empty(404) };
        self.objects.insert(key, body);
        text(String::from("<CopyObjectResult><ETag>&quot;x&quot;</ETag></CopyObjectResult>"))
    }
}

fn serve(stream: &TcpStream, shared: &Shared) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    let mut writer = stream;
    while let Some(request) = read(&mut reader)? {
        let is_put = request.method == "PUT";
        let answer = shared.answer(request);
        if is_put {
            let state = shared.lock();
            drop(shared.changed.wait_while(state, |s| s.held).unwrap_or_else(PoisonError::into_inner));
        }
        let Answer { status, length, headers, body } = answer;
        let head = format!(
            "HTTP/1.1 {status} Said\r\nContent-Length: {length}\r\nETag: \"x\"\r\n\
             Last-Modified: Sat, 21 Nov 2026 21:14:10 GMT\r\n{headers}\r\n"
        );
        writer.write_all(&[head.as_bytes(), &body].concat())?;
    }
    Ok(())
}

fn read(reader: &mut BufReader<&TcpStream>) -> std::io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut head_bytes = line.len() as u64;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        head_bytes += reader.read_line(&mut line)? as u64;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let length = headers.get("content-length").and_then(|l| l.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let (path, query) = (path.to_owned(), query.to_owned());
    Ok(Some(Request { method, path, query, headers, body, head_bytes }))
}
