//! `lsfast restore [-o OUT] URL`

mod print;
mod run;
pub(crate) mod standby;

pub use run::RestoreArgs;
pub(crate) use run::{Watcher, run};
