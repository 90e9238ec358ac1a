//! Asks a running process for its state.

use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::time::Duration;

use super::status::Status;
use crate::base::limits;

/// Timeout between two pieces of a response. A process that is stopped or being debugged does not
/// respond.
const PATIENCE: Duration = Duration::from_secs(5);

/// Sends a request to a socket. Returns status and body, or `None` if no process listens there.
/// The answer may take the time `patience`.
///
/// # Errors
/// A process listens, but the user lacks the permission to connect, or the response is invalid.
pub fn request(
    socket: &Path,
    method: &str,
    path: &str,
    body: &[u8],
    patience: Duration,
) -> io::Result<Option<(u16, Vec<u8>)>> {
    use io::ErrorKind::{ConnectionRefused, NotADirectory, NotFound};
    let mut stream = match crate::io::socket::connect(socket) {
        Ok(stream) => stream,
        Err(e) if matches!(e.kind(), NotFound | NotADirectory | ConnectionRefused) => return Ok(None),
        Err(e) => return Err(e),
    };
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: lsfast\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat())?;
    let mut answer = Vec::new();
    stream.take(limits::STATUS_BYTES + 1).read_to_end(&mut answer)?;
    if answer.is_empty() {
        // The process ended between the connection and the response.
        return Ok(None);
    }
    let wrong = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    if answer.len() as u64 > limits::STATUS_BYTES {
        return Err(wrong(format!("the answer is longer than {} bytes", limits::STATUS_BYTES)));
    }
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n");
    let end = end.ok_or_else(|| wrong("the answer is not HTTP".into()))?;
    let status = answer
        .strip_prefix(b"HTTP/1.1 ")
        .and_then(|rest| std::str::from_utf8(rest.get(..3)?).ok()?.parse().ok());
    let status = status.ok_or_else(|| wrong("the answer is not HTTP".into()))?;
    Ok(Some((status, answer.split_off(end + 4))))
}

/// Asks at a socket; `None` if no process listens there.
///
/// # Errors
/// A process listens, but the user lacks the permission to connect, or the response is invalid.
pub fn ask(socket: &Path) -> io::Result<Option<Status>> {
    let wrong = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let Some((status, body)) = request(socket, "GET", "/status", b"", PATIENCE)? else { return Ok(None) };
    if status != 200 {
        return Err(wrong("it is not answered with a status: is it another version of lsfast?".into()));
    }
    serde_json::from_slice(&body)
        .map(Some)
        .map_err(|e| wrong(format!("the answer is not a status ({e}): is it another version of lsfast?")))
}
