//! Which pages SQLite will want next.
//!
//! SQLite reads one page at a time. A scan goes through the children of an interior page of a
//! b-tree in order, and these lie anywhere in the file. So the children of recent interior pages
//! are remembered. When one of them has to be read, and not long before it another one was, the
//! next ones are read too, more of them each time. A lookup goes down to one child, and reads
//! nothing ahead.

use std::collections::VecDeque;

use crate::base::limits;

/// First byte of an interior page of an index, and of a table.
const INTERIOR: [u8; 2] = [2, 5];

/// Bytes of the header of an interior page.
const HEAD: usize = 12;

/// The children of an interior page that was read.
#[derive(Debug)]
struct Interior {
    page: u32,
    children: Vec<u32>,
    /// The child that was wanted last.
    last: usize,
    /// The child that follows those that were read ahead.
    next: usize,
    /// How many children were read ahead the last time.
    ahead: usize,
}

/// The interior pages that were read last.
#[derive(Debug, Default)]
pub(super) struct Ahead(VecDeque<Interior>);

impl Ahead {
    /// Notes a page that was read.
    pub(super) fn note(&mut self, number: u32, page: &[u8]) {
        if self.0.iter().any(|interior| interior.page == number) {
            return;
        }
        let children = children(number, page);
        if children.len() > 1 {
            self.0.push_back(Interior { page: number, children, last: usize::MAX, next: 0, ahead: 0 });
        }
        if self.0.len() > limits::VIEW_INTERIORS {
            self.0.pop_front();
        }
    }

    /// The pages to read together with `number`, which has to be read.
    pub(super) fn wanted(&mut self, number: u32) -> &[u32] {
        let mut of = self.0.iter_mut().rev();
        let found = of.find_map(|i| i.children.iter().position(|c| *c == number).map(|at| (i, at)));
        let Some((interior, at)) = found else { return &[] };
        // Neighbours in the file are read with a page, so that the next page to read is not always
        // the next child.
        let goes_on = interior.last < at && at <= interior.next + limits::VIEW_CHILDREN_AHEAD;
        interior.ahead = if goes_on { (2 * interior.ahead).clamp(4, limits::VIEW_CHILDREN_AHEAD) } else { 0 };
        let end = interior.children.len().min(at + 1 + interior.ahead);
        (interior.last, interior.next) = (at, end);
        &interior.children[at + 1..end]
    }
}

/// The children of an interior page, in the order of their keys; nothing for other pages. A damaged
/// page may name any pages.
fn children(number: u32, page: &[u8]) -> Vec<u32> {
    let start = if number == 1 { 100 } else { 0 };
    let Some(head) = page.get(start..start + HEAD) else { return Vec::new() };
    if !INTERIOR.contains(&head[0]) {
        return Vec::new();
    }
    let number_at = |at: usize| {
        let bytes = page.get(at..at + 4)?;
        Some(bytes.iter().fold(0u32, |n, b| (n << 8) | u32::from(*b)))
    };
    let count = usize::from(head[3]) << 8 | usize::from(head[4]);
    let cells = page[start + HEAD..].chunks_exact(2).take(count);
    let left = cells.filter_map(|cell| number_at(usize::from(cell[0]) << 8 | usize::from(cell[1])));
    left.chain(number_at(start + 8)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An interior page of a table with the children 11 to 10 + n and 99.
    fn interior(n: u8) -> Vec<u8> {
        let mut page = vec![0; 4096];
        page[0] = 5;
        page[4] = n;
        page[8..12].copy_from_slice(&99u32.to_be_bytes());
        for cell in 0..usize::from(n) {
            let at = 4096 - 8 * (cell + 1);
            page[HEAD + 2 * cell..][..2].copy_from_slice(&(at as u16).to_be_bytes());
            page[at..at + 4].copy_from_slice(&(11 + cell as u32).to_be_bytes());
        }
        page
    }

    #[test]
    fn a_scan_reads_ahead_and_a_lookup_does_not() {
        let mut ahead = Ahead::default();
        ahead.note(7, &interior(40));
        assert_eq!(ahead.wanted(20), [0; 0], "a lookup");
        assert_eq!(ahead.wanted(21), [22, 23, 24, 25], "the next child");
        assert_eq!(ahead.wanted(26), [27, 28, 29, 30, 31, 32, 33, 34], "the one after those read ahead");
        assert_eq!(ahead.wanted(13), [0; 0], "another lookup");
        assert_eq!(ahead.wanted(12), [0; 0], "backwards");
        assert_eq!(ahead.wanted(500), [0; 0]);
        ahead.note(8, &interior(3));
        assert_eq!(ahead.wanted(11), [0; 0]);
        assert_eq!(ahead.0.len(), 2);
    }

    #[test]
    fn pages_of_strangers_do_no_harm() {
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..20_000 {
            let mut page: Vec<u8> = (0..random.usize(..600)).map(|_| random.u8(..)).collect();
            if let Some(first) = page.first_mut() {
                *first = *random.choice([2, 5, 13].iter()).unwrap();
            }
            for number in [1, 2] {
                assert!(children(number, &page).len() <= page.len() / 2 + 1);
            }
        }
    }
}
