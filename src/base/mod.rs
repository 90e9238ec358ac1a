//! The vocabulary of the house: identifiers, limits, clock, checksums, buffers.
//!
//! Nothing here does any input or output, and nothing here knows a file format.

pub mod backoff;
pub mod clock;
pub mod crc64;
pub mod finding;
mod ids;
pub mod limits;
pub mod pages;
pub mod spare;
pub mod untrusted;

pub use ids::{FrameNo, IdError, Level, LtxId, PageSize, Pgno, Salts, Txid};
