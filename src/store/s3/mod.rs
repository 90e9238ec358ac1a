//! Replicas in a bucket of any S3-compatible store.
//!
//! # Overview
//!
//! An operation (`put`, `get`, ...) makes a [`Call`](call::Call). `retry` attempts the call
//! until it succeeds or its time is over. Each attempt takes the current credentials, region and
//! corrected time, signs the request (`sign`), takes a connection from the `pool` of its host and
//! sends it. `classify` turns an error response into a class of failure, and `message` into text
//! for the user. The `client` remembers for the life of the process what a store does not support
//! (`If-None-Match`, the checksum header, DeleteObjects, CopyObject).
//!
//! # Keys
//!
//! Keys are concatenated literally: PREFIX + `/` + level as four hex digits + `/` + `MIN-MAX.ltx`.
//! With an empty prefix, keys begin with a slash.

mod abort;
mod body;
mod call;
mod classify;
mod client;
mod copy;
mod date;
mod delete;
pub mod doctor;
mod down;
mod encode;
mod extras;
mod failure;
mod first_part;
#[cfg(fuzzing)]
pub mod fuzzing;
mod get;
mod head;
mod headers;
mod hedge;
mod http;
mod http_date;
mod inner;
mod list;
mod list_part;
mod message;
mod multipart;
mod optional_headers;
mod options;
mod owner;
mod pages;
mod part_sums;
mod plausible;
mod pool;
pub mod probe_endpoint;
mod proxy;
mod put;
mod race;
mod request;
mod resolve;
mod retry;
pub mod sign;
mod store;
mod streak;
mod stream;
mod taken_key;
mod web_page;
mod wire;
mod written;
pub mod xml;

#[cfg(feature = "internals")]
pub use client::Clients;
pub(in crate::store) use encode::{push_hex, push_query};
pub use http::Connect;
pub(in crate::store) use http::{Network, connect_words, tls_config};
pub(in crate::store) use http_date::http_date;
pub use options::{ClientOptions, RetryPolicy};
pub use resolve::HostAnswer;
pub(in crate::store) use resolve::Names;
pub use store::S3Store;
pub use stream::Io;
