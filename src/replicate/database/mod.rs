//! The loop of one database: waits for hints, looks, lets the guard move, and keeps the pipelines
//! of its replicas alive.

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
