//! The write-ahead log: its bytes, and which of its frames count.
//!
//! Unproven bytes have their own type, and only validation makes the next one: [`frames::RawFrame`]
//! is 24 bytes and a page, [`frames::ValidFrame`] has the right salts and continues the checksum
//! chain, [`frames::CommittedRun`] ends with a commit frame.

pub mod format;
pub mod frames;
pub mod tail;

pub use crate::sqlite::checksum;
