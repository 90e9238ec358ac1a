//! Litestream's control requests: `register`, `unregister`, `start`, `stop`, `sync`, `list`,
//! `info` and `txid`, with its paths, fields and status codes.
//!
//! They are answered at sockets only, whose permissions say who may send them. The socket in the
//! folder of a database serves that database, and changes nothing: it answers `sync`, `list`,
//! `info` and `txid`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::scope::Scope;
use crate::base::clock::Millis;
use crate::config::decode;
use crate::replicate::vitals::{DatabasePhase, DatabaseVitals, ReplicaVitals};
use crate::replicate::{Control, ControlError, DatabaseOptions, Vitals};

/// Time that a request may take which sets none, as in Litestream.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The options of a database that is registered with this path and URL, or why there are none.
pub type Register = Arc<dyn Fn(&Path, &str) -> Result<DatabaseOptions, String> + Send + Sync>;

/// Makes a path of a request absolute.
pub type Expand = Arc<dyn Fn(&str) -> PathBuf + Send + Sync>;

/// What the requests need.
#[derive(Clone)]
pub struct Commands {
    /// Reaches the databases.
    pub control: Control,
    /// Resolves the URL of a new database.
    pub register: Register,
    /// Makes paths absolute.
    pub expand: Expand,
}

impl fmt::Debug for Commands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Commands").finish_non_exhaustive()
    }
}

/// The body of a request. Each command takes some of it.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Asked {
    /// The database.
    pub path: String,
    /// Where a new database is replicated to.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub replica_url: String,
    /// Whether `sync` waits until everything is stored.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub wait: bool,
    /// Seconds that the request may take.
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: i64,
}

fn is_zero(n: &i64) -> bool {
    *n == 0
}

impl Asked {
    /// Time that the request may take.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        u64::try_from(self.timeout).ok().filter(|n| *n > 0).map_or(TIMEOUT, Duration::from_secs)
    }
}

/// The answer to a command that changes whether a database is replicated.
#[derive(Debug, Serialize, Deserialize)]
pub struct Changed {
    /// What was done.
    pub status: String,
    /// The database.
    pub path: String,
    /// TXID of its newest stored state; not for `register`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub txid: Option<u64>,
}

/// The answer to `sync`.
#[derive(Debug, Serialize, Deserialize)]
pub struct SyncAnswer {
    /// `synced`, `synced_local` or `no_change`.
    pub status: String,
    /// The database.
    pub path: String,
    /// TXID of the newest commit.
    pub txid: u64,
    /// TXID of the newest stored state.
    pub replicated_txid: u64,
}

/// The answer to `list`.
#[derive(Debug, Serialize, Deserialize)]
pub struct List {
    /// All databases of the process.
    pub databases: Vec<Listed>,
}

/// A database in [`List`].
#[derive(Debug, Serialize, Deserialize)]
pub struct Listed {
    pub path: String,
    /// `replicating`, `open` or `stopped`.
    pub status: String,
    /// Time of the newest stored state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_sync_at: Option<String>,
}

/// The answer to `info`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Info {
    /// Version of lsfast.
    pub version: String,
    /// Id of the process.
    pub pid: u32,
    /// Seconds since its start.
    pub uptime_seconds: u64,
    /// When it was started.
    pub started_at: String,
    /// Number of its databases.
    pub database_count: usize,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Refusal {
    /// Why.
    pub error: String,
    /// More about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<String>,
}

/// When the process began to answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Started(Instant, Millis);

impl Started {
    pub(super) fn now() -> Started {
        Started(Instant::now(), Millis::now())
    }
}

/// Status and body of an answer.
pub(super) type Answer = (StatusCode, String);

fn answer(body: &impl Serialize) -> Answer {
    // As Go's encoder, which ends with a newline.
    (StatusCode::OK, serde_json::to_string(body).unwrap_or_default() + "\n")
}

pub(super) fn refuse(status: StatusCode, error: impl Into<String>, details: Option<String>) -> Answer {
    let body = Refusal { error: error.into(), details };
    (status, serde_json::to_string(&body).unwrap_or_default() + "\n")
}

/// Answers `GET /list`, `/info` and `/txid`; `None` for another path.
pub(super) fn get(
    commands: &Commands,
    vitals: &Vitals,
    scope: &Scope,
    started: Started,
    (path, query): (&str, Option<&str>),
) -> Option<Answer> {
    let mut databases = vitals.databases();
    databases.retain(|d| scope.shows(&d.home));
    Some(match path {
        "/list" => answer(&List { databases: databases.iter().map(|d| listed(d)).collect() }),
        "/info" => answer(&Info {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_seconds: started.0.elapsed().as_secs(),
            started_at: started.1.to_rfc3339(),
            database_count: databases.len(),
        }),
        "/txid" => {
            let path = query.unwrap_or_default().split('&').find_map(|p| p.strip_prefix("path="));
            let path = path.and_then(|p| decode(&p.replace('+', " ")));
            let Some(path) = path.filter(|p| !p.is_empty()) else {
                return Some(refuse(StatusCode::BAD_REQUEST, "path required", None));
            };
            match find(&databases, &(commands.expand)(&path)) {
                Some(database) => answer(&serde_json::json!({ "txid": txid(database) })),
                None => refuse(StatusCode::NOT_FOUND, "database not found", None),
            }
        }
        _ => return None,
    })
}

/// Whether this is the path of a command.
pub(super) fn is_command(path: &str) -> bool {
    ["/register", "/unregister", "/start", "/stop", "/sync"].contains(&path)
}

/// Reads the body of a command.
pub(super) fn read(body: &[u8]) -> Result<Asked, Answer> {
    let asked: Asked = serde_json::from_slice(body)
        .map_err(|e| refuse(StatusCode::BAD_REQUEST, "invalid request body", Some(e.to_string())))?;
    if asked.path.is_empty() {
        return Err(refuse(StatusCode::BAD_REQUEST, "path required", None));
    }
    Ok(asked)
}

/// Does what a command asks for.
pub(super) async fn obey(
    commands: &Commands,
    vitals: &Vitals,
    scope: &Scope,
    command: &str,
    asked: &Asked,
) -> Answer {
    let path = (commands.expand)(&asked.path);
    let mut databases = vitals.databases();
    databases.retain(|d| scope.shows(&d.home));
    let database = find(&databases, &path);
    if let (Scope::Home(_), false) = (scope, command == "/sync") {
        return refuse(
            StatusCode::FORBIDDEN,
            "this socket answers for one database and changes nothing: use the socket of the process (socket in the config file)",
            None,
        );
    }
    if let (Scope::Home(_), None) = (scope, database) {
        return refuse(StatusCode::NOT_FOUND, ControlError::NotFound(path).to_string(), None);
    }
    // The name by which the process knows it.
    let known = database.map_or_else(|| path.clone(), |d| d.path.clone());
    match command {
        "/sync" => sync(commands, known, &path, asked).await,
        "/register" => register(commands, database.is_some(), &path, asked).await,
        _ => change(commands, database.map(|d| &**d), (known, &path), command, asked.timeout()).await,
    }
}

async fn sync(commands: &Commands, known: PathBuf, path: &Path, asked: &Asked) -> Answer {
    let synced = commands.control.sync(known, asked.wait);
    let (status, error) = match tokio::time::timeout(asked.timeout(), synced).await {
        Ok(Ok(synced)) => {
            let status = match (synced.changed, asked.wait) {
                (false, _) => "no_change",
                (true, true) => "synced",
                (true, false) => "synced_local",
            };
            return answer(&SyncAnswer {
                status: status.to_owned(),
                path: path.to_string_lossy().into_owned(),
                txid: synced.txid,
                replicated_txid: synced.replicated,
            });
        }
        Ok(Err(e @ ControlError::NotFound(_))) => (StatusCode::NOT_FOUND, e.to_string()),
        Ok(Err(e @ ControlError::NotOpen(_))) => (StatusCode::CONFLICT, e.to_string()),
        Ok(Err(e)) => (StatusCode::INTERNAL_SERVER_ERROR, format!("sync database: {e}")),
        Err(_) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("sync database: not stored after {:?}; lsfast goes on trying", asked.timeout()),
        ),
    };
    refuse(status, error, None)
}

async fn register(commands: &Commands, is_known: bool, path: &Path, asked: &Asked) -> Answer {
    if asked.replica_url.is_empty() {
        return refuse(StatusCode::BAD_REQUEST, "replica_url required", None);
    }
    let registered = |is_new: bool| {
        let status = if is_new { "registered" } else { "already_registered" };
        answer(&Changed { status: status.to_owned(), path: path.to_string_lossy().into_owned(), txid: None })
    };
    if is_known {
        return registered(false);
    }
    let (register, database, url) =
        (Arc::clone(&commands.register), path.to_owned(), asked.replica_url.clone());
    // An ambiguous URL is looked up in the network.
    let options = tokio::task::spawn_blocking(move || register(&database, &url)).await;
    let options = match options {
        Ok(Ok(options)) => options,
        Ok(Err(why)) => {
            return refuse(StatusCode::BAD_REQUEST, format!("invalid replica url: {why}"), None);
        }
        Err(e) => return refuse(StatusCode::INTERNAL_SERVER_ERROR, e.to_string(), None),
    };
    match commands.control.register(options).await {
        Ok(is_new) => registered(is_new),
        Err(e) => {
            refuse(StatusCode::INTERNAL_SERVER_ERROR, format!("failed to register database: {e}"), None)
        }
    }
}

async fn change(
    commands: &Commands,
    database: Option<&DatabaseVitals>,
    (known, path): (PathBuf, &Path),
    command: &str,
    timeout: Duration,
) -> Answer {
    let control = &commands.control;
    let done = async {
        match command {
            "/start" => control.start(known).await,
            "/stop" => control.stop(known).await,
            _ => control.unregister(known).await,
        }
    };
    let done = tokio::time::timeout(timeout, done).await;
    let done = done.unwrap_or_else(|_| {
        let why = format!("the last commits are not stored after {timeout:?}; lsfast goes on trying");
        Err(ControlError::Failed(why))
    });
    let status = match (command, done) {
        ("/start", Ok(true)) => "started",
        ("/start", Ok(false)) => "already_running",
        ("/stop", Ok(true)) => "stopped",
        ("/stop", Ok(false)) => "already_stopped",
        (_, Ok(true)) => "unregistered",
        (_, Ok(false)) => "already_unregistered",
        (_, Err(e)) => {
            let of = if command == "/unregister" { "failed to unregister database: " } else { "" };
            return refuse(StatusCode::INTERNAL_SERVER_ERROR, format!("{of}{e}"), None);
        }
    };
    answer(&Changed {
        status: status.to_owned(),
        path: path.to_string_lossy().into_owned(),
        txid: Some(database.map_or(0, txid)),
    })
}

/// The database that this path leads to.
fn find<'a>(databases: &'a [Arc<DatabaseVitals>], path: &Path) -> Option<&'a Arc<DatabaseVitals>> {
    databases.iter().find(|d| d.path == path).or_else(|| {
        let real = path.canonicalize().ok()?;
        databases.iter().find(|d| d.path.canonicalize().is_ok_and(|of| of == real))
    })
}

/// TXID of the newest stored state of the first replica.
fn txid(database: &DatabaseVitals) -> u64 {
    database.replicas.first().and_then(ReplicaVitals::durable).map_or(0, |(txid, ..)| txid.0)
}

fn listed(database: &DatabaseVitals) -> Listed {
    let status = match database.phase() {
        DatabasePhase::Following => "replicating",
        DatabasePhase::Waiting | DatabasePhase::Failed => "open",
        DatabasePhase::Stopped => "stopped",
    };
    let times = database.replicas.iter().filter_map(ReplicaVitals::durable).map(|(.., time)| time);
    Listed {
        path: database.path.to_string_lossy().into_owned(),
        status: status.to_owned(),
        last_sync_at: times.max().map(Millis::to_rfc3339),
    }
}
