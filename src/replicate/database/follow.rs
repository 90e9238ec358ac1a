//! Follows one database from opening to opening, until the stop.

use std::cell::Cell;
use std::io;
use std::path::{Path, PathBuf};

use super::error::FollowError;
use super::run::{End, Follower};
use super::shared::Shared;
use super::wait::{Waited, wait_for};
use crate::io::link::target_of;
use crate::replicate::options::DatabaseOptions;
use crate::replicate::shutdown::Stop;
use crate::replicate::state::HomeError;
use crate::replicate::vitals::DatabasePhase;

/// How following a database ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// As requested, with everything stored.
    Stopped,
    /// The database was removed, and is not waited for.
    Gone,
}

/// Follows a database until the stop is requested and everything is stored. Sets `followed` once
/// the database is followed.
///
/// # Errors
/// [`FollowError`], if the database cannot be followed or not everything could be stored.
pub async fn follow(
    options: &DatabaseOptions,
    shared: &Shared,
    stop: &Stop,
    followed: &Cell<bool>,
) -> Result<Ended, FollowError> {
    let path = &options.path;
    let urls: Vec<&str> = options.replicas.iter().map(|r| r.store.url()).collect();
    let mut before: Option<PathBuf> = None;
    // Whether all of the previous opening was stored; `None` before the first.
    let mut ended: Option<bool> = None;
    loop {
        let vitals_of = |file: &Path| shared.vitals.database(path, &options.home_dir(file), &urls);
        vitals_of(&target_of(path)).set_phase(DatabasePhase::Waiting);
        let is_new = options.leave_when_gone || ended.is_some();
        let (db, _file, held) = match wait_for(options, shared, stop, is_new).await? {
            Waited::Opened(db, file, held) => (db, file, held),
            Waited::Stopped => {
                return match ended {
                    Some(true) => Ok(Ended::Stopped),
                    Some(false) => Err(FollowError::LastCommits(path.clone())),
                    None => Err(FollowError::NeverCame(path.clone())),
                };
            }
            Waited::Gone => return Ok(Ended::Gone),
        };
        if let Some(before) = before.replace(db.path().to_owned()).filter(|b| b != db.path()) {
            tracing::warn!(
                db = %path.display(), from = %before.display(), to = %db.path().display(),
                "the link leads to another file than before, which is followed from now on"
            );
        } else if db.path() != path {
            tracing::info!(db = %path.display(), file = %db.path().display(), "the database is a link to this file");
        }
        if db.was_switched() {
            tracing::info!(db = %path.display(), "switched the database to WAL mode (journal_mode=WAL)");
        }
        let held = match held {
            Some(held) => held,
            None => match shared.hold_in_time(options, db.path(), stop).await {
                Err(HomeError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => continue,
                held => held?,
            },
        };
        let vitals = vitals_of(db.path());
        let end = match Follower::begin(options, shared, stop, db, held, &vitals).await {
            Ok(follower) => {
                followed.set(true);
                follower.run().await?
            }
            // The file was removed between its opening and the first watch.
            Err(FollowError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                End::Replaced { stored: ended.unwrap_or(true) }
            }
            Err(e) => return Err(e),
        };
        match end {
            End::Stopped => return Ok(Ended::Stopped),
            End::Replaced { .. } if options.leave_when_gone => {
                tracing::info!(db = %path.display(), "the database was replaced or removed");
            }
            End::Replaced { stored } => {
                ended = Some(stored);
                tracing::warn!(db = %path.display(), "the database was replaced or removed; waiting for it to come back");
            }
        }
    }
}
