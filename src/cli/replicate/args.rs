//! The arguments of `lsfast replicate`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::cli::flags;
use crate::config::{parse_duration, parse_rate};

/// Replicate live databases until told to stop.
///
/// SIGINT or SIGTERM ends it after a final sync; a second signal ends it at once. SIGHUP has the
/// config file read again: what has changed in it changes, the rest goes on. Without a config file
/// SIGHUP ends it, too.
///
/// Exit code: 0 if everything that was committed is stored; 1 if not, or if it could not run: the
/// store did not accept it in time, or a database never appeared; 2 for wrong arguments. With
/// --exec the program's own.
#[derive(Debug, Clone, Args)]
pub struct ReplicateArgs {
    /// The database file; waited for if it does not exist yet. Without one, all databases of the
    /// config file
    #[arg(value_name = "DB", value_parser = flags::database())]
    pub db: Option<PathBuf>,
    /// Where to: s3://BUCKET/PREFIX or file:///DIR, several for several copies; without one, the directory
    /// DB-replica next to the database
    #[arg(value_name = "URL")]
    pub urls: Vec<String>,
    /// Run this command alongside the replication and end with it, after a final sync and with its
    /// exit status; signals are handed on to it. If it has not ended in the time of
    /// --shutdown-timeout after SIGTERM or SIGINT, it is killed
    #[arg(long, value_name = "COMMAND")]
    pub exec: Option<String>,
    /// Store what is committed now, and end
    #[arg(long, conflicts_with = "exec")]
    pub once: bool,
    /// With --once: also store a full image
    #[arg(long, requires = "once")]
    pub force_snapshot: bool,
    /// With --once: also delete what the retention allows, and fail if that fails
    #[arg(long, requires = "once")]
    pub enforce_retention: bool,
    /// First restore each database that does not exist, if there is a replica of it
    #[arg(long)]
    pub restore_if_db_not_exists: bool,
    /// How long the final sync may take [default: 30s]; with --once, how long all of it may
    /// [default: as long as uploads make progress, but 30s without any]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub shutdown_timeout: Option<Duration>,
    /// Average time between uploads of a busy database; a commit after a quiet time is uploaded at
    /// once [default: 1s]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub sync_interval: Option<Duration>,
    /// How often to read each replica end to end in the background and report damage; 0 for
    /// never [default: never]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub verify_interval: Option<Duration>,
    /// Bytes a second that --verify-interval may read on average, such as 8MiB [default: 8MiB]
    #[arg(long, value_name = "SIZE", value_parser = parse_rate)]
    pub verify_rate: Option<u64>,
}
