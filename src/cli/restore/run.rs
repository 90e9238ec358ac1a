//! Runs `lsfast restore`.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use super::args::RestoreArgs;
use super::dry::{dry_run, is_empty};
use super::interrupt::Signals;
use super::progress::Watcher;
use super::{into, print, standby};
use crate::cli::global::Global;
use crate::cli::setup::{Setup, Target};
use crate::cli::{choose, runtime};
use crate::io::keep_heap;
use crate::restore::{self, RestoreOptions};

/// Runs `lsfast restore`.
pub(crate) fn run(global: &Global, setup: &mut Setup, args: &RestoreArgs) -> anyhow::Result<()> {
    let engine = runtime::engine(global)?;
    let event_loop = runtime::event_loop()?;
    let (location, default) = match setup.target(&args.url, "restore")? {
        Target::Replica(location) => {
            let output = if args.url.contains("://") {
                default_output(&location.url)
            } else {
                Ok(PathBuf::from(&args.url))
            };
            (*location, output)
        }
        Target::Database(database) => {
            let location = event_loop.block_on(choose::newest(setup, &database, args.replica.as_deref()))?;
            (location, Ok(database.path.value.clone()))
        }
    };
    if let Some(file) = &args.into {
        return into::run(setup, event_loop, &engine, &location, args, file);
    }
    if args.dry_run {
        return dry_run(setup, &event_loop, &location, args, None);
    }
    let state = args.selection();
    let output = match args.output.clone() {
        Some(output) => output,
        None => default?,
    };
    // Checked before any request to a store.
    restore::resolve(&output)?;
    if args.follow.follow {
        return standby::run(setup, event_loop, &engine, &location, args, &output);
    }
    if args.if_db_not_exists && restore::is_there(&output)? {
        return print::nothing_done(
            args.json.is_some(),
            &format!("{} exists: nothing to do", output.display()),
        );
    }
    let options = RestoreOptions {
        output,
        force: args.force,
        integrity: args.integrity_check.into(),
        state,
        parallel: args.parallelism,
    };
    keep_heap();
    let watcher = Watcher::new(std::io::stderr().is_terminal());
    let outcome = event_loop.block_on(async {
        let store = setup.open(&location)?;
        let mut signals = Signals::new()?;
        Ok(signals.or(&watcher, restore::run(store, &engine, options, &watcher)).await?)
    });
    // Work that still runs on other threads after an interruption has lost its file.
    event_loop.shutdown_background();
    watcher.finish();
    match outcome {
        Ok(report) => print::print(&report, state, &location.url, args, None),
        Err(e) if args.if_replica_exists && is_empty(&e) => print::nothing_done(
            args.json.is_some(),
            &format!("no replica at {}: nothing restored", location.url),
        ),
        Err(e) => Err(e),
    }
}

/// The last part of the URL's path, without the `-replica` that ends the name of a default replica.
fn default_output(url: &str) -> anyhow::Result<PathBuf> {
    let path = url.split_once("://").map_or(url, |(_, rest)| rest).trim_end_matches('/');
    let name = path.split_once('/').and_then(|(_, path)| path.rsplit('/').next()).unwrap_or_default();
    let name = name.strip_suffix("-replica").unwrap_or(name);
    if name.is_empty() || name == "." || name == ".." {
        anyhow::bail!("{url} does not say what the database is called: name the file to make with -o OUT");
    }
    Ok(PathBuf::from(name))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_default_output_is_the_last_part_of_the_path() {
        for (url, name) in [
            ("s3://bucket/apps/app.db", "app.db"),
            ("s3://bucket/app.db/", "app.db"),
            ("file:///backups/app.db-replica", "app.db"),
        ] {
            assert_eq!(default_output(url).expect("a name"), Path::new(name));
        }
        for url in ["s3://bucket", "s3://bucket/", "file:///", "file:///-replica"] {
            let e = default_output(url).expect_err("no name").to_string();
            assert!(e.contains("-o OUT"), "{e}");
        }
    }
}
