//! Files and short waits: the I/O engine, durable writes, timers, hints about changed files.
//!
//! [`Engine`] reads, writes and flushes files for callers on any runtime or on none. It has two
//! implementations that return the same results. `uring` is one thread that runs `tokio_uring` with
//! many requests in flight. `plain` is a few threads that make ordinary system calls. Measurements
//! decide which of them runs: see "I/O engine" in `docs/performance.md`.
//!
//! # Rules
//!
//! - Only this module opens files; clippy forbids it elsewhere (`clippy.toml`). Closing *any*
//!   descriptor of a database or of its `-shm` drops all POSIX locks that this process holds on it,
//!   including those of SQLite. Code that opens a database file keeps the [`File`] until no
//!   connection of this process to the database is left.
//! - The engine never closes a file. It keeps a [`File`] alive until its requests are answered. The
//!   descriptor is closed where the last clone is dropped.
//! - A buffer that was passed in belongs to the engine until the answer returns it, even if the
//!   caller has dropped the future.

mod below;
mod child;
pub mod direct;
pub mod durable;
mod engine;
mod file;
pub mod guardian;
pub mod host;
pub mod link;
mod on_demand;
mod passing;
mod plain;
mod private;
mod process;
mod request;
pub mod socket;
mod sys;
#[cfg(test)]
mod tests;
pub mod timer;
mod tree;
#[cfg(feature = "uring")]
mod uring;
mod wait;
pub mod watch;

pub use child::{forbid_core_files, own, raise_descriptor_limit, reap_orphans};
#[cfg(feature = "internals")]
pub use engine::IoKind;
pub use engine::{Engine, IoChoice, IoError};
pub use file::{File, read_small, read_small_itself, read_small_with_mode};
pub use on_demand::OnDemand;
#[cfg(test)]
pub(crate) use passing::is_sound as spares_page_cache;
pub use private::{Folder, Private};
pub use process::{
    end_group, explain_own, is_file_limit, is_file_limit_news, is_news, keep_heap, monotonic, processor_time,
    since_boot, trim_heap, urgency_refused, urgently, with_advice,
};
pub use wait::wait;
