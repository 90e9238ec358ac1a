//! What the pipelines report to their observer.

use std::path::Path;
use std::sync::Arc;

use super::vitals::HistoryStatus;
use crate::base::Txid;

/// An event for those who measure or show replication.
#[derive(Debug)]
pub enum Event<'a> {
    /// This process has locked the state folder of a database.
    Held {
        /// The locked state folder.
        home: &'a Path,
    },
    /// This process is about to release the folder.
    Released {
        /// The state folder.
        home: &'a Path,
    },
    /// The store has answered: a position is durable (I1). Tests and benches wait for it.
    #[cfg_attr(not(feature = "internals"), expect(dead_code, reason = "for tests and benches"))]
    Durable {
        /// The database.
        db: &'a Path,
        /// Number of the replica, from 0.
        replica: usize,
        /// TXID of the stored batch.
        txid: Txid,
        /// Everything up to this count of commits (the change counter of the wal-index) is stored.
        change: u32,
        /// Bytes of the object; 0 if nothing had to be stored.
        bytes: u64,
        /// Number of pages in the batch.
        pages: usize,
    },
    /// A step for the history of a replica was done. Tests wait for it.
    #[cfg_attr(not(feature = "internals"), expect(dead_code, reason = "for tests and benches"))]
    History {
        /// The database.
        db: &'a Path,
        /// Number of the replica, from 0.
        replica: usize,
        /// State of the history after it.
        status: &'a HistoryStatus,
    },
}

/// Receives each event. Called on the loop: must not wait.
pub type Observer = Arc<dyn Fn(&Event<'_>) + Send + Sync>;
