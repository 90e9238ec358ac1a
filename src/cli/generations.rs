//! `lsfast generations|snapshots|wal URL`: lists the files that Litestream 0.3 stored.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::setup::Setup;
use super::table::table;
use super::{choose, flags, report, runtime};
use crate::base::clock::Millis;
use crate::legacy::{Generation, LegacyName};
use crate::store::{SideEntry, SideId};

/// List what Litestream 0.3 stored at a place.
#[derive(Debug, Args)]
pub struct LegacyListArgs {
    /// A database of the config file by its path, or a replica: s3://BUCKET/PREFIX or file:///DIR
    #[arg(value_name = "DB|URL", value_parser = flags::database_or_url)]
    pub url: String,
    /// Only this generation
    #[arg(long, value_name = "ID", value_parser = generation)]
    pub generation: Option<Generation>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub json: bool,
}

/// The list to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Generations,
    Snapshots,
    Wal,
}

pub(super) fn generation(text: &str) -> Result<Generation, String> {
    Generation::parse(text).ok_or_else(|| "write the 16 hex digits of a generation".into())
}

/// Runs `lsfast generations`, `lsfast snapshots` or `lsfast wal`.
pub(super) fn run(setup: &mut Setup, args: &LegacyListArgs, what: What) -> anyhow::Result<ExitCode> {
    let event_loop = runtime::event_loop()?;
    let location = event_loop.block_on(choose::location(setup, &args.url))?;
    let listing =
        event_loop.block_on(async { Ok::<_, anyhow::Error>(setup.open(&location)?.list_all().await?) })?;
    let files: Vec<(LegacyName, SideEntry)> = listing
        .sides
        .iter()
        .filter_map(|side| match side.id {
            SideId::Legacy(name) => Some((name, *side)),
            SideId::Times(_) => None,
        })
        .filter(|(name, _)| args.generation.is_none_or(|g| g == name.generation()))
        .collect();
    if files.is_empty() {
        match args.generation {
            Some(g) => anyhow::bail!("there is no generation {g} of Litestream 0.3 at {}", location.url),
            None => anyhow::bail!(
                "there are no generations of Litestream 0.3 at {}: `lsfast points` lists what LTX files hold",
                location.url
            ),
        }
    }
    let (name, rows) = match what {
        What::Generations => ("generations", generations(&files, Millis::now())),
        What::Snapshots => ("snapshots", snapshots(&files)),
        What::Wal => ("wal", segments(&files)),
    };
    let text = if args.json {
        let rows: Vec<Value> = rows.iter().map(Row::to_json).collect();
        json!({ "url": location.url, name: rows }).to_string()
    } else {
        let (head, right): (&[&str], &[usize]) = match what {
            What::Generations => (&["generation", "lag", "start", "end"], &[]),
            What::Snapshots => (&["generation", "index", "size", "created"], &[2]),
            What::Wal => (&["generation", "index", "offset", "size", "created"], &[3]),
        };
        table(head, right, &rows.iter().map(Row::cells).collect::<Vec<_>>())
    };
    report::print_line(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// One row of a list.
#[derive(Debug, PartialEq, Eq)]
enum Row {
    Generation { generation: Generation, lag: u64, start: Millis, end: Millis },
    File(LegacyName, SideEntry),
}

impl Row {
    fn cells(&self) -> Vec<String> {
        match self {
            Row::Generation { generation, lag, start, end } => {
                let lag = std::time::Duration::from_secs(*lag);
                vec![generation.to_string(), format!("{lag:?}"), start.to_rfc3339(), end.to_rfc3339()]
            }
            Row::File(name, side) => {
                let mut cells = vec![name.generation().to_string(), name.index().to_string()];
                if let LegacyName::Segment { offset, .. } = name {
                    cells.push(format!("{offset:08x}"));
                }
                cells.extend([side.size.to_string(), side.modified.to_rfc3339()]);
                cells
            }
        }
    }

    fn to_json(&self) -> Value {
        match self {
            Row::Generation { generation, lag, start, end } => json!({
                "generation": generation.to_string(), "lag_seconds": lag, "start": start.to_rfc3339(),
                "end": end.to_rfc3339(),
            }),
            Row::File(name, side) => {
                let mut row = json!({
                    "generation": name.generation().to_string(), "index": name.index().get(), "size": side.size,
                    "created": side.modified.to_rfc3339(), "name": name.path(),
                });
                if let LegacyName::Segment { offset, .. } = name {
                    row["offset"] = json!(offset);
                }
                row
            }
        }
    }
}

/// The time from the first to the last file of each generation, the oldest generation first.
fn generations(files: &[(LegacyName, SideEntry)], now: Millis) -> Vec<Row> {
    let mut spans: BTreeMap<Generation, (Millis, Millis)> = BTreeMap::new();
    for (name, side) in files {
        let span = spans.entry(name.generation()).or_insert((side.modified, side.modified));
        *span = (span.0.min(side.modified), span.1.max(side.modified));
    }
    let mut rows: Vec<_> = spans.into_iter().map(|(g, (start, end))| (start, g, end)).collect();
    rows.sort_unstable();
    rows.into_iter()
        .map(|(start, generation, end)| {
            let lag = u64::try_from(now.0.saturating_sub(end.0) / 1000).unwrap_or(0);
            Row::Generation { generation, lag, start, end }
        })
        .collect()
}

fn snapshots(files: &[(LegacyName, SideEntry)]) -> Vec<Row> {
    files.iter().filter(|(n, _)| n.is_snapshot()).map(|(n, s)| Row::File(*n, *s)).collect()
}

fn segments(files: &[(LegacyName, SideEntry)]) -> Vec<Row> {
    files.iter().filter(|(n, _)| !n.is_snapshot()).map(|(n, s)| Row::File(*n, *s)).collect()
}
