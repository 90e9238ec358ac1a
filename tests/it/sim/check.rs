//! The checker: what the replica offers is what existed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use lsfast::base::Txid;
use lsfast::io::{Engine, IoChoice};
use lsfast::restore::{self, PointState, RestoreError, RestoreOptions, Silent, Until};
use lsfast::store::Store;
use rusqlite::{Connection, OpenFlags};

use super::app::{State, state_of};
use super::world::World;

/// States of one history that are restored by their TXID, of all that are offered.
const RESTORED: usize = 8;

impl World {
    /// Restores the newest state, or at the end any.
    pub fn check(&mut self, is_last: bool) -> Result<(), String> {
        self.place.calm(true);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| format!("a runtime: {e}"))?;
        let local = tokio::task::LocalSet::new();
        let checked = local.block_on(&runtime, async {
            let store = self.place.store();
            self.check_newest(&store, is_last).await?;
            if is_last { self.check_points(&store).await } else { Ok(()) }
        });
        drop(local);
        drop(runtime);
        self.place.calm(false);
        checked
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
        if is_last && state != self.present {
            return Err(format!("{state:?} is restored, and the database is {:?}", self.present));
        }
        Ok(())
    }

    async fn check_points(&mut self, store: &Arc<dyn Store>) -> Result<(), String> {
        let (points, _) =
            restore::points(store, 1000).await.map_err(|e| format!("the list of states: {e}"))?;
        let mut txids: Vec<Txid> = points
            .iter()
            .filter_map(|p| match p.state {
                PointState::Ltx { txid, .. } => Some(txid),
                PointState::Legacy(_) => None,
            })
            .collect();
        self.rng.shuffle(&mut txids);
        for txid in txids.into_iter().take(RESTORED) {
            match self.restored(store, Until::Txid(txid)).await {
                Ok((found, state)) if found == txid => self.existing("an offered state", txid, state?)?,
                Ok((found, _)) => return Err(format!("{found} is restored in the place of {txid}")),
                Err(_) if self.spoiled => {}
                Err(e) => return Err(format!("{txid} is offered, and can't be restored: {e}")),
            }
        }
        Ok(())
    }

    fn existing(&self, what: &str, txid: Txid, state: State) -> Result<(), String> {
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

    async fn restored(
        &mut self,
        store: &Arc<dyn Store>,
        until: Until,
    ) -> Result<(Txid, Result<State, String>), RestoreError> {
        self.counts.restores += 1;
        let output = self.output();
        let _ = std::fs::remove_file(&output);
        let engine = Engine::new(IoChoice::Plain).expect("an engine");
        let options = RestoreOptions { state: until.into(), ..RestoreOptions::new(&output) };
        let report = restore::run(Arc::clone(store), &engine, options, &Silent).await?;
        Ok((report.txid, read(&output)))
    }
}

/// The state of a restored file, which SQLite finds whole.
fn read(path: &Path) -> Result<State, String> {
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
