//! Verifying a replica again and again in the background, inside a bandwidth budget.
//!
//! What is read is what `lsfast verify` reads: all of it. One replica of the process is read at a
//! time, at its own pace, so an upload never waits for it. When the last verification was is
//! remembered beside the database, so that neither its age nor the next one depends on how
//! often the process is started. A fault is said and shown; replication goes on, since what is
//! committed next has to be stored all the same.
//!
//! The database itself is left out: its file must not be opened and closed in a process that
//! follows it.

mod record;
mod verifier;

#[cfg(fuzzing)]
pub(crate) use verifier::parse_record_for_fuzzing;
pub use verifier::{Turns, Verification, VerificationStatus, Verifier, keep};
