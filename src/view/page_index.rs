//! Where the frames of a file are, with as little of its page index as possible.
//!
//! A short index is in memory whole. Of a long one parts are read where they are needed: its bytes
//! are in the order of page numbers, so the place of an entry is estimated between parts that are
//! known, and the estimate gets better with each part that is read.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::base::limits;
use crate::ltx::IndexEntry;
use crate::ltx::index_part::{IndexPart, entry_len};

/// The result of a lookup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lookup {
    Found(IndexEntry),
    /// The file does not have the page.
    Absent,
    /// This part of the index has to be read first: bytes of it, and whether an entry begins there.
    Unknown(Range<u64>, bool),
}

/// The page index of one file.
#[derive(Debug)]
pub(super) enum PageIndex {
    Whole(Vec<IndexEntry>),
    Parts(Mutex<Parts>),
}

impl PageIndex {
    pub(super) fn look(&self, number: u32) -> Lookup {
        match self {
            PageIndex::Whole(all) => match find(all, number) {
                Ok(at) => Lookup::Found(all[at]),
                Err(_) => Lookup::Absent,
            },
            PageIndex::Parts(parts) => lock(parts).look(number),
        }
    }

    /// The frames that follow `entry` in the file, up to `bytes` of them, as far as they are known.
    pub(super) fn run(&self, entry: IndexEntry, bytes: u64) -> Vec<IndexEntry> {
        let of = |all: &[IndexEntry]| {
            let Ok(at) = find(all, entry.pgno.get()) else { return vec![entry] };
            let near = |e: &&IndexEntry| e.pgno == entry.pgno || e.end() <= entry.offset + bytes;
            all[at..].iter().take_while(near).copied().collect()
        };
        match self {
            PageIndex::Whole(all) => of(all),
            PageIndex::Parts(parts) => of(lock(parts).around(entry.pgno.get()).unwrap_or_default()),
        }
    }
}

pub(super) fn lock(parts: &Mutex<Parts>) -> MutexGuard<'_, Parts> {
    parts.lock().unwrap_or_else(PoisonError::into_inner)
}

fn find(entries: &[IndexEntry], number: u32) -> Result<usize, usize> {
    entries.binary_search_by_key(&number, |e| e.pgno.get())
}

/// A part that is in memory.
#[derive(Debug)]
struct Known {
    /// Offset in the index of the byte after the part.
    end: u64,
    entries: Vec<IndexEntry>,
}

/// Parts of a long index.
#[derive(Debug)]
pub(super) struct Parts {
    /// Offset of the index in the file.
    pub(super) start: u64,
    /// Bytes of the index without its end mark.
    pub(super) len: u64,
    /// Offset of the terminator of the frames.
    pub(super) frames_end: u64,
    /// Pages of the database; no page number is higher.
    commit: u32,
    /// By the offset of the first byte in the index.
    known: BTreeMap<u64, Known>,
    /// The parts in the order in which they were read.
    order: VecDeque<u64>,
}

impl Parts {
    pub(super) fn new((start, len): (u64, u64), frames_end: u64, commit: u32) -> Parts {
        Parts { start, len, frames_end, commit, known: BTreeMap::new(), order: VecDeque::new() }
    }

    /// Adds the first entries of the index.
    pub(super) fn add_first(&mut self, entries: Vec<IndexEntry>) {
        let end = entries.iter().map(entry_len).sum();
        self.insert(0, end, entries);
    }

    /// Adds a part that was read from `offset` in the index on.
    pub(super) fn add(&mut self, offset: u64, part: IndexPart) {
        self.insert(offset + part.start as u64, offset + part.end as u64, part.entries);
    }

    fn insert(&mut self, start: u64, end: u64, entries: Vec<IndexEntry>) {
        if entries.is_empty() {
            return;
        }
        if self.known.insert(start, Known { end, entries }).is_none() {
            self.order.push_back(start);
        }
        while self.order.len() > limits::VIEW_INDEX_PARTS {
            let oldest = self.order.pop_front();
            oldest.and_then(|start| self.known.remove(&start));
        }
    }

    /// The known part whose page numbers enclose `number`.
    fn around(&self, number: u32) -> Option<&[IndexEntry]> {
        self.known.values().map(|known| known.entries.as_slice()).find(|entries| {
            let of = |e: Option<&IndexEntry>| e.map_or(0, |e| e.pgno.get());
            of(entries.first()) <= number && number <= of(entries.last())
        })
    }

    fn look(&self, number: u32) -> Lookup {
        if let Some(entries) = self.around(number) {
            return find(entries, number).map_or(Lookup::Absent, |at| Lookup::Found(entries[at]));
        }
        // What is known on both sides: an offset in the index, and the page number there.
        let (mut low, mut high) = ((0, 0), (self.len, self.commit.saturating_add(1)));
        for (start, Known { end, entries }) in &self.known {
            let (Some(first), Some(last)) = (entries.first(), entries.last()) else { continue };
            if last.pgno.get() < number && *end >= low.0 {
                low = (*end, last.pgno.get());
            }
            if first.pgno.get() > number && *start <= high.0 {
                high = (*start, first.pgno.get());
            }
        }
        if low.0 >= high.0 {
            return Lookup::Absent;
        }
        self.between(number, low, high)
    }

    /// The part to read next: around the place where the entry should be.
    fn between(&self, number: u32, low: (u64, u32), high: (u64, u32)) -> Lookup {
        let part = limits::VIEW_INDEX_PART_BYTES;
        let gap = high.0 - low.0;
        if gap <= part {
            return Lookup::Unknown(low.0..high.0, true);
        }
        let (from, to) = (self.weight(low.1), self.weight(high.1));
        let share = (self.weight(number) - from) / (to - from).max(1.0);
        let place = low.0 + (gap as f64 * share.clamp(0.0, 1.0)) as u64;
        let begin = place.saturating_sub(part / 2).clamp(low.0, high.0 - part);
        // What lies just after a known part is read from its end on.
        let begin = if begin - low.0 < part / 2 { low.0 } else { begin };
        Lookup::Unknown(begin..(begin + part).min(high.0), begin == low.0)
    }

    /// About how many bytes the entries up to a page take, if all pages are there and are equally
    /// long: numbers and offsets take one byte more for each factor of 128.
    fn weight(&self, number: u32) -> f64 {
        let pages = f64::from(number);
        let frame = self.frames_end as f64 / f64::from(self.commit.max(1));
        let mut bytes = 4.0 * pages;
        let mut power = 128.0;
        for _ in 0..8 {
            bytes += (pages - power).max(0.0) + (pages - power / frame.max(1.0)).max(0.0);
            power *= 128.0;
        }
        bytes
    }
}
