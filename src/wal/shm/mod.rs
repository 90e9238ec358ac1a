//! The mapped wal-index of a live database, and the locks that lsfast holds on it.
//!
//! # Overview
//!
//! `DB-shm` is shared memory. Every connection of every process maps it, and its bytes 120 to 128
//! carry SQLite's locks. [`Shm`] maps the first page and takes *open file description* locks on
//! those bytes. These locks conflict with SQLite's POSIX locks, including those of this process.
//! They belong to the descriptor of [`Shm`] alone.
//!
//! # Order of opening and closing
//!
//! Closing any descriptor of the file drops all POSIX locks that the process holds on it, including
//! those of an SQLite connection. So a connection is opened and closed only while [`Shm`] is open;
//! `Database` keeps this order.
//!
//! # A file that is cut
//!
//! SQLite shortens the file only when no process locks DMS, and `Database` holds that lock. Any
//! other program may still cut the file; [`fault`] handles accesses to the mapping after that.
#![allow(unsafe_code)]

pub(crate) mod fault;
mod map;

pub use map::{LockKind, Shm};
