//! `lsfast points URL`

use std::io::IsTerminal as _;

use clap::Args;
use serde_json::json;

use super::setup::Setup;
use super::table::table;
use super::{browse, choose, flags, report, runtime};
use crate::base::limits;
use crate::restore::{self, Object, Point, PointState, object_name};

/// List the states that can be restored, newest last.
///
/// Each line is a state: when it was stored, its TXID for `restore --txid` (or, for replicas of
/// Litestream 0.3, its generation and index), the level of the file that ends with it, and how many
/// files and bytes a restore reads. `restore --timestamp` restores the newest state stored
/// before a time.
///
/// On a terminal the states are browsed day by day and hour by hour: Enter shows the log of a
/// stretch, `d` what differs between its begin and its end, `r` ends with the command that restores
/// its last state, `q` ends.
#[derive(Debug, Args)]
pub struct PointsArgs {
    /// A database of the config file by its path, or a replica: s3://BUCKET/PREFIX or file:///DIR
    #[arg(value_name = "DB|URL", value_parser = flags::database_or_url)]
    pub url: String,
    /// List at most this many of the newest states, without this flag 50, or 1000 to browse; each
    /// may take a request of 100 bytes
    #[arg(long, value_name = "N", value_parser = limit)]
    pub limit: Option<usize>,
    /// Print a table on a terminal too, instead of the browser
    #[arg(long)]
    pub plain: bool,
    /// Print one JSON object with the names of all files, and with checksums of the database where
    /// they are known, instead of a table
    #[arg(long)]
    pub json: bool,
}

/// States of a table, unless a limit is given.
const LISTED: usize = 50;

fn limit(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if (1..=limits::POINTS_MAX).contains(&n) => Ok(n),
        _ => Err(format!("write a number from 1 to {}", limits::POINTS_MAX)),
    }
}

/// Runs `lsfast points`.
pub(super) fn run(setup: &mut Setup, args: &PointsArgs) -> anyhow::Result<()> {
    let event_loop = runtime::event_loop()?;
    let location = event_loop.block_on(choose::location(setup, &args.url))?;
    let browses = !args.plain && !args.json && has_terminal();
    let limit = args.limit.unwrap_or(if browses { limits::POINTS_MAX } else { LISTED });
    let (points, more) = event_loop.block_on(async {
        let store = setup.open(&location)?;
        Ok::<_, anyhow::Error>(restore::points(&store, limit).await?)
    })?;
    if browses {
        return browse::run(setup, &event_loop, (&args.url, &location.url), points, more);
    }
    let text = if args.json {
        let points: Vec<_> = points.iter().map(to_json).collect();
        json!({ "url": location.url, "points": points, "more": more }).to_string()
    } else {
        let older = if more { "older states are not shown; --limit N shows more\n" } else { "" };
        format!("{older}{}", to_table(&points))
    };
    Ok(report::print_line(&text)?)
}

/// Whether keys can be read and a screen can be drawn.
fn has_terminal() -> bool {
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal() && !is_dumb
}

fn to_table(points: &[Point]) -> String {
    let rows: Vec<Vec<String>> = points
        .iter()
        .map(|p| {
            let (state, level) = match p.state {
                PointState::Ltx { txid, level } => (txid.to_string(), level.to_string()),
                PointState::Legacy(s) => (format!("{}/{}", s.generation, s.index), "0.3".into()),
            };
            vec![p.created.to_rfc3339(), state, level, p.file_count.to_string(), p.bytes.to_string()]
        })
        .collect();
    table(&["time", "txid", "level", "files", "bytes"], &[3, 4], &rows)
}

fn to_json(point: &Point) -> serde_json::Value {
    let Point { created, checksum, state, files, file_count, bytes } = point;
    match state {
        PointState::Ltx { txid, level } => {
            let names: Vec<String> = files.iter().map(|e| object_name(&Object::Ltx(e.id))).collect();
            json!({
                "format": "ltx", "time": created.to_rfc3339(), "txid": txid.to_string(), "level": level.get(),
                "checksum": checksum.map(|sum| sum.to_string()),
                "bytes": bytes, "file_count": file_count, "files": names,
            })
        }
        PointState::Legacy(s) => json!({
            "format": "litestream-0.3", "time": created.to_rfc3339(), "generation": s.generation.to_string(),
            "index": s.index.get(), "offset": s.offset, "bytes": bytes, "file_count": file_count,
        }),
    }
}
