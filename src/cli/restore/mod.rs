//! `lsfast restore [-o OUT] URL`

mod args;
mod dry;
mod interrupt;
mod into;
mod print;
mod progress;
mod run;
mod standby;

pub use args::RestoreArgs;
pub(crate) use args::txid;
pub(crate) use run::run;
