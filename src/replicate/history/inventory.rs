//! What one replica has stored: known from the listing at the start, then from what this
//! process stores and deletes.

use std::collections::VecDeque;

use crate::base::clock::Millis;
use crate::base::{Level, LtxId, Txid, limits};
use crate::ltx::TimesId;
use crate::restore::damage::Damaged;
use crate::restore::plan::{Goal, PlanError};
use crate::store::{Entry, Part};

/// One stored object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Name of the object.
    pub id: LtxId,
    /// Length in bytes.
    pub size: u64,
    /// Timestamp of the header if `exact`, otherwise the time of the upload.
    pub created: Millis,
    /// When the object was created, by our clock: never in the future, whatever `created` is.
    pub seen: Millis,
    /// Whether `created` comes from the header.
    pub exact: bool,
}

/// All objects of a replica, by level, sorted by minimum and maximum TXID.
///
/// Of level 0, files in the middle may not be listed: the *gap*. What they hold is on higher
/// levels, too. They are listed in pieces when retention gets there, or all at once if damage may
/// need one of them.
///
/// A level holds at most [`limits::SHELF_OBJECTS`]; beyond that the oldest are forgotten here, and
/// stay in the store.
#[derive(Debug, Default)]
pub struct Inventory {
    levels: [VecDeque<Stored>; 10],
    times: Vec<TimesId>,
    /// Lists of times cover the TXIDs up to this one, where their times are known.
    pub(super) times_through: Txid,
    /// Files that the newest state needs are missing or damaged. An image of this TXID or a later
    /// one replaces them.
    broken: Option<Txid>,
    /// Files that are stored but cannot be used; the levels here do not have them.
    damaged: Damaged,
    /// First and last TXIDs of level 0 that are not listed.
    gap: Option<(Txid, Txid)>,
}

impl Inventory {
    /// The inventory after a listing.
    #[cfg(test)]
    pub fn new(entries: &[Entry], now: Millis) -> Inventory {
        Inventory::without(entries, &Damaged::default(), now)
    }

    /// The inventory after a listing, without files that are known to be damaged.
    #[must_use]
    pub(super) fn without(entries: &[Entry], known: &Damaged, now: Millis) -> Inventory {
        let mut inventory = Inventory { damaged: Damaged::of_listing(entries), ..Inventory::default() };
        for (id, why) in known.iter().filter(|(id, _)| entries.iter().any(|e| e.id == **id)) {
            inventory.damaged.add(*id, why.to_owned());
        }
        if !entries.is_empty() && inventory.damaged.plan(entries, Goal::Newest).is_err() {
            inventory.broken = entries.iter().map(|e| e.id.max).max();
        }
        for e in entries.iter().filter(|e| !inventory.damaged.has(e.id)).collect::<Vec<_>>() {
            let (created, seen) = (e.modified, e.modified.min(now));
            inventory.put(Stored { id: e.id, size: e.size, created, seen, exact: false });
        }
        inventory
    }

    /// Sets which TXIDs of level 0 are not listed.
    pub(super) fn set_gap(&mut self, gap: Option<(Txid, Txid)>) {
        self.gap = gap;
    }

    /// First and last TXIDs of level 0 that are not listed.
    #[must_use]
    pub fn gap(&self) -> Option<(Txid, Txid)> {
        self.gap
    }

    /// How many TXIDs of level 0 are not listed.
    #[must_use]
    pub fn gap_len(&self) -> u64 {
        self.gap.map_or(0, |(first, last)| last.0.saturating_sub(first.0).saturating_add(1))
    }

    /// The part that lists the gap, or with `once` its beginning.
    #[must_use]
    pub fn unlisted(&self, once: bool) -> Option<Part> {
        self.gap.map(|(from, to)| Part::Stretch { level: Level::RAW, from, to, once })
    }

    /// Takes what a listing of the gap shows, from its beginning on. `more`: not to its end.
    pub(super) fn fill(&mut self, entries: &[Entry], more: bool, now: Millis) {
        let Some((_, to)) = self.gap else { return };
        self.gap =
            entries.last().filter(|_| more).map(|e| (e.id.max.next(), to)).filter(|(from, to)| from <= to);
        for (id, why) in Damaged::of_listing(entries).iter() {
            self.damaged.add(*id, why.to_owned());
        }
        for e in entries.iter().filter(|e| !self.damaged.has(e.id)).collect::<Vec<_>>() {
            let (created, seen) = (e.modified, e.modified.min(now));
            self.put(Stored { id: e.id, size: e.size, created, seen, exact: false });
        }
        if self.gap.is_none() && !self.damaged.is_empty() && self.newest_plan().is_err() {
            self.broken = self.entries().iter().map(|e| e.id.max).max();
        }
    }

    /// Adds an object, or replaces what is known of it.
    pub fn put(&mut self, stored: Stored) {
        self.damaged.remove(stored.id);
        let level = &mut self.levels[usize::from(stored.id.level.get())];
        match level.back() {
            Some(last) if last.id >= stored.id => match level.binary_search_by_key(&stored.id, |s| s.id) {
                Ok(at) => level[at] = stored,
                Err(at) => level.insert(at, stored),
            },
            _ => level.push_back(stored),
        }
        if level.len() > limits::SHELF_OBJECTS {
            level.pop_front();
        }
    }

    /// Removes an object. Returns it if it was known.
    pub fn remove(&mut self, id: LtxId) -> Option<Stored> {
        let level = &mut self.levels[usize::from(id.level.get())];
        let at = level.binary_search_by_key(&id, |s| s.id).ok()?;
        level.remove(at)
    }

    /// What is known of an object.
    #[must_use]
    pub fn find(&self, id: LtxId) -> Option<&Stored> {
        let level = &self.levels[usize::from(id.level.get())];
        level.binary_search_by_key(&id, |s| s.id).ok().and_then(|at| level.get(at))
    }

    /// Notes that an object is damaged. Returns whether that was not known.
    pub(super) fn damage(&mut self, id: LtxId, why: String) -> bool {
        let in_gap =
            |(first, last): (Txid, Txid)| id.level == Level::RAW && first <= id.min && id.max <= last;
        if !self.level(id.level).any(|s| s.id == id) && !self.gap.is_some_and(in_gap) {
            return false;
        }
        self.remove(id);
        let is_new = !self.damaged.has(id);
        self.damaged.add(id, why);
        // What is not listed may replace it.
        if self.gap.is_some() {
            return is_new;
        }
        if self.newest_plan().is_err() {
            self.broken = self.entries().iter().map(|e| e.id.max).chain([id.max]).max();
        }
        true
    }

    /// Files that are stored but cannot be used.
    pub(super) fn damaged(&self) -> &Damaged {
        &self.damaged
    }

    /// Whether the newest state cannot be restored, so that only a full image helps.
    pub(super) fn is_broken(&self) -> bool {
        let image = self.newest_snapshot().map(|s| s.id.max).unwrap_or_default();
        self.broken.is_some_and(|through| image < through)
    }

    /// Whether the newest batch, which is the position of the replica, is damaged.
    pub(super) fn position_is_damaged(&self) -> bool {
        let position = self.position();
        self.damaged.iter().any(|(id, _)| id.level == Level::RAW && id.max > position)
    }

    /// Requests a full image, whatever is stored.
    pub(super) fn want_image(&mut self) {
        self.broken = self.broken.max(Some(self.position()));
    }

    /// The files from which the newest state is restored.
    pub(super) fn newest_plan(&self) -> Result<Vec<Entry>, PlanError> {
        let mut entries = self.entries();
        let size = crate::ltx::index::FILE_LEN_MIN;
        entries.extend(self.damaged.iter().map(|(id, _)| Entry { id: *id, size, modified: Millis(0) }));
        self.damaged.plan(&entries, Goal::Newest)
    }

    /// Undamaged files that together have the content of a damaged file, in order; empty if there
    /// are none.
    pub(super) fn replacement(&self, id: LtxId) -> Vec<Stored> {
        let inside = |s: &&Stored| s.id.min >= id.min && s.id.max <= id.max;
        let mut files: Vec<&Stored> = self.all().filter(inside).collect();
        files
            .sort_unstable_by_key(|s| (s.id.min, std::cmp::Reverse(s.id.max), std::cmp::Reverse(s.id.level)));
        let mut chain: Vec<Stored> = Vec::new();
        let mut best: Option<&Stored> = None;
        let reached = |chain: &[Stored]| chain.last().map_or(id.min.0 - 1, |s| s.id.max.0);
        for s in files {
            if s.id.min.0 > reached(&chain) + 1
                && let Some(next) = best.take().filter(|b| b.id.max.0 > reached(&chain))
            {
                chain.push(*next);
            }
            if best.is_none_or(|b| s.id.max > b.id.max) {
                best = Some(s);
            }
        }
        chain.extend(best.filter(|b| b.id.max.0 > reached(&chain)));
        let joins = |pair: &[Stored]| pair[1].id.min.0 <= pair[0].id.max.0 + 1;
        let whole = chain.first().is_some_and(|f| f.id.min == id.min) && reached(&chain) == id.max.0;
        if whole && chain.windows(2).all(joins) && chain.len() <= limits::MERGE_INPUTS {
            chain
        } else {
            Vec::new()
        }
    }

    /// The objects of a level, in order.
    pub fn level(&self, level: Level) -> impl DoubleEndedIterator<Item = &Stored> + ExactSizeIterator {
        self.levels[usize::from(level.get())].iter()
    }

    /// The objects of all levels.
    pub fn all(&self) -> impl Iterator<Item = &Stored> {
        self.levels.iter().flatten()
    }

    /// Adds a list of times.
    pub fn put_times(&mut self, id: TimesId) {
        if !self.times.contains(&id) {
            self.times.push(id);
        }
        self.times_through = self.times_through.max(id.max);
    }

    /// Lists of times that cover no file's end any longer.
    #[must_use]
    pub fn stale_times(&self) -> Vec<TimesId> {
        let fronts = self.levels.iter().filter_map(|l| l.front()).map(|s| s.id.max);
        let Some(oldest) = fronts.chain(self.gap.map(|(first, _)| first)).min() else {
            return Vec::new();
        };
        self.times.iter().filter(|t| t.max < oldest).copied().collect()
    }

    /// Removes lists of times.
    pub fn remove_times(&mut self, gone: &[TimesId]) {
        self.times.retain(|t| !gone.contains(t));
    }

    /// Ends of files that no list of times covers yet, in order. Only those whose time comes from a
    /// header.
    #[must_use]
    pub fn unlisted_times(&self, max: usize) -> Vec<(Txid, Millis)> {
        let below = Level::all().filter(|l| *l != Level::SNAPSHOT);
        let ends = below.flat_map(|l| self.beyond(l, self.times_through)).filter(|s| s.exact);
        let mut ends: Vec<_> = ends.map(|s| (s.id.max, s.created)).collect();
        // A file of a higher level has the time of the last batch in it.
        ends.sort_unstable();
        ends.dedup_by_key(|(txid, _)| *txid);
        ends.truncate(max);
        ends
    }

    /// Since when there are `count` batches that no list of times covers; `None` if there are
    /// fewer.
    #[must_use]
    pub fn unlisted_since(&self, count: usize) -> Option<Millis> {
        let raw = self.level(Level::RAW).nth(self.first_raw_beyond(self.times_through) + count - 1);
        let first = &self.levels[1];
        let unlisted = first.iter().rev().take_while(|s| s.id.max > self.times_through).count();
        let compacted = (unlisted >= count).then(|| first[first.len() - unlisted + count - 1]);
        raw.into_iter().chain(compacted.as_ref()).map(|s| s.seen).min()
    }

    /// The largest TXID of a level; 0 if the level is empty.
    #[must_use]
    pub fn max(&self, level: Level) -> Txid {
        // Where files overlap, the last one by name need not reach furthest. Raw batches do not
        // overlap.
        let objects = self.level(level);
        match level {
            Level::RAW => objects.rev().take(1).map(|s| s.id.max).max(),
            _ => objects.map(|s| s.id.max).max(),
        }
        .unwrap_or_default()
    }

    /// The position of the replica: its newest level-0 TXID.
    #[must_use]
    pub fn position(&self) -> Txid {
        self.max(Level::RAW)
    }

    /// The full images of level 9, sorted by TXID.
    pub fn snapshots(&self) -> impl DoubleEndedIterator<Item = &Stored> + ExactSizeIterator {
        self.level(Level::SNAPSHOT)
    }

    /// The newest full image of level 9.
    #[must_use]
    pub fn newest_snapshot(&self) -> Option<&Stored> {
        self.snapshots().rfind(|s| s.id.min.0 == 1)
    }

    /// The objects of a level that reach beyond `txid`, in order.
    #[must_use]
    pub fn beyond(&self, level: Level, txid: Txid) -> Vec<Stored> {
        let objects = &self.levels[usize::from(level.get())];
        if level == Level::RAW {
            return objects.range(self.first_raw_beyond(txid)..).copied().collect();
        }
        objects.iter().filter(|s| s.id.max > txid).copied().collect()
    }

    /// The first batch on level 0 after `txid` that is known.
    #[must_use]
    pub(super) fn raw_after(&self, txid: Txid) -> Option<&Stored> {
        self.level(Level::RAW).nth(self.first_raw_beyond(txid))
    }

    /// Index of the first raw batch after `txid`. There can be many, and each has one TXID, so they
    /// are also sorted by their ends.
    fn first_raw_beyond(&self, txid: Txid) -> usize {
        self.levels[usize::from(Level::RAW.get())].partition_point(|s| s.id.max <= txid)
    }

    /// When the oldest change after `txid` was made, if that is known.
    #[must_use]
    pub fn changed_since(&self, txid: Txid) -> Option<Millis> {
        let raw = self.level(Level::RAW).nth(self.first_raw_beyond(txid)).map(|s| s.seen);
        let compacted = self.levels[1..9].iter().flatten().filter(|s| s.id.max > txid).map(|s| s.seen);
        compacted.chain(raw).min()
    }

    /// The inventory in the form of a listing.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        self.all().map(|s| Entry { id: s.id, size: s.size, modified: s.created }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(level: u32, min: u64, max: u64) -> Stored {
        let id = LtxId::new(Level::new(level).unwrap(), Txid(min), Txid(max)).unwrap();
        let t = Millis(i64::try_from(max).unwrap());
        Stored { id, size: 1, created: t, seen: t, exact: true }
    }

    #[test]
    fn objects_stay_in_order_however_they_come() {
        let mut inventory = Inventory::default();
        for n in [3, 1, 2, 9, 5, 5] {
            inventory.put(stored(0, n, n));
        }
        inventory.remove(stored(0, 9, 9).id);
        inventory.remove(stored(0, 8, 8).id);
        assert_eq!(inventory.level(Level::RAW).map(|s| s.id.max.0).collect::<Vec<_>>(), [1, 2, 3, 5]);
        assert_eq!(inventory.position(), Txid(5));
        assert_eq!(inventory.beyond(Level::RAW, Txid(2)).len(), 2);
        assert_eq!(inventory.changed_since(Txid(2)), Some(Millis(3)));
        assert_eq!(inventory.changed_since(Txid(5)), None);
    }

    #[test]
    fn an_object_from_the_future_was_seen_now() {
        let id = LtxId::raw(Txid(1));
        let inventory = Inventory::new(&[Entry { id, size: 700, modified: Millis(100) }], Millis(10));
        let only = *inventory.all().next().unwrap();
        assert_eq!((only.created, only.seen, only.exact), (Millis(100), Millis(10), false));
    }
}
