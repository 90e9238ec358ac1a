//! A read replica that follows the replica while lsfast writes it, and is killed with it.

use std::time::Duration;

use lsfast::restore::Silent;
use lsfast::restore::standby::{FollowOptions, follow};
use rusqlite::{Connection, OpenFlags};

use super::app::{App, ask_alone, state_of};
use super::place::Place;
use super::world::{World, engine};

/// Pause between two looks of the standby, by the clock of the simulation.
const INTERVAL: Duration = Duration::from_secs(20);

impl World {
    /// Starts the standby, on the runtime of this run of lsfast.
    pub fn start_standby(&mut self) {
        if !self.plan.standby {
            return;
        }
        self.tell("a standby starts");
        let (place, output) = (self.place.clone(), self.dir.join("standby.db"));
        tokio::task::spawn_local(async move {
            loop {
                let directory = match &place {
                    Place::Directory(dir) => Some(dir.clone()),
                    Place::Bucket(_) => None,
                };
                let options = FollowOptions {
                    force: true,
                    interval: INTERVAL,
                    directory,
                    ..FollowOptions::new(&output)
                };
                let engine = engine();
                let (_stopper, stop) = tokio::sync::watch::channel(false);
                // What it can't go on with it says, and a service manager starts it again.
                drop(follow(place.store(), &engine, options, &Silent, stop).await);
                tokio::time::sleep(Duration::from_secs(300)).await;
            }
        });
    }

    /// Whether the standby has the present state.
    pub fn is_followed(&mut self) -> bool {
        let line = format!("other {}", self.dir.join("standby.db").display());
        let app = self.app.get_or_insert_with(App::start);
        ask_alone(app, &line).is_ok_and(|answer| answer.states.first() == Some(&self.present))
    }

    /// The standby has a state that existed, and in the end the newest one.
    pub fn check_standby(&mut self, is_last: bool) -> Result<(), String> {
        let path = self.dir.join("standby.db");
        if !self.plan.standby || !path.exists() {
            return Ok(());
        }
        let failed = |e: rusqlite::Error| format!("the standby: {e}");
        let connection =
            Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(failed)?;
        let verdict: String =
            connection.query_row("PRAGMA integrity_check", [], |r| r.get(0)).map_err(failed)?;
        if verdict != "ok" {
            return Err(format!("the standby is damaged: {verdict}"));
        }
        let state = state_of(&connection).map_err(failed)?;
        if !self.existed.contains(&state) {
            return Err(format!("the standby has a state that never existed: {state:?}"));
        }
        if is_last && state != self.present && !self.spoiled {
            return Err(format!("the standby has {state:?}, and the database is {:?}", self.present));
        }
        Ok(())
    }
}
