//! What a look at the WAL finds, and what it leaves to do.

use crate::base::Pgno;
use crate::replicate::pending::Page;
use crate::wal::frames::CommittedRun;

/// What a look found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Look {
    /// Commits were captured.
    pub captured: bool,
    /// There is more to take at once.
    pub more: bool,
    /// A transaction, or its beginning, is in the log but not published: its commit is near.
    pub near: bool,
    /// No frame stands behind the captured ones, and the guard waits for nobody: whatever comes
    /// next gives a hint.
    pub quiet: bool,
}

/// What has to be done once CKPT is held again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Closing {
    /// READ(k) was held all the time: nothing to prove. Let go of it when everything is captured.
    Held,
    /// Nothing was held for a moment: prove that nothing was missed.
    Prove,
}

/// The frames of a transaction, copied.
pub(super) fn images<'a>(run: &CommittedRun<'a>) -> impl Iterator<Item = (Pgno, Page)> + use<'a> {
    run.frames().map(|(_, pgno, page)| (pgno, Page::from(page)))
}
