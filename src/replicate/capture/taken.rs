//! The pages taken from the WAL, from the reading of a frame to the handoff.

use std::rc::Rc;

use crate::base::FrameNo;
use crate::replicate::handoff::Handoff;
use crate::replicate::pending::{Mark, OpenPages, PgnoSet};
use crate::wal::frames::{Chain, CommittedRun};
use crate::wal::tail::{Found, WalPos};

/// The pages taken from the WAL, and how far capture has read.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) handoff: Rc<Handoff>,
    /// Pages of a transaction whose commit has not been read yet.
    pub(super) open: OpenPages,
    /// Page numbers seen in a run; kept to reuse the memory.
    pub(super) seen: PgnoSet,
    /// Number of commits taken.
    pub(super) commits: u32,
    /// The wal-index's count of commits when `commits` was 0.
    pub(super) count_base: u32,
    /// Frames of the present generation up to this one were not proven.
    pub(super) by_index: FrameNo,
}

impl Taken {
    pub(super) fn found(&mut self, found: Found<'_>) {
        match found {
            Found::Open(frames) => frames.for_each(|(_, pgno, page)| self.open.push(pgno, page)),
            Found::Committed(commits, run) => {
                self.last_images(&run);
                self.committed(commits, run.size_pages, run.end);
            }
        }
    }

    /// Copies the last image of each page; a busy writer changes the same few pages repeatedly.
    fn last_images(&mut self, run: &CommittedRun<'_>) {
        self.seen.clear();
        for (_, pgno, page) in run.frames().rev() {
            if self.seen.insert(pgno) {
                self.open.push(pgno, page);
            }
        }
    }

    /// Hands the open pages to the handoff as `commits` whole transactions.
    pub(super) fn committed(&mut self, commits: u32, size_pages: u32, end: Chain) {
        self.commits = self.commits.wrapping_add(commits);
        let mark = Mark { pos: pos_of(&end), size_pages, change: self.change(), by_index: self.by_index };
        self.handoff.commit(&mut self.open, u64::from(commits), mark);
    }

    /// The wal-index's count of commits, if none was missed.
    pub(super) fn change(&self) -> u32 {
        self.count_base.wrapping_add(self.commits)
    }
}

pub(super) fn pos_of(end: &Chain) -> WalPos {
    WalPos { salts: end.salts, frame: end.last(), sum: end.sum }
}
