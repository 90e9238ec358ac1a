//! `lsfast ltx DB|URL`

use std::sync::Arc;

use clap::Args;
use serde_json::json;
use tokio::task::JoinSet;

use super::setup::Setup;
use super::table::table;
use super::{choose, flags, report, runtime};
use crate::base::{Level, LtxId, limits};
use crate::store::{Entry, Scope, Store};

/// List the files of a replica in the format of Litestream 0.5.
///
/// Times are those of the listing: on S3 when a file was uploaded, which for compacted files is
/// later than their content. --precise asks for the time of each file's state, one request each.
#[derive(Debug, Args)]
pub struct LtxArgs {
    /// A database of the config file by its path, or a replica: s3://BUCKET/PREFIX or file:///DIR
    #[arg(value_name = "DB|URL", value_parser = flags::database_or_url)]
    pub url: String,
    /// Files of this level only, 0 to 9
    #[arg(long, value_name = "N", value_parser = level)]
    pub level: Option<Level>,
    /// Ask for the exact time of each file
    #[arg(long)]
    pub precise: bool,
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub json: bool,
}

fn level(text: &str) -> Result<Level, String> {
    let wrong = || "write a level from 0 to 9".to_owned();
    Level::new(text.parse().map_err(|_| wrong())?).map_err(|_| wrong())
}

/// Runs `lsfast ltx`.
pub(super) fn run(setup: &mut Setup, args: &LtxArgs) -> anyhow::Result<()> {
    let event_loop = runtime::event_loop()?;
    let location = event_loop.block_on(choose::location(setup, &args.url))?;
    let store = setup.open(&location)?;
    let entries = event_loop.block_on(async {
        let entries = store.list(args.level.map_or(Scope::All, Scope::Level)).await?;
        if args.precise { exact(&store, entries).await } else { Ok(entries) }
    })?;
    let text = if args.json { to_json(store.url(), &entries) } else { to_table(&entries) };
    Ok(report::print_line(&text)?)
}

/// Replaces the times by those of the files' metadata. A file that was deleted in between is left
/// out.
async fn exact(store: &Arc<dyn Store>, entries: Vec<Entry>) -> anyhow::Result<Vec<Entry>> {
    let mut found = Vec::with_capacity(entries.len());
    let mut waiting = entries.into_iter().map(|e| e.id);
    let mut tasks: JoinSet<crate::store::Result<Option<Entry>>> = JoinSet::new();
    let ask = |tasks: &mut JoinSet<_>, id: LtxId| {
        let store = Arc::clone(store);
        tasks.spawn(async move { store.head(id).await });
    };
    waiting.by_ref().take(limits::TRANSFERS).for_each(|id| ask(&mut tasks, id));
    while let Some(answer) = tasks.join_next().await {
        found.extend(answer??);
        waiting.by_ref().take(1).for_each(|id| ask(&mut tasks, id));
    }
    found.sort_by_key(|e| (e.id.level, e.id.min, e.id.max));
    Ok(found)
}

fn to_table(entries: &[Entry]) -> String {
    let row = |e: &Entry| {
        let id = e.id;
        vec![
            id.level.to_string(),
            id.min.to_string(),
            id.max.to_string(),
            e.size.to_string(),
            e.modified.to_rfc3339(),
        ]
    };
    let rows: Vec<Vec<String>> = entries.iter().map(row).collect();
    table(&["level", "min_txid", "max_txid", "size", "created"], &[3], &rows)
}

fn to_json(url: &str, entries: &[Entry]) -> String {
    let file = |e: &Entry| {
        json!({
            "level": e.id.level.get(), "min_txid": e.id.min.to_string(), "max_txid": e.id.max.to_string(),
            "size": e.size, "created": e.modified.to_rfc3339(),
        })
    };
    json!({ "url": url, "files": entries.iter().map(file).collect::<Vec<_>>() }).to_string()
}
