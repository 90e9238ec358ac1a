//! How the points of a state move with uploads.

use super::home::{Point, State, print_of};
use super::unanswered::Unanswered;
use crate::ltx::Header;

impl State {
    /// Makes `point` the intended one. An upload of the same TXID that it replaces has no answer.
    pub(super) fn intend(&mut self, point: Point) {
        let before = self.intended;
        if before.txid == point.txid && before.txid > self.durable.txid && before.print != point.print {
            self.unanswered.note(before.txid, before.print);
        }
        self.intended = point;
    }

    /// Makes `point` the durable one. No upload is under way.
    pub(super) fn settle(&mut self, point: Point) {
        (self.durable, self.intended, self.unanswered) = (point, point, Unanswered::default());
    }

    /// All uploads without an answer, the intended one among them.
    pub(super) fn still_unanswered(&self) -> Unanswered {
        let mut all = self.unanswered;
        if self.intended.txid > self.durable.txid {
            all.note(self.intended.txid, self.intended.print);
        }
        all
    }

    /// Goes back to what had reached the disk when the host went down, without a position in the
    /// WAL. The store may still carry out what was under way.
    pub(super) fn back_to_disk(&mut self) {
        let (txid, size_pages) = (self.hashes_synced, self.durable.size_pages);
        let (intended, unanswered) = (self.intended, self.unanswered);
        self.settle(Point { txid, size_pages, print: self.print_synced, ..Point::default() });
        if intended.txid == txid.next() {
            self.unanswered = unanswered;
            self.unanswered.note(intended.txid, intended.print);
        }
    }

    /// Whether an object comes from the intended upload, or from one without an answer. Where the
    /// print of the intended upload is not known (states of earlier versions), any object of its
    /// TXID counts.
    #[must_use]
    pub fn is_of_our_upload(&self, object: &Header) -> bool {
        let (txid, print) = (object.max, print_of(object));
        let intended = &self.intended;
        let is_intended = txid == intended.txid && (intended.print == 0 || intended.print == print);
        txid > self.durable.txid && (is_intended || self.unanswered.has(txid, print))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Txid;

    fn point(txid: u64, print: u64) -> Point {
        Point { txid: Txid(txid), print, ..Point::default() }
    }

    fn state() -> State {
        let mut state = crate::replicate::state::home::sample(4);
        (state.durable, state.intended, state.unanswered) =
            (point(4, 40), point(4, 40), Unanswered::default());
        state
    }

    #[test]
    fn attempts_at_the_next_txid_are_remembered_until_it_is_durable() {
        let mut state = state();
        state.intend(point(5, 51));
        assert_eq!(state.unanswered, Unanswered::default(), "the durable point has its answer");
        for print in [52, 52, 53] {
            state.intend(point(5, print));
        }
        let has = |state: &State, print| state.unanswered.has(Txid(5), print);
        assert!(has(&state, 51) && has(&state, 52));
        assert!(!has(&state, 53), "it is the intended one");
        assert!(!has(&state, 0) && !state.unanswered.has(Txid(6), 51));
        for print in 100..200 {
            state.intend(point(5, print));
        }
        assert!(!has(&state, 52) && !has(&state, 182) && has(&state, 183) && has(&state, 198));
        state.settle(point(5, 199));
        assert_eq!(state.unanswered, Unanswered::default());
    }

    #[test]
    fn a_host_that_goes_down_forgets_no_upload_that_was_under_way() {
        for (synced, kept) in [(4, true), (3, false)] {
            let mut state = state();
            (state.hashes_synced, state.print_synced) = (Txid(synced), 10 * synced);
            state.intend(point(5, 51));
            state.intend(point(5, 52));
            state.back_to_disk();
            assert_eq!(
                state.durable,
                Point { size_pages: state.durable.size_pages, ..point(synced, 10 * synced) }
            );
            assert_eq!(state.intended, state.durable);
            for print in [51, 52] {
                assert_eq!(state.unanswered.has(Txid(5), print), kept, "{print} {synced}");
            }
        }
    }
}
