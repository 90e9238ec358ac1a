//! The arguments of `lsfast restore`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::base::clock::Millis;
use crate::base::{Txid, limits};
use crate::cli::shape::Shape;
use crate::cli::{flags, generations, when};
use crate::config::parse_duration;
use crate::legacy::{Generation, WalIndex};
use crate::restore::{Integrity, Selection, Until};

/// Restore a database from a replica.
///
/// The newest state goes to a temporary file next to OUT, which gets its name when every checksum
/// has been verified, the file is flushed to the disk and SQLite finds nothing wrong. On any error
/// OUT is as it was. Where a file of the replica is damaged or missing, others that cover it are
/// used; an older state than the wanted one is restored only with `--salvage`.
///
/// Exit codes: 0 restored; 1 an error; 2 usage; 4 the wanted state is lost: a file that nothing
/// else covers is damaged or missing.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// A database of the config file by its path, or a replica: s3://BUCKET/PREFIX or file:///DIR
    #[arg(value_name = "DB|URL", value_parser = flags::database_or_url)]
    pub url: String,
    /// The replica to restore from, by its name in the config file; without it, the one with the
    /// newest state
    #[arg(long, value_name = "NAME")]
    pub replica: Option<String>,
    /// The database file to make; without it, DB, or the last part of the URL's path in the present
    /// directory
    #[arg(short, long, value_name = "OUT")]
    pub output: Option<PathBuf>,
    /// Make the existing database FILE the wanted state: only the pages that differ are fetched and
    /// written, after the old ones are in a journal of SQLite. A crash leaves the old state, once
    /// SQLite opens it, or the new one. A file that is no state of the replica is replaced as a
    /// whole, which is reported; a database in use is never changed
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["output", "force", "follow", "generation", "index", "salvage", "if_db_not_exists"]
    )]
    pub into: Option<PathBuf>,
    /// Restore the newest state stored before this time: RFC 3339, a local time such as "2026-11-21
    /// 14:03" or "yesterday 14:03", "2h30m" for that long ago, "now", or seconds since 1970
    #[arg(long, value_name = "TIME", value_parser = when::parse)]
    pub timestamp: Option<Millis>,
    /// Restore the state of this transaction id, in hex as `lsfast points` prints it; leading zeros
    /// may be left out
    #[arg(long, value_name = "HEX", value_parser = txid, conflicts_with = "timestamp")]
    pub txid: Option<Txid>,
    /// Restore from this generation, which Litestream 0.3 stored
    #[arg(long, value_name = "ID", value_parser = generations::generation, conflicts_with = "txid")]
    pub generation: Option<Generation>,
    /// Restore the state at the end of this WAL index, which Litestream 0.3 stored: hex as `lsfast
    /// wal` prints it
    #[arg(long, value_name = "HEX", value_parser = index, conflicts_with_all = ["timestamp", "txid"])]
    pub index: Option<WalIndex>,
    /// If damaged or missing files prevent a restore of the wanted state, restore the newest state
    /// before it that can be restored, and say which
    #[arg(long)]
    pub salvage: bool,
    /// Print what would be read, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Replace OUT once the new database is complete and verified; a database in use is never
    /// replaced
    #[arg(long)]
    pub force: bool,
    /// What SQLite checks before OUT gets its name. Where the replica has the checksum of the
    /// database, OUT is compared with it in any case
    #[arg(long, value_name = "CHECK", default_value = "auto")]
    pub integrity_check: IntegrityCheck,
    /// Do nothing, successfully, if OUT exists; an empty file is not a database
    #[arg(long)]
    pub if_db_not_exists: bool,
    /// Do nothing, successfully, if there is no replica at URL
    #[arg(long)]
    pub if_replica_exists: bool,
    /// Concurrent requests
    #[arg(long, value_name = "N", default_value_t = limits::RESTORE_TRANSFERS, value_parser = parallelism)]
    pub parallelism: usize,
    /// Print one JSON object instead of text; --json=litestream has its fields
    #[arg(
        long, value_name = "SHAPE", num_args = 0..=1, require_equals = true,
        default_missing_value = "lsfast", value_enum
    )]
    pub json: Option<Shape>,
    /// Following
    #[command(flatten)]
    pub follow: FollowArgs,
}

/// Flags for following.
#[derive(Debug, Clone, Args)]
pub struct FollowArgs {
    /// Keep OUT up to date with the replica until told to stop; readers of OUT see whole states
    /// only. Resumes where it stopped; see also `lsfast promote`
    #[arg(
        short,
        long,
        conflicts_with_all = ["timestamp", "txid", "generation", "index", "salvage", "dry_run", "if_db_not_exists", "if_replica_exists", "json"]
    )]
    pub follow: bool,
    /// With --follow: how often to ask a store for the next file; up to four times as often after
    /// a file arrived. Changes of a directory are noticed at once
    #[arg(long, value_name = "DURATION", value_parser = interval, default_value = "1s", requires = "follow")]
    pub follow_interval: Duration,
    /// With --follow: serve metrics, status and a page by HTTP here, as `addr` of the config file
    /// does for `replicate`
    #[arg(long, value_name = "HOST:PORT", requires = "follow")]
    pub addr: Option<String>,
    /// With --follow: answer `lsfast status --socket PATH` here, in addition to the socket in
    /// the folder .OUT-lsfast
    #[arg(long, value_name = "PATH", requires = "follow")]
    pub socket: Option<PathBuf>,
}

/// What SQLite checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum IntegrityCheck {
    /// Nothing where the checksum proves the database; `quick` where the replica has none.
    Auto,
    /// Nothing; checksums are verified all the same.
    None,
    /// Pages and records: PRAGMA `quick_check`.
    Quick,
    /// Indexes against tables too: PRAGMA `integrity_check`.
    Full,
}

impl From<IntegrityCheck> for Integrity {
    fn from(check: IntegrityCheck) -> Integrity {
        match check {
            IntegrityCheck::Auto => Integrity::Auto,
            IntegrityCheck::None => Integrity::None,
            IntegrityCheck::Quick => Integrity::Quick,
            IntegrityCheck::Full => Integrity::Full,
        }
    }
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = parse_duration(text).map_err(|e| e.to_string())?;
    if interval < Duration::from_millis(1) {
        return Err("write a duration of at least 1ms".into());
    }
    Ok(interval)
}

fn parallelism(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if (1..=limits::RESTORE_TRANSFERS_MAX).contains(&n) => Ok(n),
        _ => Err(format!("write a number from 1 to {}", limits::RESTORE_TRANSFERS_MAX)),
    }
}

/// Parses a TXID in hex, with or without leading zeros.
pub(crate) fn txid(text: &str) -> Result<Txid, String> {
    let hex = (1..=16).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
    match u64::from_str_radix(text, 16) {
        Ok(n) if hex && n > Txid::MAX.0 => Err(format!("the largest TXID there can be is {}", Txid::MAX)),
        Ok(n) if hex && n > 0 => Ok(Txid(n)),
        _ => Err("write up to 16 hex digits, such as 00000000000000ab or ab, and not 0".into()),
    }
}

fn index(text: &str) -> Result<WalIndex, String> {
    let hex = (1..=8).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
    let n = u32::from_str_radix(text, 16).ok().filter(|_| hex);
    n.and_then(WalIndex::new).ok_or_else(|| "write up to 8 hex digits, such as 0000000a or a".into())
}

impl RestoreArgs {
    pub(super) fn selection(&self) -> Selection {
        let until = match (self.timestamp, self.txid) {
            (Some(time), _) => Until::Before(time),
            (_, Some(txid)) => Until::Txid(txid),
            _ => Until::Newest,
        };
        Selection { until, generation: self.generation, index: self.index, salvage: self.salvage }
    }
}
