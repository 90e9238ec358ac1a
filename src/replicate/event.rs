//! What the pipelines report to their observer.

use std::path::Path;
use std::sync::Arc;

use super::history::HistoryStatus;
use crate::base::Txid;

/// Something that happened, for whoever measures or shows it.
#[derive(Debug)]
pub enum Event<'a> {
    /// The folder of a database is this process's own.
    Held {
        /// The database.
        db: &'a Path,
        /// Its folder.
        home: &'a Path,
    },
    /// It is so no longer, in a moment.
    Released {
        /// The folder.
        home: &'a Path,
    },
    /// A database is being followed.
    Following {
        /// The database.
        db: &'a Path,
    },
    /// The store has answered: a position is durable.
    Durable {
        /// The database.
        db: &'a Path,
        /// Number of the replica, from 0.
        replica: usize,
        /// The batch.
        txid: Txid,
        /// SQLite's count of commits (of the wal-index) up to which everything is stored.
        change: u32,
        /// Bytes of the object; 0 if nothing had to be stored.
        bytes: u64,
        /// Pages in it.
        pages: usize,
    },
    /// Something was done about the history of a replica.
    History {
        /// The database.
        db: &'a Path,
        /// Number of the replica, from 0.
        replica: usize,
        /// Its present state.
        status: &'a HistoryStatus,
    },
}

/// Who is told of events. Called on the loop: must not wait.
pub type Observer = Arc<dyn Fn(&Event<'_>) + Send + Sync>;
