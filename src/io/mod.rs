//! File work and waiting: short waits, hints about changed files.

pub mod nap;
mod sys;
pub mod watch;
