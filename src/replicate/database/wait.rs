//! Waits until a database exists and can be opened.
//!
//! Each obstacle that can pass by itself costs one more wait: no file or folder yet, a file that is
//! still being copied in, a file removed or renamed while it was being opened, a system error. Only
//! what the caller has to decide is an error here.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::ErrorCode;

use super::arrival::Arrival;
use super::error::{FollowError, io_error};
use super::hold::Held;
use super::open_files::Followed;
use super::shared::Shared;
use crate::base::limits;
use crate::io::durable::directory_of;
use crate::io::link::{is_inside, is_open_inside, target_of};
use crate::io::watch::{Hint, Of, Watch};
use crate::replicate::options::DatabaseOptions;
use crate::replicate::shutdown::Stop;
use crate::sqlite::database::{Database, FileId, OpenError};
use crate::sqlite::header::HeaderError;

/// The result of waiting.
pub(super) enum Waited {
    Opened(Arc<Database>, Followed, Option<Held>),
    Stopped,
    Gone,
}

/// The result of one attempt to open.
enum Attempt {
    Opened(Arc<Database>, Followed),
    /// The file was replaced, removed or renamed during the attempt: try again immediately.
    Again,
    /// The database cannot be opened yet, for this reason.
    Early(FollowError),
    /// The file looks like one that is still being copied in.
    Incomplete(FollowError),
}

/// An incomplete file that does not change for this long is not being copied in.
const COPY_TIME: Duration = Duration::from_secs(10);

/// A database that has not come for this long is logged once more, as a warning: its path may be
/// mistyped.
const LONG: Duration = Duration::from_secs(60);

/// Wait before a file that was replaced while it was being opened is opened again.
const AGAIN: Duration = Duration::from_millis(10);

/// What a path named when opening it failed. While it is the same, the file is not opened again
/// before the next tick: the opening itself would cause the hint for the attempt after it.
#[derive(Clone, PartialEq, Eq)]
struct Seen {
    path: PathBuf,
    file: Option<(FileId, u64, i64, i64)>,
}

impl Seen {
    fn at(path: PathBuf) -> Seen {
        let found = std::fs::metadata(&path).ok();
        let file = found.map(|m| (FileId { dev: m.dev(), ino: m.ino() }, m.len(), m.mtime(), m.mtime_nsec()));
        Seen { path, file }
    }
}

/// Opens the database, after waiting for it to exist. `is_new`: it may have come to its place a
/// moment ago.
pub(super) async fn wait_for(
    options: &DatabaseOptions,
    shared: &Shared,
    stop: &Stop,
    is_new: bool,
) -> Result<Waited, FollowError> {
    let mut reported = None;
    let mut watched: Option<(PathBuf, Option<Watch>)> = None;
    let mut held: Option<(PathBuf, Held)> = None;
    let mut incomplete: Option<(Seen, Instant)> = None;
    let mut arrival = Arrival::new(is_new);
    let mut long_at = Some(Instant::now() + LONG);
    let hint = Rc::new(Hint::default());
    loop {
        let seen = Seen::at(target_of(&options.path));
        let path = &seen.path;
        if seen.file.is_none() && options.leave_when_gone {
            return Ok(Waited::Gone);
        }
        if seen.file.is_none() {
            arrival.note_missing();
        } else if let Ok(Some(again)) = arrival.wait(path, Instant::now()) {
            // An error here occurs again when the file is opened, and is reported there. A stop
            // waits for this too: a database that exists has to be stored.
            tokio::time::sleep(again).await;
            continue;
        }
        // The state folder next to another file is not ours.
        drop(held.take_if(|(of, _)| *of != *path));
        let attempted = match seen.file {
            // Opening it would skip the wait for the rest of a copy that has just begun.
            Some((_, 0, ..)) if path.is_file() => Attempt::Early(empty(&options.path)),
            _ => attempt(options, path, shared).await?,
        };
        let why = match attempted {
            Attempt::Opened(db, file) => return Ok(Waited::Opened(db, file, held.map(|(_, held)| held))),
            Attempt::Again => {
                tokio::time::sleep(AGAIN).await;
                continue;
            }
            Attempt::Incomplete(e) if shared.once.is_some() => return Err(e),
            Attempt::Early(_) if shared.once.is_some() => {
                return Err(FollowError::Missing(options.path.clone()));
            }
            Attempt::Early(e) => e.to_string(),
            Attempt::Incomplete(e) => {
                let (of, since) = incomplete.get_or_insert_with(|| (seen.clone(), Instant::now()));
                if *of != seen {
                    (*of, *since) = (seen.clone(), Instant::now());
                } else if since.elapsed() >= COPY_TIME {
                    return Err(e);
                }
                format!("{e}; perhaps it is still being copied in")
            }
        };
        if reported.as_ref() != Some(&why) {
            tracing::info!(db = %options.path.display(), reason = why, "waiting for the database");
            reported = Some(why.clone());
        }
        if long_at.take_if(|at| *at <= Instant::now()).is_some() {
            tracing::warn!(
                db = %options.path.display(), reason = why,
                "still waiting for the database after a minute: nothing is stored; is its path right?"
            );
        }
        let dir = directory_of(path);
        if held.is_none() && !options.leave_when_gone && (dir.is_dir() || options.home.is_some()) {
            // Taken so that the status shows that this process waits, and so that no other lsfast
            // does. The database's own directory is not created: that is up to the application, and
            // it may be a mount point.
            held = Some((path.clone(), shared.hold_in_time(options, path, stop).await?));
        }
        let above = dir.ancestors().find(|d| d.is_dir()).unwrap_or(Path::new("."));
        if watched.as_ref().is_none_or(|(of, _)| of != above) {
            // Without a watch the tick still finds it.
            let watch = shared.watches.add(above, Of::Directory, &hint).ok();
            watched = Some((above.to_owned(), watch));
            // The file may have appeared before the watch.
            continue;
        }
        let again = Instant::now() + limits::SAFETY_TICK;
        loop {
            tokio::select! {
                () = hint.wait() => {}
                () = tokio::time::sleep_until(again.into()) => break,
                () = stop.asked() => return Ok(Waited::Stopped),
            }
            if Seen::at(target_of(&options.path)) != seen {
                break;
            }
        }
    }
}

/// Opens what is at `path`, the file that the database's name leads to.
///
/// # Errors
/// Anything that does not pass by itself, or whose end would not be noticed.
async fn attempt(options: &DatabaseOptions, path: &Path, shared: &Shared) -> Result<Attempt, FollowError> {
    let Some(id) = FileId::at(path).map_err(io_error(path))? else {
        return Ok(Attempt::Early(OpenError::Missing(options.path.clone()).into()));
    };
    if let Some(root) = &options.inside
        && !is_inside(path, root).map_err(io_error(path))?
    {
        return Err(FollowError::Outside { db: path.to_owned(), root: root.clone() });
    }
    // Taken before the file is opened: closing a second descriptor of the file would drop the locks
    // of the first.
    let file = match shared.files.take(id, &options.path) {
        Ok(file) => file,
        // The file was renamed: the loop that follows it under its old name is about to notice.
        Err(e @ FollowError::Same { .. }) if !e.still_same(id) => return Ok(Attempt::Early(e)),
        Err(e) => return Err(e),
    };
    let (to_open, busy) = (path.to_owned(), options.busy_timeout);
    let open = move || match busy {
        Some(busy) => Database::open_within(&to_open, busy),
        None => Database::open(&to_open),
    };
    let opened = {
        // The semaphore is never closed.
        let _place = shared.opening.acquire().await.ok();
        tokio::task::spawn_blocking(open).await
    };
    let opened = opened.map_err(io::Error::other).map_err(io_error(path))?;
    // If not, the attempt opened, or failed to open, a file that is gone.
    let is_same = FileId::at(&options.path).is_ok_and(|now| now == Some(id));
    match opened {
        _ if !is_same => Ok(Attempt::Again),
        Ok(db) if FileId::of(db.file().std()).is_ok_and(|opened| opened == id) => {
            if let Some(root) = &options.inside
                && !is_open_inside(db.file(), &options.path, root).map_err(io_error(path))?
            {
                if FileId::at(&options.path).ok().flatten() != Some(id) {
                    return Ok(Attempt::Again);
                }
                return Err(FollowError::Outside { db: path.to_owned(), root: root.clone() });
            }
            Ok(Attempt::Opened(Arc::new(db), file))
        }
        Ok(_) => Ok(Attempt::Again),
        Err(e) if e.is_too_early() => Ok(Attempt::Early(e.into())),
        Err(e) if is_incomplete(&e) => Ok(Attempt::Incomplete(e.into())),
        Err(e) => Err(e.into()),
    }
}

fn empty(path: &Path) -> FollowError {
    OpenError::Header(HeaderError::Empty { file: path.to_owned() }).into()
}

/// Whether the file looks like one that is still being copied in: cut off, or with an empty first
/// page.
fn is_incomplete(e: &OpenError) -> bool {
    match e {
        OpenError::Header(e) => matches!(e, HeaderError::Short { .. } | HeaderError::Blank { .. }),
        OpenError::Sqlite { source, .. } => source.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt),
        _ => false,
    }
}
