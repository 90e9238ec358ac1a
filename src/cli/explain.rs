//! `lsfast explain [DB|URL]`

use std::process::ExitCode;

use clap::Args;

use super::flags;
use super::report::print_text;
use super::setup::{Setup, Target};
use crate::config::{CredentialSource, Kind, Line, Location};

/// Show what the config file or a replica URL means, and where each value comes from. Secrets are
/// hidden; the store is not asked.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// A database of the config file, or a replica URL; without one, the whole config file
    #[arg(value_name = "DB|URL", value_parser = flags::database_or_url)]
    pub target: Option<String>,
    /// Print one JSON array instead of text
    #[arg(long)]
    pub json: bool,
}

/// Runs `lsfast explain`.
pub(super) fn run(setup: &mut Setup, args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    let lines = match &args.target {
        None => setup.need_config("write lsfast explain URL")?.explain(),
        Some(argument) => match setup.target(argument, "explain")? {
            Target::Replica(location) => {
                let mut lines = location.explain();
                lines.extend(keys(setup, &location)?);
                lines
            }
            Target::Database(database) => database.explain(),
        },
    };
    let text = if args.json { json(&lines) } else { lines.iter().map(|l| format!("{l}\n")).collect() };
    print_text(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// The sources of keys that are not in the configuration, in the order in which they are tried.
fn keys(setup: &Setup, location: &Location) -> anyhow::Result<Vec<Line>> {
    let Kind::S3(s3) = &location.kind else { return Ok(Vec::new()) };
    if !matches!(s3.credentials, CredentialSource::Missing) {
        return Ok(Vec::new());
    }
    let looked = setup.sources().look(s3)?;
    Ok(looked
        .into_iter()
        .map(|l| {
            let name = format!("  {}", l.source);
            Line { name, value: l.found, origin: if l.used { "used".to_owned() } else { String::new() } }
        })
        .collect())
}

fn json(lines: &[Line]) -> String {
    let list: Vec<_> = lines
        .iter()
        .map(|l| serde_json::json!({ "name": l.name.trim_start(), "depth": depth(l), "value": l.value, "origin": l.origin }))
        .collect();
    format!("{}\n", serde_json::Value::from(list))
}

fn depth(line: &Line) -> usize {
    (line.name.len() - line.name.trim_start().len()) / 2
}
