//! Other files for a state whose files are whole, but do not make what was committed.
//!
//! A checksum says that pages of a plan are wrong. It does not say which file has them: a file of
//! another database has a name, a CRC and a checksum of its own that are all right. So other plans
//! for the same state are tried, at most [`RESTORE_PLANS`](crate::base::limits::RESTORE_PLANS):
//!
//! 1. Without the plan's files of its highest level, as long as lower levels lead to the state. A
//!    full image has the most pages, and the files below it are those from which it was made.
//! 2. Without each single file of the first plan, the newest first, because that one says what the
//!    checksum has to be.

use std::collections::{BTreeSet, VecDeque};

use super::RestoreError;
use super::damage::Damaged;
use super::plan::Goal;
use crate::base::{Level, LtxId, Txid, limits};
use crate::store::Entry;

/// The plans for one state that have failed.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    tried: BTreeSet<Vec<LtxId>>,
    /// Files of earlier plans that the present one does without.
    left_out: BTreeSet<LtxId>,
    /// Files of the first plan, each to be left out alone.
    singles: VecDeque<LtxId>,
    /// The files of the first plan.
    first: BTreeSet<LtxId>,
    /// The error of the first plan, which is the one to report.
    error: Option<RestoreError>,
}

impl Doubts {
    /// Another plan for the state that `failed` leads to.
    ///
    /// # Errors
    /// The error of the first plan that failed, if there is no other one to try.
    pub(super) fn other_plan(
        &mut self,
        e: RestoreError,
        failed: &[Entry],
        all: &[Entry],
        damaged: &Damaged,
    ) -> Result<Vec<Entry>, RestoreError> {
        let error = self.error.take().unwrap_or(e);
        let plan = self.next(failed, all, damaged);
        match plan {
            Some(plan) => {
                self.error = Some(error);
                Ok(plan)
            }
            None => Err(error),
        }
    }

    fn next(&mut self, failed: &[Entry], all: &[Entry], damaged: &Damaged) -> Option<Vec<Entry>> {
        let wanted = failed.last()?.id.max;
        if self.tried.is_empty() {
            self.singles = failed.iter().rev().map(|e| e.id).collect();
            self.first = failed.iter().map(|e| e.id).collect();
        }
        self.tried.insert(failed.iter().map(|e| e.id).collect());
        if self.tried.len() >= limits::RESTORE_PLANS {
            return None;
        }
        let levels: BTreeSet<Level> = failed.iter().map(|e| e.id.level).collect();
        for level in levels.into_iter().rev() {
            let of_level = failed.iter().map(|e| e.id).filter(|id| id.level == level);
            let without = self.left_out.iter().copied().chain(of_level).collect();
            if let Some(plan) = self.plan(without, wanted, all, damaged) {
                return Some(plan);
            }
        }
        while let Some(id) = self.singles.pop_front() {
            if let Some(plan) = self.plan(BTreeSet::from([id]), wanted, all, damaged) {
                return Some(plan);
            }
        }
        None
    }

    /// A plan without these files; `None` if there is none that was not tried.
    fn plan(
        &mut self,
        without: BTreeSet<LtxId>,
        wanted: Txid,
        all: &[Entry],
        damaged: &Damaged,
    ) -> Option<Vec<Entry>> {
        let mut left_out = damaged.clone();
        without.iter().for_each(|id| _ = left_out.add(*id, String::new()));
        let plan = left_out.plan(all, Goal::Txid(wanted)).ok()?;
        let ids: Vec<LtxId> = plan.iter().map(|e| e.id).collect();
        if self.tried.contains(&ids) {
            return None;
        }
        self.left_out = without;
        Some(plan)
    }

    /// The files of the first plan that the right one does without, each with a reason; empty if
    /// the first plan was right.
    pub(super) fn suspects(&self, right: &[Entry]) -> Vec<(LtxId, String)> {
        if self.error.is_none() {
            return Vec::new();
        }
        let all: Vec<LtxId> =
            self.first.iter().copied().filter(|id| right.iter().all(|e| e.id != *id)).collect();
        let why = match all.len() {
            1 => "with it the state has another checksum than the committed one, without it the right one"
                .to_owned(),
            n => format!(
                "it is one of {n} files with which the state has another checksum than the committed one"
            ),
        };
        all.into_iter().map(|id| (id, why.clone())).collect()
    }
}
