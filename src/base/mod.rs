//! The vocabulary that all other modules share: identifiers, limits, clock, checksums, buffers.
//!
//! This module does no input or output, and knows no file format.

pub mod backoff;
pub mod buffer_pool;
pub mod checksum;
pub mod clock;
mod count;
pub mod crc64;
pub mod fields;
pub mod finding;
mod ids;
pub mod limits;
mod memory;
pub mod pages;
mod routine;
pub mod untrusted;
mod view_limits;

pub use checksum::DatabaseChecksum;
pub use count::count;
pub use ids::{FrameNo, Level, LtxId, PageSize, Pgno, Salts, Txid};
pub use routine::ROUTINE;
