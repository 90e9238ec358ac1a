//! What the files of a replica cover, judged by their names: holes, and the states that can be
//! restored.

use std::collections::BTreeSet;

use crate::base::{Level, LtxId, Txid, limits};
use crate::restore::damage::Damaged;
use crate::restore::plan::{self, Goal};
use crate::store::Entry;

/// TXIDs that are missing between a level's first and last file and that no higher level covers.
/// Retention removes files from the beginning of a level, and from the end of a group that a higher
/// level covers; neither is damage.
pub(super) fn holes(files: &[Entry]) -> Vec<(Level, Txid, Txid)> {
    let mut holes = Vec::new();
    for level in Level::all().filter(|l| *l != Level::SNAPSHOT) {
        let mut ids: Vec<LtxId> = files.iter().map(|e| e.id).filter(|id| id.level == level).collect();
        ids.sort_unstable();
        let mut reached: Option<Txid> = None;
        for id in ids {
            if let Some(end) = reached
                && id.min > end.next()
                && holes.len() < limits::VERIFY_FINDINGS
                && !is_covered(files, level, (end.next(), Txid(id.min.0 - 1)))
            {
                holes.push((level, end.next(), Txid(id.min.0 - 1)));
            }
            reached = reached.max(Some(id.max));
        }
    }
    holes
}

/// Whether files of higher levels cover all TXIDs from `first` to `last`.
fn is_covered(files: &[Entry], level: Level, (first, last): (Txid, Txid)) -> bool {
    let mut higher: Vec<LtxId> = files.iter().map(|e| e.id).filter(|id| id.level > level).collect();
    higher.sort_unstable_by_key(|id| id.min);
    let mut due = first;
    for id in higher.into_iter().take_while(|id| id.min <= last) {
        if id.min <= due && id.max >= due {
            due = Txid(id.max.0.saturating_add(1));
        }
    }
    due > last
}

/// Of the newest [`limits::POINTS_MAX`] states: how many there are, and those that the names of
/// files without known damage lead to, the newest first.
pub(super) fn states(files: &[Entry], bad: &Damaged) -> (u64, Vec<Txid>) {
    let (mut states, mut reachable) = (0, Vec::new());
    let mut ends: Vec<Txid> = files.iter().map(|e| e.id.max).collect();
    ends.sort_unstable();
    ends.dedup();
    for txid in ends.iter().rev().take(limits::POINTS_MAX) {
        if plan::plan(files, Goal::Txid(*txid)).is_err() {
            continue;
        }
        states += 1;
        if bad.plan(files, Goal::Txid(*txid)).is_ok() {
            reachable.push(*txid);
        }
    }
    (states, reachable)
}

/// The states that files end at but that cannot be restored because a file is damaged or missing,
/// or because a restore refuses them (`refused`), as first and last TXID. States before the end of
/// the first image do not count: retention has removed the files that lead to them.
#[must_use]
pub fn lost_states(files: &[Entry], bad: &Damaged, refused: &BTreeSet<Txid>) -> Vec<(Txid, Txid)> {
    let mut ends: Vec<Txid> = files.iter().map(|e| e.id.max).collect();
    ends.sort_unstable();
    ends.dedup();
    let first = files.iter().filter(|e| e.id.min.0 == 1).map(|e| e.id.max).min();
    let mut lost: Vec<(Txid, Txid)> = Vec::new();
    let mut in_range = false;
    for txid in ends.into_iter().filter(|t| Some(*t) >= first) {
        let is_lost = refused.contains(&txid) || bad.plan(files, Goal::Txid(txid)).is_err();
        match lost.last_mut().filter(|_| in_range && is_lost) {
            Some((_, last)) => *last = txid,
            None if is_lost => lost.push((txid, txid)),
            None => {}
        }
        in_range = is_lost;
    }
    lost
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Millis;

    fn entry(level: u32, min: u64, max: u64) -> Entry {
        let id = LtxId::new(Level::new(level).unwrap(), Txid(min), Txid(max)).unwrap();
        Entry { id, size: 1, modified: Millis(0) }
    }

    #[test]
    fn a_level_may_begin_late_and_have_no_hole() {
        let files =
            [entry(0, 7, 7), entry(0, 8, 8), entry(1, 1, 4), entry(1, 3, 6), entry(9, 1, 1), entry(9, 1, 8)];
        assert_eq!(holes(&files), []);
        let files = [entry(0, 7, 7), entry(0, 10, 10), entry(1, 1, 4), entry(1, 6, 6)];
        let (zero, one) = (Level::RAW, Level::new(1).unwrap());
        assert_eq!(holes(&files), [(zero, Txid(8), Txid(9)), (one, Txid(5), Txid(5))]);
    }

    /// Regression: a process ended while it removed old files, the newest of a group first.
    /// `verify` reported the hole that was left as damage, although a higher level covers it.
    #[test]
    fn a_hole_that_other_files_lead_over_is_none() {
        let mut files = vec![entry(9, 1, 1), entry(0, 2, 2), entry(0, 3, 3), entry(0, 6, 6), entry(1, 2, 5)];
        assert_eq!(holes(&files), []);
        // Two files together cover the hole, or an image does.
        files.push(entry(2, 2, 4));
        files[4] = entry(1, 5, 5);
        assert_eq!(holes(&files), []);
        files.truncate(4);
        assert_eq!(holes(&files), [(Level::RAW, Txid(4), Txid(5))]);
        files.push(entry(9, 1, 7));
        assert_eq!(holes(&files), []);
    }
}
