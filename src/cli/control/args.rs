//! The arguments of the commands to a running process. They are Litestream's.

use std::path::PathBuf;

use clap::Args;

use crate::cli::flags;

/// Flags of all these commands.
#[derive(Debug, Clone, Args)]
pub struct Where {
    /// Socket of the process [default: that of the config file; /var/run/lsfast.sock;
    /// /var/run/litestream.sock]
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

/// Time for a command that waits for the database.
#[derive(Debug, Clone, Args)]
pub struct Limit {
    /// How long to wait, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    pub timeout: u32,
}

/// Time for a command that is answered at once.
#[derive(Debug, Clone, Args)]
pub struct ShortLimit {
    /// How long to wait, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub timeout: u32,
}

/// Replicate one more database in a running process, until it ends.
///
/// The process has to have a socket (`socket: {enabled: true}` in its config file).
#[derive(Debug, Clone, Args)]
pub struct RegisterArgs {
    /// Where the socket is.
    #[command(flatten)]
    pub at: Where,
    /// How long to wait.
    #[command(flatten)]
    pub limit: Limit,
    /// Where to: s3://BUCKET/PREFIX or file:///DIR
    #[arg(long, value_name = "URL")]
    pub replica: String,
    /// The database file
    #[arg(value_name = "DB", value_parser = flags::database())]
    pub db: PathBuf,
}

/// Store what is committed, and end the replication of one database of a running process.
#[derive(Debug, Clone, Args)]
pub struct UnregisterArgs {
    /// Where the socket is.
    #[command(flatten)]
    pub at: Where,
    /// How long to wait.
    #[command(flatten)]
    pub limit: Limit,
    /// Print what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// The database file
    #[arg(value_name = "DB", value_parser = flags::database())]
    pub db: PathBuf,
}

/// Go on with a database that `lsfast stop` has stopped.
#[derive(Debug, Clone, Args)]
pub struct StartArgs {
    /// Where the socket is.
    #[command(flatten)]
    pub at: Where,
    /// How long to wait.
    #[command(flatten)]
    pub limit: Limit,
    /// The database file
    #[arg(value_name = "DB", value_parser = flags::database())]
    pub db: PathBuf,
}

/// Store what is committed, and stop following one database of a running process.
#[derive(Debug, Clone, Args)]
pub struct StopArgs {
    /// Where the socket is.
    #[command(flatten)]
    pub at: Where,
    /// How long to wait.
    #[command(flatten)]
    pub limit: Limit,
    /// The database file
    #[arg(value_name = "DB", value_parser = flags::database())]
    pub db: PathBuf,
}

/// Let what is committed now leave at once, and wait for it with --wait.
///
/// Without --socket, the socket in the folder of the database is asked, which needs no config
/// file. Exit code: 0 if it is stored (with --wait), 1 if not.
#[derive(Debug, Clone, Args)]
pub struct SyncArgs {
    /// Where the socket is.
    #[command(flatten)]
    pub at: Where,
    /// How long to wait.
    #[command(flatten)]
    pub limit: Limit,
    /// Wait until everything that is committed now is stored
    #[arg(long)]
    pub wait: bool,
    /// The database file
    #[arg(value_name = "DB", value_parser = flags::database())]
    pub db: PathBuf,
}

/// List the databases of a running process.
#[derive(Debug, Clone, Args)]
pub struct ListArgs {
    /// Where the socket is.
    #[command(flatten)]
    pub at: Where,
    /// How long to wait.
    #[command(flatten)]
    pub limit: ShortLimit,
}

/// Show version, process id and uptime of a running process.
#[derive(Debug, Clone, Args)]
pub struct InfoArgs {
    /// Where the socket is.
    #[command(flatten)]
    pub at: Where,
    /// How long to wait.
    #[command(flatten)]
    pub limit: ShortLimit,
}
