//! The write-ahead log (WAL): its bytes, and which of its frames count.
//!
//! Unproven bytes have their own type, and only validation turns them into the next one. A
//! [`frames::RawFrame`] is 24 bytes and a page. A [`frames::ValidFrame`] has the right salts and
//! continues the checksum chain. A [`frames::CommittedRun`] ends with a commit frame.

pub mod checksum;
pub mod format;
pub mod frames;
pub mod index;
pub mod shm;
mod tables;
pub mod tail;
