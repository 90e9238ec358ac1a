//! Counts what retention removes, so that the log has one line for all that an hour removed.
//!
//! The files of one time are deleted in several steps, and a busy database has such times every
//! few minutes.

use std::time::Duration;

use super::ticks::later;
use crate::base::Txid;
use crate::base::clock::Millis;

/// Time between two log lines about what retention removed from one replica. The second line has
/// all that was removed since the first.
const LINE_EVERY: Duration = Duration::from_secs(3600);

/// What was removed since the last line.
#[derive(Debug, Default)]
pub(super) struct Removed {
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
    /// Adds deleted files.
    pub(super) fn add(&mut self, sum: &Sum) {
        let Sum { files, bytes, txid, took } = sum;
        self.sum.files += files;
        self.sum.bytes = self.sum.bytes.saturating_add(*bytes);
        self.sum.txid = self.sum.txid.max(*txid);
        self.sum.took += *took;
    }

    /// When the next line is due; `None` if nothing was removed since the last.
    pub(super) fn due(&self) -> Option<Millis> {
        let next = self.logged.map_or(Millis(i64::MIN), |t| later(t, LINE_EVERY));
        (self.sum.files > 0).then_some(next)
    }

    /// What the line says, if it is due. The count begins again.
    pub(super) fn take(&mut self, now: Millis) -> Option<Sum> {
        self.due().filter(|due| *due <= now)?;
        self.logged = Some(now);
        Some(std::mem::take(&mut self.sum))
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
        let (mut removed, begun) = (Removed::default(), Millis(1_000));
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
