//! Which databases are checkpointing for the last time, and when the shutdown ends.

use std::cell::RefCell;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use crate::replicate::shutdown::Deadline;

/// Longest time of the last checkpoint. It needs no store, so it has this time whatever is left of
/// the shutdown timeout. A longer one is interrupted, and the WAL stays as it is.
pub(in crate::replicate) const LEAVE_TIME: Duration = Duration::from_secs(5);

/// The databases that have stored what they could and now checkpoint. The process waits
/// for them up to [`LEAVE_TIME`] beyond the shutdown timeout. None of them means that something is
/// not stored.
#[derive(Debug, Clone, Default)]
pub(crate) struct Leaving(Rc<State>);

#[derive(Debug, Default)]
struct State {
    databases: RefCell<HashSet<PathBuf>>,
    until: Deadline,
}

/// While this exists, the database counts as leaving.
#[derive(Debug)]
pub(crate) struct Leaves {
    leaving: Leaving,
    db: PathBuf,
}

impl Leaving {
    /// Sets the end of the shutdown.
    pub(in crate::replicate) fn ends_at(&self, until: Instant) {
        self.0.until.set(until);
    }

    /// The end of the shutdown, shared.
    pub(super) fn deadline(&self) -> Deadline {
        self.0.until.clone()
    }

    /// Whether a database is leaving.
    pub(in crate::replicate) fn has(&self, db: &Path) -> bool {
        self.0.databases.borrow().contains(db)
    }

    pub(in crate::replicate) fn enter(&self, db: &Path) -> Leaves {
        self.0.databases.borrow_mut().insert(db.to_owned());
        Leaves { leaving: self.clone(), db: db.to_owned() }
    }
}

impl Drop for Leaves {
    fn drop(&mut self) {
        self.leaving.0.databases.borrow_mut().remove(&self.db);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_leaves_until_its_token_is_dropped() {
        let (leaving, db) = (Leaving::default(), Path::new("app.db"));
        let leaves = leaving.enter(db);
        assert!(leaving.has(db) && !leaving.has(Path::new("other.db")));
        drop(leaves);
        assert!(!leaving.has(db));
    }
}
