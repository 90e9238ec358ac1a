//! `lsfast diff DB|URL --from STATE`

use clap::Args;
use serde_json::json;

use super::settled::settled;
use super::when::error;
use super::{show, when};
use crate::base::clock::Millis;
use crate::base::{Txid, count};
use crate::cli::setup::Setup;
use crate::cli::{choose, flags, report, runtime};
use crate::view::btree::{Schema, Source, State};
use crate::view::change::{self, Diff, Direction, Kind, Labels, Sides};
use crate::view::{At, Change, History, Replica, Snapshot, Still, Timeline, ViewError, open};

/// Show the rows that differ between two states, as SQL if wanted.
///
/// A state is named by a time, which means the newest state stored before it, or by a TXID of
/// `lsfast points` or `lsfast log`. Only the pages that changed and the way to them are read. If
/// most pages changed, whole tables are compared.
///
/// The SQL is for the sqlite3 program: `sqlite3 app.db < undo.sql`. It is one transaction, which
/// changes nothing if one of the rows was changed again, or if a foreign key would be violated.
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// A database of the config file by its path, or a replica: s3://BUCKET/PREFIX or file:///DIR
    #[arg(value_name = "DB|URL", value_parser = flags::database_or_url)]
    pub url: String,
    /// The older state: a time, such as "2026-11-21 14:03", 14:03 or "2h ago", or a TXID in hex.
    /// Leading zeros may be left out, except where it could be a duration such as 1d
    #[arg(long, value_name = "STATE", value_parser = when::parse)]
    pub from: At,
    /// The newer state; without this flag the newest one
    #[arg(long, value_name = "STATE", value_parser = when::parse)]
    pub to: Option<At>,
    /// Only rows of this table
    #[arg(long, value_name = "NAME")]
    pub table: Option<String>,
    /// Only rows to which this happened
    #[arg(long, value_name = "KIND", value_enum)]
    pub only: Option<Only>,
    /// Show at most this many rows of each table; 0 shows none
    #[arg(short = 'n', value_name = "N", default_value_t = 100)]
    pub number: usize,
    /// Print a JSON object about the states, then one for each row
    #[arg(long, conflicts_with_all = ["sql", "undo"])]
    pub json: bool,
    /// Print the SQL that makes these changes
    #[arg(long, conflicts_with = "undo")]
    pub sql: bool,
    /// Print the SQL that takes these changes back
    #[arg(long)]
    pub undo: bool,
}

/// What happened to rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Only {
    /// Rows that are in the newer state only
    Inserted,
    /// Rows with other values
    Updated,
    /// Rows that are in the older state only
    Deleted,
}

impl From<Only> for Kind {
    fn from(only: Only) -> Kind {
        match only {
            Only::Inserted => Kind::Inserted,
            Only::Updated => Kind::Updated,
            Only::Deleted => Kind::Deleted,
        }
    }
}

/// What names a state.
#[derive(Clone, Copy)]
struct Named {
    txid: Txid,
    time: Millis,
}

impl Named {
    fn of(snapshot: &Snapshot) -> Named {
        Named { txid: snapshot.txid(), time: snapshot.time() }
    }

    fn label(self) -> String {
        format!("{} (TXID {})", self.time.to_rfc3339(), self.txid)
    }
}

/// Runs `lsfast diff`.
pub(crate) fn run(setup: &mut Setup, args: &DiffArgs) -> anyhow::Result<()> {
    Ok(report::print_text(&text(setup, args)?)?)
}

/// What `lsfast diff` prints.
pub(in crate::cli) fn text(setup: &mut Setup, args: &DiffArgs) -> anyhow::Result<String> {
    let event_loop = runtime::event_loop()?;
    let location = event_loop.block_on(choose::location(setup, &args.url))?;
    let store = event_loop.block_on(async { setup.open(&location) })?;
    let replica = Replica::new(store)?;
    let (mut diff, from, to) = settled(|| {
        let old = open(&replica, args.from)?;
        let new = open(&replica, args.to.unwrap_or(At::Newest))?;
        let (from, to) = (Named::of(&old), Named::of(&new));
        if from.txid > to.txid {
            anyhow::bail!(
                "--from is the state {}, which is newer than {}, that of --to",
                from.label(),
                to.label()
            );
        }
        Ok((compare(&replica, old, new, args.table.as_deref())?, from, to))
    })?;
    if let Some(name) = args.table.as_deref().filter(|_| diff.tables.is_empty())
        && !diff.known_tables.iter().any(|t| t.eq_ignore_ascii_case(name))
    {
        anyhow::bail!("neither state has a table {name:?}");
    }
    if let Some(only) = args.only {
        diff.retain(only.into());
    }
    if args.sql || args.undo {
        return to_sql(
            &diff,
            if args.sql { Direction::Apply } else { Direction::Undo },
            &location.url,
            from,
            to,
        );
    }
    Ok(if args.json { to_json(&diff, from, to) } else { to_text(&diff, from, to, args.number) })
}

/// Compares by the files between the states, or by all pages if there are none.
fn compare(replica: &Replica, old: Snapshot, new: Snapshot, table: Option<&str>) -> anyhow::Result<Diff> {
    let (from, to) = (old.txid(), new.txid());
    match History::files(replica, from, to) {
        Ok(history) => {
            let timeline = Timeline::after(old, &history);
            let mut changed: Vec<u32> = timeline.changes().iter().flat_map(Change::numbers).collect();
            changed.sort_unstable();
            changed.dedup();
            compare_pages(&timeline.at(0), &timeline.at(timeline.changes().len()), &changed, table)
        }
        Err(ViewError::NoHistory { .. }) => {
            let (old, new) = (Still::new(old), Still::new(new));
            let all: Vec<u32> = (1..=new.page_count()).collect();
            compare_pages(&old, &new, &all, table)
        }
        Err(e) => Err(e.into()),
    }
}

fn compare_pages(
    before: &dyn Source,
    after: &dyn Source,
    changed: &[u32],
    table: Option<&str>,
) -> anyhow::Result<Diff> {
    let (old, new) = (State::open(before).map_err(error)?, State::open(after).map_err(error)?);
    let old_schema = Schema::read(&old, None).map_err(error)?;
    let new_schema = Schema::read(&new, Some(&old_schema)).map_err(error)?;
    let sides = Sides { old, old_schema: &old_schema, new, new_schema: &new_schema };
    change::diff(&sides, changed, table).map_err(error)
}

/// What a difference leaves out, one line each.
fn left_out(diff: &Diff) -> Vec<String> {
    let mut lines: Vec<String> =
        diff.schema.iter().map(|c| format!("schema: {}", show::schema_change(c))).collect();
    lines.extend(diff.not_compared.iter().map(|t| format!("{t}: not compared, because its columns differ")));
    if diff.unclear > 0 {
        let unclear = count(diff.unclear, "changed page");
        lines.push(format!("{unclear} may hold rows that were not found"));
    }
    lines
}

fn to_sql(diff: &Diff, direction: Direction, url: &str, from: Named, to: Named) -> anyhow::Result<String> {
    for line in left_out(diff) {
        tracing::warn!(what = line, "this is not part of the SQL");
    }
    let labels =
        Labels { database: url.to_owned(), old: from.label(), new: to.label(), left_out: left_out(diff) };
    change::script(diff, direction, &labels).map_err(anyhow::Error::msg)
}

fn to_text(diff: &Diff, from: Named, to: Named, number: usize) -> String {
    let mut lines = vec![format!("from {}", from.label()), format!("to   {}", to.label())];
    if diff.wide {
        lines.push("most pages changed: whole tables were compared".to_owned());
    }
    lines.extend(left_out(diff));
    if diff.tables.is_empty() {
        lines.push("no row differs".to_owned());
    }
    for table in &diff.tables {
        let [inserted, updated, deleted] = table.counts();
        let name = &table.table.name;
        lines.push(format!("\n{name}: {inserted} inserted, {updated} updated, {deleted} deleted"));
        for row in table.rows.iter().take(number) {
            lines.push(format!("  {}", show::row(diff.encoding, table, row)));
        }
        if let Some(more) = table.rows.len().checked_sub(number).filter(|more| *more > 0) {
            lines.push(format!("  and {more} more; -n N shows more"));
        }
    }
    lines.join("\n") + "\n"
}

fn to_json(diff: &Diff, from: Named, to: Named) -> String {
    let state = |named: Named| json!({ "time": named.time.to_rfc3339(), "txid": named.txid.to_string() });
    let head = json!({
        "from": state(from), "to": state(to), "wide": diff.wide, "not_compared": diff.not_compared,
        "schema": diff.schema.iter().map(show::schema_json).collect::<Vec<_>>(), "unclear": diff.unclear,
    });
    let mut text = format!("{head}\n");
    for table in &diff.tables {
        for row in &table.rows {
            text += &format!("{}\n", show::row_json(diff.encoding, table, row));
        }
    }
    text
}
