//! Detects two histories in one replica: level-0 files of two writers, one after the other.
//!
//! A header tells from which part of the WAL a file was made. SQLite gives a WAL new salts when it
//! starts over, and never returns to old ones. A writer that continues within one WAL names the
//! offset where its own last file ended; one that has to begin again names the first offset. So two
//! kinds of files were made by a writer that did not know the file before them: one that continues
//! in a WAL which that file had already left, and one that continues before the end of that file.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::{Salts, Txid};
use crate::ltx::WalRange;
use crate::wal::format;

/// A file that does not belong to the history of the file before it.
pub(super) struct Mixed {
    pub(super) txid: Txid,
    /// The file before it, which may be the one of another history.
    pub(super) before: Txid,
    pub(super) cause: String,
}

/// Returns the files that do not belong to the history of the file before them.
pub(super) fn mixed(raw: &BTreeMap<Txid, WalRange>) -> Vec<Mixed> {
    let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
    let mut before: Option<(Txid, WalRange)> = None;
    for (&txid, &wal) in raw {
        let key = |s: Salts| (s.one, s.two);
        if let Some((previous, last)) = before
            && wal.salts != Salts::default()
            && wal.offset > format::HEADER_BYTES as u64
        {
            let returns = wal.salts != last.salts && seen.contains(&key(wal.salts));
            // A file that repairs what was stored without it covers the same range again, and
            // reaches further. No file of one history begins within the range of the one before it.
            let overlaps = wal.salts == last.salts
                && wal.offset < last.end()
                && (wal.end() < last.end() || wal.offset > last.offset);
            if returns || overlaps {
                let cause = format!(
                    "it continues at offset {} of a WAL that TXID {previous} does not come from: two programs have written to this replica, \
                     and states from here on may mix both; stop one of them, and store a new image (lsfast reset)",
                    wal.offset
                );
                found.push(Mixed { txid, before: previous, cause });
            }
        }
        seen.insert(key(wal.salts));
        before = Some((txid, wal));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Salts = Salts { one: 1, two: 7 };
    const B: Salts = Salts { one: 5, two: 9 };

    fn of(files: &[(Salts, u64, u64)]) -> Vec<u64> {
        let range =
            |&(salts, offset, end): &(Salts, u64, u64)| WalRange { offset, size: end - offset, salts };
        let raw = (1..).map(Txid).zip(files.iter().map(range)).collect();
        mixed(&raw).into_iter().map(|mixed| mixed.txid.0).collect()
    }

    #[test]
    fn one_history_is_sound() {
        assert!(of(&[(A, 32, 100), (A, 100, 200), (B, 32, 80), (B, 80, 90)]).is_empty());
        // A restart that could not prove its position begins again. A restart that had nothing to
        // store leaves a gap.
        assert!(of(&[(A, 32, 100), (A, 32, 150), (A, 170, 200)]).is_empty());
        // Another program took over for a while, and its work was compared with the database.
        assert!(of(&[(A, 32, 100), (A, 100, 300), (A, 100, 350)]).is_empty());
        // After a loss of power the old WAL may be back.
        assert!(of(&[(A, 32, 100), (B, 32, 80), (A, 32, 90)]).is_empty());
        assert!(of(&[(Salts::default(), 0, 0), (Salts::default(), 0, 0)]).is_empty());
    }

    #[test]
    fn files_of_two_writers_are_found() {
        assert_eq!(of(&[(A, 32, 100), (B, 32, 80), (A, 100, 150)]), [3]);
        assert_eq!(of(&[(A, 32, 100), (B, 32, 80), (A, 150, 170), (B, 80, 99), (A, 170, 180)]), [3, 4, 5]);
        // Two copies of one database.
        assert_eq!(of(&[(A, 32, 100), (A, 100, 300), (A, 200, 250)]), [3]);
        assert_eq!(of(&[(A, 32, 100), (A, 100, 300), (A, 200, 350)]), [3]);
    }
}
