//! lsfast replicates live SQLite databases to S3 or a directory, and restores them.
//!
//! This library is the inside of the program, and not for other programs: [`run`] and
//! [`register_extension`] are all that it offers (`docs/design/decisions.md`). So the compiler
//! finds every item that the program does not use. The feature `internals` opens the modules to the
//! tests, benches and fuzz targets of this repository.
//!
//! # The map of the house
//!
//! Folders are layers. A module may use those above it in this list, never those below
//! (`tests/it/layers.rs`). The names on this page and in `docs/` exist (`tests/it/maps.rs`).
//!
//! | layer | what it knows |
//! |---|---|
//! | `base` | identifiers, limits, clock, backoff, CRC-64; no input or output |
//! | `io` | files: the engine (io_uring or plain calls), durable writes, private folders, inotify, timers |
//! | `config` | URLs, credentials, config file: what the user asked for, as values |
//! | `sqlite` | database header, wal-index, locks, WAL checksum, connections |
//! | `wal` | WAL format, proof of frames, the tail of a WAL |
//! | `ltx` | stored files: encode, decode, merge |
//! | `legacy` | replicas of Litestream 0.3, read only |
//! | `store` | where replicas live: directory, S3; credentials |
//! | `restore` | plan, fetch, decode, write, verify; standbys (`restore::standby`) |
//! | `view` | pages of one state on demand, the files between two states, and the rows that differ |
//! | `replicate` | guard, capture, batches, uploads, history; one pipeline for each database and replica |
//! | `observe` | status, metrics, page, heartbeat, from snapshots of state |
//! | `cli` | one file for each command |
//!
//! # The way of a page
//!
//! ```text
//! commit in the application
//!   -> inotify: "look again"                                        io::watch
//!   -> the wal-index says how far committed frames reach            wal::shm
//!   -> frames read, salts and checksum chain proven                 wal::tail
//!   -> newest image of each page, size of the database              replicate::capture
//!   -> handed over to each replica                                  replicate::handoff
//!   -> one LTX file: LZ4 for each page, CRC-64 over all             replicate::replica,
//!   ltx::encode_file
//!   -> one PUT: create-only, checksummed, signed for each attempt   store
//!   -> the durable position moves, page hashes are noted            replicate::state::record
//! ```
//!
//! The WAL starts over when every frame in it is captured and copied to the database file; that is
//! the business of `sqlite::guard`, and it does not wait for the store.
//!
//! A restore goes the other way: a few LISTs, a plan, ranged GETs side by side, the newest version
//! of each page written once at its final offset in a temporary file, flushed, verified, renamed.
//!
//! # Invariants
//!
//! Each is cited where the code holds it (`// I3: ...`) and at a test that fails without it.
//!
//! - **I1** A position is *durable* only when the store has answered the PUT.
//! - **I2** From the first captured frame until shutdown, CKPT or a READ(k) is held, and READ(k) is
//!   released only when each frame up to mxFrame is captured. The exceptions are the open phases of
//!   the guard; what happened in one is proven afterwards, or repaired.
//! - **I3** What is uploaded ends at a commit frame and never lies beyond mxFrame.
//! - **I4** TXIDs are contiguous; n+1 is never visible before n; the newest level-0 object is never
//!   deleted.
//! - **I5** A restore gives the exact pages of one committed state, or an error and the target
//!   untouched.
//! - **I6** No failure of the store, however long, makes a commit of the application fail or wait,
//!   or the WAL grow without bound.
//! - **I7** A secret appears in no log, no error, no `Debug` output, no process list.
//!
//! # Glossary
//!
//! - **WAL**: the file `NAME-wal`. Its **frames** are pages with a header; the last frame of a
//!   transaction carries the *commit mark*, the size of the database in pages.
//! - **wal-index**: the file `NAME-shm`, mapped by all connections. **mxFrame** is the last
//!   committed frame, **nBackfill** the last one that a checkpoint has copied to the database file.
//! - **Salts**: two numbers in the header of the WAL and in each frame. They name one *generation*
//!   of it. A **reset** begins the next generation at frame 1.
//! - **DMS**: the lock byte 128 of the wal-index, SQLite's "dead man switch". Each process holds it
//!   shared while it has the file open, so that an abandoned wal-index is known as one.
//! - **CKPT**, **READ(0)** to **READ(4)**: lock bytes of the wal-index. In I2, READ(k) is any of
//!   READ(0) to READ(4). **Cruise**, **turn**, **round**: what the guard does with them
//!   (`docs/design/guard.md`). The *lock of cruise* is CKPT, or READ(0) in place of it.
//! - **Armed**: all of the WAL is in the database file, so that the next write resets it.
//! - **Open phase**: a moment in which the guard holds neither CKPT nor a READ(k).
//! - **Pin**: while one is held no turn begins, so that the database file does not change under who
//!   reads it.
//! - **LTX file**: a sorted set of pages with a header and checksums; the unit of storage.
//! - **TXID**: number of one uploaded batch, from 1, without holes.
//! - **Level**: 0 for raw batches, 1 to 8 for compacted ones, 9 for full images.
//! - **Position**: how far a replica reaches: TXID, salts, frame and running checksum in the WAL
//!   (`replicate::state::home::Point`).
//! - **Captured**: read from the WAL and proven. **Durable**: the store has answered for it.
//! - **Intended point**: the position after an upload that has begun. It is written to the local
//!   state first, so that a restart knows the upload whose answer was lost.
//! - **Repair**: finding changed pages by their hashes, when the WAL cannot prove that nothing was
//!   missed.
#![deny(unsafe_code)]
// Opened modules are still the inside: a name that says all needs no more words.
#![cfg_attr(feature = "internals", allow(missing_docs))]
// Tests open whatever they like; see clippy.toml.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

pub use self::cli::run;
pub use self::view::vfs::register_extension;

#[cfg(not(feature = "internals"))]
mod base;
#[cfg(not(feature = "internals"))]
mod cli;
#[cfg(not(feature = "internals"))]
mod config;
#[cfg(not(feature = "internals"))]
mod io;
#[cfg(not(feature = "internals"))]
mod legacy;
#[cfg(not(feature = "internals"))]
mod ltx;
#[cfg(not(feature = "internals"))]
mod observe;
#[cfg(not(feature = "internals"))]
mod replicate;
#[cfg(not(feature = "internals"))]
mod restore;
#[cfg(not(feature = "internals"))]
mod sqlite;
#[cfg(not(feature = "internals"))]
mod store;
#[cfg(not(feature = "internals"))]
mod view;
#[cfg(not(feature = "internals"))]
mod wal;

#[cfg(feature = "internals")]
pub mod base;
#[cfg(feature = "internals")]
pub mod cli;
#[cfg(feature = "internals")]
pub mod config;
#[cfg(feature = "internals")]
pub mod io;
#[cfg(feature = "internals")]
pub mod legacy;
#[cfg(feature = "internals")]
pub mod ltx;
#[cfg(feature = "internals")]
pub mod observe;
#[cfg(feature = "internals")]
pub mod replicate;
#[cfg(feature = "internals")]
pub mod restore;
#[cfg(feature = "internals")]
pub mod sqlite;
#[cfg(feature = "internals")]
pub mod store;
#[cfg(feature = "internals")]
pub mod view;
#[cfg(feature = "internals")]
pub mod wal;
