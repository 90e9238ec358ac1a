//! `lsfast replicate [DB [URL...]]`

mod args;
mod fill;
mod history;
mod observe;
mod plan;
mod program;
mod run;
mod service;
mod verification;

pub use args::ReplicateArgs;
pub(super) use observe::process_socket;
pub(crate) use run::{database, once, run};
