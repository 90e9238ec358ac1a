//! lsfast replicates live SQLite databases to S3 or a directory, and restores them.
//!
//! # The map of the house
//!
//! Folders are layers; a module may use those above it in this list, never those below (`tests/it/layers.rs` holds
//! the rule):
//!
//! | layer | what it knows |
//! |---|---|
//! | `base` | identifiers, limits, clock, CRC-64; no input or output |
//! | `io` | the engine for file work (io_uring or plain calls), durable writes |
//! | `config` | URLs, credentials, durations: what the user said, as values; no side effects |
//! | `sqlite` | database header, wal-index, the guard, the one connection |
//! | `wal` | format and checksum of the log, its tail, the hint that it moved |
//! | `ltx` | format of stored files: encode, decode, merge, names |
//! | `legacy` | replicas of Litestream 0.3, read only |
//! | `store` | where replicas live: directory, S3 |
//! | `restore` | plan, fetch, write, verify |
//! | `replicate` | capture, batch, upload, acknowledge; one pipeline for each database and replica |
//! | `observe` | metrics and status, from snapshots of state |
//! | `cli` | one file for each command |
//!
//! # The way of a page
//!
//! ```text
//! commit in the application
//!   -> inotify hint -> wal-index says mxFrame moved        wal, sqlite
//!   -> new frames up to mxFrame, salts and checksums       wal
//!   -> newest image of each page, size of the database     replicate
//!   -> one LTX file, LZ4 for each page, CRC-64             ltx
//!   -> one PUT, create-only, checksummed                   store
//!   -> durable position moves, the log may turn over       replicate, sqlite
//! ```
//!
//! Restore: LIST once, plan, ranged GETs side by side, newest page wins, written once at its final offset in a
//! temporary file, flushed, verified, renamed.
//!
//! # Invariants
//!
//! - **I1** A position is *durable* only when the store has answered the PUT, or the spool file is flushed.
//! - **I2** CKPT or a READ(k) is held from the first captured frame until shutdown, but for the end of a turn, which is
//!   proven afterwards or repaired; each frame up to mxFrame is captured before READ(k) is released.
//! - **I3** What is uploaded ends at a commit frame and never lies beyond mxFrame.
//! - **I4** TXIDs are contiguous; n+1 is never visible before n; the newest level-0 object is never deleted.
//! - **I5** A restore gives the exact pages of one committed state, or an error and the target untouched.
//! - **I6** No failure of the store, however long, makes a commit of the application fail or wait.
//! - **I7** A secret appears in no log, no error, no `Debug` output, no process list.
//!
//! # Glossary
//!
//! - **WAL**, *log*: the file `NAME-wal`. Its **frames** are pages with a header; the last frame of a transaction
//!   carries the *commit mark*, the size of the database in pages.
//! - **wal-index**: the file `NAME-shm`, mapped by all connections. **mxFrame** is the last committed frame,
//!   **nBackfill** the last one that a checkpoint has copied to the database file.
//! - **Salts**: two numbers in the header of the log and in each frame; they name one *generation* of it. A **reset**
//!   begins the next generation at frame 1.
//! - **CKPT**, **READ(k)**: lock bytes of the wal-index. **Cruise**, **turn**, **round**: what the guard does with them
//!   (`docs/design/guard.md`).
//! - **Armed**: all of the log is in the database file, so that the next write resets it.
//! - **LTX file**: a sorted set of pages with a header and checksums; the unit of storage.
//! - **TXID**: number of one uploaded batch, from 1, without holes.
//! - **Level**: 0 for raw batches, 1 to 8 for compacted ones, 9 for full images.
//! - **Position**: how far a replica reaches: TXID, salts, offset and running checksum in the log.
//! - **Captured**: in memory, in the spool, or answered by the store. **Durable**: the latter two.
//! - **Repair**: finding changed pages by their hashes, when the log cannot prove that nothing was missed.
#![deny(unsafe_code)]
// Tests open whatever they like; see clippy.toml.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

pub mod base;
pub mod cli;
pub mod config;
pub mod io;
pub mod legacy;
pub mod ltx;
pub mod observe;
pub mod replicate;
pub mod restore;
pub mod sqlite;
pub mod store;
pub mod wal;
