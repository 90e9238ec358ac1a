//! What a running process tells of itself: its state to `lsfast status`, metrics to Prometheus, a
//! page to people, and a heartbeat to a service that waits for it.
//!
//! One thread with a loop of its own does all of it. It reads [`Vitals`], which the pipelines write
//! and never wait for; an idle process does nothing here. Where it listens:
//!
//! - at `socket` in the folder of each database that it follows, so that `lsfast status DB` finds
//!   it without a config file. It shows that database alone. The folder's lock is held meanwhile,
//!   so the socket is that of the process that follows the database. One that was left behind by a
//!   killed process refuses connections, and is replaced by the next;
//! - at `socket.path` of the config file, if that is enabled;
//! - at `addr` of the config file.
//!
//! The last two show all databases. All of them answer the same GET requests: `/status` (JSON),
//! `/metrics`, `/`. There is nothing to command, and nothing secret to see.

mod client;
mod database_sockets;
mod format;
mod heartbeat;
mod metrics;
mod observatory;
mod offline;
mod page;
mod scope;
mod server;
mod sizes;
mod snapshot;
mod standbys;
mod status;

pub use client::ask;
pub use database_sockets::SOCKET;
pub use heartbeat::{Heartbeat, INTERVAL as HEARTBEAT_INTERVAL};
pub use observatory::{Observatory, Options, forget_follow_socket, start};
pub use offline::{Place, holder, is_replica_folder, without_process};
pub use status::{
    DatabaseStatus, DurableStatus, FailureStatus, FollowState, HistoryState, LagStatus, LatencyStatus,
    LevelState, Position, ReplicaStatus, Status, VerificationState,
};
