//! `lsfast log DB|URL`

use clap::Args;
use serde_json::json;

use super::settled::settled;
use super::show;
use super::when::{error, state};
use crate::base::clock::Millis;
use crate::base::{self, Txid, limits};
use crate::cli::setup::Setup;
use crate::cli::table::table;
use crate::cli::{choose, flags, report, runtime, when};
use crate::view::btree::{BtreeError, Row, Schema, State};
use crate::view::change::{self, Budgeted, Effort, Outcome, PageCounts, Pair, SchemaChange, Sides};
use crate::view::{At, History, Pages as _, Replica, Timeline, open};

/// Steps that `lsfast log` reads at a time, the newest first.
const STEPS: usize = 64;

/// Show what was stored when: the rows that each step inserted, updated and deleted.
///
/// A step is one stored file: a batch of transactions, or several batches that were compacted. The
/// rows come from the pages that changed, not from the whole database. The newest step is last.
/// A step counts how its states differ: a row that was inserted and deleted in between does not
/// appear. The first state has a line of its own if no step leads to it.
#[derive(Debug, Args)]
pub struct LogArgs {
    /// A database of the config file by its path, or a replica: s3://BUCKET/PREFIX or file:///DIR
    #[arg(value_name = "DB|URL", value_parser = flags::database_or_url)]
    pub url: String,
    /// Only steps stored at this time or later, such as "2026-11-21 14:03", 14:03 or "2h ago"
    #[arg(long, value_name = "TIME", value_parser = when::parse)]
    pub since: Option<Millis>,
    /// Only steps stored before this time
    #[arg(long, value_name = "TIME", value_parser = when::parse)]
    pub until: Option<Millis>,
    /// Only steps that changed rows of this table
    #[arg(long, value_name = "NAME")]
    pub table: Option<String>,
    /// Show at most this many of the newest steps
    #[arg(short = 'n', value_name = "N", default_value_t = 50, value_parser = count)]
    pub number: usize,
    /// Print one JSON object for each step
    #[arg(long)]
    pub json: bool,
}

fn count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if n > 0 => Ok(n),
        _ => Err("write a number from 1".into()),
    }
}

/// What one step changed.
struct Step {
    time: Millis,
    min: Txid,
    max: Txid,
    file_pages: usize,
    /// Names of tables, with rows inserted, updated and deleted.
    tables: Vec<(String, [usize; 3])>,
    schema: Vec<SchemaChange>,
    pages: Option<PageCounts>,
    pairs: Vec<String>,
    wide: bool,
    /// Why its rows were not counted.
    not_counted: Option<String>,
    /// What is known of the states before, if no step leads to this one.
    beginning: Option<&'static str>,
}

/// Runs `lsfast log`.
pub(crate) fn run(setup: &mut Setup, args: &LogArgs) -> anyhow::Result<()> {
    Ok(report::print_text(&text(setup, args)?)?)
}

/// What `lsfast log` prints.
pub(in crate::cli) fn text(setup: &mut Setup, args: &LogArgs) -> anyhow::Result<String> {
    let event_loop = runtime::event_loop()?;
    let location = event_loop.block_on(choose::location(setup, &args.url))?;
    let store = event_loop.block_on(async { setup.open(&location) })?;
    let replica = Replica::new(store)?;
    let (mut steps, older) = settled(|| {
        let newest = match args.until {
            Some(until) => state(&replica, At::Time(until))?.map(|s| s.txid()),
            None => Some(open(&replica, At::Newest)?.txid()),
        };
        let after = match args.since {
            Some(since) => state(&replica, At::Time(since))?.map_or(Txid(0), |s| s.txid()),
            None => Txid(0),
        };
        newest.map_or(Ok((Vec::new(), false)), |newest| collect(&replica, args, after, newest))
    })?;
    steps.reverse();
    Ok(if args.json { to_json(&steps) } else { to_text(&steps, older) })
}

/// The wanted steps, newest first, and whether there are older ones.
fn collect(
    replica: &Replica,
    args: &LogArgs,
    after: Txid,
    newest: Txid,
) -> anyhow::Result<(Vec<Step>, bool)> {
    let mut steps = Vec::new();
    let mut end = newest;
    while end > after {
        if steps.len() == args.number {
            return Ok((steps, true));
        }
        let left = if args.table.is_some() { usize::MAX } else { args.number - steps.len() };
        let (history, more) = History::newest(replica, after, end, left.min(STEPS))?;
        let timeline = Timeline::open(replica, &history)?;
        let mut known = None;
        for i in (0..timeline.changes().len()).rev() {
            if steps.len() == args.number {
                break;
            }
            let step = step(&timeline, i, &mut known)?;
            end = Txid(step.min.0 - 1);
            let is_it = |name: &String| args.table.as_ref().is_none_or(|t| t.eq_ignore_ascii_case(name));
            if args.table.is_none() || step.tables.iter().any(|t| is_it(&t.0)) || step.not_counted.is_some() {
                steps
                    .push(Step { tables: step.tables.into_iter().filter(|t| is_it(&t.0)).collect(), ..step });
            }
        }
        // Steps of the history may be left even if it has no older ones.
        if !more && steps.len() < args.number {
            if args.table.is_none() && end > after {
                steps.push(first_state(replica, end)?);
            }
            return Ok((steps, false));
        }
    }
    Ok((steps, false))
}

/// The state with which the steps begin, of which only an image is stored.
fn first_state(replica: &Replica, txid: Txid) -> anyhow::Result<Step> {
    let mut state = open(replica, At::Txid(txid))?;
    Ok(Step {
        time: state.time(),
        min: Txid(1),
        max: txid,
        file_pages: state.page_count() as usize,
        tables: Vec::new(),
        schema: Vec::new(),
        pages: None,
        pairs: Vec::new(),
        wide: false,
        not_counted: None,
        beginning: Some(match state.has_older()? {
            true => "no step leads from an older state to this one",
            false => "first state: nothing earlier is known",
        }),
    })
}

/// Compares the states before and after a file. `known` is the schema of the state after it, if it
/// was read, and becomes that of the state before it.
fn step(timeline: &Timeline, i: usize, known: &mut Option<Schema>) -> anyhow::Result<Step> {
    let change = &timeline.changes()[i];
    let id = change.entry().id;
    let numbers = change.numbers();
    let mut step = Step {
        time: change.time(),
        min: id.min,
        max: id.max,
        file_pages: numbers.len(),
        tables: Vec::new(),
        schema: Vec::new(),
        pages: None,
        pairs: Vec::new(),
        wide: false,
        not_counted: None,
        beginning: None,
    };
    match compare(timeline, i, &numbers, known, &mut step) {
        Ok(()) => {}
        Err(BtreeError::Source(e)) => return Err(error(BtreeError::Source(e))),
        Err(e) => {
            *known = None;
            step.not_counted = Some(e.to_string());
        }
    }
    Ok(step)
}

fn compare(
    timeline: &Timeline,
    i: usize,
    numbers: &[u32],
    known: &mut Option<Schema>,
    step: &mut Step,
) -> Result<(), BtreeError> {
    let (before, after) = (timeline.at(i), timeline.at(i + 1));
    let old_pages = Budgeted::new(&before, limits::LOG_PAGES_MAX);
    let new_pages = Budgeted::new(&after, limits::LOG_PAGES_MAX);
    let (old, new) = (State::open(&old_pages)?, State::open(&new_pages)?);
    let new_schema = Schema::read(&new, known.as_ref())?;
    let old_schema = Schema::read(&old, Some(&new_schema))?;
    step.schema = change::schema_changes(&old_schema, &new_schema);
    *known = Some(old_schema.clone());
    let small = new.page_count() <= limits::LOG_READ_PAGES;
    if old.page_count() == 0 && !small {
        step.not_counted = Some("this is the first state".to_owned());
        return Ok(());
    }
    let sides = Sides { old, old_schema: &old_schema, new, new_schema: &new_schema };
    let name = |pair: Pair| {
        let (old, new) = pair.tables(&old_schema, &new_schema);
        new.or(old).map_or(String::new(), |table| table.name.clone())
    };
    let mut counts: Vec<(Pair, [usize; 3])> = Vec::new();
    let mut count = |pair: Pair, old: Option<&Row>, new: Option<&Row>| {
        let at = counts.iter().rposition(|(p, _)| *p == pair).unwrap_or_else(|| {
            counts.push((pair, [0; 3]));
            counts.len() - 1
        });
        let kind = match (old, new) {
            (None, _) => 0,
            (Some(_), Some(_)) => 1,
            (Some(_), None) => 2,
        };
        counts[at].1[kind] += 1;
        Ok(())
    };
    let effort = if small { Effort::Read } else { Effort::Map };
    let Outcome { pairs, pages } = change::compare(&sides, numbers, effort, &|_| true, &mut count)?;
    step.tables = counts.into_iter().map(|(pair, counts)| (name(pair), counts)).collect();
    step.wide = pages.is_none();
    step.pairs = pairs.into_iter().map(name).collect();
    step.pages = pages;
    Ok(())
}

impl Step {
    fn notes(&self) -> String {
        let mut notes: Vec<String> = self.schema.iter().map(show::schema_change).collect();
        notes.extend(self.beginning.map(str::to_owned));
        if let Some(why) = &self.not_counted {
            notes.push(format!("rows not counted: {why}"));
        }
        if self.wide {
            notes.push("most pages changed".to_owned());
        }
        match &self.pages {
            Some(pages) if pages.unclear > 0 => {
                let unclear = base::count(pages.unclear, "page");
                notes.push(format!("{unclear} may hold changed rows that were not found"));
            }
            _ => {}
        }
        notes.join("; ")
    }
}

fn to_text(steps: &[Step], older: bool) -> String {
    if steps.is_empty() {
        return "no steps: the replica has no files that lead from one state to another there\n".to_owned();
    }
    let mut rows = Vec::new();
    for step in steps {
        let mut lines: Vec<[String; 4]> = step
            .tables
            .iter()
            .map(|(name, [i, u, d])| [name.clone(), i.to_string(), u.to_string(), d.to_string()])
            .collect();
        if lines.is_empty() {
            lines.push(["-".into(), String::new(), String::new(), String::new()]);
        }
        for (n, line) in lines.into_iter().enumerate() {
            let first = |text: String| if n == 0 { text } else { String::new() };
            let mut row = vec![
                first(step.time.to_rfc3339()),
                first(step.max.to_string()),
                first(step.file_pages.to_string()),
            ];
            row.extend(line);
            row.push(first(step.notes()));
            rows.push(row);
        }
    }
    let head = ["time", "txid", "pages", "table", "inserted", "updated", "deleted", ""];
    let older = if older { "older steps are not shown; -n N shows more\n" } else { "" };
    format!("{older}{}\n", table(&head, &[2, 4, 5, 6], &rows))
}

fn to_json(steps: &[Step]) -> String {
    let line = |step: &Step| {
        let tables: Vec<_> = step
            .tables
            .iter()
            .map(|(name, [i, u, d])| json!({ "table": name, "inserted": i, "updated": u, "deleted": d }))
            .collect();
        let pages = step.pages.as_ref().map(|p| {
            let of_tables: serde_json::Map<String, serde_json::Value> = step
                .pairs
                .iter()
                .zip(&p.tables)
                .filter(|(_, n)| **n > 0)
                .map(|(name, n)| (name.clone(), (*n).into()))
                .collect();
            json!({
                "differ": p.all, "tables": of_tables, "schema": p.schema, "indexes": p.indexes,
                "overflow": p.overflow, "free": p.free, "pointer_map": p.pointer_map,
                "unattributed": p.unattributed, "unclear": p.unclear,
            })
        });
        json!({
            "time": step.time.to_rfc3339(), "min_txid": step.min.to_string(), "txid": step.max.to_string(),
            "file_pages": step.file_pages, "pages": pages, "tables": tables,
            "schema": step.schema.iter().map(show::schema_json).collect::<Vec<_>>(),
            "wide": step.wide, "not_counted": step.not_counted, "beginning": step.beginning,
        })
        .to_string()
    };
    steps.iter().map(|step| line(step) + "\n").collect()
}
