//! An HTTP server that misbehaves as told, alone or in front of a real one.
//!
//! It understands just enough HTTP/1.1: requests with a Content-Length, answers with a
//! Content-Length or without a body. Every request is noted; faults are used up in order by the
//! requests that they fit.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::s3::serve;

/// What happens to a request.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The connection is reset when the head has been read.
    ResetBefore,
    /// The connection is reset when half of the body has been read.
    ResetIn,
    /// The request is done, and the connection is reset instead of an answer.
    ResetAfter,
    /// The request is not passed on; this is the answer.
    Answer { status: u16, headers: Vec<(&'static str, String)>, body: String },
    /// The request is done, and this is the answer.
    AnswerAfter { status: u16, body: String },
    /// The request is done, and its answer has these headers and no others of these names.
    AnswerWith { headers: Vec<(&'static str, String)> },
    /// There is never an answer.
    Stall,
    /// The answer breaks off after so many bytes of its body.
    Truncate(usize),
    /// The answer, with its first match of text replaced (Content-Length is not changed).
    Replace(&'static str, &'static str),
    /// The request is done and answered, then the connection is closed without having said so.
    CloseAfter,
}

/// An answer in the words of S3.
pub fn s3_error(status: u16, code: &str) -> Fault {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>This is {code}.</Message></Error>"
    );
    Fault::Answer { status, headers: Vec::new(), body }
}

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: String,
    pub path: String,
    pub head: String,
    pub body: Vec<u8>,
}

impl Seen {
    /// The value of a header, by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }
}

type Rule = Box<dyn Fn(&Seen) -> Option<Fault> + Send>;

#[derive(Default)]
struct State {
    faults: VecDeque<(String, Fault)>,
    rule: Option<Rule>,
    /// What was put while there is no server behind: length and ETag, by path.
    objects: BTreeMap<String, (usize, String)>,
    seen: Vec<Seen>,
    connections: u32,
    /// The server's clock is so far ahead of ours, in seconds, and it insists on it.
    clock: Option<i64>,
}

/// The server.
pub struct FaultServer {
    pub addr: SocketAddr,
    state: Arc<Mutex<State>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl FaultServer {
    /// In front of `upstream`, or alone: then a request without a fault is answered with 200 and
    /// nothing, but for what a client asks about an object that it has just put: whether it is
    /// there, and listed.
    pub fn start(upstream: Option<SocketAddr>) -> FaultServer {
        let state = Arc::new(Mutex::new(State::default()));
        let (stop, stopped) = oneshot::channel();
        let shared = Arc::clone(&state);
        let (addr, thread) = serve(stopped, move |stream| {
            let state = Arc::clone(&shared);
            lock(&state).connections += 1;
            async move {
                let _ = connection(stream, upstream, &state).await;
            }
        });
        FaultServer { addr, state, stop: Some(stop), thread: Some(thread) }
    }

    /// The next request by `method` meets `fault`.
    pub fn push(&self, method: &str, fault: Fault) {
        lock(&self.state).faults.push_back((method.to_owned(), fault));
    }

    /// Requests that meet no other fault meet the one that `rule` has for them. It sees no body.
    pub fn always(&self, rule: impl Fn(&Seen) -> Option<Fault> + Send + 'static) {
        lock(&self.state).rule = Some(Box::new(rule));
    }

    /// The server's clock is `seconds` ahead, and requests that are more than a minute off are
    /// refused.
    pub fn insist_on_clock(&self, seconds: i64) {
        lock(&self.state).clock = Some(seconds);
    }

    /// Requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.state).seen.clone()
    }

    /// Requests by `method` so far.
    pub fn count(&self, method: &str) -> usize {
        self.seen().iter().filter(|s| s.method == method).count()
    }

    pub fn connections(&self) -> u32 {
        lock(&self.state).connections
    }

    /// Faults that nothing has met yet.
    pub fn faults_left(&self) -> usize {
        lock(&self.state).faults.len()
    }
}

impl Drop for FaultServer {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (n, value) = line.split_once(':')?;
        n.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

fn length(head: &str) -> usize {
    header(head, "content-length").and_then(|l| l.parse().ok()).unwrap_or(0)
}

/// Reads up to the empty line; `None` at the end of the stream. What follows stays in `buffer`.
async fn read_head(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> std::io::Result<Option<String>> {
    loop {
        if let Some(at) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
            let rest = buffer.split_off(at + 4);
            let head = std::mem::replace(buffer, rest);
            return Ok(Some(String::from_utf8_lossy(&head).into_owned()));
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
        if !buffer[0].is_ascii_uppercase() {
            // Not a request, as when a client speaks TLS.
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await?;
            return Ok(None);
        }
    }
}

async fn read_body(stream: &mut TcpStream, buffer: &mut Vec<u8>, len: usize) -> std::io::Result<Vec<u8>> {
    while buffer.len() < len {
        if stream.read_buf(buffer).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    let rest = buffer.split_off(len);
    Ok(std::mem::replace(buffer, rest))
}

fn reset(stream: TcpStream) {
    let _ = stream.set_zero_linger();
    drop(stream);
}

async fn connection(
    mut stream: TcpStream,
    upstream: Option<SocketAddr>,
    state: &Mutex<State>,
) -> std::io::Result<()> {
    let mut buffer = Vec::new();
    while let Some(head) = read_head(&mut stream, &mut buffer).await? {
        let mut words = head.split_whitespace();
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (method, path) = (method.to_owned(), path.to_owned());
        let fault = take_fault(state, &method).or_else(|| {
            let seen =
                Seen { method: method.clone(), path: path.clone(), head: head.clone(), body: Vec::new() };
            lock(state).rule.as_ref().and_then(|rule| rule(&seen))
        });
        let len = length(&head);
        let whole = if matches!(fault, Some(Fault::ResetBefore)) {
            0
        } else if matches!(fault, Some(Fault::ResetIn)) {
            len / 2
        } else {
            len
        };
        let body = read_body(&mut stream, &mut buffer, whole).await?;
        let seen =
            Seen { method: method.clone(), path: path.clone(), head: head.clone(), body: body.clone() };
        lock(state).seen.push(seen);
        if let Some(refusal) = refuse_by_clock(state, &head) {
            stream.write_all(&refusal).await?;
            continue;
        }
        let answer = async |body: &[u8]| match upstream {
            Some(upstream) => forward(upstream, &method, &head, body).await,
            None => Ok(alone(state, &method, &path, body)),
        };
        match fault {
            None => stream.write_all(&answer(&body).await?).await?,
            Some(Fault::ResetBefore | Fault::ResetIn) => {
                reset(stream);
                return Ok(());
            }
            Some(Fault::ResetAfter) => {
                answer(&body).await?;
                reset(stream);
                return Ok(());
            }
            Some(Fault::Answer { status, headers, body }) => {
                stream
                    .write_all(&canned(status, &headers, if method == "HEAD" { "" } else { &body }))
                    .await?;
            }
            Some(Fault::AnswerAfter { status, body: said }) => {
                answer(&body).await?;
                stream.write_all(&canned(status, &[], &said)).await?;
            }
            Some(Fault::AnswerWith { headers }) => {
                let answer = answer(&body).await?;
                let at = answer.windows(4).position(|w| w == b"\r\n\r\n").map_or(0, |at| at + 2);
                let head = String::from_utf8_lossy(&answer[..at]).into_owned();
                let kept = head.lines().filter(|l| {
                    !headers
                        .iter()
                        .any(|(n, _)| l.split(':').next().is_some_and(|h| h.eq_ignore_ascii_case(n)))
                });
                let mut changed: String = kept.map(|l| format!("{l}\r\n")).collect();
                headers.iter().for_each(|(n, v)| changed += &format!("{n}: {v}\r\n"));
                stream.write_all(changed.as_bytes()).await?;
                stream.write_all(&answer[at..]).await?;
            }
            Some(Fault::Stall) => {
                // Until the other side gives up.
                while stream.read_buf(&mut buffer).await? > 0 {}
                return Ok(());
            }
            Some(Fault::Truncate(keep)) => {
                let answer = answer(&body).await?;
                let head = answer.windows(4).position(|w| w == b"\r\n\r\n").map_or(0, |at| at + 4);
                stream.write_all(&answer[..answer.len().min(head + keep)]).await?;
                return Ok(());
            }
            Some(Fault::Replace(from, to)) => {
                let answer = answer(&body).await?;
                let at =
                    answer.windows(from.len()).position(|w| w == from.as_bytes()).expect("text to replace");
                let mut changed = answer[..at].to_vec();
                changed.extend_from_slice(to.as_bytes());
                changed.extend_from_slice(&answer[at + from.len()..]);
                stream.write_all(&changed).await?;
            }
            Some(Fault::CloseAfter) => {
                stream.write_all(&answer(&body).await?).await?;
                return Ok(());
            }
        }
    }
    Ok(())
}

/// The answer of a server without objects, but for what a client asks of one that it has just put.
fn alone(state: &Mutex<State>, method: &str, path: &str, body: &[u8]) -> Vec<u8> {
    let decoded = |text: &str| {
        let mut out = Vec::new();
        let mut bytes = text.bytes();
        while let Some(b) = bytes.next() {
            let hex: Option<String> = (b == b'%').then(|| bytes.by_ref().take(2).map(char::from).collect());
            out.push(hex.and_then(|h| u8::from_str_radix(&h, 16).ok()).unwrap_or(b));
        }
        String::from_utf8_lossy(&out).into_owned()
    };
    let (name, query) = path.split_once('?').unwrap_or((path, ""));
    let name = decoded(name);
    let mut state = lock(state);
    match method {
        "PUT" => {
            let mut hex = String::new();
            use std::fmt::Write as _;
            <md5::Md5 as md5::Digest>::digest(body).iter().for_each(|b| _ = write!(hex, "{b:02x}"));
            let etag = format!("\"{hex}\"");
            let answer = canned(200, &[("etag", etag.clone())], "");
            state.objects.insert(name, (body.len(), etag));
            answer
        }
        "HEAD" => match state.objects.get(&name) {
            Some((len, etag)) => {
                format!("HTTP/1.1 200 OK\r\ncontent-length: {len}\r\netag: {etag}\r\n\r\n").into_bytes()
            }
            None => canned(200, &[], ""),
        },
        "DELETE" => {
            state.objects.remove(&name);
            canned(200, &[], "")
        }
        "GET" => {
            let prefix = query.split('&').find_map(|p| p.strip_prefix("prefix=")).map(decoded);
            let listed = prefix.and_then(|prefix| {
                let end = format!("/{prefix}");
                let (len, _) = state.objects.iter().find(|(path, _)| path.ends_with(&end))?.1;
                Some(format!(
                    "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>{prefix}</Key><Size>{len}</Size>\
                     </Contents></ListBucketResult>"
                ))
            });
            canned(200, &[], &listed.unwrap_or_default())
        }
        _ => canned(200, &[], ""),
    }
}

fn take_fault(state: &Mutex<State>, method: &str) -> Option<Fault> {
    let mut state = lock(state);
    let at = state.faults.iter().position(|(m, _)| m == method)?;
    state.faults.remove(at).map(|(_, fault)| fault)
}

fn refuse_by_clock(state: &Mutex<State>, head: &str) -> Option<Vec<u8>> {
    let ahead = lock(state).clock?;
    let date = header(head, "x-amz-date")?;
    let signed = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", date)
        .ok()?
        .to_zoned(jiff::tz::TimeZone::UTC)
        .ok()?;
    let now = jiff::Timestamp::now() + Duration::from_secs(ahead.unsigned_abs()) * u32::from(ahead > 0)
        - Duration::from_secs(ahead.unsigned_abs()) * u32::from(ahead < 0);
    if (signed.timestamp().as_second() - now.as_second()).abs() <= 60 {
        return None;
    }
    let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&now).ok()?;
    let body =
        "<Error><Code>RequestTimeTooSkewed</Code><Message>The difference is too large.</Message></Error>";
    Some(canned(403, &[("date", date)], body))
}

fn canned(status: u16, headers: &[(&'static str, String)], body: &str) -> Vec<u8> {
    let mut answer = format!("HTTP/1.1 {status} Canned\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        answer += &format!("{name}: {value}\r\n");
    }
    (answer + "\r\n" + body).into_bytes()
}

/// Passes a request on over a connection of its own, and reads the whole answer.
async fn forward(upstream: SocketAddr, method: &str, head: &str, body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(upstream).await?;
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body).await?;
    let mut buffer = Vec::new();
    let head = read_head(&mut stream, &mut buffer).await?.ok_or(std::io::ErrorKind::UnexpectedEof)?;
    let len = if method == "HEAD" { 0 } else { length(&head) };
    let mut answer = head.clone().into_bytes();
    if header(&head, "transfer-encoding").is_some() {
        // As it is: what is read up to the last chunk is one answer.
        while !buffer.ends_with(b"0\r\n\r\n") {
            if stream.read_buf(&mut buffer).await? == 0 {
                break;
            }
        }
        answer.extend_from_slice(&buffer);
    } else {
        answer.extend_from_slice(&read_body(&mut stream, &mut buffer, len).await?);
    }
    Ok(answer)
}

/// The date of the server in the past or the future, as a header has it.
pub fn http_date(time: SystemTime) -> String {
    let time = jiff::Timestamp::try_from(time).expect("a time");
    jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&time).expect("a date")
}
