//! What the task of one replica knows, and what it notes.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use super::batch::Prepared;
use super::landmarks::Landmarks;
use super::pace::Pace;
use super::trouble::Trouble;
use super::vigil::Vigil;
use crate::base::clock::Millis;
use crate::base::{LtxId, Txid};
use crate::io::{Engine, is_news};
use crate::replicate::event::{Event, Observer};
use crate::replicate::handoff::Handoff;
use crate::replicate::history::{self, HistoryOptions, Once};
use crate::replicate::outage::Outages;
use crate::replicate::pending::Mark;
use crate::replicate::shutdown::Deadline;
use crate::replicate::state::record::Local;
use crate::replicate::verify::{Turns, Verification};
use crate::replicate::vitals::ReplicaVitals;
use crate::sqlite::database::Database;
use crate::store::Store;

/// One replica of one database.
pub struct Replica {
    /// Index of this replica on the handoff.
    pub index: usize,
    /// The store that holds the replica.
    pub store: Arc<dyn Store>,
    /// Does the file I/O.
    pub engine: Engine,
    /// What capture hands over.
    pub handoff: Rc<Handoff>,
    /// The database.
    pub db: Arc<Database>,
    /// The replica's state in the folder next to the database.
    pub local: Local,
    /// What the WAL says about the local state: `Ok` if everything since its durable point is
    /// pending.
    pub continuity: Result<(), String>,
    /// When batches may leave.
    pub pace: Pace,
    /// Receives the events.
    pub observer: Observer,
    /// Whether the replica ends if the store refuses at the first contact.
    pub strict: bool,
    /// The next batch, prepared before its commit is published.
    pub prepared: Option<Prepared>,
    /// Whether it was logged that the local state cannot be written.
    pub local_failed: bool,
    /// What the pipeline tells the executor of the history.
    pub history: Rc<history::Feed>,
    /// How the history is kept.
    pub history_options: HistoryOptions,
    /// Set if the program stores what is there and ends; which steps for the history are requested
    /// then.
    pub once: Option<Once>,
    /// What all histories of the process share.
    pub common: history::Common,
    /// All outages of the process.
    pub outages: Outages,
    /// When the proof that the store honours create-only PUTs is next attempted; `None` for now.
    pub proof_due: Option<Instant>,
    /// Backoff and outage of this pipeline.
    pub trouble: Trouble,
    /// How the replica is verified; `None` for not at all.
    pub verification: Option<Verification>,
    /// Lets only one replica of the process be verified at a time.
    pub turns: Turns,
    /// Checks that the replica still holds what was stored there.
    pub vigil: Vigil,
    /// What is remembered of the stored files.
    pub landmarks: Landmarks,
    /// When the shutdown ends.
    pub deadline: Deadline,
}

impl Replica {
    pub(super) fn db_name(&self) -> std::path::Display<'_> {
        self.db.path().display()
    }

    pub(super) fn vitals(&self) -> &ReplicaVitals {
        self.handoff.vitals(self.index)
    }

    /// Handles the result of writing page hashes and state. A full disk must not end replication:
    /// hashes that cannot be kept are discarded.
    pub(super) fn noted(&mut self, written: std::io::Result<()>) {
        if written.is_err() {
            self.local.distrust();
            // Its hashes have the old seed.
            self.prepared = None;
        }
        self.say_local(written);
    }

    /// Logs once that the local state cannot be written. An old state costs the next start a look
    /// at what was stored since.
    pub(super) fn say_local(&mut self, written: std::io::Result<()>) {
        let Err(e) = written else { return };
        if !std::mem::replace(&mut self.local_failed, true) && is_news(&e) {
            tracing::warn!(
                db = %self.db_name(), replica = self.store.url(), error = %e,
                "cannot write the state next to the database; replication goes on, but the next start may have to store everything"
            );
        }
    }

    /// Reports a durable batch. `body` is its time and its file, if they are in memory; otherwise
    /// the time of the newest header is used.
    pub(super) fn report(
        &mut self,
        mark: &Mark,
        txid: Txid,
        bytes: u64,
        pages: usize,
        body: Option<(Millis, &Bytes)>,
    ) {
        if bytes > 0 {
            self.vigil.uploaded(self.local.state().durable);
            let created = body.map_or(self.local.state().timestamp, |(created, _)| created);
            let now = self.history_options.clock.now();
            self.history.stored(LtxId::raw(txid), bytes, created, now, body.map(|(_, bytes)| bytes));
        }
        let state = self.local.state();
        self.vitals().known(&state.durable, state.timestamp);
        self.vitals().answered(bytes, self.handoff.slot(self.index, |s| s.pending.since()));
        tracing::debug!(db = %self.db_name(), replica = self.store.url(), txid = %txid, pages, bytes, "stored");
        (self.observer)(&Event::Durable {
            db: self.db.path(),
            replica: self.index,
            txid,
            change: mark.change,
            bytes,
            pages,
        });
    }
}
