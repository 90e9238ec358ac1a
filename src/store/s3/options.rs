//! How a client behaves: timeouts, retries, connections.

use std::time::Duration;

use super::resolve::HostAnswer;
use crate::base::limits;
use crate::store::s3::client::Clients;

/// How long one request may take, and how often it is tried.
#[derive(Debug, Clone)]
pub struct RetryPolicy {
    /// No further attempt begins after this time.
    pub total: Duration,
    /// The same while there is no connection at all: nothing listens, or the name is unknown.
    pub unreachable: Duration,
    /// Wait after the first failed attempt; it grows with each, with jitter.
    pub wait_first: Duration,
    /// Each wait is this many times as long as the one before.
    pub growth: u32,
    /// Longest wait.
    pub wait_max: Duration,
    /// While an earlier call has failed for good and none has succeeded since, a call is one
    /// attempt: whoever calls waits between the calls.
    pub rest_when_down: bool,
    /// Time of an attempt that moves no bytes.
    pub attempt: Duration,
    /// An attempt gets a second more for each so many bytes that it moves.
    pub bytes_per_second: u64,
    /// An attempt during which not one byte moves for so long has failed.
    pub stall: Duration,
}

impl Default for RetryPolicy {
    fn default() -> RetryPolicy {
        RetryPolicy {
            total: Duration::from_secs(30),
            unreachable: Duration::from_secs(5),
            wait_first: limits::BACKOFF_FIRST,
            growth: 2,
            wait_max: limits::RETRY_WAIT_MAX,
            rest_when_down: false,
            attempt: Duration::from_secs(10),
            bytes_per_second: 64 << 10,
            stall: Duration::from_secs(10),
        }
    }
}

impl RetryPolicy {
    /// For a process that goes on for ever and backs off by itself.
    #[must_use]
    pub fn of_a_service() -> RetryPolicy {
        RetryPolicy {
            growth: limits::BACKOFF_GROWTH,
            wait_max: limits::BACKOFF_MAX,
            rest_when_down: true,
            ..RetryPolicy::default()
        }
    }
}

/// What is shared by all stores that a process opens, and how they behave.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// Clients by endpoint; clone it to share them.
    pub clients: Clients,
    /// Attempts and their time.
    pub retry: RetryPolicy,
    /// Requests under way at once for one upload or copy in parts.
    pub transfers: usize,
    /// Whether to keep one connection more ready than is used.
    pub spare: bool,
    /// How long an idle connection is kept.
    pub idle: Duration,
    /// Objects up to this size are copied by one request.
    pub copy_bytes: u64,
    /// A part of a copy in parts.
    pub copy_part_bytes: u64,
    /// Addresses of names that the name service is not asked for. Those of the first store of an
    /// endpoint count.
    pub answers: Vec<HostAnswer>,
}

impl Default for ClientOptions {
    fn default() -> ClientOptions {
        ClientOptions {
            clients: Clients::default(),
            retry: RetryPolicy::default(),
            transfers: limits::TRANSFERS,
            spare: true,
            idle: limits::POOL_IDLE_TIME,
            copy_bytes: limits::COPY_BYTES,
            copy_part_bytes: limits::COPY_PART_BYTES,
            answers: Vec::new(),
        }
    }
}
