//! A second host with a copy of the database, and with the same replica.

use std::path::PathBuf;
use std::sync::Arc;

use lsfast::replicate::{self, Stopper};

use super::app::{App, ask_alone};
use super::place::put_files;
use super::world::World;

/// The other host.
pub struct Rival {
    app: App,
    db: PathBuf,
    /// Of its lsfast, while that runs.
    pub stopper: Option<Stopper>,
}

impl World {
    /// Lets the other host do something. What either has stored is no longer promised then. Each
    /// state that is offered is still one of theirs, and the last writer's is the newest.
    pub fn rival(&mut self) -> Result<(), String> {
        let Some(rival) = &mut self.rival else { return self.copy_host() };
        if let Some(stopper) = &rival.stopper {
            if self.rng.u8(..6) == 0 {
                self.story.push("the other lsfast is asked to stop".into());
                stopper.ask();
                rival.stopper = None;
                return Ok(());
            }
            let line = format!("txn {}", self.rng.u32(..));
            self.story.push(format!("the other app: {line}"));
            let answer = ask_alone(&mut rival.app, &line).map_err(|e| format!("the other app: {e}"))?;
            self.existed.extend(answer.states);
            return Ok(());
        }
        self.tell("lsfast starts on the other host");
        self.forget_stored();
        (self.harmed, self.harmed_in) = (true, Some(u64::MAX));
        let (stopper, stop) = replicate::stop();
        let db = self.rival.as_ref().map(|r| r.db.clone()).unwrap_or_default();
        let options = self.options(&db, Arc::new(|_| {}), Arc::default(), false);
        tokio::task::spawn_local(async move { drop(replicate::run_with(options, None, stop).await) });
        if let Some(rival) = &mut self.rival {
            rival.stopper = Some(stopper);
        }
        Ok(())
    }

    /// Makes the other host, with a copy of earlier files.
    fn copy_host(&mut self) -> Result<(), String> {
        let Some((files, state)) = self.earlier.clone() else { return Ok(()) };
        let with_state = self.rng.bool();
        self.tell(format!("another host gets a copy of the database (its state folder too: {with_state})"));
        let dir = self.dir.join("rival");
        let moved = |path: &PathBuf| dir.join(path.strip_prefix(&self.dir).unwrap_or(path));
        put_files(&dir, &files.iter().map(|(p, f)| (moved(p), f.clone())).collect());
        if with_state {
            let state: Vec<_> = state.iter().map(|(p, f)| (moved(p), f.clone())).collect();
            let home = dir.join(".app.db-lsfast");
            put_files(&home, &state.into_iter().collect());
        }
        let (mut app, db) = (App::start(), dir.join("app.db"));
        let line = self.opening(&db);
        let answer = ask_alone(&mut app, &line).map_err(|e| format!("the other app: {e}"))?;
        self.existed.extend(answer.states);
        self.rival = Some(Rival { app, db, stopper: None });
        Ok(())
    }
}
