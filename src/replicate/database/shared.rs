//! What the databases of one process share.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::Semaphore;

use super::desk::Desks;
use super::leaving::Leaving;
use super::open_files::{Files, Places};
use crate::io::Engine;
use crate::io::timer::Timers;
use crate::io::watch::Watches;
use crate::replicate::event::Observer;
use crate::replicate::outage::Outages;
use crate::replicate::sweep::Sweep;
use crate::replicate::verify::Turns;
use crate::replicate::vitals::Vitals;
use crate::replicate::{Once, history};

/// What all databases of the process share.
#[derive(Clone)]
pub struct Shared {
    pub(crate) engine: Engine,
    pub(crate) observer: Observer,
    pub(crate) vitals: Arc<Vitals>,
    pub(crate) timers: Timers,
    pub(crate) watches: Watches,
    pub(crate) sweep: Sweep,
    /// Limits how many databases are opened at once.
    pub(crate) opening: Arc<Semaphore>,
    /// Which file is followed under which name.
    pub(crate) files: Files,
    /// Which store location is the replica of which database.
    pub(crate) places: Places,
    pub(crate) history: history::Common,
    pub(crate) outages: Outages,
    pub(crate) turns: Turns,
    pub(crate) leaving: Leaving,
    /// The process has only one replica: if its store refuses at the first contact, the process
    /// ends with that error.
    pub(crate) alone: Rc<Cell<bool>>,
    /// Requests to say when what is committed now is stored.
    pub(crate) desks: Desks,
    /// Set with `--once`: store what is there, and wait for nothing.
    pub(crate) once: Option<Once>,
}
