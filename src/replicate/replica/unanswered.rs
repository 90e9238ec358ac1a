//! Uploads without an answer, which the store may still carry out.
//!
//! A killed process, a cut connection or a slow store can leave a request behind that takes effect
//! later: after the LIST of the next start, or while the same batch is made again with other bytes.
//! The next upload then meets an object of its name, which is ours.

use crate::replicate::state::Point;

/// Attempts at one TXID that are remembered. With more, the oldest is forgotten, and if it arrives
/// late it counts as another program's.
const MOST: usize = 16;

/// Points of uploads to the TXID after the durable one that were replaced before they had an
/// answer. The intended point of the state is not among them.
#[derive(Debug, Default)]
pub(super) struct Unanswered(Vec<Point>);

impl Unanswered {
    /// Notes that `now` becomes the intended point after `before`, while `durable` is the durable
    /// one.
    pub(super) fn note_replaced(&mut self, durable: &Point, before: &Point, now: &Point) {
        self.0.retain(|point| point.txid == now.txid);
        let is_open = before.txid == now.txid && before.txid > durable.txid && before.print != now.print;
        if is_open && before.print != 0 {
            if self.0.len() == MOST {
                self.0.remove(0);
            }
            self.0.push(*before);
        }
    }

    /// The point whose object has this print.
    pub(super) fn with_print(&self, print: u64) -> Option<Point> {
        self.0.iter().find(|point| point.print == print).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Txid;

    fn point(txid: u64, print: u64) -> Point {
        Point { txid: Txid(txid), print, ..Point::default() }
    }

    #[test]
    fn attempts_at_the_next_txid_are_remembered_until_it_is_durable() {
        let mut unanswered = Unanswered::default();
        unanswered.note_replaced(&point(4, 40), &point(4, 40), &point(5, 51));
        assert!(unanswered.0.is_empty(), "the durable point has its answer");
        unanswered.note_replaced(&point(4, 40), &point(5, 51), &point(5, 52));
        unanswered.note_replaced(&point(4, 40), &point(5, 52), &point(5, 52));
        unanswered.note_replaced(&point(4, 40), &point(5, 52), &point(5, 53));
        assert_eq!(unanswered.with_print(51), Some(point(5, 51)));
        assert_eq!(unanswered.with_print(52), Some(point(5, 52)));
        assert_eq!(unanswered.with_print(53), None, "it is the intended one");
        for print in 100..200 {
            unanswered.note_replaced(&point(4, 40), &point(5, print), &point(5, print + 1));
        }
        assert_eq!(unanswered.0.len(), MOST);
        unanswered.note_replaced(&point(5, 200), &point(5, 200), &point(6, 61));
        assert!(unanswered.0.is_empty());
    }
}
