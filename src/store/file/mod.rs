//! A replica in a directory: `PATH/ltx/LEVEL/MIN-MAX.ltx`, in Litestream's layout.
//!
//! # Order of writes
//!
//! A file gets its name only when it is complete. It is written in the target directory under a
//! name that ends in `.tmp`, flushed and renamed; then the directory is flushed. Its modification
//! time is the creation time of its header, in milliseconds. Names that are not those of LTX files
//! are ignored.
//!
//! # Symbolic links
//!
//! Only the path to the replica's own directory may contain links. Below it, each step is opened
//! relative to the descriptor of the directory above, and links are refused. Otherwise a user who
//! may write there could have any file of the host read or written.
//!
//! # Threads
//!
//! Calls run on the blocking threads of the caller's tokio runtime.

pub mod doctor;
mod inner;
mod part;
mod side;
mod store;
mod write;

pub use store::FileStore;
