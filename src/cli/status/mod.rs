//! `lsfast status [DB]`

mod overview;
mod print;
mod run;

pub use run::StatusArgs;
pub(crate) use run::run;
