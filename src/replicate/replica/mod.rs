//! The pipeline of one replica: from pending pages to a durable position. One upload is under way
//! at a time.

mod batch;
mod error;
mod keep;
mod large;
mod lineage;
pub(crate) mod own_file;
pub mod pace;
mod pipeline;
pub(crate) mod resume;
mod trouble;
mod verify;
mod writer;

pub use error::ReplicaError;
pub use lineage::Vigil;
pub use pipeline::Replica;
pub use trouble::Trouble;
