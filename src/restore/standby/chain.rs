//! Chooses the files that lead on from a position.
//!
//! A restore takes the file that reaches furthest at each step, because it wants few files. A
//! standby is usually near the end and wants few bytes. Of all chains that reach furthest, it takes
//! the one with the fewest bytes, where each request counts as [`REQUEST_BYTES`]. A full image is a
//! file like any other; it is so large that it is taken only if nothing else leads on.

use crate::base::Txid;
use crate::store::Entry;

/// Cost of a request in a chain, expressed in bytes.
const REQUEST_BYTES: u64 = 32 << 10;

/// A position that a chain can reach.
struct Stop {
    at: Txid,
    cost: u64,
    /// The file that leads here, and the index of the stop before it.
    by: Option<(Entry, usize)>,
}

/// Files from `position` on, in the order in which they build on each other. Empty if no file leads
/// on.
pub(super) fn onward(entries: &[Entry], position: Txid) -> Vec<Entry> {
    let mut later: Vec<&Entry> = entries.iter().filter(|e| e.id.max > position).collect();
    later.sort_unstable_by_key(|e| (e.id.max, e.id.level));
    let mut stops = vec![Stop { at: position, cost: 0, by: None }];
    // Indexes of the stops that no later and cheaper stop supersedes: `at` and `cost` both ascend.
    let mut front = vec![0];
    for e in later {
        // The cheapest stop that the file can follow is the first one of the front that reaches far
        // enough.
        let from = front.partition_point(|&s: &usize| stops[s].at.0.saturating_add(1) < e.id.min.0);
        let Some(&from) = front.get(from) else { continue };
        let (cost, at) = (stops[from].cost + e.size + REQUEST_BYTES, e.id.max);
        if let Some(&last) = front.last()
            && stops[last].at == at
            && stops[last].cost <= cost
        {
            continue;
        }
        while front.last().is_some_and(|&s| stops[s].cost >= cost) {
            front.pop();
        }
        front.push(stops.len());
        stops.push(Stop { at, cost, by: Some((*e, from)) });
    }
    let mut chain = Vec::new();
    let mut stop = front.last().map_or(0, |&s| s);
    while let Some((entry, before)) = stops[stop].by {
        chain.push(entry);
        stop = before;
    }
    chain.reverse();
    chain
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::clock::Millis;
    use crate::base::{Level, LtxId};

    fn entry(level: u32, min: u64, max: u64, size: u64) -> Entry {
        let id = LtxId::new(Level::new(level).unwrap(), Txid(min), Txid(max)).unwrap();
        Entry { id, size, modified: Millis(0) }
    }

    fn names(chain: &[Entry]) -> Vec<String> {
        chain.iter().map(|e| format!("{:?}", e.id)).collect()
    }

    #[test]
    fn few_bytes_and_an_image_only_where_nothing_else_leads_on() {
        let mut all = vec![entry(9, 1, 5, 1 << 30), entry(0, 5, 5, 100), entry(0, 6, 6, 100)];
        assert_eq!(names(&onward(&all, Txid(4))).len(), 2);
        assert_eq!(onward(&all, Txid(6)), []);
        // A file of a higher level leads on if the raw files are gone.
        all.push(entry(2, 2, 4, 1 << 20));
        assert_eq!(onward(&all, Txid(3)).first().unwrap().id.level.get(), 2);
        // Only the image leads on.
        assert_eq!(onward(&all, Txid(0)).first().unwrap().id.level.get(), 9);
        // A gap: nothing leads on.
        all.push(entry(0, 9, 9, 1));
        assert_eq!(onward(&all, Txid(6)), []);
    }

    /// Finds the best chain by trying all of them.
    fn best(entries: &[Entry], position: Txid) -> (Txid, u64) {
        let mut best = (position, 0);
        for e in entries.iter().filter(|e| e.id.min.0 <= position.0 + 1 && e.id.max > position) {
            let (reached, cost) = self::best(entries, e.id.max);
            let cost = cost + e.size + REQUEST_BYTES;
            if reached > best.0 || (reached == best.0 && cost < best.1) {
                best = (reached, cost);
            }
        }
        best
    }

    proptest! {
        #[test]
        fn farthest_and_then_cheapest(
            files in proptest::collection::vec((0u32..10, 1u64..12, 0u64..6, 0u64..200_000), 0..12),
            position in 0u64..12,
        ) {
            let all: Vec<Entry> = files.iter().map(|&(l, min, more, size)| entry(l, min, min + more, size)).collect();
            let chain = onward(&all, Txid(position));
            let mut at = Txid(position);
            for e in &chain {
                prop_assert!(e.id.min.0 <= at.0 + 1 && e.id.max > at);
                at = e.id.max;
            }
            let cost: u64 = chain.iter().map(|e| e.size + REQUEST_BYTES).sum();
            prop_assert_eq!((at, cost), best(&all, Txid(position)));
        }
    }
}
