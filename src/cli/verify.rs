//! `lsfast verify DB|URL`

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use serde_json::json;
use tokio::runtime::Runtime;

use super::setup::Setup;
use super::{choose, databases, flags, progress, report, runtime};
use crate::base::count;
use crate::config::Location;
use crate::io::keep_heap;
use crate::restore::{self, Compared, Health, VerifyOptions, VerifyReport, object_name};

/// Exit code if the comparison with the database could not be made and nothing else is wrong.
const NOT_COMPARED: u8 = 1;

/// Exit code if something is damaged, but the newest state can be restored.
const DAMAGED: u8 = 3;

/// Exit code if the newest state differs from the database.
const DIFFERS: u8 = 5;

/// Exit code if the newest state cannot be restored.
const NEWEST_LOST: u8 = 4;

/// Read a replica end to end and report which states can be restored.
///
/// Checks each file's checksum, name, page index and length, that no level has a hole, that each
/// page of the newest state is there, and that its pages have the checksum that the database had at
/// that transaction, if it was lsfast that replicated it. If the database exists here, the newest
/// state is compared with it, page by page; the database may be in use and is not disturbed.
/// Nothing is written. For what SQLite says of the pages, restore with `--integrity-check full`.
///
/// Exit codes: 0 nothing is wrong; 1 the check could not be completed; 2 usage; 3 something is
/// damaged, and the newest state can be restored; 4 the newest state cannot be restored; 5 it can,
/// and is not that of the database.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// A database of the config file by its path, or a replica: s3://BUCKET/PREFIX or file:///DIR
    #[arg(value_name = "DB|URL", value_parser = flags::database_or_url, required_unless_present = "all")]
    pub url: Option<String>,
    /// The replica of DB, if no config file names it
    #[arg(value_name = "URL", conflicts_with_all = ["all", "db", "no_db"])]
    pub replica: Option<String>,
    /// All replicas of all databases of the config file, one after the other; the exit code is that
    /// of the worst
    #[arg(long, conflicts_with_all = ["url", "db"])]
    pub all: bool,
    /// Read all files of the newest state, and this percentage of the other files, chosen at
    /// random; of level 0 a run of files, which are followed from state to state
    #[arg(long, value_name = "PERCENT", default_value = "100", value_parser = percent)]
    pub sample: u8,
    /// Compare the newest state with this database [default: DB, if it exists]
    #[arg(long, value_name = "FILE")]
    pub db: Option<PathBuf>,
    /// Do not compare with a database
    #[arg(long, conflicts_with = "db")]
    pub no_db: bool,
    /// Read at most this many megabytes a second on average
    #[arg(long, value_name = "MB", value_parser = clap::value_parser!(u32).range(1..))]
    pub bandwidth: Option<u32>,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

fn percent(text: &str) -> Result<u8, String> {
    let n = text.trim_end_matches('%').parse().ok().filter(|n| *n <= 100);
    n.ok_or_else(|| "write a number from 0 to 100".into())
}

/// Runs `lsfast verify`.
pub(super) fn run(setup: &mut Setup, args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let event_loop = runtime::event_loop()?;
    keep_heap();
    if args.all {
        return all(&event_loop, setup, args);
    }
    let url = args.url.as_deref().unwrap_or_default();
    let location = match &args.replica {
        Some(replica) if url.contains("://") => {
            anyhow::bail!("{url} is the URL of a replica: write lsfast verify DB {replica}, or one URL alone")
        }
        Some(replica) => setup.resolve(replica)?,
        None => event_loop.block_on(choose::location(setup, url))?,
    };
    let found = verify(&event_loop, setup, args, &location, database(setup, args))?;
    let text = if args.json { to_json(&found, &location.url) } else { to_text(&found, &location.url) };
    report::print_line(&text)?;
    Ok(ExitCode::from(exit_code(&found)))
}

/// Verifies all replicas of the config file. One that cannot be read does not stop the others.
fn all(event_loop: &Runtime, setup: &Setup, args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let config = Arc::clone(setup.need_config("name the database")?);
    let (mut worst, mut objects) = (0, Vec::new());
    for database in databases::all(&config)? {
        let path = Some(database.path.value.clone()).filter(|path| !args.no_db && path.is_file());
        for location in database.replicas.iter().map(|replica| &replica.location) {
            let code = match verify(event_loop, setup, args, location, path.clone()) {
                Ok(found) if args.json => {
                    objects.push(to_json(&found, &location.url));
                    exit_code(&found)
                }
                Ok(found) => {
                    report::print_line(&to_text(&found, &location.url))?;
                    exit_code(&found)
                }
                Err(e) => {
                    let why = format!("{}: {}", location.url, report::one_line(&e));
                    report::print_error(&why);
                    objects.push(json!({ "url": location.url, "error": why }).to_string());
                    report::code_of(&e)
                }
            };
            worst = [worst, code].into_iter().max_by_key(|code| rank(*code)).unwrap_or(code);
        }
    }
    if args.json {
        report::print_line(&format!("{{\"replicas\":[{}]}}", objects.join(",")))?;
    }
    Ok(ExitCode::from(worst))
}

/// The order of the exit codes: a newest state that is lost is the worst.
fn rank(code: u8) -> u8 {
    let order = [0, NOT_COMPARED, DAMAGED, DIFFERS, NEWEST_LOST];
    order.iter().position(|c| *c == code).map_or(1, |at| at as u8)
}

fn verify(
    event_loop: &Runtime,
    setup: &Setup,
    args: &VerifyArgs,
    location: &Location,
    database: Option<PathBuf>,
) -> anyhow::Result<VerifyReport> {
    let options = VerifyOptions {
        sample_percent: args.sample,
        bytes_per_second: args.bandwidth.map(|mb| u64::from(mb) * 1_000_000),
        database,
        ..VerifyOptions::default()
    };
    let found = event_loop.block_on(async {
        let store = setup.open(location)?;
        let (read, of) = (options.meter.clone(), options.planned.clone());
        let shown =
            progress::show("verifying", || std::future::ready(()), || Some((read.bytes(), of.bytes())));
        tokio::select! {
            found = restore::verify_replica(&store, options) => Ok::<_, anyhow::Error>(found?),
            never = shown => match never {},
        }
    })?;
    Ok(found)
}

fn exit_code(found: &VerifyReport) -> u8 {
    match found.health() {
        Health::Sound if found.not_compared.is_some() => NOT_COMPARED,
        Health::Sound => 0,
        Health::Damaged => DAMAGED,
        Health::Differs => DIFFERS,
        Health::NewestLost => NEWEST_LOST,
    }
}

/// The file to compare the newest state with: the one that was named, or the database itself.
fn database(setup: &Setup, args: &VerifyArgs) -> Option<PathBuf> {
    let url = args.url.as_deref().unwrap_or_default();
    if args.db.is_some() || args.no_db || url.contains("://") {
        return args.db.clone();
    }
    Some(setup.env().absolute(Path::new(url))).filter(|path| path.is_file())
}

fn verdict(health: Health) -> &'static str {
    match health {
        Health::Sound => "sound",
        Health::Damaged => "damaged",
        Health::Differs => "differs from the database",
        Health::NewestLost => "newest state lost",
    }
}

fn to_text(found: &VerifyReport, url: &str) -> String {
    let mut lines: Vec<String> =
        found.damaged.iter().map(|d| format!("damaged: {}: {}", object_name(&d.object), d.cause)).collect();
    let named = found.damaged.len() as u64;
    if found.damaged_count > named {
        lines.push(format!("damaged: {} more", found.damaged_count - named));
    }
    lines.extend(
        found
            .holes
            .iter()
            .map(|(level, from, to)| format!("missing: level {level} lacks TXIDs {from} to {to}")),
    );
    lines.extend(
        found.wrong_indexes.iter().map(|id| format!("wrong page index: {id}; it restores all the same")),
    );
    lines.extend(found.conflicts.iter().map(|conflict| format!("conflict: {conflict}")));
    if found.vanished > 0 {
        let were = if found.vanished == 1 { "1 file was" } else { &format!("{} files were", found.vanished) };
        lines.push(format!("{were} removed meanwhile, as happens when old ones are merged"));
    }
    lines.push(match (&found.newest, &found.newest_lost) {
        (Some(n), _) if n.txid.0 > 0 => {
            let proven = match n.checksum {
                Some(sum) => format!("; it is what the database was then (checksum {sum})"),
                None => "; its files have no checksum of the database to compare with".to_owned(),
            };
            format!("newest: TXID {} of {}, {} bytes, can be restored{proven}", n.txid, n.created, n.bytes)
        }
        (Some(n), _) => format!("newest: the state of {}, {} bytes, can be restored", n.created, n.bytes),
        (None, why) => {
            format!("newest: cannot be restored: {}", why.as_deref().unwrap_or("no reason is known"))
        }
    });
    lines.extend(found.compared.as_ref().map(compared));
    lines.extend(found.not_compared.as_ref().map(|why| format!("database: not compared: {why}")));
    if found.states > 0 {
        let last = found.last_restorable.map(|t| format!(", the last of them TXID {t}")).unwrap_or_default();
        let of = count(found.states, "state");
        lines.push(format!("{} of {of} can be restored{last}", found.restorable));
    }
    lines.push(format!(
        "{}: {url}: {} of {} read, {} bytes in {:.2} s",
        verdict(found.health()),
        found.read,
        count(found.objects, "file"),
        found.bytes,
        found.time.as_secs_f64()
    ));
    lines.join("\n")
}

fn compared(c: &Compared) -> String {
    let left_out = match c.left_out {
        0 => String::new(),
        n => format!("; {n} have changed since and were left out"),
    };
    let pages = c.differ.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match c.differ_count {
        0 if c.pages == 1 => format!("database: its page is equal{left_out}"),
        0 => format!("database: {} pages are equal{left_out}", c.pages),
        n if c.at_position => format!("database: {n} of {} pages differ ({pages}){left_out}", c.pages),
        n => format!(
            "database: {n} of {} pages differ ({pages}){left_out}; its WAL has started over since, so it may have gone \
             on: compare again when the replica has caught up",
            c.pages
        ),
    }
}

fn to_json(found: &VerifyReport, url: &str) -> String {
    let damaged: Vec<_> =
        found.damaged.iter().map(|d| json!({ "name": object_name(&d.object), "cause": d.cause })).collect();
    let holes: Vec<_> = found
        .holes
        .iter()
        .map(|(level, from, to)| {
            json!({ "level": level.get(), "from_txid": from.to_string(), "to_txid": to.to_string() })
        })
        .collect();
    let newest = found
        .newest
        .map(|n| json!({
            "txid": n.txid.to_string(), "created": n.created.to_rfc3339(), "bytes": n.bytes,
            "checksum": n.checksum.map(|sum| sum.to_string()), "proof": if n.checksum.is_some() { "checksum" } else { "none" },
        }));
    let compared = found.compared.as_ref().map(|c| {
        json!({
            "pages": c.pages, "left_out": c.left_out, "differ_count": c.differ_count, "at_position": c.at_position,
            "differ": c.differ.iter().map(|p| p.get()).collect::<Vec<_>>(),
        })
    });
    json!({
        "url": url,
        "verdict": verdict(found.health()),
        "files": found.objects,
        "files_read": found.read,
        "bytes_read": found.bytes,
        "damaged_count": found.damaged_count,
        "damaged": damaged,
        "holes": holes,
        "conflicts": found.conflicts,
        "wrong_indexes": found.wrong_indexes.iter().map(|id| format!("{}/{}", id.level, id.file_name())).collect::<Vec<_>>(),
        "vanished": found.vanished,
        "newest": newest,
        "newest_lost": found.newest_lost,
        "compared": compared,
        "not_compared": found.not_compared,
        "states": found.states,
        "restorable_states": found.restorable,
        "last_restorable_txid": found.last_restorable.map(|t| t.to_string()),
        "seconds": found.time.as_secs_f64(),
    })
    .to_string()
}
