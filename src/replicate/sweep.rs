//! Looks at all mapped wal-indexes from time to time, in case a hint was lost.
//!
//! It reads only memory: no file is touched, and an idle database costs some nanoseconds a second.
//! When all databases have become idle, freed memory is returned to the system.
//!
//! At the longer interval [`limits::PATH_TICK`] another thread looks up each path. Some changes
//! give no other sign that the path names another file: a replaced directory above it, a link with
//! a new target, or a mount over it.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::base::limits;
use crate::io::trim_heap;
use crate::io::watch::Hint;
use crate::sqlite::database::{Database, FileId};

/// Shortest interval of the sweep, whatever the options say: it only covers lost hints.
const TICK_MIN: Duration = Duration::from_millis(100);

/// After this many ticks without a change, all databases count as idle.
const REST_TICKS: u32 = 10;

/// A tick that is late by this time shows that the process did not run: it was stopped, or the host
/// was suspended.
const PAUSE: Duration = Duration::from_secs(2);

/// The sweep over all databases.
#[derive(Debug, Clone)]
pub struct Sweep(Rc<RefCell<Vec<Weak<Entry>>>>, Pauses);

/// Counts how often the process did not run for a while.
#[derive(Debug, Clone)]
pub struct Pauses(Rc<Cell<Ticked>>);

#[derive(Debug, Clone, Copy)]
struct Ticked {
    /// When the next tick is due, by both clocks.
    due: (Instant, SystemTime),
    every: Duration,
    pauses: u64,
}

impl Pauses {
    /// Counts pauses from now on, with a tick at this interval.
    #[must_use]
    pub fn new(every: Duration) -> Pauses {
        let due = (Instant::now() + every, SystemTime::now() + every);
        Pauses(Rc::new(Cell::new(Ticked { due, every, pauses: 0 })))
    }

    /// The number of pauses so far, including one that no tick has noticed yet.
    #[must_use]
    pub fn count(&self) -> u64 {
        let mut ticked = self.0.get();
        // One clock stops while the host is suspended; the other does not.
        let late = ticked.due.0.elapsed().max(ticked.due.1.elapsed().unwrap_or_default());
        if late >= PAUSE {
            ticked.pauses += 1;
            ticked.due = (Instant::now() + ticked.every, SystemTime::now() + ticked.every);
            self.0.set(ticked);
        }
        ticked.pauses
    }

    /// As if the process had been stopped for a while.
    #[cfg(test)]
    pub fn stop(&self) {
        let mut ticked = self.0.get();
        ticked.due = (Instant::now() - PAUSE, SystemTime::now() - PAUSE);
        self.0.set(ticked);
    }

    fn tick(&self) {
        let _ = self.count();
        let ticked = self.0.get();
        let due = (Instant::now() + ticked.every, SystemTime::now() + ticked.every);
        self.0.set(Ticked { due, ..ticked });
    }
}

/// A database in the sweep; dropping the entry ends the looks at it.
#[derive(Debug)]
pub struct Entry {
    db: Arc<Database>,
    /// The name of the database, and the file that it led to.
    named: (Arc<Path>, FileId),
    seen: Cell<u64>,
    hint: Rc<Hint>,
}

impl Sweep {
    /// Spawns the sweep on the present `LocalSet`. It looks at the interval `every`, but no more
    /// often than [`TICK_MIN`].
    #[must_use]
    pub fn start(every: Duration) -> Sweep {
        let every = every.max(TICK_MIN);
        let sweep = Sweep(Rc::default(), Pauses::new(every));
        let (entries, pauses) = (Rc::downgrade(&sweep.0), sweep.1.clone());
        tokio::task::spawn_local(async move {
            tokio::task::spawn_local(look_up_paths(entries.clone()));
            let mut tick = tokio::time::interval(every);
            tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            let (mut quiet, mut databases) = (0, 0);
            loop {
                tick.tick().await;
                let Some(entries) = entries.upgrade() else { return };
                let mut entries = entries.borrow_mut();
                pauses.tick();
                let changed = look(&mut entries) || entries.len() != databases;
                databases = entries.len();
                quiet = if changed { 0 } else { REST_TICKS.min(quiet) + 1 };
                if quiet == REST_TICKS {
                    tokio::task::spawn_blocking(trim_heap);
                }
            }
        });
        sweep
    }

    /// The count of pauses.
    #[must_use]
    pub fn pauses(&self) -> &Pauses {
        &self.1
    }

    /// Adds a database to the sweep.
    #[must_use]
    pub fn add(&self, db: &Arc<Database>, name: &Path, id: FileId, hint: &Rc<Hint>) -> Rc<Entry> {
        let seen = Cell::new(db.shm().fingerprint());
        let named = (Arc::from(name), id);
        let entry = Rc::new(Entry { db: Arc::clone(db), named, seen, hint: Rc::clone(hint) });
        self.0.borrow_mut().push(Rc::downgrade(&entry));
        entry
    }
}

/// Gives a hint to each database whose name leads to another file.
async fn look_up_paths(entries: Weak<RefCell<Vec<Weak<Entry>>>>) {
    loop {
        tokio::time::sleep(limits::PATH_TICK).await;
        let Some(all) = entries.upgrade() else { return };
        let (weak, named): (Vec<_>, Vec<_>) =
            all.borrow().iter().filter_map(|e| Some((Weak::clone(e), e.upgrade()?.named.clone()))).unzip();
        drop(all);
        if named.is_empty() {
            continue;
        }
        // A path on a server that does not answer holds up only this task. If a path cannot be
        // looked up, its database gets no hint.
        let look = move || -> Vec<bool> {
            named.iter().map(|(path, id)| FileId::at(path).is_ok_and(|now| now != Some(*id))).collect()
        };
        let Ok(moved) = tokio::task::spawn_blocking(look).await else { continue };
        for entry in weak.iter().zip(moved).filter_map(|(entry, moved)| entry.upgrade().filter(|_| moved)) {
            entry.hint.note_moved();
            entry.hint.give();
        }
    }
}

/// Looks at each wal-index, and gives a hint where it has changed. Returns whether any has.
fn look(entries: &mut Vec<Weak<Entry>>) -> bool {
    let mut changed = false;
    entries.retain(|entry| {
        let Some(entry) = entry.upgrade() else { return false };
        let now = entry.db.shm().fingerprint();
        if entry.seen.replace(now) != now {
            changed = true;
            entry.hint.give();
        }
        true
    });
    changed
}
