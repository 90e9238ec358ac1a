//! Credentials that have to be fetched: from profiles, programs, roles, sessions, containers and
//! instances.
//!
//! For a location without keys of its own, [`Sources`] sets up the [`mod@chain`] of sources
//! behind a
//! cache that refreshes ahead of expiry ([`refreshing`]). No request is made before the first
//! request to the store needs keys; until then, only files are looked at.
//!
//! This code replaces `aws-config`, which would bring 192 packages; see `docs/dependencies.md`.

mod answer;
mod chain;
mod fetch;
#[cfg(fuzzing)]
pub mod fuzzing;
mod http;
mod metadata;
mod ping;
mod place;
mod plan;
mod process;
mod profiles;
mod refreshing;
mod sources;
mod sso;
mod sts;

pub use ping::Pinger;
pub use sources::Sources;
