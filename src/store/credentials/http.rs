//! One request to a credential service. It uses a separate connection, bounds time and size, and
//! keeps secrets out of errors.
//!
//! There are only a few such requests in an hour, so a pool of connections would not pay off.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use http::header::{AUTHORIZATION, CONTENT_TYPE, DATE, HOST, HeaderName, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;

use crate::base::{limits, untrusted};
use crate::config::{CredentialError, TlsOptions};
use crate::store::s3::{Connect, HostAnswer, Io, Names, Network, connect_words, http_date, tls_config, xml};

/// A run of letters and digits of at least this length in a response may be a key and is not
/// repeated.
const KEY_LIKE: usize = 32;

/// An error that a repeated request cannot fix. The message must hold no secret (I7).
pub(super) fn failed(message: impl Into<String>) -> CredentialError {
    CredentialError::Source { message: message.into(), transient: false }
}

/// Like [`failed`], for an error that a later request may not have.
pub(super) fn for_now(message: impl Into<String>) -> CredentialError {
    CredentialError::Source { message: message.into(), transient: true }
}

/// A request to a credential service. It has no `Debug`, because it carries tokens.
#[derive(Clone)]
pub(super) struct Ask {
    pub(super) method: Method,
    pub(super) url: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// Timeout until the whole response has arrived.
    pub(super) time: Duration,
}

impl Ask {
    pub(super) fn get(url: impl Into<String>, time: Duration) -> Ask {
        Ask { method: Method::GET, url: url.into(), headers: HeaderMap::new(), body: Bytes::new(), time }
    }

    pub(super) fn post(url: impl Into<String>, content_type: &'static str, body: String) -> Ask {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        let time = limits::CREDENTIAL_TIME;
        Ask { method: Method::POST, url: url.into(), headers, body: body.into(), time }
    }

    /// Adds a header that no log shows.
    pub(super) fn secret(mut self, name: HeaderName, value: &str) -> Result<Ask, CredentialError> {
        let what = if name == AUTHORIZATION { "the authorization token" } else { "the token" };
        let mut value = HeaderValue::from_str(value)
            .map_err(|_| failed(format!("{what} holds characters that HTTP does not allow")))?;
        // I7: hidden in `Debug` output.
        value.set_sensitive(true);
        self.headers.insert(name, value);
        Ok(self)
    }
}

/// A response, whatever its status.
pub(super) struct Said {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
    /// The server's clock, from the `Date` header.
    pub(super) date: Option<SystemTime>,
}

/// Why there is no response.
#[derive(Debug)]
pub(super) struct NoAnswer {
    /// What happened, in words that follow the name of the service.
    pub(super) message: String,
    /// Whether a connection was made but no response came in time.
    pub(super) silent: bool,
}

/// Connects to credential services.
#[derive(Debug)]
pub(super) struct Web {
    tls: TlsOptions,
    names: Names,
    /// The TLS connector. The system's certificates are read at the first request over TLS.
    encrypted: Mutex<Option<Arc<dyn Connect>>>,
}

impl Web {
    /// Trusts `ca_cert` in addition to the system's certificates. Certificates are always checked
    /// here, because requests carry tokens and keys.
    pub(super) fn new(tls: &TlsOptions, answers: &[HostAnswer]) -> Web {
        let tls = TlsOptions { skip_verify: false, ca_cert: tls.ca_cert.clone() };
        Web { tls, names: Names::new(answers), encrypted: Mutex::default() }
    }

    fn connector(&self, encrypted: bool) -> Result<Arc<dyn Connect>, NoAnswer> {
        if !encrypted {
            return Ok(Arc::new(Network::direct(self.names.clone())));
        }
        let mut made = self.encrypted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connector) = &*made {
            return Ok(Arc::clone(connector));
        }
        let tls = tls_config(&self.tls).map_err(|e| NoAnswer { message: e.to_string(), silent: false })?;
        let connector: Arc<dyn Connect> = Arc::new(Network::new(tls, self.names.clone()));
        *made = Some(Arc::clone(&connector));
        Ok(connector)
    }

    /// Sends one request and reads the whole response. Redirects are not followed.
    pub(super) async fn ask(&self, ask: Ask) -> Result<Said, NoAnswer> {
        let broken = |message: String| NoAnswer { message, silent: false };
        let uri: Uri =
            ask.url.parse().map_err(|_| broken(format!("{:?} is not a URL", without_query(&ask.url))))?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(broken(format!("{:?} is not an http or https URL", without_query(&ask.url))));
        };
        let (place, seconds) = (authority.to_string(), ask.time.as_secs_f32());
        let connector = self.connector(scheme == "https")?;
        let deadline = tokio::time::Instant::now() + ask.time;
        let io = match tokio::time::timeout_at(deadline, connector.connect(&uri)).await {
            Ok(Ok(io)) => io,
            Ok(Err(e)) => return Err(broken(connect_words(&uri, e))),
            Err(_) => return Err(broken(format!("no connection to {place} within {seconds}s"))),
        };
        let talk = converse(io, &uri, &place, ask);
        match tokio::time::timeout_at(deadline, talk).await {
            Ok(said) => said.map_err(broken),
            Err(_) => {
                Err(NoAnswer { message: format!("{place} did not answer within {seconds}s"), silent: true })
            }
        }
    }
}

async fn converse(io: Box<dyn Io>, uri: &Uri, place: &str, ask: Ask) -> Result<Said, String> {
    let broke = |e: hyper::Error| format!("the connection to {place} broke: {e}");
    let (mut sender, driver) = http1::handshake::<_, Full<Bytes>>(io).await.map_err(broke)?;
    // The driver ends with the sender; the request reports its errors.
    tokio::spawn(async move {
        let _ = driver.await;
    });
    let mut request = Request::new(Full::new(ask.body));
    *request.method_mut() = ask.method;
    let path = uri.path_and_query().map_or("/", |p| p.as_str());
    *request.uri_mut() = path.parse().map_err(|e| format!("{path:?} is not a path: {e}"))?;
    *request.headers_mut() = ask.headers;
    let host = HeaderValue::from_str(place).map_err(|_| format!("{place:?} is not a host"))?;
    request.headers_mut().insert(HOST, host);
    let agent = HeaderValue::from_static(concat!("lsfast/", env!("CARGO_PKG_VERSION")));
    request.headers_mut().insert(USER_AGENT, agent);
    let (head, mut body) = sender.send_request(request).await.map_err(broke)?.into_parts();
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(broke)?.into_data() else { continue };
        if all.len() + data.len() > limits::CREDENTIAL_BYTES {
            return Err(format!("the answer of {place} is longer than {} bytes", limits::CREDENTIAL_BYTES));
        }
        all.extend_from_slice(&data);
    }
    let date = head.headers.get(DATE).and_then(|v| v.to_str().ok()).and_then(http_date);
    Ok(Said { status: head.status, body: all.freeze(), date })
}

impl Said {
    /// The response in the form `403 AccessDenied: words`, shortened, and without anything that may
    /// be a key.
    pub(super) fn words(&self) -> String {
        let (code, message) = self.error();
        let mut text = self.status.as_u16().to_string();
        for (separator, part) in [(" ", code), (": ", message)] {
            if !part.is_empty() {
                text = format!("{text}{separator}{}", quote(&part));
            }
        }
        text
    }

    /// The error code, as the service writes it.
    pub(super) fn code(&self) -> String {
        self.error().0
    }

    /// Whether the same request may succeed later.
    pub(super) fn is_transient(&self) -> bool {
        let code = self.code().to_ascii_lowercase();
        self.status.is_server_error()
            || matches!(self.status.as_u16(), 408 | 425 | 429)
            || ["throttl", "slowdown", "slow_down", "idpcommunication", "requesttimeout"]
                .iter()
                .any(|c| code.contains(c))
    }

    fn error(&self) -> (String, String) {
        if let Some(error) = xml::error(&self.body) {
            return (error.code, error.message);
        }
        let Ok(json) = serde_json::from_slice::<serde_json::Value>(&self.body) else {
            let text = String::from_utf8_lossy(&self.body).into_owned();
            // The HTML page of a proxy says no more than its status.
            return (String::new(), if text.contains('<') { String::new() } else { text });
        };
        let first = |names: &[&str]| {
            let text = names.iter().find_map(|n| json.get(n)?.as_str());
            text.unwrap_or_default().to_owned()
        };
        (
            first(&["code", "Code", "error", "__type"]),
            first(&["message", "Message", "error_description", "detail"]),
        )
    }

    /// The error for a response that is not a success.
    pub(super) fn refusal(&self, service: &str, advice: &str) -> CredentialError {
        CredentialError::Source {
            message: format!("{service} answered {}{advice}", self.words()),
            transient: self.is_transient(),
        }
    }
}

impl fmt::Debug for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Said").field("status", &self.status).finish_non_exhaustive()
    }
}

/// One line of limited length, with everything that looks like a key hidden.
pub(super) fn quote(text: &str) -> String {
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut out = String::new();
    let mut run = String::new();
    for c in line.chars().take(4 * limits::UNTRUSTED_CHARS).chain([' ']) {
        if c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=' | '_' | '-' | '.') {
            run.push(c);
            continue;
        }
        // I7: a message shows nothing that may be a key.
        out.push_str(if is_key_like(&run) { "(hidden)" } else { &run });
        run.clear();
        out.push(c);
    }
    untrusted::quote(&out).trim_end_matches('.').to_owned()
}

fn is_key_like(run: &str) -> bool {
    run.len() >= KEY_LIKE
        && run.bytes().any(|b| b.is_ascii_digit() || matches!(b, b'+' | b'='))
        && run.bytes().any(|b| b.is_ascii_alphabetic())
}

/// A URL for messages. The query is dropped, because it may hold a token.
pub(super) fn without_query(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or(url)
}

/// Whether the host of a URL is this machine's loopback address.
pub(super) fn is_loopback(host: &str) -> bool {
    let bare = host.trim_matches(['[', ']']);
    bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_in_words() {
        let said = |status: u16, body: &str| Said {
            status: StatusCode::from_u16(status).unwrap(),
            body: Bytes::copy_from_slice(body.as_bytes()),
            date: None,
        };
        let xml = "<ErrorResponse><Error><Code>InvalidIdentityToken</Code><Message>No key fits.</Message></Error></ErrorResponse>";
        assert_eq!(said(400, xml).words(), "400 InvalidIdentityToken: No key fits");
        let json = r#"{"error":"invalid_grant","error_description":"gone"}"#;
        assert_eq!(said(400, json).words(), "400 invalid_grant: gone");
        assert_eq!(said(502, "<html>Bad Gateway</html>").words(), "502");
        assert!(
            said(503, "").is_transient() && said(400, r#"{"code":"ThrottlingException"}"#).is_transient()
        );
        assert!(!said(403, "").is_transient());
    }

    #[test]
    fn nothing_that_looks_like_a_key_is_repeated() {
        let key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
        assert_eq!(quote(&format!("no \"{key}\" here.")), "no \"(hidden)\" here");
        assert_eq!(quote(key), "(hidden)");
        assert_eq!(quote("arn:aws:iam::123456789012:role/backup"), "arn:aws:iam::123456789012:role/backup");
        assert_eq!(quote(&"x ".repeat(500)).chars().count(), limits::UNTRUSTED_CHARS);
        assert_eq!(without_query("http://h/p?token=x"), "http://h/p");
    }
}
