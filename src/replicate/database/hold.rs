//! The state folder of a database, locked for this process.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::shared::Shared;
use crate::base::limits;
use crate::replicate::event::{Event, Observer};
use crate::replicate::options::DatabaseOptions;
use crate::replicate::shutdown::Stop;
use crate::replicate::state::{Home, HomeError, home_of};

impl DatabaseOptions {
    /// Directory of the local state for `file`, to which the database's name leads: next to that
    /// file, where SQLite also keeps `-wal` and `-shm`, unless the options name another.
    #[must_use]
    pub fn home_dir(&self, file: &Path) -> PathBuf {
        self.home.clone().unwrap_or_else(|| home_of(file))
    }
}

impl Shared {
    /// Takes the state folder of a database for this process, and tells the observer.
    pub(super) fn hold(&self, options: &DatabaseOptions, file: &Path) -> Result<Held, HomeError> {
        let home = Home::take(&options.path, options.home_dir(file))?;
        (self.observer)(&Event::Held { home: home.dir() });
        Ok(Held { home, observer: Arc::clone(&self.observer) })
    }

    /// The same as [`Shared::hold`], but waits a while for another lsfast to end: deployments
    /// overlap.
    pub(super) async fn hold_in_time(
        &self,
        options: &DatabaseOptions,
        file: &Path,
        stop: &Stop,
    ) -> Result<Held, HomeError> {
        let until = tokio::time::Instant::now() + limits::HOLD_WAIT;
        let mut said = false;
        loop {
            match self.hold(options, file) {
                Err(HomeError::Taken(..)) if tokio::time::Instant::now() < until && !stop.is_asked() => {}
                held => return held,
            }
            if !std::mem::replace(&mut said, true) {
                tracing::warn!(db = %options.path.display(), "another lsfast still follows this database; waiting for it to end");
            }
            tokio::time::sleep(HOLD_AGAIN).await;
        }
    }
}

/// The state folder of a database while this process holds its lock.
pub(super) struct Held {
    pub(super) home: Home,
    observer: Observer,
}

impl Drop for Held {
    fn drop(&mut self) {
        (self.observer)(&Event::Released { home: self.home.dir() });
    }
}

/// How often to retry the lock of a database that another lsfast holds.
const HOLD_AGAIN: Duration = Duration::from_millis(200);
