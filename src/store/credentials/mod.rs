//! Keys that somebody has to be asked for: profiles, programs, roles, sessions, containers,
//! instances.
//!
//! [`Sources`] gives a location without keys of its own the [`chain()`] of sources, behind a cache
//! that refreshes ahead of expiry ([`refreshing`]). Nobody is asked before the first request needs
//! keys; files are only looked at.
//!
//! This is our own code and not `aws-config`, which is 192 packages for what fits into this folder;
//! see `docs/dependencies.md`.

mod answer;
mod chain;
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

pub use chain::Looked;
pub use ping::Pinger;
pub use sources::Sources;
