//! Follows live databases and stores what they commit.
//!
//! The modules, in the order of the data:
//!
//! | module | what it does |
//! |---|---|
//! | [`run()`] | starts everything and ends it at the stop |
//! | [`fleet`] | all databases of the process, named or found in watched directories |
//! | `database` | the loop of one database: hints, looks at the WAL, moves of the guard |
//! | [`capture`] | takes committed pages from the WAL under the locks of [`guard`](crate::sqlite::guard) |
//! | [`handoff`] | keeps them as [`pending`] pages for each replica |
//! | `replica` | makes batches and stores them one at a time; `replica::resume` decides at the start how to continue |
//! | [`state`] | remembers in local files how far each replica reaches (`state::record`) |
//! | [`image`] | sends what is too large to hold in memory: `stream` encodes it, `source` reads it |
//! | [`history`] | compacts and removes what is stored |
//! | [`verify`] | reads back what is stored |
//! | `outage` | reports an unreachable store once for all its replicas |
//! | `remote` | reads single files of a replica |
//! | `sweep` | looks at all wal-indexes from time to time, in case a hint was lost |
//! | [`vitals`] | numbers that status and metrics read |

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
mod remote;
mod replica;
mod run;
mod shutdown;
pub mod state;
mod sweep;
pub mod verify;
pub mod vitals;

pub use event::{Event, Observer};
pub use fleet::control::{Control, ControlError, Requests, control};
pub use fleet::directories::Changes;
pub use fleet::files::files_in;
pub use history::{HistoryOptions, Once};
pub use image::progress::{image_begun, image_progress};
pub use options::{Choose, DatabaseOptions, DirectoryOptions, Options, ReplicaOptions};

#[cfg(any(test, feature = "internals"))]
pub use database::Synced;
pub use run::{run, run_with};
pub use shutdown::{Stop, Stopper, stop};
pub use verify::Verification;
pub use vitals::{HistoryStatus, VerificationStatus, Vitals};
