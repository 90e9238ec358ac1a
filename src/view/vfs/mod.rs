//! A file system of SQLite whose files are states of replicas.
//!
//! # Overview
//!
//! `file:NAME?vfs=lsfast&replica=URL` opens the newest state of a replica, and with `timestamp=` or
//! `txid=` an earlier one. With `follow=1` each transaction sees the newest state that is stored.
//! A state can only be read.
//!
//! [`face`] says what SQLite asks of a file, `sys` is the island of unsafe code that SQLite calls,
//! `file` answers from the pages of a state, and `opener` finds the replica.
//!
//! # What SQLite sees
//!
//! The pages are those of the state, but for page 1. A database in WAL mode says so in its header,
//! and SQLite would look for a WAL; there it is shown another journal mode. When a connection moves
//! to another state, SQLite must drop what it has in its cache: the change counter and the schema
//! cookie differ from those of every state that the connection had before.
//!
//! # Errors
//!
//! SQLite gets `SQLITE_IOERR`. `PRAGMA lsfast_error` then returns the message. It works on a
//! connection whose state cannot be opened, too.

mod extension;
pub mod face;
mod file;
mod opener;
mod sys;

pub use extension::register_extension;
pub use opener::Mount;
