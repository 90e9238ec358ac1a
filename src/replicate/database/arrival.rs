//! Whether a database file may still be arriving.
//!
//! A database is copied to its place piece by piece, and its WAL after it. Opening it creates a
//! wal-index, which hides a WAL that comes later. So lsfast opens a file when a process has it open
//! already, or when it is complete and has not changed for a while.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use crate::sqlite::database::{is_in_use, says_it_is_longer, sibling};

/// A file that appeared while lsfast waited for it counts as complete after this time without a
/// change. A WAL that comes later is still noticed if no application has opened the database yet.
const QUIET: Duration = Duration::from_secs(1);

/// The same for a file that existed at the first look.
const QUIET_AT_START: Duration = Duration::from_millis(300);

/// A file is opened after this time even if it changes or is incomplete: a program uses it that
/// holds no lock at the moments of the looks.
const ARRIVAL_MAX: Duration = Duration::from_secs(10);

/// Delay between looks while the file may be arriving.
const LOOK_AGAIN: Duration = Duration::from_millis(25);

/// What is known of a file that is waited for.
#[derive(Debug, Default)]
pub(super) struct Arrival {
    /// The file was missing at one look.
    was_missing: bool,
    seen: Option<Seen>,
    /// When the file was first seen, and when it last changed.
    times: Option<(Instant, Instant)>,
}

/// Size and change time of the database and its WAL.
type Seen = [Option<(u64, i64, i64)>; 2];

impl Arrival {
    pub(super) fn note_missing(&mut self) {
        *self = Arrival { was_missing: true, ..Arrival::default() };
    }

    /// How long to wait before the next look; `None` if the file may be opened.
    ///
    /// # Errors
    /// Any I/O error of reading the files' metadata or locks.
    pub(super) fn wait(&mut self, path: &Path, now: Instant) -> io::Result<Option<Duration>> {
        let found = [stat(path)?, stat(&sibling(path, "-wal"))?];
        let [Some(db), _] = &found else { return Ok(None) };
        if db.len() == 0 || !db.is_file() {
            self.note_missing();
            return Ok(None);
        }
        let seen = found.each_ref().map(|m| m.as_ref().map(|m| (m.len(), m.ctime(), m.ctime_nsec())));
        let (first, changed) = match self.times {
            Some((first, changed)) if self.seen == Some(seen) => (first, changed),
            Some((first, _)) => (first, now),
            None => (now, now),
        };
        (self.seen, self.times) = (Some(seen), Some((first, changed)));
        // A file is quiet if it changed long ago by its own time, or did not change while lsfast
        // looked.
        let still = found.iter().flatten().map(age).min().unwrap_or_default().max(now - changed);
        let quiet = if self.was_missing { QUIET } else { QUIET_AT_START };
        // With a WAL, the missing pages may be in it.
        let alone = found[1].as_ref().is_none_or(|wal| wal.len() == 0);
        let settled = still >= quiet && !(alone && still < ARRIVAL_MAX && says_it_is_longer(path, db.len())?);
        if settled || now - first >= ARRIVAL_MAX || is_in_use(path)? {
            return Ok(None);
        }
        Ok(Some(LOOK_AGAIN))
    }
}

fn stat(path: &Path) -> io::Result<Option<Metadata>> {
    match std::fs::metadata(path) {
        Ok(found) => Ok(Some(found)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// How long ago the file changed; zero if its change time lies in the future.
fn age(of: &Metadata) -> Duration {
    let changed =
        Duration::new(u64::try_from(of.ctime()).unwrap_or(0), u32::try_from(of.ctime_nsec()).unwrap_or(0));
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH + changed).unwrap_or_default()
}
