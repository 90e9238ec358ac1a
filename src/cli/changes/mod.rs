//! `lsfast log` and `lsfast diff`: what changed between states of a replica.

mod diff;
mod log;
mod settled;
mod show;
mod when;

pub use diff::DiffArgs;
pub(super) use diff::{run as run_diff, text as diff_text};
pub use log::LogArgs;
pub(super) use log::{run as run_log, text as log_text};
pub(super) use when::parse as parse_state;
