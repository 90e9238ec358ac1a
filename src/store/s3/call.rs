//! One operation as a request, and its response.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};

use super::body::Payload;
use super::streak::Streak;
use crate::config::EndpointUrl;

/// One operation, before its region, credentials and time are known.
#[derive(Debug, Clone)]
pub(super) struct Call<'a> {
    pub(super) method: Method,
    /// `None` for an operation on the bucket.
    pub(super) key: Option<&'a str>,
    pub(super) query: Vec<(&'static str, Cow<'a, str>)>,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) payload: Payload,
    /// Whether the payload is the content of an object, which need not be signed over TLS.
    pub(super) content: bool,
    /// The wanted bytes of the object.
    pub(super) range: Option<Range<u64>>,
    /// Expected bytes of the response; they extend its deadline.
    pub(super) answer_bytes: u64,
    /// No attempt begins later than this after the first, where that is less than the policy's
    /// total.
    pub(super) patience: Option<Duration>,
    /// Counts the failures, where other requests share them.
    pub(super) streak: Option<Arc<Streak>>,
    /// Time that the server itself needs, in addition to the policy's timeouts.
    pub(super) extra_time: Duration,
}

impl<'a> Call<'a> {
    pub(super) fn new(method: Method, key: Option<&'a str>) -> Call<'a> {
        Call {
            method,
            key,
            query: Vec::new(),
            headers: Vec::new(),
            payload: Payload::default(),
            content: false,
            range: None,
            answer_bytes: 0,
            patience: None,
            streak: None,
            extra_time: Duration::ZERO,
        }
    }

    pub(super) fn query(mut self, name: &'static str, value: impl Into<Cow<'a, str>>) -> Call<'a> {
        self.query.push((name, value.into()));
        self
    }

    pub(super) fn header(mut self, name: &'static str, value: impl Into<String>) -> Call<'a> {
        self.headers.push((name, value.into()));
        self
    }

    /// Sets an XML document as the payload.
    pub(super) fn xml(mut self, xml: String) -> Call<'a> {
        self.payload = Payload::new(vec![Bytes::from(xml)]);
        self.headers.push(("content-type", "application/xml".into()));
        self
    }

    /// Sets the content of an object as the payload.
    pub(super) fn content(mut self, payload: Payload) -> Call<'a> {
        self.payload = payload;
        self.content = true;
        self
    }
}

/// What an attempt depends on besides the call; a replan changes it.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Use a new connection.
    pub(super) fresh: bool,
    /// Send the request to this server instead.
    pub(super) redirect: Option<EndpointUrl>,
}

/// A success response, read to its end.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}
