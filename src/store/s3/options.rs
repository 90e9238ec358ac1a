//! Settings of a client: timeouts, retries, connections.

use std::time::Duration;

use super::resolve::HostAnswer;
use crate::base::backoff::Backoff;
use crate::base::limits;
use crate::store::s3::client::Clients;

/// How long one request may take, and how it is retried.
#[derive(Debug, Clone)]
pub struct RetryPolicy {
    /// Time from the first attempt after which no further attempt begins.
    pub total: Duration,
    /// The same limit while no connection can be made: the port is closed or the name is unknown.
    pub unreachable: Duration,
    /// Wait after the first failed attempt. Later waits grow, with jitter.
    pub wait_first: Duration,
    /// Factor by which each wait exceeds the previous one.
    pub growth: u32,
    /// Longest wait between two attempts.
    pub wait_max: Duration,
    /// If true, a call makes a single attempt while the last call of its kind has failed. The
    /// caller then waits between calls.
    pub rest_when_down: bool,
    /// Base timeout of an attempt, before the time for the bytes it moves.
    pub attempt: Duration,
    /// An attempt gets one more second for each of these bytes that it moves.
    pub bytes_per_second: u64,
    /// An attempt fails if it moves no byte for this long.
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
    /// The waits between attempts.
    pub(super) fn backoff(&self) -> Backoff {
        Backoff::new(self.wait_first, self.wait_max).growing(self.growth)
    }

    /// The policy of a long-running process whose callers back off by themselves.
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

/// What all stores of a process share, and how they behave.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// Clients by endpoint. A clone shares them.
    pub clients: Clients,
    /// Retries and timeouts.
    pub retry: RetryPolicy,
    /// Requests in flight at once for one upload or copy in parts.
    pub transfers: usize,
    /// Whether to keep one more connection open than is in use.
    pub spare: bool,
    /// How long an idle connection stays open.
    pub idle: Duration,
    /// Largest object that is copied with one request, in bytes.
    pub copy_bytes: u64,
    /// Part size of a copy in parts, in bytes.
    pub copy_part_bytes: u64,
    /// Addresses of host names that are not looked up in DNS. The first store of an endpoint sets
    /// them.
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
