//! What happens to the files of a history: the database, the state folder, the replica.

use std::path::Path;
use std::time::Duration;

use super::app::App;
use super::check::read;
use super::clock;
use super::disk;
use super::place::{Harm, files_below, put_files};
use super::steps::EXCHANGE_SEEN;
use super::world::{Missed, World};

impl World {
    /// What happens while lsfast does not run.
    pub fn meanwhile(&mut self, first: bool) -> Result<(), String> {
        if !first && self.plan.power && self.rng.u8(..3) == 0 {
            self.fail_power()?;
        }
        for _ in 0..self.rng.u8(..4) {
            let statement = self.statement();
            self.alone(&statement)?;
        }
        if !first && self.rng.u8(..100) < 55 {
            self.accident()?;
        }
        if self.rng.u8(..3) == 0 {
            self.place.shuffle(&mut self.rng);
        }
        if self.rng.u8(..4) == 0 {
            self.remember(self.dir.clone().as_path())?;
        }
        if self.rng.u8(..5) == 0 {
            let ms = self.rng.i64(-7_200_000..7_200_000);
            self.tell(format!("the wall clock is {ms} ms off"));
            clock::set_wall(ms);
            self.clock_moved = true;
        }
        Ok(())
    }

    /// Keeps a copy of all files, for a later accident.
    fn remember(&mut self, dir: &Path) -> Result<(), String> {
        self.settle()?;
        self.tell("a copy of the database and its state is made");
        if self.rng.bool() {
            self.alone("close")?;
        } else {
            self.app.take().into_iter().for_each(App::kill);
        }
        let mut files = files_below(dir);
        files.retain(|path, _| path.parent() == Some(dir) && !path.ends_with("app.db-shm"));
        self.earlier = Some((files, files_below(&self.home())));
        self.earlier_replica = Some(self.place.copy());
        self.open()
    }

    /// Something that happens to the files while nothing has them open.
    fn accident(&mut self) -> Result<(), String> {
        self.counts.accidents += 1;
        self.settle()?;
        match self.rng.u8(..12) {
            0 | 1 => self.kill_app(),
            2 => {
                self.tell("the state folder is removed");
                drop(std::fs::remove_dir_all(self.home()));
                Ok(())
            }
            3 => {
                let mut files = files_below(&self.home());
                let at = self.rng.usize(..files.len().max(1));
                let cut = self.rng.bool();
                if let Some((path, (content, _))) = files.iter_mut().nth(at) {
                    self.tell(format!("{} is damaged (cut: {cut})", path.display()));
                    let half = content.len() / 2;
                    if cut {
                        content.truncate(half);
                    } else {
                        content[half..].fill(0);
                    }
                    let _ = std::fs::write(path, content);
                }
                Ok(())
            }
            4 | 5 => self.set_back(),
            6 | 7 => {
                self.change_replica();
                Ok(())
            }
            8 => {
                if let Some((_, state)) = self.earlier.clone() {
                    self.tell("the state folder is an earlier one");
                    put_files(&self.home(), &state);
                }
                Ok(())
            }
            9 => self.overwrite(false).and_then(|()| self.open()),
            10 => match self.plan.power {
                true => self.fail_power(),
                false => self.kill_app(),
            },
            _ => self.exchange(),
        }?;
        // A copy that was put in a place and not flushed could be anything after a power failure.
        disk::flush_all();
        Ok(())
    }

    /// Another database takes the place of the first, while lsfast runs or not.
    pub fn exchange(&mut self) -> Result<(), String> {
        self.tell("the database is removed, and another one made");
        self.alone("close")?;
        for name in ["app.db", "app.db-wal", "app.db-shm"] {
            let _ = std::fs::remove_file(self.dir.join(name));
        }
        self.forget_stored();
        (self.follows, self.exchanged) = (false, true);
        self.open()
    }

    /// The database is moved elsewhere while lsfast runs, which makes it whole: what is in the WAL
    /// stays behind.
    pub async fn move_away(&mut self) -> Result<(), String> {
        if !self.follows {
            return self.exchange();
        }
        self.tell("the database is moved elsewhere");
        self.alone("close")?;
        let moved = self.dir.join("moved.db");
        std::fs::rename(&self.db, &moved).map_err(|e| format!("moved.db: {e}"))?;
        tokio::time::sleep(Duration::from_secs(self.rng.u64(10..120))).await;
        let state = read(&moved).map_err(|e| format!("the moved database: {e}"))?;
        if state != self.present {
            return Err(format!("the moved database is {state:?}, not {:?}", self.present));
        }
        self.exchange()?;
        tokio::time::sleep(EXCHANGE_SEEN).await;
        Ok(())
    }

    /// Frames that SQLite would not find again are copied to the database file.
    pub fn settle(&mut self) -> Result<(), String> {
        if std::mem::take(&mut self.unproven) {
            self.alone("close")?;
            self.open()?;
        }
        Ok(())
    }

    /// A copy of the database is written to elsewhere, and copied back into the same file, while
    /// lsfast lives or not.
    fn overwrite(&mut self, lives: bool) -> Result<(), String> {
        self.alone("checkpoint TRUNCATE")?;
        self.alone("close")?;
        if std::fs::metadata(self.dir.join("app.db-wal")).is_ok_and(|wal| wal.len() > 0) {
            // What is in the WAL would be lost.
            return Ok(());
        }
        self.tell("the database file is overwritten");
        let copy = self.dir.join("edited.db");
        let failed = |e: std::io::Error| format!("edited.db: {e}");
        std::fs::copy(&self.db, &copy).map_err(failed)?;
        let db = std::mem::replace(&mut self.db, copy.clone());
        self.open()?;
        let statement = format!("txn {}", self.rng.u32(..));
        self.alone(&statement)?;
        self.alone("close")?;
        self.db = db;
        let len = |path: &Path| path.metadata().map_or(0, |m| m.len());
        if lives && len(&copy) != len(&self.db) {
            // The wal-index, which lsfast keeps, would tell SQLite the former length.
            return std::fs::remove_file(&copy).map_err(failed);
        }
        std::fs::write(&self.db, std::fs::read(&copy).map_err(failed)?).map_err(failed)?;
        std::fs::remove_file(&copy).map_err(failed)?;
        disk::flush_all();
        Ok(())
    }

    /// The same while lsfast runs, which has a while to see it.
    pub async fn overwrite_live(&mut self) -> Result<(), String> {
        self.overwrite(true)?;
        tokio::time::sleep(Duration::from_secs(self.rng.u64(2..120))).await;
        self.open()
    }

    /// The database is what it was before: a power loss took what was not flushed, or a copy was
    /// put back.
    fn set_back(&mut self) -> Result<(), String> {
        let Some((files, state)) = self.earlier.clone() else { return Ok(()) };
        let with_state = self.rng.bool();
        self.tell(format!("the database is an earlier one (its state folder too: {with_state})"));
        self.app.take().into_iter().for_each(App::kill);
        for name in ["app.db", "app.db-wal", "app.db-shm"] {
            let _ = std::fs::remove_file(self.dir.join(name));
        }
        for (path, (content, _)) in &files {
            std::fs::write(path, content).map_err(|e| e.to_string())?;
        }
        if with_state {
            put_files(&self.home(), &state);
        }
        self.forget_stored();
        self.open()
    }

    /// Something that happens to the replica, while lsfast runs or not.
    pub fn change_replica(&mut self) {
        self.forget_stored();
        self.harmed = true;
        self.harmed_in = self.harmed_in.max(Some(self.counts.lives));
        self.missed = None;
        match (self.rng.u8(..4), &self.earlier_replica) {
            (0, _) => {
                self.place.clear();
                self.missed = Some(Missed::Now);
                self.tell("the replica is emptied");
            }
            (1, Some(copy)) => {
                self.place.put_back(copy);
                self.missed = Some(Missed::Now);
                self.tell("the replica is an earlier one");
            }
            (n, _) => {
                let (which, at) = (self.rng.usize(..10_000), self.rng.usize(..10_000));
                let harm = if n == 2 { Harm::Change(at) } else { Harm::Remove };
                if let Some(name) = self.place.harm(which, harm) {
                    self.spoiled = true;
                    let what = if n == 2 { "changed" } else { "removed" };
                    self.tell(format!("{name} is {what}"));
                }
            }
        }
    }
}
