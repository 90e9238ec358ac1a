//! Replicas in a bucket of any store that speaks S3.
//!
//! One request travels like this: an operation (`put`, `get`, ...) makes a [`Call`](request::Call);
//! `retry` attempts it until it succeeds or its time is over; each attempt asks for the present
//! credentials, region and corrected time, signs (`sign`), takes a connection from the `pool` of
//! its host and sends. An answer that is no success is read by `classify` (what it means) and
//! `sentence` (what to tell the user). What a store turns out not to know (`If-None-Match`, the
//! checksum header, DeleteObjects, CopyObject) is remembered by the `client` for the process.
//!
//! Keys are glued literally: PREFIX + `/` + level as four hex digits + `/` + `MIN-MAX.ltx`. An
//! empty prefix gives keys that begin with a slash.

mod body;
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
#[cfg(fuzzing)]
pub mod fuzzing;
mod get;
mod head;
mod http;
mod list;
mod message;
mod multipart;
mod optional_headers;
mod options;
mod owner;
mod pages;
mod plausible;
mod pool;
pub mod probe_endpoint;
mod put;
mod race;
mod request;
mod resolve;
mod retry;
pub mod sign;
mod store;
mod taken_key;
mod wire;
pub mod xml;

pub(in crate::store) use classify::http_date;
pub use client::Clients;
pub(in crate::store) use encode::{push_hex, push_query};
pub use http::{Connect, Io};
pub(in crate::store) use http::{Network, connect_words, tls_config};
pub use options::{ClientOptions, RetryPolicy};
pub use resolve::HostAnswer;
pub(in crate::store) use resolve::Names;
pub use store::S3Store;
