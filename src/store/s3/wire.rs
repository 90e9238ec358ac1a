//! A request in the form that is sent over a pooled connection.

use std::time::Duration;

use http::{HeaderMap, Method};

use super::body::Payload;
use crate::config::Scheme;

/// A signed request, ready to send.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) scheme: Scheme,
    pub(super) authority: String,
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) payload: Payload,
    /// Timeout until the head of the response arrives.
    pub(super) head_time: Duration,
    /// Timeout from there to the end of the response.
    pub(super) body_time: Duration,
    pub(super) stall: Duration,
    pub(super) fresh: bool,
}

impl Wire {
    /// The operation in one word, for metrics.
    pub(super) fn operation(&self) -> &'static str {
        let (path, query) = self.path.split_once('?').unwrap_or((&self.path, ""));
        let has = |name: &str| query.split('&').any(|p| p.split('=').next() == Some(name));
        match self.method {
            Method::PUT if self.headers.contains_key("x-amz-copy-source") => "copy",
            Method::PUT => "put",
            Method::POST if has("delete") => "delete",
            // The begin and the end of an upload in parts.
            Method::POST => "put",
            Method::DELETE => "delete",
            Method::HEAD => "head",
            // A list of the bucket, or of the parts of an upload.
            Method::GET if has("list-type") || has("prefix") || has("uploads") || has("uploadId") => "list",
            Method::GET if path.is_empty() || path == "/" => "list",
            Method::GET => "get",
            _ => "other",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_has_a_word() {
        let of = |method: Method, path: &str, copied: bool| {
            let mut headers = HeaderMap::new();
            if copied {
                headers.insert("x-amz-copy-source", "/bucket/key".parse().unwrap());
            }
            let time = Duration::from_secs(1);
            let wire = Wire {
                scheme: Scheme::Http,
                authority: "localhost".into(),
                method,
                path: path.into(),
                headers,
                payload: Payload::default(),
                head_time: time,
                body_time: time,
                stall: time,
                fresh: false,
            };
            wire.operation()
        };
        assert_eq!(of(Method::PUT, "/b/k?partNumber=1&uploadId=x", false), "put");
        assert_eq!(of(Method::PUT, "/b/k", true), "copy");
        assert_eq!(
            [of(Method::POST, "/b/k?uploads", false), of(Method::POST, "/b?delete", false)],
            ["put", "delete"]
        );
        assert_eq!(of(Method::GET, "/b/prefix/key", false), "get");
        assert_eq!(of(Method::GET, "/b?list-type=2&prefix=x", false), "list");
        assert_eq!([of(Method::HEAD, "/b/k", false), of(Method::DELETE, "/b/k", false)], ["head", "delete"]);
    }
}
