//! Whether a replica still has the history that the database of a standby is in.
//!
//! # Overview
//!
//! A replica that starts over gives the same TXIDs to other states. Once it has more of them than
//! before, no name tells the difference. What tells is the time at which the state at the position
//! was made. It is in the mark, to the millisecond, and in the header of each file that ends there.
//! Three checks, the cheapest first:
//!
//! 1. The next file continues the WAL exactly where the last one ended, by salts and offset. Then
//!    it builds on these pages, whatever its TXID. This takes no request.
//! 2. Otherwise, the header of the raw file at the position: 100 bytes.
//! 3. If that file is gone or differs, a LIST and the headers of a few files that end at or before
//!    the position. A file of this history was made no later than the state at the position, a file
//!    of a later history after it.
//!
//! What cannot be proven counts as another history: applying a whole image is right in any case.

use crate::base::clock::Millis;
use crate::base::{Level, Salts, Txid};
use crate::ltx::{Header, WalRange};
use crate::store::Entry;

/// Offset of the first frame in a WAL, in bytes. A file that begins there proves nothing: it may as
/// well come from a comparison with an older state.
const LOG_BEGIN: u64 = 32;

/// How many headers are read before the history counts as unknown.
const WITNESSES: usize = 4;

/// When a state was made, taken from the header of a file that ends with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Made {
    pub(super) at: Millis,
    /// Whether the header is that of a file on levels 0 to 8. A full image has a time of its own,
    /// slightly later.
    pub(super) exact: bool,
}

impl Made {
    pub(super) fn by(header: &Header, level: Level) -> Made {
        Made { at: header.timestamp, exact: level != Level::SNAPSHOT }
    }
}

/// What a header proves about the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Same,
    Other,
    /// The header proves neither.
    Unknown,
}

/// Whether a file builds on the state in which the WAL was read up to the end of `last`.
pub(super) fn takes_up(last: Option<WalRange>, next: &WalRange) -> bool {
    last.is_some_and(|last| {
        last.salts == next.salts
            && last.salts != Salts::default()
            && last.end() == next.offset
            && next.offset > LOG_BEGIN
    })
}

/// What the header of a file that ends at or before the position proves.
pub(super) fn judge(position: Txid, made: Option<Made>, level: Level, header: &Header) -> Verdict {
    let Some(made) = made.filter(|_| header.max <= position) else { return Verdict::Unknown };
    let of_image = level == Level::SNAPSHOT;
    match header.timestamp.cmp(&made.at) {
        std::cmp::Ordering::Equal => Verdict::Same,
        // The state at the position has one time, except in images.
        _ if header.max == position && of_image => Verdict::Unknown,
        std::cmp::Ordering::Less if header.max == position && made.exact => Verdict::Other,
        std::cmp::Ordering::Less => Verdict::Same,
        std::cmp::Ordering::Greater => Verdict::Other,
    }
}

/// The files whose headers prove most, best first. Where the mark has the time of an image, that
/// image comes first: after the clock was set back, it is older than the batch of the same state.
pub(super) fn witnesses(entries: &[Entry], position: Txid, made: Option<Made>) -> Vec<Entry> {
    let of_image = made.is_some_and(|made| !made.exact);
    let mut files: Vec<Entry> = entries.iter().filter(|e| e.id.max <= position).copied().collect();
    files.sort_unstable_by_key(|e| {
        let is_image = e.id.level == Level::SNAPSHOT;
        let is_marked = of_image && is_image && e.id.max == position;
        (!is_marked, is_image, std::cmp::Reverse(e.id.max), e.id.level)
    });
    files.truncate(WITNESSES);
    files
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{LtxId, PageSize};

    fn header(max: u64, at: i64) -> Header {
        let size = PageSize::new(4096).unwrap();
        Header::new(size, 9, (Txid(1), Txid(max)), Millis(at), WalRange::default())
    }

    fn level(n: u32) -> Level {
        Level::new(n).unwrap()
    }

    #[test]
    fn a_time_of_the_same_state_is_equal_and_one_of_an_older_state_not_later() {
        let judge = |made, n, max, at| judge(Txid(8), made, level(n), &header(max, at));
        let exact = Some(Made { at: Millis(1000), exact: true });
        assert_eq!(judge(exact, 0, 8, 1000), Verdict::Same);
        assert_eq!(judge(exact, 3, 8, 999), Verdict::Other);
        assert_eq!(judge(exact, 0, 8, 1001), Verdict::Other);
        assert_eq!(judge(exact, 1, 7, 999), Verdict::Same);
        assert_eq!(judge(exact, 1, 7, 1001), Verdict::Other);
        assert_eq!(judge(exact, 1, 9, 999), Verdict::Unknown);
        assert_eq!(judge(None, 0, 8, 1000), Verdict::Unknown);
        // An image is made a moment after its state.
        assert_eq!(judge(exact, 9, 8, 1003), Verdict::Unknown);
        assert_eq!(judge(exact, 9, 7, 1003), Verdict::Other);
        let image = Some(Made { at: Millis(1000), exact: false });
        assert_eq!(judge(image, 0, 8, 997), Verdict::Same);
        assert_eq!(judge(image, 0, 8, 1001), Verdict::Other);
        assert_eq!(judge(image, 9, 8, 1000), Verdict::Same);
    }

    #[test]
    fn a_log_is_taken_up_only_within_one_generation() {
        let salts = Salts { one: 1, two: 2 };
        let last = WalRange { offset: 32, size: 4120, salts };
        let next = |offset, salts| takes_up(Some(last), &WalRange { offset, size: 4120, salts });
        assert!(next(4152, salts));
        assert!(!next(4152, Salts { one: 2, two: 2 }));
        assert!(!next(8272, salts));
        assert!(!next(32, salts));
        assert!(!takes_up(None, &last));
        // A file that names no WAL, and the beginning of a WAL, prove nothing.
        assert!(!takes_up(Some(WalRange::default()), &WalRange::default()));
        let begin = WalRange { offset: 32, size: 0, salts };
        assert!(!takes_up(Some(begin), &last));
    }

    #[test]
    fn the_nearest_files_are_asked_and_images_last() {
        let entry = |n, min, max| Entry {
            id: LtxId::new(level(n), Txid(min), Txid(max)).unwrap(),
            size: 1,
            modified: Millis(0),
        };
        let all =
            [entry(9, 1, 8), entry(0, 9, 9), entry(1, 3, 7), entry(0, 8, 8), entry(2, 5, 8), entry(0, 1, 1)];
        let order = |made| -> Vec<_> {
            witnesses(&all, Txid(8), made).iter().map(|e| (e.id.level.get(), e.id.max.0)).collect()
        };
        let exact = Some(Made { at: Millis(1000), exact: true });
        assert_eq!(order(exact), [(0, 8), (2, 8), (1, 7), (0, 1)]);
        assert_eq!(order(None), order(exact));
        assert_eq!(witnesses(&all[..1], Txid(8), exact).len(), 1);
    }

    /// A standby took an image, was told by the batch of the same state that this was another
    /// history, and took the image again at each look.
    #[test]
    fn an_image_from_after_a_clock_was_set_back_proves_its_own_history() {
        let entry = |n, min, max| Entry {
            id: LtxId::new(level(n), Txid(min), Txid(max)).unwrap(),
            size: 1,
            modified: Millis(0),
        };
        let (hour, image) = (3_600_000, Some(Made { at: Millis(1000), exact: false }));
        let all = [entry(0, 8, 8), entry(9, 1, 7), entry(9, 1, 8)];
        let files = witnesses(&all, Txid(8), image);
        assert_eq!(files[0].id, all[2].id);
        assert_eq!(judge(Txid(8), image, level(9), &header(8, 1000)), Verdict::Same);
        // What would be asked otherwise.
        assert_eq!(judge(Txid(8), image, level(0), &header(8, 1000 + hour)), Verdict::Other);
    }
}
