//! Batches too large to hold in memory: whole images, and large transactions.

pub mod source;
pub(crate) mod stream;
