//! The config file: `litestream.yml` as Litestream 0.3 and 0.5 read it, and a few keys of lsfast's
//! own.
//!
//! `yaml` parses the text into sections of known keys. `expand` and `build` expand and parse each
//! value, and resolve replicas as everywhere else. Finally `check` refuses duplicates. An invalid
//! value is an error with line and column; a key without effect is a warning.

mod build;
mod check;
mod config;
mod database;
mod error;
mod expand;
mod explain;
mod fingerprint;
mod inherited;
mod keys;
mod load;
mod open;
mod pattern;
mod yaml;

pub use config::{Config, LogFormat, LogLevel, Logging, Socket};
pub use database::{DatabaseConfig, Directory, ReplicaConfig};
pub use error::FileError;
pub use inherited::Verifications;
#[cfg(feature = "internals")]
pub use open::default_paths;
