//! One live database, from waiting for its file to releasing it.
//!
//! | module | what it does |
//! |---|---|
//! | `wait`, `arrival` | wait until the file exists and is complete, then open it |
//! | `hold` | locks the state folder for this process |
//! | `attach` | takes the guard and reads the WAL from each replica's durable position |
//! | `follow` | from one opening of the file to the next, until the stop |
//! | `run` | the loop: waits for hints, looks at the WAL, lets the guard move, watches the pipelines |
//! | `look_schedule`, `notice`, `busy` | when to look: after hints, or by the clock while commits are frequent |
//! | `idle` | empties the large WAL of an idle database |
//! | `gone`, `abandon` | the path names another file, or none |
//! | `leave`, `leaving` | the last checkpoint, at shutdown |
//! | `open_files` | keeps a file from being followed twice, and a replica from having two databases |
//! | `shared` | what the databases of the process share |
//! | `desk` | requests to say when what is committed now is stored |
//! | `error` | why a database is not followed |

pub(crate) mod abandon;
mod arrival;
pub(crate) mod attach;
mod busy;
mod desk;
mod error;
mod follow;
mod gone;
mod hold;
mod idle;
mod leave;
mod leaving;
pub(crate) mod look_schedule;
mod notice;
pub(super) mod open_files;
mod run;
mod shared;
mod wait;

pub use desk::{Desks, Synced};
pub use error::FollowError;
pub use follow::{Ended, follow};
pub(super) use leaving::{LEAVE_TIME, Leaving};
pub use shared::Shared;
