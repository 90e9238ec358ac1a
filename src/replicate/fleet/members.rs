//! The databases that have a task, and those that were stopped by a request.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use tokio::task::Id;
use tokio::time::Instant;

use super::control::Answer;
use crate::replicate::options::DatabaseOptions;
use crate::replicate::shutdown::Stopper;

/// Where a database is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// In the configuration, or on the command line.
    Named,
    /// It was found in a watched directory.
    Found,
    /// A request named it.
    Registered,
}

/// A database that has a task.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) options: Rc<DatabaseOptions>,
    pub(super) origin: Origin,
    pub(super) stopper: Stopper,
    pub(super) leave: Option<Leave>,
}

/// The end of a database while the process goes on.
#[derive(Debug)]
pub(super) struct Leave {
    /// When it is given up.
    pub(super) until: Instant,
    pub(super) then: Then,
    pub(super) answers: Vec<Answer<bool>>,
}

/// What follows.
#[derive(Debug)]
pub(super) enum Then {
    /// Nothing. Not even its directory finds it again.
    Forget,
    /// A watched directory may have it, with the same settings or others.
    LookAgain,
    /// It may be started again.
    Hold,
    /// It starts with these settings.
    Start(Rc<DatabaseOptions>, Origin),
}

/// The databases of the fleet.
#[derive(Debug, Default)]
pub(super) struct Members {
    pub(super) running: HashMap<Id, Member>,
    pub(super) by_path: HashMap<PathBuf, Id>,
    /// Those that were stopped by a request.
    pub(super) held: BTreeMap<PathBuf, (Rc<DatabaseOptions>, Origin)>,
    /// Requests have changed what is followed. The process goes on even if nothing is left.
    pub(super) is_commanded: bool,
}

impl Members {
    pub(super) fn add(&mut self, id: Id, member: Member) {
        self.by_path.insert(member.options.path.clone(), id);
        self.running.insert(id, member);
    }

    pub(super) fn remove(&mut self, id: Id) -> Option<Member> {
        let member = self.running.remove(&id)?;
        if self.by_path.get(&member.options.path) == Some(&id) {
            self.by_path.remove(&member.options.path);
        }
        Some(member)
    }

    pub(super) fn get(&mut self, path: &Path) -> Option<&mut Member> {
        self.by_path.get(path).and_then(|id| self.running.get_mut(id))
    }

    /// The path as the fleet knows it, for one that leads to the same file.
    pub(super) fn known(&self, path: &Path) -> Option<PathBuf> {
        let has = |path: &Path| self.by_path.contains_key(path) || self.held.contains_key(path);
        if has(path) {
            return Some(path.to_owned());
        }
        let real = path.canonicalize().ok()?;
        if has(&real) {
            return Some(real);
        }
        let mut all = self.by_path.keys().chain(self.held.keys());
        all.find(|known| known.canonicalize().is_ok_and(|known| known == real)).cloned()
    }

    /// Asks all of them to stop.
    pub(super) fn stop_all(&mut self) {
        self.held.clear();
        for member in self.running.values_mut() {
            member.stopper.ask();
            if let Some(leave) = &mut member.leave {
                // The end of the process bounds it now.
                leave.then = Then::Forget;
            }
        }
    }

    /// When the next database is given up, unless it has ended by then.
    pub(super) fn given_up_at(&self) -> Option<Instant> {
        self.running.values().filter_map(|m| m.leave.as_ref()).map(|leave| leave.until).min()
    }

    /// Gives up all of them.
    pub(super) fn give_up_all(&mut self) {
        self.running.values_mut().for_each(|member| member.stopper.give_up());
    }

    /// Gives up those that take too long.
    pub(super) fn give_up(&mut self, now: Instant, again: Duration) {
        for member in self.running.values_mut() {
            if let Some(leave) = member.leave.as_mut().filter(|leave| leave.until <= now) {
                member.stopper.give_up();
                leave.until = now + again;
            }
        }
    }
}
