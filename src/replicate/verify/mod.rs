//! Verifies each replica again and again in the background, within a bandwidth budget.
//!
//! It reads all that `lsfast verify` reads. One replica of the process is read at a time, at its
//! own pace, so an upload never waits for it. The time of the last verification is kept in the
//! state folder, so that neither its age nor the next one depends on how often the process
//! restarts. Damage is logged and shown in the status; replication continues, because the next
//! commits have to be stored all the same.
//!
//! Verification does not read the database itself: its file must not be opened and closed in a
//! process that follows it.
//!
//! `verifier` decides when a verification is due, runs it and reports; `record` remembers the last
//! one.

mod record;
mod verifier;

#[cfg(fuzzing)]
pub(crate) use verifier::parse_record_for_fuzzing;
pub use verifier::{Turns, Verification, Verifier, keep};
