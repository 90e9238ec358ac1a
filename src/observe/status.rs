//! The state of a process as values: what goes over the sockets, and what `lsfast status` shows.

use serde::{Deserialize, Serialize};

/// A process, or what is known without one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Its version.
    pub version: String,
    /// The process that answers.
    pub pid: Option<u32>,
    /// Its databases, in order of their paths.
    pub databases: Vec<DatabaseStatus>,
}

/// A database.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DatabaseStatus {
    /// Its file.
    pub path: String,
    /// Where its local state is.
    pub home: String,
    /// `following`, `waiting`, `failed`, `stopped`, `read replica`; `not running` if no process
    /// follows it.
    pub state: String,
    /// Bytes of the file.
    pub size: Option<u64>,
    /// Bytes of the log's file.
    pub wal_size: Option<u64>,
    /// The newest captured commit.
    pub position: Option<Position>,
    /// Commits captured by this process.
    pub commits: Option<u64>,
    /// Why it is, or was, not replicated.
    pub error: Option<FailureStatus>,
    /// Since when its WAL has frames that can't be proven, and what is wrong with them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wal_damage: Option<FailureStatus>,
    /// Its replicas.
    pub replicas: Vec<ReplicaStatus>,
    /// What it follows, where it is itself a read replica.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follows: Option<FollowState>,
}

/// A database that is kept near a replica.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FollowState {
    /// Where the replica is; `None` if only the position beside the database is known.
    pub url: Option<String>,
    /// `restoring`, `following`, `failing`; `not running` if no process follows.
    pub state: String,
    /// The position.
    pub txid: Option<String>,
    /// When that state was made.
    pub time: Option<String>,
    /// Time since the store last said that there is nothing newer.
    pub lag_seconds: Option<f64>,
    /// Files applied by this process.
    pub files: u64,
    /// Transactions that applied them.
    pub transactions: u64,
    /// Whole images applied because no file leads on from the state.
    pub images: u64,
    /// Attempts that failed.
    pub errors: u64,
    /// The last of them.
    pub error: Option<FailureStatus>,
}

/// A place in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The generation of the log: its salts, 16 hex digits.
    pub salts: String,
    /// The last frame; 0 for an empty log.
    pub frame: u32,
    /// Where it ends, in bytes.
    pub offset: u64,
    /// Pages in the database.
    pub pages: u32,
}

/// A replica of a database.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReplicaStatus {
    /// Where it is; `None` if only the folder of its state is known.
    pub url: Option<String>,
    /// `starting`, `following`, `comparing`, `storing an image`, `away`, `stopped`; `not running`
    /// if no process follows it.
    pub state: String,
    /// Since when the store does not answer, for `away`.
    pub since: Option<String>,
    /// What the store has.
    pub durable: Option<DurableStatus>,
    /// How far it is behind, where that is known.
    pub lag: Option<LagStatus>,
    /// Batches stored by this process.
    pub batches: u64,
    /// Their bytes.
    pub batch_bytes: u64,
    /// Attempts that failed.
    pub errors: u64,
    /// The last of them.
    pub error: Option<FailureStatus>,
    /// The time from commits to the store's answer.
    pub latency: Option<LatencyStatus>,
    /// Levels and images.
    pub history: Option<HistoryState>,
    /// What its verifications found, if it is verified.
    #[serde(default)]
    pub verification: Option<VerificationState>,
}

/// What a store has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DurableStatus {
    /// The newest batch.
    pub txid: String,
    /// The time of its state.
    pub time: String,
    /// Where it ends in the log.
    pub position: Position,
}

/// What is committed and not stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LagStatus {
    /// Commits.
    pub commits: u64,
    /// Bytes of the pages that they changed; a page counts as often as it was changed.
    pub bytes: u64,
    /// Age of the oldest.
    pub seconds: f64,
}

/// Something that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureStatus {
    /// When.
    pub time: String,
    /// In words.
    pub message: String,
}

/// How long commits waited for the store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LatencyStatus {
    /// Number of batches.
    pub count: u64,
    /// Mean, in milliseconds.
    pub mean_ms: f64,
    /// Half of them took no longer than this bound of the histogram.
    pub p50_ms: Option<u64>,
    /// 99 of 100 did.
    pub p99_ms: Option<u64>,
}

/// The history of a replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryState {
    /// TXID of the newest image of level 9.
    pub snapshot_txid: Option<String>,
    /// When it was made.
    pub snapshot_time: Option<String>,
    /// When the next one is due; none while nothing changes.
    pub next_snapshot: Option<String>,
    /// What the last step that failed said.
    pub error: Option<String>,
    /// The store refuses deletions.
    pub deletions_refused: bool,
    /// Levels that hold anything.
    pub levels: Vec<LevelState>,
}

/// What the verifications of a replica found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerificationState {
    /// When the last one began, of those that came to an end.
    pub last: Option<String>,
    /// When the last one began that found nothing wrong.
    pub sound: Option<String>,
    /// What the last one found wrong.
    pub fault: Option<String>,
    /// How many things.
    pub faults: u64,
    /// Why the last attempt came to no end.
    pub error: Option<String>,
    /// When the next one is due; none while one is under way.
    pub next: Option<String>,
    /// Bytes read since the start.
    pub bytes: u64,
}

/// One level.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LevelState {
    /// 0 to 9.
    pub level: usize,
    /// Number of files.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}
