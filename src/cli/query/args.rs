//! The arguments of `lsfast query` and `lsfast shell`.

use std::path::PathBuf;

use clap::Args;

use super::print::Format;
use crate::base::Txid;
use crate::base::clock::Millis;
use crate::cli::{flags, restore, when};
use crate::view::At;

/// Run SQL on a state of a replica, without restoring it.
///
/// Reads the pages that the statements need, and nothing else. The state is the newest one, or that
/// of --timestamp or --txid. It can only be read. SQL is read from standard input if none is given.
///
/// Exit codes: 0 done; 1 an error; 2 usage; 4 the state is lost: a file that nothing else covers is
/// damaged or missing.
#[derive(Debug, Args)]
pub struct QueryArgs {
    /// What to read
    #[command(flatten)]
    pub state: StateArgs,
    /// Statements, separated by semicolons; without it, standard input
    #[arg(value_name = "SQL")]
    pub sql: Option<String>,
    /// Print each row as a JSON object on its own line; blobs as hex
    #[arg(long, conflicts_with = "csv")]
    pub json: bool,
    /// Print comma-separated values with a line of names; NULL as an empty field, blobs as X'hex'
    #[arg(long)]
    pub csv: bool,
}

/// Look at states of a replica with SQL, line by line.
///
/// Besides SQL it knows .tables, .schema, .at TIME, .mode, .help and .quit. On a terminal lines can
/// be edited, and earlier ones are found with the arrow keys. Otherwise it reads standard input and
/// ends at the first error, an unknown state of .at included, so that no SQL reads another state
/// than it was written for.
#[derive(Debug, Args)]
pub struct ShellArgs {
    /// What to read
    #[command(flatten)]
    pub state: StateArgs,
}

/// Selects a state.
#[derive(Debug, Args)]
pub struct StateArgs {
    /// A database of the config file by its path, or a replica: s3://BUCKET/PREFIX or file:///DIR
    #[arg(value_name = "DB|URL", value_parser = flags::database_or_url)]
    pub url: String,
    /// The replica to read, by its name in the config file; without it, the one with the newest
    /// state
    #[arg(long, value_name = "NAME")]
    pub replica: Option<String>,
    /// Read the newest state stored before this time: RFC 3339, a local time such as "2026-11-21
    /// 14:03" or "yesterday 14:03", or "2h30m ago"
    #[arg(long, value_name = "TIME", value_parser = when::parse)]
    pub timestamp: Option<Millis>,
    /// Read the state of this transaction id, in hex as `lsfast points` prints it
    #[arg(long, value_name = "HEX", value_parser = restore::txid, conflicts_with = "timestamp")]
    pub txid: Option<Txid>,
    /// Keep what was read in this folder, at most 1 GiB, for later runs; several may share it
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
}

impl StateArgs {
    /// The state that the flags select.
    pub(super) fn at(&self) -> At {
        match (self.timestamp, self.txid) {
            (_, Some(txid)) => At::Txid(txid),
            (Some(time), None) => At::Time(time),
            (None, None) => At::Newest,
        }
    }
}

impl QueryArgs {
    pub(super) fn format(&self) -> Format {
        match (self.json, self.csv) {
            (true, _) => Format::Json,
            (_, true) => Format::Csv,
            _ => Format::Table,
        }
    }
}
