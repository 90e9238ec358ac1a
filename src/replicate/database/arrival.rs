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

use crate::sqlite::database::{is_in_use, may_have_wal, says_it_is_longer, sibling};

/// A file that may have come a moment ago counts as complete after this time without a
/// change. A WAL that comes later is still noticed if no application has opened the database yet.
const QUIET: Duration = Duration::from_secs(1);

/// Time without a change after which a new database in WAL mode counts as complete without a WAL.
/// If the WAL comes later and an application opens the database within milliseconds after that,
/// the application does not see the rows of that WAL.
const QUIET_BEFORE_WAL: Duration = Duration::from_secs(3);

/// Time without a change after which a file counts as complete that was there at the first look and
/// is not in a watched directory.
const QUIET_AT_START: Duration = Duration::from_millis(300);

/// A file is opened after this time even if it changes: a program uses it that holds no lock at the
/// moments of the looks. So is an incomplete file that has not changed for this time.
const ARRIVAL_MAX: Duration = Duration::from_secs(10);

/// Delay between looks while the file may be arriving.
const LOOK_AGAIN: Duration = Duration::from_millis(25);

/// What is known of a file that is waited for.
#[derive(Debug, Default)]
pub(super) struct Arrival {
    /// The file was missing at one look, has replaced another, or was found in a watched directory.
    is_new: bool,
    seen: Option<Seen>,
    /// When the file was first seen complete, and when it last changed.
    times: Option<(Instant, Instant)>,
}

/// Size and change time of the database and its WAL.
type Seen = [Option<(u64, i64, i64)>; 2];

impl Arrival {
    /// `is_new`: the file may have come a moment ago.
    pub(super) fn new(is_new: bool) -> Arrival {
        Arrival { is_new, ..Arrival::default() }
    }

    pub(super) fn note_missing(&mut self) {
        *self = Arrival::new(true);
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
        let (mut first, changed) = match self.times {
            Some((first, changed)) if self.seen == Some(seen) => (first, changed),
            Some((first, _)) => (first, now),
            None => (now, now),
        };
        // With a WAL, the missing pages may be in it.
        let alone = found[1].as_ref().is_none_or(|wal| wal.len() == 0);
        let is_incomplete = alone && says_it_is_longer(path, db.len())?;
        // A WAL grows under a lock, unless it is being copied.
        let wal_grows = !alone && self.seen.is_some_and(|before| before[1] != seen[1]);
        if is_incomplete || wal_grows {
            first = now;
        }
        (self.seen, self.times) = (Some(seen), Some((first, changed)));
        // A file is quiet if it changed long ago by its own time, or did not change while lsfast
        // looked.
        let still = found.iter().flatten().map(age).min().unwrap_or_default().max(now - changed);
        let quiet = match self.is_new {
            false => QUIET_AT_START,
            true if alone && still < QUIET_BEFORE_WAL && may_have_wal(path)? => QUIET_BEFORE_WAL,
            true => QUIET,
        };
        let settled = still >= quiet && !(is_incomplete && still < ARRIVAL_MAX);
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

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    /// Whether the file may be opened at once, after two seconds, and after four.
    fn opened(path: &Path, is_new: bool) -> [bool; 3] {
        let (mut arrival, begun) = (Arrival::new(is_new), Instant::now());
        [0, 2, 4].map(|after| arrival.wait(path, begun + Duration::from_secs(after)).unwrap().is_none())
    }

    /// A copy that took longer than ten seconds was opened while it came, or before its WAL did.
    #[test]
    fn a_slow_copy_is_waited_for_and_its_wal_too() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("used.db");
        let app = Connection::open(&path).unwrap();
        app.query_row("PRAGMA journal_mode=WAL", [], |_| Ok(())).unwrap();
        app.execute_batch("CREATE TABLE t(x); CREATE TABLE u(x); PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
        app.execute_batch("INSERT INTO t VALUES (randomblob(9000))").unwrap();
        let (whole, log) = (std::fs::read(&path).unwrap(), std::fs::read(sibling(&path, "-wal")).unwrap());
        let copy = dir.path().join("copy.db");
        let (mut arrival, begun) = (Arrival::new(true), Instant::now());
        let mut is_opened =
            |after: u64| arrival.wait(&copy, begun + Duration::from_secs(after)).unwrap().is_none();
        for (part, after) in [0, 5, 9, 14].into_iter().enumerate() {
            std::fs::write(&copy, &whole[..4096 + part * 100]).unwrap();
            assert!(!is_opened(after), "{part}");
        }
        std::fs::write(&copy, &whole).unwrap();
        assert!(!is_opened(15), "its WAL may follow");
        for (part, after) in [17, 21, 26].into_iter().enumerate() {
            std::fs::write(sibling(&copy, "-wal"), &log[..4096 + part * 100]).unwrap();
            assert!(!is_opened(after), "its WAL comes");
        }
        assert!(is_opened(28));
    }

    /// The application saw none of the rows of a WAL that came after lsfast had opened its
    /// database.
    #[test]
    fn where_a_wal_may_follow_it_is_waited_for_longer() {
        let dir = tempfile::tempdir().unwrap();
        for (mode, is_new, expected) in [
            ("WAL", true, [false, false, true]),
            ("WAL", false, [false, true, true]),
            ("DELETE", true, [false, true, true]),
        ] {
            let path = dir.path().join(format!("{mode}-{is_new}.db"));
            let app = Connection::open(&path).unwrap();
            app.query_row(&format!("PRAGMA journal_mode={mode}"), [], |_| Ok(())).unwrap();
            app.execute_batch("CREATE TABLE t(x)").unwrap();
            drop(app);
            assert!(!sibling(&path, "-wal").exists());
            assert_eq!(opened(&path, is_new), expected, "{mode}, new: {is_new}");
        }
        let path = dir.path().join("used.db");
        let app = Connection::open(&path).unwrap();
        app.query_row("PRAGMA journal_mode=WAL", [], |_| Ok(())).unwrap();
        app.execute_batch("CREATE TABLE t(x)").unwrap();
        let copied = dir.path().join("copied.db");
        std::fs::copy(&path, &copied).unwrap();
        std::fs::copy(sibling(&path, "-wal"), sibling(&copied, "-wal")).unwrap();
        assert_eq!(opened(&copied, true), [false, true, true], "its WAL is there");
    }
}
