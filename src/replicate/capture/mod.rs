//! Takes every committed page of one live database, and proves that none slipped by.
//!
//! # The proof
//!
//! Two things say that nothing was missed, and they are independent. The locks: while CKPT or
//! READ(k) is held, a generation of the log can end only when all its frames were captured
//! (`docs/design/guard.md`). The count: SQLite's wal-index counts commits, one up with each, and
//! capture counts the commit frames it has taken; equal counts mean that each commit was taken,
//! whatever happened to the log meanwhile. The count judges what the locks can't see: the end of a
//! turn, a log that was cut while idle.
//!
//! Writers that pad the log to whole sectors repeat their commit frame, so that counts drift apart;
//! this is noticed in cruise, where the locks alone are proof, and the count is then left out for
//! good.
//!
//! What can't be proven is *lost*: every replica is told to compare page hashes with the database,
//! and the capture goes on from the present.

mod damage;
mod look;
mod loss;
mod outcome;
mod taken;

pub(super) use damage::READ_TRIES;
pub use look::Capture;
pub(super) use loss::by_index;
pub use outcome::Look;
