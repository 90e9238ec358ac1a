//! Counts what retention removes, so that the log has one line for all that an hour removed.
//!
//! The files of one time are deleted in several steps, and a busy database has such times every
//! few minutes.

use std::time::Duration;

use super::ticks::later;
use crate::base::clock::Millis;
use crate::base::{ROUTINE, Txid};

/// Time between two log lines about what retention removed from one replica. The second line has
/// all that was removed since the first.
const LINE_EVERY: Duration = Duration::from_secs(3600);

/// What was removed from one replica since the last line. The rest is logged on drop.
#[derive(Debug)]
pub(super) struct Removed {
    /// Name of the database.
    db: String,
    /// URL of the replica, without secrets.
    replica: String,
    sum: Sum,
    /// When the last line was written.
    logged: Option<Millis>,
}

/// What a line says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sum {
    /// Number of files.
    pub files: u64,
    /// Bytes of the files.
    pub bytes: u64,
    /// The greatest TXID in one of the files.
    pub txid: Txid,
    /// Time that the deletions took.
    pub took: Duration,
}

impl Removed {
    pub(super) fn new(db: &str, replica: &str) -> Removed {
        Removed { db: db.to_owned(), replica: replica.to_owned(), sum: Sum::default(), logged: None }
    }

    /// Adds deleted files.
    pub(super) fn add(&mut self, sum: &Sum) {
        let Sum { files, bytes, txid, took } = sum;
        self.sum.files += files;
        self.sum.bytes = self.sum.bytes.saturating_add(*bytes);
        self.sum.txid = self.sum.txid.max(*txid);
        self.sum.took += *took;
    }

    /// Logs what was removed, unless the last line is too recent; returns when to log it.
    pub(super) fn log(&mut self, now: Millis) -> Option<Millis> {
        if let Some(Sum { files, bytes, txid, took }) = self.take(now) {
            let (db, replica, ms) = (&*self.db, &*self.replica, took.as_millis());
            tracing::info!(target: ROUTINE, db, replica, files, bytes, %txid, ms, "old files removed");
        }
        self.due()
    }

    /// When the next line is due; `None` if nothing was removed since the last.
    fn due(&self) -> Option<Millis> {
        let next = self.logged.map_or(Millis(i64::MIN), |t| later(t, LINE_EVERY));
        (self.sum.files > 0).then_some(next)
    }

    /// What the line says, if it is due. The count begins again.
    fn take(&mut self, now: Millis) -> Option<Sum> {
        self.due().filter(|due| *due <= now)?;
        self.logged = Some(now);
        Some(std::mem::take(&mut self.sum))
    }
}

impl Drop for Removed {
    fn drop(&mut self) {
        self.log(Millis(i64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn sum(files: u64, txid: u64) -> Sum {
        Sum { files, bytes: files * 100, txid: Txid(txid), took: Duration::from_millis(files) }
    }

    #[test]
    fn an_hour_is_one_line_and_nothing_is_none() {
        let (mut removed, begun) = (Removed::new("app.db", "file:///replica"), Millis(1_000));
        assert_eq!((removed.due(), removed.take(begun)), (None, None));
        removed.add(&sum(3, 7));
        removed.add(&sum(2, 5));
        assert_eq!(removed.take(begun), Some(sum(5, 7)));
        assert_eq!(removed.take(later(begun, 120 * MINUTE)), None, "nothing was removed");
        let begun = later(begun, 10 * MINUTE);
        removed.add(&sum(1, 9));
        assert_eq!(removed.take(begun), None);
        removed.add(&sum(1, 10));
        let due = removed.due().unwrap();
        assert_eq!(removed.take(Millis(due.0 - 1)), None);
        assert_eq!(removed.take(due), Some(sum(2, 10)));
        assert_eq!(removed.due(), None);
    }
}
