//! lsfast replicates live SQLite databases to S3 or a directory, and restores them.
//!
//! # The map of the house
//!
//! Folders are layers; a module may use those above it in this list, never those below (a test holds the rule):
//! `base`, `io`, `config`, `sqlite`, `wal`, `ltx`, `legacy`, `store`, `restore`, `replicate`, `observe`, `cli`.
#![deny(unsafe_code)]
// Tests open whatever they like; see clippy.toml.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

pub mod base;
pub mod io;
pub mod replicate;
pub mod ltx;
pub mod sqlite;
pub mod store;
pub mod wal;
pub mod cli;
pub mod config;
