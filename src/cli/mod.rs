//! The command line: one file per command, and the code they share.
//!
//! A command returns its exit code. [`run`] turns an error into exactly one line on standard error
//! and exit code 1. Usage errors come from clap, with exit code 2. Results go to standard output,
//! logs to standard error.

mod args;
mod bench;
mod browse;
mod bursts;
mod changes;
mod choose;
mod control;
mod databases;
mod dispatch;
mod doctor;
mod examples;
mod explain;
mod flags;
mod generations;
mod global;
mod log;
mod log_line;
mod ltx;
mod manual;
mod points;
mod probe;
mod progress;
mod promote;
mod query;
mod repair;
mod replicate;
mod report;
mod reset;
mod restore;
mod roff;
mod runtime;
mod setup;
mod shape;
mod signals;
mod status;
mod table;
mod verify;
mod version;
mod when;
mod words;
mod zone;

pub use dispatch::run;
pub use report::one_line;
