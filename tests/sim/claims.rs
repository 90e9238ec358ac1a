//! What lsfast says of a replica is true at the moment when it is said.
//!
//! The replica is copied at that moment, and the copy is looked at when lsfast has ended, so that
//! nothing but the copy takes part.

use std::sync::atomic::Ordering::Relaxed;

use lsfast::restore::{RestoreError, Until};

use super::app::State;
use super::check::read;
use super::place::Place;
use super::world::{Life, World};

/// Moments of one run of lsfast that are looked at.
const FROZEN_MAX: usize = 5;

/// A claim, and the replica at that moment.
#[derive(Debug)]
pub struct Frozen {
    what: &'static str,
    place: Place,
    /// The store has answered for this TXID.
    durable: u64,
    /// Commits that were stored before.
    commits: Option<u64>,
    /// The state that is the newest one.
    state: Option<State>,
}

impl World {
    /// Keeps the replica as it is, with what is claimed of it. If `is_whole`, all that is committed
    /// is stored.
    pub fn freeze(&mut self, what: &'static str, is_whole: bool) {
        if self.harmed || self.frozen.len() >= FROZEN_MAX {
            return;
        }
        let shown = self.vitals.databases();
        let shown = shown.iter().filter_map(|d| d.replicas.first()).map(|r| r.durable().map_or(0, |d| d.0.0));
        let shown = shown.max().unwrap_or(0);
        let frozen = Frozen {
            what,
            place: self.place.frozen(&self.dir.join(format!("frozen-{}", self.frozen.len()))),
            durable: self.durable.load(Relaxed).max(shown),
            commits: self.stored,
            state: is_whole.then_some(self.present),
        };
        self.tell(format!("{what}: TXID {} is durable, {:?}", frozen.durable, frozen.state));
        self.frozen.push(frozen);
    }

    /// Checks what was claimed.
    pub async fn check_frozen(&mut self) -> Result<(), String> {
        for frozen in std::mem::take(&mut self.frozen) {
            let what = frozen.what;
            let (txid, state) = match self.restored(&frozen.place.store(), Until::Newest).await {
                Ok((txid, state)) => (txid, state.map_err(|e| format!("{what}: {e}"))?),
                Err(RestoreError::Empty { .. })
                    if frozen.durable == 0 && frozen.commits.is_none() && frozen.state.is_none() =>
                {
                    continue;
                }
                Err(e) => return Err(format!("{what}: the replica can't be restored: {e}")),
            };
            self.existing(what, txid, state)?;
            if txid.0 < frozen.durable {
                return Err(format!("{what}: TXID {} is durable, and {txid} is restored", frozen.durable));
            }
            if let Some(commits) = frozen.commits.filter(|c| state.commits < *c) {
                return Err(format!("{what}: {commits} commits are stored, {} restored", state.commits));
            }
            if let Some(present) = frozen.state.filter(|s| *s != state) {
                return Err(format!("{what}: {present:?} is stored, and {state:?} restored"));
            }
            if let Place::Directory(dir) = &frozen.place {
                let _ = std::fs::remove_dir_all(dir);
            }
        }
        Ok(())
    }

    /// What a run that has ended as asked promises.
    pub fn ended(&mut self, life: Life, ended: Option<&Result<(), String>>) -> Result<(), String> {
        let closed = std::mem::take(&mut self.closed);
        if !matches!(ended, Some(Ok(()))) {
            return if closed { self.open() } else { Ok(()) };
        }
        // What came into the place of the database a moment ago may not have been opened.
        let has_seen = life == Life::Once || self.follows || !self.exchanged;
        if !self.harmed && has_seen {
            self.stored = Some(self.present.commits);
        }
        self.freeze(if life == Life::Once { "--once" } else { "a stop" }, has_seen);
        if closed && !has_seen {
            return self.open();
        }
        if closed {
            // The database file alone is whole.
            let copy = self.dir.join("alone.db");
            std::fs::copy(&self.db, &copy).map_err(|e| format!("{}: {e}", self.db.display()))?;
            let state = read(&copy).map_err(|e| format!("the database file alone: {e}"))?;
            if state != self.present {
                return Err(format!("after a stop the file alone is {state:?}, not {:?}", self.present));
            }
            self.open()?;
        }
        Ok(())
    }
}
