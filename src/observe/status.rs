//! The state of a process as values: sent over the sockets, and shown by `lsfast status`.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::sizes::sizes;

/// The state of a process, or what is known without one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of lsfast.
    pub version: String,
    /// ID of the process that responds; `None` without one.
    pub pid: Option<u32>,
    /// Its databases, sorted by path.
    pub databases: Vec<DatabaseStatus>,
    /// How far the images and comparisons under way are, over all databases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reading: Option<Progress>,
}

/// Bytes of databases that are read to be stored or compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Bytes that are done.
    pub done: u64,
    /// Bytes that are to be read.
    pub of: u64,
}

/// The state of one database.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DatabaseStatus {
    /// Path of the database file.
    pub path: String,
    /// Folder of its local state.
    pub home: String,
    /// `following`, `waiting`, `failed`, `stopped`, `read replica`; `not running` if no process
    /// replicates it.
    pub state: String,
    /// Size of the database file, in bytes.
    pub size: Option<u64>,
    /// Size of the WAL file, in bytes.
    pub wal_size: Option<u64>,
    /// The newest captured commit.
    pub position: Option<Position>,
    /// Number of commits that this process captured.
    pub commits: Option<u64>,
    /// Why the database is, or was, not replicated.
    pub error: Option<FailureStatus>,
    /// Since when the WAL has frames that cannot be proven, and what is wrong with them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wal_damage: Option<FailureStatus>,
    pub replicas: Vec<ReplicaStatus>,
    /// State of the standby process, if the database is itself a standby.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follows: Option<FollowState>,
}

impl DatabaseStatus {
    /// A database of which no more is known than its files.
    pub(super) fn of_files(db: &Path, home: &Path, state: &str) -> DatabaseStatus {
        let (size, wal_size) = sizes(db);
        DatabaseStatus {
            path: db.to_string_lossy().into_owned(),
            home: home.to_string_lossy().into_owned(),
            state: state.to_owned(),
            size,
            wal_size,
            position: None,
            commits: None,
            error: None,
            wal_damage: None,
            replicas: Vec::new(),
            follows: None,
        }
    }
}

/// A standby: a database that is kept up to date from a replica.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FollowState {
    /// URL of the replica; `None` if only the position next to the database is known.
    pub url: Option<String>,
    /// `restoring`, `following`, `failing`; `not running` if no process follows.
    pub state: String,
    /// TXID of the last applied state.
    pub txid: Option<String>,
    /// When that state was committed.
    pub time: Option<String>,
    /// Seconds since the store last reported that there is nothing newer.
    pub lag_seconds: Option<f64>,
    /// Number of files that this process applied.
    pub files: u64,
    /// Number of transactions that applied them.
    pub transactions: u64,
    /// Number of whole images applied because no file continued from the state.
    pub images: u64,
    /// Number of failed attempts.
    pub errors: u64,
    /// The last failed attempt.
    pub error: Option<FailureStatus>,
}

/// A position in the WAL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The generation of the WAL: its salts, as 16 hex digits.
    pub salts: String,
    /// Number of the last frame; 0 for an empty WAL.
    pub frame: u32,
    /// Where the frame ends in the WAL file, in bytes.
    pub offset: u64,
    /// Size of the database, in pages.
    pub pages: u32,
}

/// The state of one replica.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReplicaStatus {
    /// URL of the replica; `None` if only the folder of its state is known.
    pub url: Option<String>,
    /// Whether the store has said what it holds, and everything since is counted. Not sent.
    #[serde(skip)]
    pub is_proven: bool,
    /// `starting`, `following`, `comparing`, `storing an image`, `away`, `stopped`; `not running`
    /// if no process replicates to it.
    pub state: String,
    /// Since when uploads fail, for `away`.
    pub since: Option<String>,
    /// The newest stored state; `None` if none is known.
    pub durable: Option<DurableStatus>,
    /// The lag of the replica; `None` while it is unknown.
    pub lag: Option<LagStatus>,
    /// Number of batches that this process stored.
    pub batches: u64,
    /// Total bytes of these batches.
    pub batch_bytes: u64,
    /// Number of failed attempts.
    pub errors: u64,
    /// The last failed attempt.
    pub error: Option<FailureStatus>,
    /// Times from commits to the store's response.
    pub latency: Option<LatencyStatus>,
    /// Levels and images.
    pub history: Option<HistoryState>,
    /// Results of its verifications, if it is verified.
    #[serde(default)]
    pub verification: Option<VerificationState>,
}

/// The newest state that a store has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DurableStatus {
    /// TXID of the newest batch.
    pub txid: String,
    /// Time of its state.
    pub time: String,
    /// Where it ends in the WAL.
    pub position: Position,
}

/// Commits that are not stored yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LagStatus {
    /// Number of these commits.
    pub commits: u64,
    /// Bytes of the pages they changed; a page counts once per change.
    pub bytes: u64,
    /// Age of the oldest of these commits, in seconds.
    pub seconds: f64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureStatus {
    /// When it happened.
    pub time: String,
    /// The error message.
    pub message: String,
}

/// How long commits waited for the store's response.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LatencyStatus {
    /// Number of batches.
    pub count: u64,
    /// Mean, in milliseconds.
    pub mean_ms: f64,
    /// Median: half of them took no longer than this bound of the histogram, in milliseconds.
    pub p50_ms: Option<u64>,
    /// 99th percentile, as a bound of the histogram, in milliseconds.
    pub p99_ms: Option<u64>,
}

/// The history of a replica: images, levels and deletions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryState {
    /// TXID of the newest image of level 9.
    pub snapshot_txid: Option<String>,
    /// When that image was made.
    pub snapshot_time: Option<String>,
    /// When the next image is due; `None` while nothing changes.
    pub next_snapshot: Option<String>,
    /// Error of the last step that failed.
    pub error: Option<String>,
    /// Whether the store refuses deletions.
    pub deletions_refused: bool,
    /// Levels that hold files.
    pub levels: Vec<LevelState>,
    /// TXID and time of states that can be restored, the newest first. Not sent.
    #[serde(skip)]
    pub points: Vec<(String, String)>,
}

/// Results of the verifications of a replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerificationState {
    /// When the last completed verification began.
    pub last: Option<String>,
    /// When the last verification without a fault began.
    pub sound: Option<String>,
    /// The fault that the last one found.
    pub fault: Option<String>,
    /// Number of faults that the last one found.
    pub faults: u64,
    /// Why the last attempt could not be completed.
    pub error: Option<String>,
    /// When the next one is due; `None` while one runs.
    pub next: Option<String>,
    /// Bytes that the one under way has read; `None` if none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<u64>,
    /// Bytes read since the start of the process.
    pub bytes: u64,
}

/// The files of one level.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LevelState {
    /// The level, 0 to 9.
    pub level: usize,
    /// Number of files.
    pub objects: u64,
    /// Total bytes of the files.
    pub bytes: u64,
}
