//! The slow look at all mapped wal-indexes that covers lost hints. It reads memory only: no file is touched, and a database at rest costs
//! some nanoseconds a second.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use crate::io::watch::Hint;
use crate::sqlite::database::Database;

/// No oftener than this, whatever the user says: it is for lost hints only.
const TICK_MIN: Duration = Duration::from_millis(100);

/// All databases that are looked at.
#[derive(Debug, Clone)]
pub struct Sweep(Rc<RefCell<Vec<Weak<Entry>>>>);

/// One database's place in the sweep; dropping it ends the looking.
#[derive(Debug)]
pub struct Entry {
    db: Arc<Database>,
    seen: Cell<[u32; 4]>,
    hint: Rc<Hint>,
}

impl Sweep {
    /// Spawns the sweeper on the present `LocalSet`; it looks that often, but no oftener than [`TICK_MIN`].
    #[must_use]
    pub fn start(every: Duration) -> Sweep {
        let sweep = Sweep(Rc::default());
        let entries = Rc::downgrade(&sweep.0);
        tokio::task::spawn_local(async move {
            let mut tick = tokio::time::interval(every.max(TICK_MIN));
            tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                tick.tick().await;
                let Some(entries) = entries.upgrade() else { return };
                look(&mut entries.borrow_mut());
            }
        });
        sweep
    }

    /// Adds a database.
    #[must_use]
    pub fn add(&self, db: &Arc<Database>, hint: &Rc<Hint>) -> Rc<Entry> {
        let seen = Cell::new(db.shm().fingerprint());
        let entry = Rc::new(Entry { db: Arc::clone(db), seen, hint: Rc::clone(hint) });
        self.0.borrow_mut().push(Rc::downgrade(&entry));
        entry
    }
}

fn look(entries: &mut Vec<Weak<Entry>>) {
    entries.retain(|entry| {
        let Some(entry) = entry.upgrade() else { return false };
        let now = entry.db.shm().fingerprint();
        if entry.seen.replace(now) != now {
            entry.hint.give();
        }
        true
    });
}
