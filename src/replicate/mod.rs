//! Following live databases and storing what they commit.
//!
//! In the order of the data: `capture` takes committed pages from the log under the locks of
//! `guard`, `board` keeps them as `pending` for each replica, `replica` makes batches and stores
//! them one at a time, `local` remembers how far that went. `stream` sends what is too large to
//! hold, read through `source`; `remote` decides at the start how to go on; `history` compacts and
//! removes what is stored, `verify` reads it back. `follow` is the loop of one database, [`run`]
//! that of all.

pub mod capture;
mod database;
mod error;
mod event;
pub mod fleet;
#[cfg(fuzzing)]
pub mod fuzzing;
pub mod handoff;
pub mod history;
pub mod image;
mod options;
mod outage;
pub mod pending;
mod replica;
mod run;
mod shutdown;
pub mod state;
pub mod verify;
pub mod vitals;

pub use database::FollowError;
pub use event::{Event, Observer};
pub use fleet::directories::{Choose, DirectoryOptions, files_in};
pub use history::{HistoryOptions, HistoryStatus, Once};
pub use options::{DatabaseOptions, Options, ReplicaOptions};
pub use replica::ReplicaError;
pub use run::run;
pub use shutdown::{Stop, Stopper, stop};
pub use verify::{Verification, VerificationStatus};
pub use vitals::Vitals;
