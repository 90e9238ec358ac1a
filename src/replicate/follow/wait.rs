//! Waiting for a database to be there.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use super::super::files::Followed;
use super::super::{DatabaseOptions, Stop};
use super::{FollowError, Held, Shared, io_error};
use crate::base::limits;
use crate::io::durable::directory_of;
use crate::io::watch::{Hint, Of, Watch};
use crate::sqlite::database::{Database, FileId};

/// What came of waiting.
pub(super) enum Waited {
    Opened(Arc<Database>, Followed, Option<Held>),
    Stopped,
    Gone,
}

/// Opens the database, waiting for it to exist.
pub(super) async fn wait_for(
    options: &DatabaseOptions,
    shared: &Shared,
    stop: &Stop,
) -> Result<Waited, FollowError> {
    let path = &options.path;
    let mut watch: Option<Watch> = None;
    let mut held = None;
    let hint = Rc::new(Hint::default());
    loop {
        // Before it is opened: closing a second descriptor of the file would drop the locks of the first.
        let file = match FileId::at(path).map_err(io_error(path))? {
            Some(id) => Some(shared.files.take(id, path)?),
            None if options.leave_when_gone => return Ok(Waited::Gone),
            None => None,
        };
        let (to_open, busy) = (path.clone(), options.busy_timeout);
        let open = move || match busy {
            Some(busy) => Database::open_within(&to_open, busy),
            None => Database::open(&to_open),
        };
        let opened = {
            // The semaphore is never closed.
            let _place = shared.opening.acquire().await.ok();
            tokio::task::spawn_blocking(open).await
        };
        match (opened.map_err(io::Error::other).map_err(io_error(path))?, file) {
            (Ok(db), Some(file)) if FileId::of(db.file().std()).is_ok_and(|id| id == file.id) => {
                return Ok(Waited::Opened(Arc::new(db), file, held));
            }
            // It came, or was replaced, between the two looks.
            (Ok(_), _) => continue,
            (Err(e), _) if e.is_too_early() && shared.once.is_some() => {
                return Err(FollowError::Missing(path.clone()));
            }
            (Err(e), _) if e.is_too_early() => {
                if watch.is_none() {
                    tracing::info!(db = %path.display(), reason = %e, "waiting for the database");
                    let dir = directory_of(path);
                    watch = Some(shared.watches.add(dir, Of::Directory, &hint).map_err(io_error(dir))?);
                    if !options.leave_when_gone {
                        // So that it can be seen that somebody waits for it, and nobody else does.
                        held = Some(shared.hold(options)?);
                    }
                    continue;
                }
            }
            (Err(e), _) => return Err(e.into()),
        }
        tokio::select! {
            () = hint.wait() => {}
            () = tokio::time::sleep(limits::SAFETY_TICK) => {}
            () = stop.asked() => return Ok(Waited::Stopped),
        }
    }
}
