//! `lsfast restore --into FILE URL`

use std::io::IsTerminal as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;

use super::args::RestoreArgs;
use super::dry::{dry_run, is_empty};
use super::interrupt::Signals;
use super::print::{self, How};
use super::progress::Watcher;
use crate::base::Pgno;
use crate::cli::report;
use crate::cli::setup::Setup;
use crate::config::Location;
use crate::io::{Engine, keep_heap};
use crate::replicate::state::page_hashes::{PageHashes, published};
use crate::replicate::state::{folder_of, home_of, read_state};
use crate::restore::{self, Report, RestoreOptions};
use crate::store::Store;
use crate::view::delta::{self, DeltaOptions, DeltaPlan, Hint, Planned};

/// Makes an existing database the wanted state.
pub(super) fn run(
    setup: &Setup,
    event_loop: tokio::runtime::Runtime,
    engine: &Engine,
    location: &Location,
    args: &RestoreArgs,
    file: &Path,
) -> anyhow::Result<()> {
    // Checked before any request to a store.
    let path = restore::resolve(file)?;
    let exists = restore::is_there(&path)?;
    keep_heap();
    let watcher = Watcher::new(std::io::stderr().is_terminal() && !args.dry_run);
    let (state, begun) = (args.selection(), Instant::now());
    let outcome = event_loop.block_on(async {
        let mut signals = Signals::new()?;
        let store = setup.open(location)?;
        let planned = if exists {
            let options = DeltaOptions {
                hint: hint(setup, &path, &*store),
                path: path.clone(),
                until: state.until,
                integrity: args.integrity_check.into(),
                parallel: args.parallelism,
            };
            signals.or(&watcher, delta::plan(Arc::clone(&store), options)).await?
        } else {
            Planned::Whole(if path.exists() { "it was empty" } else { "it was not there" }.to_owned())
        };
        if args.dry_run {
            return Ok(Outcome::Planned(planned));
        }
        let why = match planned {
            Planned::Pages(plan) => match pages(*plan, &watcher, &mut signals).await? {
                Ok((report, how)) => return Ok(Outcome::Done(Box::new(report), how)),
                Err(why) => why,
            },
            Planned::Whole(why) => why,
        };
        if exists {
            tracing::warn!(db = %path.display(), reason = why, "the whole database is restored");
        }
        let options = RestoreOptions {
            output: path.clone(),
            force: exists,
            integrity: args.integrity_check.into(),
            state,
            parallel: args.parallelism,
        };
        let report = signals.or(&watcher, restore::run(store, engine, options, &watcher)).await?;
        Ok::<_, anyhow::Error>(Outcome::Done(Box::new(report), How::Whole(why)))
    });
    if let Ok(Outcome::Planned(Planned::Whole(why))) = &outcome {
        return dry_run(setup, &event_loop, location, args, Some(&How::Whole(why.clone())));
    }
    event_loop.shutdown_background();
    watcher.finish();
    match outcome {
        Ok(Outcome::Done(report, how)) => {
            let report = Report { time: begun.elapsed(), ..*report };
            print::print(&report, state, &location.url, args, Some(&how))
        }
        Ok(Outcome::Planned(Planned::Pages(plan))) => {
            let how = how(&plan);
            let text = if args.json.is_some() {
                print::delta_json(&plan, &how, &location.url)
            } else {
                print::delta_text(&plan, &how)
            };
            Ok(report::print_line(&text)?)
        }
        Ok(Outcome::Planned(Planned::Whole(_))) => Ok(()),
        Err(e) if args.if_replica_exists && is_empty(&e) => print::nothing_done(
            args.json.is_some(),
            &format!("no replica at {}: nothing restored", location.url),
        ),
        Err(e) => Err(e),
    }
}

enum Outcome {
    Planned(Planned),
    Done(Box<Report>, How),
}

fn how(plan: &DeltaPlan) -> How {
    let (base, own) = plan.base();
    How::Pages { base, own, pages: plan.pages() }
}

/// Fetches and writes the pages that differ. The inner error is the reason for which the whole
/// database is to be restored.
async fn pages(
    plan: DeltaPlan,
    watcher: &Watcher,
    signals: &mut Signals,
) -> anyhow::Result<Result<(Report, How), String>> {
    let how = how(&plan);
    let fetched = match signals.or(watcher, plan.fetch(watcher)).await {
        Ok(fetched) => fetched,
        Err(e) if delta::is_about_files(&e) => return Ok(Err(e.to_string())),
        Err(e) => return Err(e.into()),
    };
    // A signal no longer counts: what was begun has an end or is rolled back.
    let applied = tokio::task::spawn_blocking(move || fetched.apply()).await;
    Ok(Ok((applied.context("the pages could not be written")??, how)))
}

/// What the process that replicates the database noted about its pages.
fn hint(setup: &Setup, path: &Path, store: &dyn Store) -> Option<Hint> {
    let path = setup.env().absolute(path);
    let configured = setup.config().and_then(|config| config.database(&path, setup.env()).ok().flatten());
    let home = configured.and_then(|d| d.meta_path).map_or_else(|| home_of(&path), |meta| meta.value);
    let folder = home.join(folder_of(&store.identity()));
    let state = read_state(&folder).ok().flatten().filter(|_| folder.join("pages").is_file())?;
    let point = state.durable;
    let (hashes, bound) = PageHashes::of(&folder, state.seed).ok()?;
    if bound != Some(point.txid) {
        return None;
    }
    let entries = hashes.read(Pgno::FIRST, point.size_pages as usize).ok()?;
    Some(Hint { txid: point.txid, hashes: entries.into_iter().map(published).collect() })
}
