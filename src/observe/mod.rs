//! The state that a running process shows: to `lsfast status`, as metrics to Prometheus, as a page
//! to people, and as a heartbeat to a monitoring service.
//!
//! # Overview
//!
//! One thread with its own event loop does all of this. It reads
//! [`Vitals`](crate::replicate::Vitals), which the pipelines write without ever waiting for a
//! reader. In an idle process the thread is idle too. It listens:
//!
//! - at `socket` in the folder of each database that it replicates. There `lsfast status DB` finds
//!   it without a config file. This socket shows only that database. The process holds the lock of
//!   the folder meanwhile, so the socket belongs to the process that replicates the database. A
//!   socket left by a killed process refuses connections, and the next process replaces it;
//! - at `socket.path` of the config file, if that is enabled;
//! - at `addr` of the config file.
//!
//! The last two show all databases. All of them answer the same GET requests: `/status` (JSON),
//! `/metrics`, `/healthz`, `/readyz`, the pages `/` and `/db`, and show no secrets. Sockets also
//! take the requests of [`commands`]; `addr` takes none, and may ask for a token.

mod client;
mod commands;
mod database_sockets;
mod detail;
mod format;
mod gate;
mod health;
mod heartbeat;
mod markup;
mod metrics;
mod observatory;
mod offline;
mod page;
mod process;
mod readiness;
mod samples;
mod scope;
mod server;
mod sizes;
mod snapshot;
mod standbys;
mod status;
mod visitors;

pub use client::{ask, request};
pub use commands::{Asked, Changed, Commands, Info, List, Listed, Refusal, SyncAnswer};
pub use database_sockets::SOCKET;
pub use health::{Health, Line, summary, worst_first};
pub use heartbeat::{Heartbeat, INTERVAL as HEARTBEAT_INTERVAL};
pub use observatory::{Observatory, Options, forget_follow_socket, start};
pub use offline::{Place, holder, is_replica_folder, without_process};
pub use status::{DatabaseStatus, FailureStatus, FollowState, ReplicaStatus, Status, VerificationState};
