//! The checker: what the replica offers is what existed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use lsfast::base::clock::Millis;
use lsfast::base::{Txid, limits};
use lsfast::restore::{self, PointState, RestoreError, RestoreOptions, Silent, Until, VerifyOptions};
use lsfast::store::Store;
use rusqlite::{Connection, OpenFlags};

use super::app::{State, state_of};
use super::place::Harm;
use super::world::{World, engine};

/// States that are restored by their TXID, of all that are offered: in the end, and before.
const RESTORED: usize = 4;
const RESTORED_MEANWHILE: usize = 1;

/// Copies of the replica that are restored in the end with one damaged file each.
const DAMAGED: usize = 1;

impl World {
    /// Restores the newest state, and some of the others.
    pub fn check(&mut self, is_last: bool) -> Result<(), String> {
        self.place.calm(true);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| format!("a runtime: {e}"))?;
        let local = tokio::task::LocalSet::new();
        let checked = local.block_on(&runtime, async {
            let store = self.place.store();
            self.check_frozen().await?;
            self.check_newest(&store, is_last).await?;
            if let Some(second) = self.second.clone().filter(|_| is_last) {
                match self.restored(&second.store(), Until::Newest).await {
                    Ok((_, Ok(state))) if state == self.present => {}
                    other => return Err(format!("the second replica: {other:?}, not {:?}", self.present)),
                }
            }
            self.check_points(&store, if is_last { RESTORED } else { RESTORED_MEANWHILE }).await?;
            for _ in 0..if is_last && !self.harmed { DAMAGED } else { 0 } {
                self.check_damaged().await?;
            }
            self.check_verified(&store).await
        });
        drop(local);
        drop(runtime);
        self.place.calm(false);
        checked
    }

    /// Checks what was claimed, and nothing else.
    pub fn check_frozen_only(&mut self) -> Result<(), String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| format!("a runtime: {e}"))?;
        self.frozen.drain(..self.frozen.len().saturating_sub(1));
        tokio::task::LocalSet::new().block_on(&runtime, self.check_frozen())
    }

    async fn check_newest(&mut self, store: &Arc<dyn Store>, is_last: bool) -> Result<(), String> {
        let durable = self.durable.load(Relaxed);
        let newest = self.restored(store, Until::Newest).await;
        let (txid, state) = match newest {
            Ok(found) => found,
            Err(RestoreError::Empty { .. }) if self.stored.is_none() && durable == 0 => return Ok(()),
            // What was harmed is missed and replaced by the next start, not before.
            Err(_) if self.harmed && !is_last => return Ok(()),
            // A changed byte is found by what reads the file, and not by a listing.
            Err(_) if self.spoiled => return Ok(()),
            Err(e) => return Err(format!("the newest state can't be restored: {e}")),
        };
        self.existing("the newest state", txid, state?)?;
        let state = self.opened()?;
        if let Some(stored) = self.stored.filter(|s| !self.harmed && state.commits < *s) {
            return Err(format!("{stored} commits were stored, and {} are restored", state.commits));
        }
        if txid.0 < durable && !self.harmed {
            return Err(format!("the store has answered for TXID {durable}, and {txid} is restored"));
        }
        let now = Millis::now().0;
        let latest = now + i64::try_from(limits::CLOCK_AHEAD.as_millis()).unwrap_or_default();
        if is_last && self.plan.manners.clock == 0 && state.commits > self.before_last {
            let points = restore::points(store, 1).await.map_err(|e| format!("the newest state: {e}"))?.0;
            if let Some(point) = points.iter().find(|p| p.created.0 > latest) {
                return Err(format!("{:?}: it is {now}, and the newest state is later", point.created));
            }
        }
        if is_last && state != self.present {
            return Err(format!("{state:?} is restored, and the database is {:?}", self.present));
        }
        Ok(())
    }

    /// A restore of a replica with one damaged file is right, or an error; and it is right if the
    /// file is not needed.
    async fn check_damaged(&mut self) -> Result<(), String> {
        let (which, at, cut) = (self.rng.usize(..10_000), self.rng.usize(..10_000), self.rng.bool());
        let harm = if cut { Harm::Cut(at) } else { Harm::Change(at) };
        let damaged = self.place.frozen(&self.dir.join("harmed"));
        let Some(name) = damaged.harm(which, harm) else { return Ok(()) };
        let error = match self.restored(&damaged.store(), Until::Newest).await {
            Ok((_, Ok(state))) if state == self.present => return Ok(()),
            Ok((txid, state)) => {
                return Err(format!("{name} is damaged, and {txid} is restored: {state:?}"));
            }
            Err(e) => e,
        };
        let without = self.place.frozen(&self.dir.join("harmed"));
        without.harm(which, Harm::Remove);
        match self.restored(&without.store(), Until::Newest).await {
            Ok((_, Ok(state))) if state == self.present => {
                Err(format!("{name} is damaged and not needed, and yet: {error}"))
            }
            _ => Ok(()),
        }
    }

    /// A replica to which nothing was done has no damage, and all its states can be restored.
    async fn check_verified(&mut self, store: &Arc<dyn Store>) -> Result<(), String> {
        if self.harmed_in.is_some() {
            return Ok(());
        }
        let report = match restore::verify_replica(store, VerifyOptions::default()).await {
            Ok(report) => report,
            Err(RestoreError::Empty { .. }) => return Ok(()),
            Err(e) => return Err(format!("the replica can't be verified: {e}")),
        };
        let lost = (report.damaged_count, report.newest_lost, report.conflicts);
        if lost != (0, None, Vec::new()) || report.restorable < report.states {
            return Err(format!("verify: {} of {} states, {lost:?}", report.restorable, report.states));
        }
        Ok(())
    }

    async fn check_points(&mut self, store: &Arc<dyn Store>, most: usize) -> Result<(), String> {
        let (points, _) = match restore::points(store, 1000).await {
            Ok(found) => found,
            Err(_) if self.harmed => return Ok(()),
            // What should be there was looked for before.
            Err(RestoreError::Empty { .. }) => return Ok(()),
            Err(e) => return Err(format!("the list of states: {e}")),
        };
        let mut txids: Vec<(Txid, Millis)> = points
            .iter()
            .filter_map(|p| match p.state {
                PointState::Ltx { txid, .. } => Some((txid, p.created)),
                PointState::Legacy(_) => None,
            })
            .collect();
        // A clock that is set back makes times ambiguous.
        let works = self.plan.directory || self.plan.manners.faults == 0 && !self.failed_once;
        let is_timed = works && !self.clock_moved && self.plan.manners.clock == 0 && !self.harmed;
        self.rng.shuffle(&mut txids);
        for (txid, created) in txids.into_iter().take(most) {
            match self.restored(store, Until::Txid(txid)).await {
                Ok((found, state)) if found == txid => self.existing("an offered state", txid, state?)?,
                Ok((found, _)) => return Err(format!("{found} is restored in the place of {txid}")),
                Err(_) if self.spoiled || self.harmed => {}
                Err(e) => return Err(format!("{txid} is offered, and can't be restored: {e}")),
            }
            if !is_timed {
                continue;
            }
            match self.restored(store, Until::Before(Millis(created.0 + 1))).await {
                Ok((found, state)) if found >= txid => self.existing("a state by its time", found, state?)?,
                Ok((found, _)) => return Err(format!("{found} is restored for the time of {txid}")),
                Err(e) => return Err(format!("{txid} can't be restored by its time {created:?}: {e}")),
            }
        }
        Ok(())
    }

    pub fn existing(&self, what: &str, txid: Txid, state: State) -> Result<(), String> {
        match self.existed.contains(&state) {
            true => Ok(()),
            false => Err(format!("{what}, {txid}, never existed: {state:?}")),
        }
    }

    fn output(&self) -> PathBuf {
        self.dir.join("restored.db")
    }

    fn opened(&self) -> Result<State, String> {
        read(&self.output())
    }

    pub async fn restored(
        &mut self,
        store: &Arc<dyn Store>,
        until: Until,
    ) -> Result<(Txid, Result<State, String>), RestoreError> {
        self.counts.restores += 1;
        let output = self.output();
        let _ = std::fs::remove_file(&output);
        let engine = engine();
        let options = RestoreOptions { state: until.into(), ..RestoreOptions::new(&output) };
        let report = restore::run(Arc::clone(store), &engine, options, &Silent).await?;
        Ok((report.txid, read(&output)))
    }
}

/// The state of a restored file, which SQLite finds whole.
pub fn read(path: &Path) -> Result<State, String> {
    let failed = |e: rusqlite::Error| format!("a restored database: {e}");
    let uri = format!("file:{}?immutable=1", path.display());
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(uri, flags).map_err(failed)?;
    let verdict: String = connection.query_row("PRAGMA integrity_check", [], |r| r.get(0)).map_err(failed)?;
    if verdict != "ok" {
        return Err(format!("a restored database is damaged: {verdict}"));
    }
    state_of(&connection).map_err(failed)
}
