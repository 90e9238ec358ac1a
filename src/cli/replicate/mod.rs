//! `lsfast replicate [DB [URL...]]`

mod args;
mod fill;
mod history;
mod observe;
mod plan;
mod program;
mod reload;
mod run;
mod service;
mod socket;
mod verification;

pub use args::ReplicateArgs;
pub(crate) use run::{database, once, run};
pub(super) use socket::process_socket;
