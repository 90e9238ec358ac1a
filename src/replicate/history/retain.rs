//! Plans deletions: never more than Litestream would delete, and nothing that a state within the
//! retention needs.
//!
//! - Level 0: files older than the retention that the first level covers, up to the first one that
//!   is too young. The newest file always stays (I4): it is the position of the replica.
//! - Level 9: the *base* is the newest of the images that are at least as old as the retention.
//!   Everything stored since can be rebuilt from it. Images before it are deleted. (Litestream
//!   keeps only the newest image, so that right after a snapshot there is no history.)
//! - Other levels: files that end before the base, except the newest file of each level.
//!
//! # Order of deletions
//!
//! Level-0 files are deleted in groups, the oldest group first. A group is all that one file of the
//! first level covers, and its newest file goes first. So at every moment the rest of a group
//! continues the first level without a hole. A restore by time that meets a half-deleted group gets
//! a state that is not older than without the group. Of files before the oldest image the oldest
//! goes first: they can continue nothing but the first batch, if that still exists.
//!
//! Images, and other files that begin at TXID 1, go first and by themselves. Without its beginning
//! a chain offers no states; with a hole it would offer states that are older than they claim to
//! be.

use std::time::Duration;

use super::inventory::{Inventory, Stored};
use super::options::{COPY_BYTES_MIN, HistoryOptions, RAW_RETENTION_MIN};
use super::ticks::{earlier, later, ms};
use crate::base::clock::Millis;
use crate::base::{Level, LtxId, Txid, limits};
use crate::store::Part;

/// A retention is checked at most this many times while it lasts, however short the check interval,
/// so that deletions are gathered into few requests.
const CHECKS: i64 = 100;

/// The files to delete.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Deletable {
    /// Delete these now, in this order.
    pub ids: Vec<LtxId>,
    /// If there are none: when there may be some.
    pub again: Option<Millis>,
    /// If there are none: list this first.
    pub list: Option<Part>,
}

/// How long the first image stays on level 0 after the batch that follows it. By then the position
/// on this host is flushed, so that no start looks for that file.
const IMAGE_REST: Duration = Duration::from_secs(40);

/// Deletions on level 0 of large files of which a higher level has a copy with the same TXID. The
/// copy is as precise, so the bytes need not be stored twice.
pub(super) fn copied(inventory: &Inventory, options: &HistoryOptions, now: Millis) -> Deletable {
    let mut found = Deletable::default();
    if !options.retention_enabled || options.l0_retention.is_some() {
        return found;
    }
    // I4: all but the newest, which is the position of the replica.
    let position = inventory.position();
    let above = Level::all().filter(|l| *l != Level::RAW).flat_map(|l| inventory.level(l));
    let copies = above.filter(|s| s.id.min == s.id.max);
    for copy in copies.filter(|s| s.size >= COPY_BYTES_MIN && s.id.max < position) {
        let Some(raw) = inventory.find(LtxId::raw(copy.id.max)).filter(|raw| raw.size == copy.size) else {
            continue;
        };
        let next = inventory.raw_after(raw.id.max).map_or(raw.seen, |next| next.seen);
        let seen = next.max(copy.seen).max(raw.seen);
        let first = raw.id.max == Txid(1);
        let due = later(seen, if first { IMAGE_REST } else { RAW_RETENTION_MIN });
        match due <= now {
            true => found.ids.push(raw.id),
            false => found.again = earlier(found.again, Some(due)),
        }
    }
    found.ids.dedup();
    found
}

/// Deletions on level 0.
pub(super) fn raw(inventory: &Inventory, options: &HistoryOptions, now: Millis) -> Deletable {
    let (Some(retention), Some((first, _))) = (options.raw_retention(), options.levels.first()) else {
        return Deletable::default();
    };
    let objects = inventory.level(Level::RAW);
    // I4: all but the newest, which is the position of the replica.
    let older = objects.len().saturating_sub(1);
    // The precision gives way if the objects become too many; an explicit retention does not.
    let unlisted = usize::try_from(inventory.gap_len()).unwrap_or(usize::MAX);
    let excess = match options.l0_retention {
        None => objects.len().saturating_add(unlisted).saturating_sub(limits::RAW_OBJECTS),
        Some(_) => 0,
    };
    let grain = ms(options.l0_check).max(ms(retention) / CHECKS).max(1);
    let image = inventory.snapshots().map(|s| s.id.max).min().unwrap_or_default();
    let mut found = Deletable::default();
    let gap = inventory.gap().map(|(first, _)| first);
    let mut raw =
        objects.take(older).take_while(|s| gap.is_none_or(|gap| s.id.max < gap)).enumerate().peekable();
    for end in inventory.level(*first).map(|s| s.id.max) {
        let mut group = Vec::new();
        let mut due = Millis(i64::MIN);
        while let Some((i, s)) = raw.next_if(|(_, s)| s.id.max <= end) {
            let keep = if i < excess { retention.min(RAW_RETENTION_MIN) } else { retention };
            due = due.max(later(s.seen, keep));
            group.push(s.id);
        }
        // The rest of the group is not listed, and is younger.
        let is_cut = gap.is_some_and(|gap| gap <= end);
        if is_cut && due <= now {
            found.list = inventory.unlisted(true).filter(|_| found.ids.is_empty());
            break;
        }
        if due > now {
            // Not at the exact moment, but together with the files that become old enough by then.
            found.again = Some(Millis((due.0.div_euclid(grain)).saturating_add(1).saturating_mul(grain)));
            break;
        }
        let (before, after): (Vec<LtxId>, Vec<LtxId>) = group.into_iter().partition(|id| id.max <= image);
        found.ids.extend(before.into_iter().chain(after.into_iter().rev()));
        if found.ids.len() >= limits::DELETE_BATCH {
            break;
        }
    }
    found.ids.truncate(limits::DELETE_BATCH);
    found
}

/// Deletions on the other levels.
pub(super) fn compacted(inventory: &Inventory, options: &HistoryOptions, now: Millis) -> Deletable {
    if !options.retention_enabled {
        return Deletable::default();
    }
    let retention = options.snapshot_retention;
    let old = |s: &&Stored| later(s.seen, retention) <= now;
    let whole = |s: &&Stored| s.id.min.0 == 1;
    let younger = inventory.snapshots().filter(whole).find(|s| !old(s)).map(|s| later(s.seen, retention));
    let Some(base) = inventory.snapshots().filter(whole).filter(old).map(|s| s.id.max).max() else {
        return Deletable { again: younger, ..Deletable::default() };
    };
    let is_last = |s: &Stored| inventory.level(s.id.level).next_back().is_some_and(|last| last.id == s.id);
    let images = inventory.snapshots().filter(|s| s.id.max < base);
    let levels = || (1..9).filter_map(|n| Level::new(n).ok()).flat_map(|l| inventory.level(l));
    let past = || levels().filter(|s| s.id.max < base && !is_last(s));
    let mut ids: Vec<LtxId> = images.chain(past().filter(whole)).map(|s| s.id).collect();
    if ids.is_empty() {
        ids = past().map(|s| s.id).take(limits::DELETE_BATCH).collect();
    }
    Deletable { ids, again: younger, list: None }
}
