//! What a look at the WAL finds, and what it leaves to do.

use crate::base::Pgno;
use crate::replicate::pending::Page;
use crate::wal::frames::CommittedRun;

/// The result of a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Look {
    /// At least one commit was captured.
    pub captured: bool,
    /// There is more to take: look again immediately.
    pub more: bool,
    /// A transaction, or its beginning, is in the WAL but not published: its commit is near.
    pub near: bool,
    /// No frame follows the captured ones, and the guard is in cruise: whatever comes next causes a
    /// hint.
    pub quiet: bool,
    /// Everything that was published when the look began is captured.
    pub all: bool,
}

/// Copies of the frames of a transaction, in order.
pub(super) fn images<'a>(run: &CommittedRun<'a>) -> impl Iterator<Item = (Pgno, Page)> + use<'a> {
    run.frames().map(|(_, pgno, page)| (pgno, Page::from(page)))
}
