//! `lsfast replicate [DB [URL...]]`

mod fill;
mod history;
mod observe;
mod plan;
mod program;
mod run;
mod verification;

pub(super) use observe::process_socket;
pub(super) use plan::default_replica;
pub use run::ReplicateArgs;
pub(crate) use run::{database, once, run};
