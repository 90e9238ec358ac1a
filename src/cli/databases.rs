//! `lsfast databases`

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

use super::report::print_line;
use super::setup::Setup;
use super::shape::{self, Shape};
use super::table::table;
use crate::config::Config;
use crate::config::file::DatabaseConfig;
use crate::replicate::files_in;

/// List the databases of the config file, and those that are in its directories now.
#[derive(Debug, Args)]
pub struct DatabasesArgs {
    /// Print one JSON array instead of a table; --json=litestream has its fields
    #[arg(
        long, value_name = "SHAPE", num_args = 0..=1, require_equals = true,
        default_missing_value = "lsfast", value_enum
    )]
    pub json: Option<Shape>,
}

/// Runs `lsfast databases`.
pub(super) fn run(setup: &Setup, args: &DatabasesArgs) -> anyhow::Result<ExitCode> {
    let config = setup.need_config("write the database on the command line")?;
    let databases = all(config)?;
    let text = match args.json {
        None => to_table(&databases),
        Some(Shape::Lsfast) => json(&databases),
        Some(Shape::Litestream) => litestream(&databases)?,
    };
    print_line(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// The databases of a config file, and the databases that exist in its directories now.
pub(super) fn all(config: &Config) -> anyhow::Result<Vec<DatabaseConfig>> {
    let mut databases = config.databases.clone();
    for directory in &config.directories {
        let files = match files_in(&directory.path.value, directory.recursive) {
            // `replicate` waits for it.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            files => files.with_context(|| {
                format!("the directory {} cannot be read", directory.path.value.display())
            })?,
        };
        for path in files {
            let relative = path.strip_prefix(&directory.path.value)?;
            if directory.matches(relative) {
                databases.push(directory.database(relative)?);
            }
        }
    }
    Ok(databases)
}

fn urls(database: &DatabaseConfig) -> impl Iterator<Item = &str> {
    database.replicas.iter().map(|r| r.location.url.as_str())
}

fn to_table(databases: &[DatabaseConfig]) -> String {
    let mut rows = Vec::new();
    for database in databases {
        for (i, url) in urls(database).enumerate() {
            let path = if i == 0 { database.path.value.display().to_string() } else { String::new() };
            rows.push(vec![path, url.to_owned()]);
        }
    }
    table(&["path", "replica"], &[], &rows)
}

/// As `litestream databases -json` prints them.
fn litestream(databases: &[DatabaseConfig]) -> anyhow::Result<String> {
    #[derive(serde::Serialize)]
    struct Listed<'a> {
        path: &'a std::path::Path,
        replica: &'a str,
    }
    let mut list = Vec::new();
    for database in databases {
        let url = urls(database).next().unwrap_or_default();
        list.push(Listed { path: &database.path.value, replica: shape::kind(url) });
    }
    shape::litestream(&list)
}

fn json(databases: &[DatabaseConfig]) -> String {
    let list: Vec<_> = databases
        .iter()
        .map(|d| serde_json::json!({ "path": d.path.value, "replicas": urls(d).collect::<Vec<_>>() }))
        .collect();
    serde_json::Value::from(list).to_string()
}
