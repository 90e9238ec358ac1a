//! One live database, from waiting for its file to releasing it.
//!
//! | module | what it does |
//! |---|---|
//! | `wait`, `arrival` | wait until the file exists and is complete, then open it |
//! | `hold` | locks the state folder for this process |
//! | `attach` | takes the guard and reads the WAL from each replica's durable position |
//! | `run` | the loop: waits for hints, looks at the WAL, lets the guard move, watches the pipelines |
//! | `look_schedule`, `notice` | when to look: after hints, or by the clock while commits are frequent |
//! | `idle` | empties the large WAL of an idle database |
//! | `gone`, `abandon` | the path names another file, or none |
//! | `leave` | the last checkpoint, at shutdown |
//! | `error` | why a database is not followed |

pub(crate) mod abandon;
mod arrival;
pub(crate) mod attach;
mod error;
mod gone;
mod hold;
mod idle;
mod leave;
pub(crate) mod look_schedule;
mod notice;
mod run;
mod wait;

pub use error::FollowError;
pub(super) use leave::{LEAVE_TIME, Leaving};
pub use run::{Ended, Shared, follow};
