//! `lsfast query` and `lsfast shell`: SQL on any state of a replica.

mod args;
mod open;
mod print;
mod run;
mod shell;
mod statement;

pub use args::{QueryArgs, ShellArgs};
pub(super) use run::run;
pub(super) use shell::run as shell;
