//! Sets of TXIDs, as spans.

use crate::base::Txid;

/// A set of TXIDs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Spans(
    /// First and last TXIDs, in order, with a gap between each two.
    Vec<(u64, u64)>,
);

impl Spans {
    /// All TXIDs.
    pub(super) fn all() -> Spans {
        Spans(vec![(0, u64::MAX)])
    }

    pub(super) fn is_all(&self) -> bool {
        self.0 == [(0, u64::MAX)]
    }

    /// Adds the TXIDs from `first` to `last`; none if `last` comes before `first`.
    pub(super) fn add(&mut self, first: Txid, last: Txid) {
        if first > last {
            return;
        }
        let (mut first, mut last) = (first.0, last.0);
        let touches = |&(a, b): &(u64, u64)| a <= last.saturating_add(1) && first <= b.saturating_add(1);
        let (touching, mut apart): (Vec<_>, Vec<_>) = self.0.iter().partition(|s| touches(s));
        for (a, b) in touching {
            (first, last) = (first.min(a), last.max(b));
        }
        apart.push((first, last));
        apart.sort_unstable();
        self.0 = apart;
    }

    /// From the first to the last TXID of those from `first` to `last` that are not in the set.
    pub(super) fn missing(&self, first: Txid, last: Txid) -> Option<(Txid, Txid)> {
        let (mut first, mut last) = (first.0, last.0);
        if first > last {
            return None;
        }
        if let Some(&(_, b)) = self.0.iter().find(|(a, b)| (*a..=*b).contains(&first)) {
            first = b.checked_add(1).filter(|next| *next <= last)?;
        }
        if let Some(&(a, _)) = self.0.iter().find(|(a, b)| (*a..=*b).contains(&last)) {
            last = a.checked_sub(1)?;
        }
        Some((Txid(first), Txid(last)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn like_a_set(
            added in proptest::collection::vec((0u64..30, 0u64..30), 0..6),
            (first, last) in (0u64..30, 0u64..30),
        ) {
            let mut spans = Spans::default();
            let mut set = std::collections::BTreeSet::new();
            for (first, last) in added {
                spans.add(Txid(first), Txid(last));
                set.extend(first..=last);
            }
            let missing: Vec<u64> = (first..=last).filter(|n| !set.contains(n)).collect();
            let ends = missing.first().zip(missing.last()).map(|(a, b)| (Txid(*a), Txid(*b)));
            prop_assert_eq!(spans.missing(Txid(first), Txid(last)), ends);
        }
    }

    #[test]
    fn everything() {
        let mut spans = Spans::default();
        spans.add(Txid(0), Txid(5));
        assert_eq!(spans.missing(Txid(0), Txid(u64::MAX)), Some((Txid(6), Txid(u64::MAX))));
        assert!(!spans.is_all());
        spans.add(Txid(6), Txid(u64::MAX));
        assert!(spans.is_all() && spans == Spans::all());
        assert_eq!(spans.missing(Txid(0), Txid(u64::MAX)), None);
    }
}
