//! `lsfast reset DB`

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use serde_json::json;

use super::flags;
use super::report::print_line;
use super::setup::Setup;
use crate::observe::is_replica_folder;
use crate::replicate::state::{Home, home_folder, home_of, image_wish, replica_folder};

/// Forget the local replication state of a database, so that the next start stores an image of
/// it.
///
/// Nothing is removed from a store, and the database is not touched: a replica keeps its files and
/// continues after them, with a new full image from which the newest state can be restored
/// without them. Refused while an lsfast follows the database.
#[derive(Debug, Args)]
pub struct ResetArgs {
    /// The database
    #[arg(value_name = "DB", value_parser = flags::database())]
    pub db: PathBuf,
    /// Show what would be removed, and remove nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

/// Runs `lsfast reset`.
pub(super) fn run(setup: &Setup, args: &ResetArgs) -> anyhow::Result<ExitCode> {
    let path = setup.env().absolute(&args.db);
    let configured = match setup.config() {
        Some(config) => config.database(&path, setup.env())?,
        None => None,
    };
    let home = configured.and_then(|d| d.meta_path).map_or_else(|| home_of(&path), |m| m.value);
    if !path.exists() && !home.exists() {
        anyhow::bail!("there is no database {} and no local state of one", path.display());
    }
    let doomed = if home.is_dir() {
        // The lock is held until everything is removed, so no lsfast starts with half of the state.
        let held = Home::take(&path, home.clone())?;
        let doomed = replicas(held.dir()).with_context(|| home.display().to_string())?;
        if !args.dry_run {
            for folder in &doomed {
                remove(held.dir(), folder).with_context(|| format!("cannot remove {}", folder.display()))?;
                let wish = image_wish(folder);
                ask(held.dir(), &wish).with_context(|| format!("cannot write {}", wish.display()))?;
            }
        }
        doomed
    } else {
        Vec::new()
    };
    print_line(&if args.json {
        to_json(&path, &doomed, args.dry_run)
    } else {
        to_text(&path, &doomed, args.dry_run)
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The folders of replicas in a home. Other files there are left alone.
fn replicas(home: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found: Vec<PathBuf> = Vec::new();
    for name in home_folder(home).open()?.names()? {
        let path = home.join(&name);
        let is_folder = std::fs::symlink_metadata(&path)?.is_dir();
        if is_folder && name.to_str().is_some_and(is_replica_folder) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Removes the state file first: without it, nothing in the folder is used.
fn remove(home: &Path, folder: &Path) -> io::Result<()> {
    let name = folder.file_name().and_then(|n| n.to_str()).ok_or(io::ErrorKind::InvalidInput)?;
    replica_folder(folder).open()?.remove("state")?;
    home_folder(home).open()?.remove_folder(name)
}

/// Creates the file that asks for a full image.
fn ask(home: &Path, wish: &Path) -> io::Result<()> {
    let name = wish.file_name().and_then(|n| n.to_str()).ok_or(io::ErrorKind::InvalidInput)?;
    home_folder(home).open()?.create_anew(name, 0o600).map(drop)
}

fn to_text(db: &Path, doomed: &[PathBuf], dry_run: bool) -> String {
    let db = db.display();
    if doomed.is_empty() {
        return format!("there is no local state of {db}: nothing to reset");
    }
    let verb = if dry_run { "would remove" } else { "removed" };
    let mut lines: Vec<String> = doomed.iter().map(|f| format!("{verb} {}", f.display())).collect();
    lines.push(if dry_run {
        format!(
            "nothing was removed; without --dry-run the next start of lsfast would store an image of {db}"
        )
    } else {
        format!("the next start of lsfast stores an image of {db}")
    });
    lines.join("\n")
}

fn to_json(db: &Path, doomed: &[PathBuf], dry_run: bool) -> String {
    let folders: Vec<_> = doomed.iter().map(|f| f.to_string_lossy()).collect();
    json!({ "path": db.to_string_lossy(), "dry_run": dry_run, "folders": folders }).to_string()
}
