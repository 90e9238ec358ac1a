//! `lsfast register`, `unregister`, `start`, `stop`, `sync`, `list`, `info`: Litestream's commands
//! to a running process, over its socket.

mod args;
mod client;
mod run;

pub use args::{InfoArgs, ListArgs, RegisterArgs, StartArgs, StopArgs, SyncArgs, UnregisterArgs};
pub(crate) use run::{info, list, register, start, stop, sync, unregister};
