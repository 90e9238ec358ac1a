//! Storage of replicas: S3 buckets and directories.
//!
//! A [`Store`] is one replica: a flat set of LTX files named by [`LtxId`](crate::base::LtxId). Each
//! implementation maps names to keys or paths: on S3 `PREFIX/LLLL/NAME` with four hex digits, in a
//! directory `PATH/ltx/L/NAME`. Implementations retry by themselves: an error that a `Store`
//! returns is final for that call, and [`StoreError::kind`] says what it means.

mod api;
pub mod credentials;
mod error;
pub mod file;
mod forward;
mod listing;
mod open;
pub mod progress;
pub mod requests;
pub mod s3;
mod side;

pub use api::{BoxFuture, CreateOnly, Part, PutOptions, Result, Scope, Store, Upload};
pub use error::{ErrorKind, StoreError, is_file_limit};
#[cfg(feature = "internals")]
pub use file::FileStore;
pub use forward::Forward;
pub use listing::{Entry, Listed, Listing, SideEntry};
pub use open::open;
pub use s3::{ClientOptions, HostAnswer, RetryPolicy};
#[cfg(feature = "internals")]
pub use s3::{Clients, S3Store};
pub use side::SideId;
