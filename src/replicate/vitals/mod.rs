//! Numbers that the pipelines publish; any thread may read them at any time.
//!
//! The loop writes them with plain atomic stores and never waits for a reader. Each number is right
//! by itself, but two of them may be one commit apart. Texts (errors, the state of a history) are
//! kept under locks. A lock is held only for a copy, and a writer takes it only when something
//! fails or a step of a history ends.
//!
//! `database` has the numbers of a database and the list of all of them, `replica` those of a
//! replica, with its `history` and `verification`, `cells` what they are made of.

mod cells;
mod database;
mod history;
mod replica;
mod verification;

pub use cells::Failure;
pub use database::{DatabasePhase, DatabaseVitals, Vitals};
pub use history::{HistoryStatus, LevelStatus};
pub use replica::{LATENCY_MS, Lag, ReplicaPhase, ReplicaVitals};
pub use verification::VerificationStatus;
