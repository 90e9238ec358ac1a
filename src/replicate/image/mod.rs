//! Batches too large to hold in memory: whole images, and large transactions.
//!
//! `source` reads the pages of the live database as of one commit; `stream` compresses them and
//! uploads them in parts. `progress` counts how far they are.

pub mod progress;
pub mod source;
pub(crate) mod stream;
