//! `lsfast ltx DB|URL`

use std::sync::Arc;

use clap::Args;
use serde_json::json;
use tokio::task::JoinSet;

use super::setup::Setup;
use super::shape::{self, Shape};
use super::table::table;
use super::{choose, flags, report, runtime};
use crate::base::{DatabaseChecksum, Level, limits};
use crate::ltx::{HEADER_LEN, Header};
use crate::store::{Entry, ErrorKind, Scope, Store};

/// List the files of a replica in the format of Litestream 0.5.
///
/// Times are those of the listing: on S3 when a file was uploaded, which for compacted files is
/// later than their content. --precise reads the header of each file, one request each, for the
/// time of its state and, with --json, the checksum of the database after it.
#[derive(Debug, Args)]
pub struct LtxArgs {
    /// A database of the config file by its path, or a replica: s3://BUCKET/PREFIX or file:///DIR
    #[arg(value_name = "DB|URL", value_parser = flags::database_or_url)]
    pub url: String,
    /// Files of this level only, 0 to 9, or of `all` of them [default: all; with
    /// --json=litestream 0, as there]
    #[arg(long, value_name = "N", value_parser = scope)]
    pub level: Option<Scope>,
    /// Read the exact time and the checksum of each file
    #[arg(long)]
    pub precise: bool,
    /// Print one JSON object instead of a table; --json=litestream has its fields
    #[arg(
        long, value_name = "SHAPE", num_args = 0..=1, require_equals = true,
        default_missing_value = "lsfast", value_enum
    )]
    pub json: Option<Shape>,
}

impl LtxArgs {
    fn scope(&self) -> Scope {
        // A replica of lsfast has its history on all levels. A script made for Litestream expects
        // level 0, which `litestream ltx` lists.
        let usual = match self.json {
            Some(Shape::Litestream) => Scope::Level(Level::RAW),
            Some(Shape::Lsfast) | None => Scope::All,
        };
        self.level.unwrap_or(usual)
    }
}

fn scope(text: &str) -> Result<Scope, String> {
    let wrong = || "write a level from 0 to 9, or all".to_owned();
    match text {
        "all" => Ok(Scope::All),
        _ => Level::new(text.parse().map_err(|_| wrong())?).map(Scope::Level).map_err(|_| wrong()),
    }
}

/// Runs `lsfast ltx`.
pub(super) fn run(setup: &mut Setup, args: &LtxArgs) -> anyhow::Result<()> {
    let event_loop = runtime::event_loop()?;
    let location = event_loop.block_on(choose::location(setup, &args.url))?;
    let store = setup.open(&location)?;
    let files = event_loop.block_on(async {
        let entries = store.list(args.scope()).await?;
        match args.precise {
            true => exact(&store, entries).await,
            false => Ok(entries.into_iter().map(|entry| (entry, None)).collect()),
        }
    })?;
    let text = match args.json {
        None => to_table(&files),
        Some(Shape::Lsfast) => to_json(store.url(), &files),
        Some(Shape::Litestream) => litestream(&files)?,
    };
    Ok(report::print_line(&text)?)
}

/// A file, and the checksum of the database after it, if that is known.
type Listed = (Entry, Option<DatabaseChecksum>);

/// Replaces the times by those of the headers, and adds the checksums. A file that was deleted in
/// between is left out; one without a readable header is listed as before.
async fn exact(store: &Arc<dyn Store>, entries: Vec<Entry>) -> anyhow::Result<Vec<Listed>> {
    let mut found = Vec::with_capacity(entries.len());
    let mut waiting = entries.into_iter();
    let mut tasks: JoinSet<crate::store::Result<Option<Listed>>> = JoinSet::new();
    let ask = |tasks: &mut JoinSet<_>, entry: Entry| {
        let store = Arc::clone(store);
        tasks.spawn(async move {
            let bytes = match store.get(entry.id, 0..HEADER_LEN as u64).await {
                Ok(bytes) => bytes,
                Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
                Err(e) => return Err(e),
            };
            Ok(Some(match bytes.first_chunk().map(Header::parse) {
                Some(Ok(header)) => (Entry { modified: header.timestamp, ..entry }, header.checksum),
                _ => (entry, None),
            }))
        });
    };
    waiting.by_ref().take(limits::TRANSFERS).for_each(|entry| ask(&mut tasks, entry));
    while let Some(answer) = tasks.join_next().await {
        found.extend(answer??);
        waiting.by_ref().take(1).for_each(|entry| ask(&mut tasks, entry));
    }
    found.sort_by_key(|(e, _)| (e.id.level, e.id.min, e.id.max));
    Ok(found)
}

fn to_table(files: &[Listed]) -> String {
    let row = |(e, _): &Listed| {
        let id = e.id;
        vec![
            id.level.to_string(),
            id.min.to_string(),
            id.max.to_string(),
            e.size.to_string(),
            e.modified.to_rfc3339(),
        ]
    };
    let rows: Vec<Vec<String>> = files.iter().map(row).collect();
    table(&["level", "min_txid", "max_txid", "size", "created"], &[3], &rows)
}

/// As `litestream ltx -json` prints them.
fn litestream(files: &[Listed]) -> anyhow::Result<String> {
    #[derive(serde::Serialize)]
    struct File {
        level: u8,
        min_txid: String,
        max_txid: String,
        size: u64,
        timestamp: String,
    }
    let file = |(e, _): &Listed| File {
        level: e.id.level.get(),
        min_txid: e.id.min.to_string(),
        max_txid: e.id.max.to_string(),
        size: e.size,
        timestamp: shape::seconds(e.modified),
    };
    shape::litestream(&files.iter().map(file).collect::<Vec<_>>())
}

fn to_json(url: &str, files: &[Listed]) -> String {
    let file = |(e, checksum): &Listed| {
        json!({
            "level": e.id.level.get(), "min_txid": e.id.min.to_string(), "max_txid": e.id.max.to_string(),
            "size": e.size, "created": e.modified.to_rfc3339(),
            "checksum": checksum.map(|sum| sum.to_string()),
        })
    };
    json!({ "url": url, "files": files.iter().map(file).collect::<Vec<_>>() }).to_string()
}
