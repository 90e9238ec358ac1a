//! The pipeline of one replica: from pending pages to a durable position, one upload at a time.
//!
//! | module | what it does |
//! |---|---|
//! | `task` | what the task of the replica knows |
//! | `pipeline` | its loop |
//! | `resume`, `own_file` | decide at the start how to continue, and whether an unknown file is our own |
//! | `recognise` | compares the checksum of the database with that of the newest batch |
//! | `batch`, `upload` | make and store a batch whose pages are all in memory |
//! | `resize` | goes on with a replica whose database has another page size now |
//! | `writer` | lets only one process write to a replica |
//! | `large` | stores what is too large to hold in memory, through `image` |
//! | `keep` | runs the history task of the replica, and supplies it with states of the database |
//! | `verify` | starts the background verification |
//! | `lineage`, `vigil` | check that the replica still holds what was stored there |
//! | `landmarks`, `exchanged` | remember some files, so that the next start finds out whether they were exchanged |
//! | `pace` | spaces uploads |
//! | `trouble`, `retry` | how long to wait after a failed attempt, and when to end instead |
//! | `error` | why the pipeline ends |

mod background;
mod batch;
mod error;
mod exchanged;
mod keep;
mod landmarks;
mod large;
mod lineage;
pub(crate) mod own_file;
pub mod pace;
mod pipeline;
mod recognise;
mod resize;
pub(crate) mod resume;
mod retry;
mod task;
mod trouble;
mod upload;
mod verify;
mod vigil;
mod writer;

pub use error::ReplicaError;
pub use landmarks::Landmarks;
pub use task::Replica;
pub use trouble::Trouble;
pub use vigil::Vigil;
