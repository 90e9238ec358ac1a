//! Plans the next job for one replica: a pure function of the inventory, the options and the time.
//!
//! Order of precedence. Each job becomes due at its own time, and waits after a failure of its
//! kind.
//!
//! 0. *List*: what is not listed of level 0, where it may replace a damaged file. *Heal*: a damaged
//!    file whose content other files have is rewritten from them.
//! 1. *Base*: without a full image on level 9, a file that begins at TXID 1 is copied there. This
//!    costs no upload. The levels can then begin after it: the image itself is never merged from
//!    level to level.
//! 2. *Levels*, from the lowest: merges all files of the level below that reach beyond the level,
//!    at the first tick after the oldest of them was stored.
//! 3. *Snapshot*: at the first tick after the first change since the last one.
//! 4. *Times*: once an hour, a list of the times of the batches since the last list.
//! 5. *Deletions*: see `retain`.
//!
//! A file that makes up nearly all of a merge is copied, and the others are merged around it. A
//! file that is alone and not small is copied, too.

use std::time::Duration;

use super::inventory::{Inventory, Stored};
use super::options::{COPY_BYTES_MIN, HistoryOptions};
use super::retain;
use super::ticks::{Ticks, earlier};
use crate::base::clock::Millis;
use crate::base::{Level, LtxId, Txid, limits};
use crate::ltx::TimesId;
use crate::store::Part;

/// The store copies a file that is at least this many times as large as all others of a merge
/// together, and they are merged around it.
const DOMINANT: u64 = 4;

/// How often a list of times is written.
const TIMES_EVERY: Duration = Duration::from_secs(3600);

/// Fewest batches for which a list of times is written: the headers of fewer are read as quickly as
/// the list.
const TIMES_MIN: usize = 16;

/// A kind of job; each kind fails, and waits after a failure, independently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Writing a file of a level. Level 9: a full image.
    Write(Level),
    /// Deletions on level 0.
    RetainRaw,
    /// Deletions on the other levels, and of lists of times.
    Retain,
    /// Lists of times.
    Times,
    /// Rewriting damaged files.
    Heal,
    /// Listing level-0 files that are not known yet.
    List,
}

/// One job. A crash after any of them leaves a complete replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Job {
    /// Merges files, in order and without gaps between them, into one of a level.
    Merge {
        /// The files to merge.
        inputs: Vec<Stored>,
        /// Name of the output.
        to: LtxId,
    },
    /// Rewrites a damaged file.
    Heal {
        /// The files that have its content.
        inputs: Vec<Stored>,
        /// Name of the damaged file.
        to: LtxId,
    },
    /// Copies one file to another level.
    Copy {
        /// The file to copy.
        from: Stored,
        /// Name of the copy.
        to: LtxId,
    },
    /// Stores a full image of the present state.
    Snapshot,
    /// Deletes files that nothing needs any more.
    Delete {
        /// Kind of the deletion.
        kind: Kind,
        /// Names of the files, in the order of deletion.
        ids: Vec<LtxId>,
    },
    /// Stores a list of the times of batches.
    Times,
    /// Deletes lists of times that cover no file any longer.
    DropTimes(Vec<TimesId>),
    /// Lists level-0 files that are not known yet.
    List(Part),
}

impl Job {
    /// The kind of this job.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Job::Merge { to, .. } | Job::Copy { to, .. } => Kind::Write(to.level),
            Job::Heal { .. } => Kind::Heal,
            Job::Snapshot => Kind::Write(Level::SNAPSHOT),
            Job::Delete { kind, .. } => *kind,
            Job::Times => Kind::Times,
            Job::DropTimes(_) => Kind::Retain,
            Job::List(_) => Kind::List,
        }
    }
}

/// The planner's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// This job is due.
    Job(Job),
    /// No job is due before this time; `None` if none is before something new is stored.
    Wait(Option<Millis>),
}

/// The input of the plan.
pub struct Planner<'a> {
    /// What the store holds.
    pub inventory: &'a Inventory,
    /// What the user wants.
    pub options: &'a HistoryOptions,
    /// The delay of this database.
    pub ticks: Ticks,
    /// The present time.
    pub now: Millis,
    /// Until when a kind of job waits after a failure.
    pub resting: &'a dyn Fn(Kind) -> Option<Millis>,
}

impl Planner<'_> {
    /// The next job, or when one will be due.
    #[must_use]
    pub fn next(&self) -> Next {
        let mut wake: Option<Millis> = None;
        let steps: [&dyn Fn() -> Next; 7] = [
            &|| self.unlisted(),
            &|| self.heal(),
            &|| self.base(),
            &|| self.levels(),
            &|| self.snapshot(),
            &|| self.times(),
            &|| self.deletions(),
        ];
        for step in steps {
            match step() {
                Next::Job(job) => return Next::Job(job),
                Next::Wait(at) => wake = earlier(wake, at),
            }
        }
        Next::Wait(wake)
    }

    /// The job, which is due at `at` unless its kind waits after a failure.
    fn at(&self, kind: Kind, at: Millis, job: impl FnOnce() -> Job) -> Next {
        let at = (self.resting)(kind).map_or(at, |rest| rest.max(at));
        if at <= self.now { Next::Job(job()) } else { Next::Wait(Some(at)) }
    }

    /// When the next snapshot is due; `None` if nothing has changed since the last.
    #[must_use]
    pub fn snapshot_due(&self) -> Option<Millis> {
        if self.inventory.is_broken() {
            return Some(self.now);
        }
        let interval = self.options.snapshot_interval?;
        let last = self.inventory.newest_snapshot().map(|s| s.id.max).unwrap_or_default();
        let changed = self.inventory.changed_since(last)?;
        Some(self.ticks.after(interval, changed))
    }

    /// The job that stores a full image of the present state, even if none is due; `None` if there
    /// is such an image, or nothing is stored.
    #[must_use]
    pub fn image_now(&self) -> Option<Job> {
        let position = self.inventory.position();
        if position == Txid(0) || self.inventory.newest_snapshot().is_some_and(|s| s.id.max == position) {
            return None;
        }
        let same = self.inventory.all().find(|s| s.id.min.0 == 1 && s.id.max == position);
        Some(same.map_or(Job::Snapshot, |&from| Job::Copy { from, to: image_id(position) }))
    }

    /// The next deletion, if one is due.
    #[must_use]
    pub fn deletion(&self) -> Option<Job> {
        match self.deletions() {
            Next::Job(job) => Some(job),
            Next::Wait(_) => None,
        }
    }

    /// Lists what may replace a damaged file.
    fn unlisted(&self) -> Next {
        match self.inventory.unlisted(false) {
            Some(part) if !self.inventory.damaged().is_empty() => {
                self.at(Kind::List, self.now, || Job::List(part))
            }
            _ => Next::Wait(None),
        }
    }

    /// Rewrites a damaged file whose content other files have.
    fn heal(&self) -> Next {
        match self.healing() {
            Some((inputs, to)) => self.at(Kind::Heal, self.now, || Job::Heal { inputs, to }),
            None => Next::Wait(None),
        }
    }

    pub(super) fn healing(&self) -> Option<(Vec<Stored>, LtxId)> {
        let made = self.inventory.damaged().iter().map(|(id, _)| (self.inventory.replacement(*id), *id));
        made.into_iter().find(|(inputs, _)| !inputs.is_empty())
    }

    fn base(&self) -> Next {
        if self.options.is_off() || self.inventory.newest_snapshot().is_some() {
            return Next::Wait(None);
        }
        let kind = Kind::Write(Level::SNAPSHOT);
        let whole = self.inventory.all().filter(|s| s.id.min.0 == 1);
        // Of several files the one that ends earliest: it is the base of the most states.
        match whole.min_by_key(|s| (s.id.max, std::cmp::Reverse(s.id.level))) {
            Some(&from) => self.at(kind, self.now, || Job::Copy { from, to: image_id(from.id.max) }),
            None if self.inventory.position() == Txid(0) => Next::Wait(None),
            None => self.at(kind, self.now, || Job::Snapshot),
        }
    }

    fn levels(&self) -> Next {
        let mut wake = None;
        // Without a base, the levels would have to contain it.
        let Some(base) = self.inventory.snapshots().find(|s| s.id.min.0 == 1).map(|s| s.id.max) else {
            return Next::Wait(None);
        };
        for &(level, interval) in &self.options.levels {
            let inputs = self.inputs(level, base);
            let Some(oldest) = inputs.iter().map(|s| s.seen).min() else { continue };
            let due = self.ticks.after(interval, oldest);
            match self.at(Kind::Write(level), due, || merge_or_copy(inputs, level)) {
                Next::Job(job) => return Next::Job(job),
                Next::Wait(at) => wake = earlier(wake, at),
            }
        }
        Next::Wait(wake)
    }

    /// The files that the next file of a level is made from: one run without gaps.
    fn inputs(&self, level: Level, base: Txid) -> Vec<Stored> {
        let mut position = self.inventory.max(level);
        if self.inventory.level(level).len() == 0 {
            position = base;
        }
        let candidates = self.inventory.beyond(self.options.below(level), position);
        let mut run: Vec<Stored> = Vec::new();
        for s in candidates {
            if s.id.max <= position {
                continue;
            }
            let gap = s.id.min.0 > position.0.saturating_add(1);
            if gap && !run.is_empty() {
                break;
            }
            // A file that begins as early as the previous one and reaches further replaces it.
            if run.last().is_some_and(|last| s.id.min <= last.id.min) {
                run.pop();
            }
            if run.len() == limits::MERGE_INPUTS {
                break;
            }
            position = s.id.max;
            run.push(s);
        }
        run
    }

    fn snapshot(&self) -> Next {
        let Some(due) = self.snapshot_due() else { return Next::Wait(None) };
        let position = self.inventory.position();
        // Where the newest state is broken, no stored file makes it whole: the one that ends at the
        // last sound batch may be the newest image itself.
        let is_whole = |s: &&Stored| s.id.min.0 == 1 && s.id.max == position;
        let same = self.inventory.all().find(is_whole).filter(|_| !self.inventory.is_broken());
        self.at(Kind::Write(Level::SNAPSHOT), due, || match same {
            Some(&from) => Job::Copy { from, to: image_id(position) },
            None => Job::Snapshot,
        })
    }

    fn times(&self) -> Next {
        if self.options.is_off() {
            return Next::Wait(None);
        }
        match self.inventory.unlisted_since(TIMES_MIN) {
            Some(since) => self.at(Kind::Times, self.ticks.after(TIMES_EVERY, since), || Job::Times),
            None => Next::Wait(None),
        }
    }

    fn deletions(&self) -> Next {
        // Files from which a damaged one can be rewritten must not be deleted.
        if self.healing().is_some() {
            return Next::Wait(None);
        }
        let mut wake = None;
        let stale = if self.options.retention_enabled { self.inventory.stale_times() } else { Vec::new() };
        if !stale.is_empty() {
            match self.at(Kind::Retain, self.now, || Job::DropTimes(stale)) {
                Next::Job(job) => return Next::Job(job),
                Next::Wait(at) => wake = earlier(wake, at),
            }
        }
        for (kind, found) in [
            (Kind::RetainRaw, retain::copied(self.inventory, self.options, self.now)),
            (Kind::RetainRaw, retain::raw(self.inventory, self.options, self.now)),
            (Kind::Retain, retain::compacted(self.inventory, self.options, self.now)),
        ] {
            if let Some(part) = found.list {
                match self.at(Kind::List, self.now, || Job::List(part)) {
                    Next::Job(job) => return Next::Job(job),
                    Next::Wait(at) => wake = earlier(wake, at),
                }
            }
            if found.ids.is_empty() {
                wake = earlier(wake, found.again);
                continue;
            }
            match self.at(kind, self.now, || Job::Delete { kind, ids: found.ids }) {
                Next::Job(job) => return Next::Job(job),
                Next::Wait(at) => wake = earlier(wake, at),
            }
        }
        Next::Wait(wake)
    }
}

/// The job that writes a run of files, or the first part of it, as the next file of a level.
fn merge_or_copy(inputs: Vec<Stored>, level: Level) -> Job {
    let copy = |from: Stored| Job::Copy { to: LtxId { level, ..from.id }, from };
    let total: u64 = inputs.iter().map(|s| s.size).sum();
    let large = inputs.iter().enumerate().max_by_key(|(_, s)| s.size);
    let Some((at, &largest)) = large else { unreachable!("called with inputs") };
    let others = total - largest.size;
    if largest.size >= COPY_BYTES_MIN && largest.size / DOMINANT >= others {
        if at == 0 {
            return copy(largest);
        }
        return merge(inputs[..at].to_vec(), level);
    }
    merge(inputs, level)
}

fn merge(inputs: Vec<Stored>, level: Level) -> Job {
    let (Some(first), Some(last)) = (inputs.first(), inputs.last()) else {
        unreachable!("called with inputs")
    };
    let to = LtxId { level, min: first.id.min, max: last.id.max };
    Job::Merge { inputs, to }
}

/// Name of the full image of a state.
pub(super) fn image_id(at: Txid) -> LtxId {
    LtxId { level: Level::SNAPSHOT, min: Txid(1), max: at }
}
