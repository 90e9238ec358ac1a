//! The slow look at all mapped wal-indexes that covers lost hints. It reads memory only: no file is
//! touched, and a database at rest costs some nanoseconds a second. When all have come to rest,
//! memory that work has left behind goes back to the system.
//!
//! At the longer interval [`limits::PATH_TICK`] each path is looked up, on another thread: a
//! directory that was exchanged above it, a link that leads elsewhere, or a mount over it gives no
//! other sign that the path names another file.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::base::limits;
use crate::io::trim_heap;
use crate::io::watch::Hint;
use crate::sqlite::database::{Database, FileId};

/// No oftener than this, whatever the user says: it is for lost hints only.
const TICK_MIN: Duration = Duration::from_millis(100);

/// So many ticks without a change make a rest.
const REST_TICKS: u32 = 10;

/// Time by which a tick is late if the process did not run: it was stopped, or the host was
/// suspended.
const PAUSE: Duration = Duration::from_secs(2);

/// All databases that are looked at.
#[derive(Debug, Clone)]
pub struct Sweep(Rc<RefCell<Vec<Weak<Entry>>>>, Pauses);

/// How often the process did not run for a while.
#[derive(Debug, Clone)]
pub struct Pauses(Rc<Cell<Ticked>>);

#[derive(Debug, Clone, Copy)]
struct Ticked {
    /// No tick is due before that time.
    due: (Instant, SystemTime),
    every: Duration,
    pauses: u64,
}

impl Pauses {
    /// Counts from now on, with a tick that often.
    #[must_use]
    pub fn new(every: Duration) -> Pauses {
        let due = (Instant::now() + every, SystemTime::now() + every);
        Pauses(Rc::new(Cell::new(Ticked { due, every, pauses: 0 })))
    }

    /// The pauses until now, with one that was not noticed by a tick yet.
    #[must_use]
    pub fn count(&self) -> u64 {
        let mut ticked = self.0.get();
        // The clock that stands still while the host is suspended, and the one that goes on.
        let late = ticked.due.0.elapsed().max(ticked.due.1.elapsed().unwrap_or_default());
        if late >= PAUSE {
            ticked.pauses += 1;
            ticked.due = (Instant::now() + ticked.every, SystemTime::now() + ticked.every);
            self.0.set(ticked);
        }
        ticked.pauses
    }

    fn tick(&self) {
        let _ = self.count();
        let ticked = self.0.get();
        let due = (Instant::now() + ticked.every, SystemTime::now() + ticked.every);
        self.0.set(Ticked { due, ..ticked });
    }
}

/// One database's place in the sweep; dropping it ends the looking.
#[derive(Debug)]
pub struct Entry {
    db: Arc<Database>,
    /// The name of the database, and the file that it led to.
    named: (Arc<Path>, FileId),
    seen: Cell<u64>,
    hint: Rc<Hint>,
}

impl Sweep {
    /// Spawns the sweeper on the present `LocalSet`; it looks that often, but no oftener than
    /// [`TICK_MIN`].
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

    /// How often the process did not run for a while.
    #[must_use]
    pub fn pauses(&self) -> &Pauses {
        &self.1
    }

    /// Adds a database.
    #[must_use]
    pub fn add(&self, db: &Arc<Database>, name: &Path, id: FileId, hint: &Rc<Hint>) -> Rc<Entry> {
        let seen = Cell::new(db.shm().fingerprint());
        let named = (Arc::from(name), id);
        let entry = Rc::new(Entry { db: Arc::clone(db), named, seen, hint: Rc::clone(hint) });
        self.0.borrow_mut().push(Rc::downgrade(&entry));
        entry
    }
}

/// Gives a hint to each database whose name leads elsewhere.
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
        // A path on a server that does not answer holds up this task alone. What can't
        // be told is left
        // alone.
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

/// Whether there was anything new.
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
