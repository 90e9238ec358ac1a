//! What the pipelines show of themselves: numbers that anybody may read from any thread at any
//! time.
//!
//! The loop writes them with plain atomic stores and never waits for a reader. Each number is right
//! by itself; two of them may be one commit apart. Texts (errors, the state of a history) are
//! behind locks that are held for a copy and taken only when something fails or a step of a history
//! ends.

mod database;
mod replica;

pub use database::{DatabasePhase, DatabaseVitals, Failure, Vitals};
pub use replica::{LATENCY_MS, Lag, Latencies, ReplicaPhase, ReplicaVitals};
