//! Databases that come, go and change while the process runs.
//!
//! # State
//!
//! A database that has to go is asked to stop, which stores what was committed. What follows is
//! noted in [`Leave`]: nothing, a later start, the new settings, or another look at the directory
//! that it may be found in. If it takes longer than a shutdown may, it is given up with an error.
//! Everything else goes on meanwhile.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::control::{Answer, ControlError, Request};
use super::directories::Changes;
use super::members::{Leave, Member, Origin, Then};
use super::supervisor::Fleet;
use crate::replicate::database::{Ended, FollowError};
use crate::replicate::options::{DatabaseOptions, DirectoryOptions};

impl Fleet {
    pub(super) fn obey(&mut self, request: Request) {
        if self.inner.is_asked() {
            return request.refuse();
        }
        match request {
            Request::Reload(databases, directories, answer) => {
                let changes = self.reload(databases, directories);
                let _ = answer.send(Ok(changes));
            }
            Request::Register(database, answer) => {
                let is_new = self.members.known(&database.path).is_none();
                if is_new {
                    self.change();
                    tracing::info!(db = %database.path.display(), "registered by a request");
                    self.add(Rc::from(database), Origin::Registered);
                }
                let _ = answer.send(Ok(is_new));
            }
            Request::Unregister(path, answer) => self.unregister(&path, answer),
            Request::Start(path, answer) => self.start(&path, answer),
            Request::Stop(path, answer) => self.stop(&path, answer),
            Request::Sync(path, wait, answer) => {
                let synced = match self.members.known(&path) {
                    None => Err(ControlError::NotFound(path)),
                    Some(known) if self.members.held.contains_key(&known) => Err(ControlError::NotOpen(path)),
                    Some(known) => {
                        let (done, synced) = oneshot::channel();
                        self.shared.desks.of(&known).ask(wait, done);
                        Ok(synced)
                    }
                };
                let _ = answer.send(synced);
            }
        }
    }

    /// Requests decide from now on what is followed: the error of one database does not end the
    /// process.
    fn change(&mut self) {
        self.members.is_commanded = true;
        self.single.set(false);
        self.shared.alone.set(false);
    }

    fn unregister(&mut self, path: &Path, answer: Answer<bool>) {
        let Some(known) = self.members.known(path) else {
            let _ = answer.send(Ok(false));
            return;
        };
        self.change();
        if self.members.held.remove(&known).is_some() {
            self.shared.vitals.forget(&known);
            let _ = answer.send(Ok(true));
            return;
        }
        tracing::info!(db = %known.display(), "unregistered by a request: final sync");
        self.leave(&known, Then::Forget, Some(answer));
    }

    fn start(&mut self, path: &Path, answer: Answer<bool>) {
        let Some(known) = self.members.known(path) else {
            let _ = answer.send(Err(ControlError::NotFound(path.to_owned())));
            return;
        };
        let held = self.members.held.remove(&known);
        let starts = match (held, self.members.get(&known)) {
            (Some((options, origin)), _) => {
                self.add(options, origin);
                true
            }
            // It is still stopping.
            (None, Some(Member { options, origin, leave: Some(leave), .. })) => {
                let starts = !matches!(leave.then, Then::Start(..));
                if starts {
                    leave.then = Then::Start(Rc::clone(options), *origin);
                }
                starts
            }
            _ => false,
        };
        if starts {
            tracing::info!(db = %known.display(), "started by a request");
        }
        let _ = answer.send(Ok(starts));
    }

    fn stop(&mut self, path: &Path, answer: Answer<bool>) {
        match self.members.known(path) {
            None => drop(answer.send(Err(ControlError::NotFound(path.to_owned())))),
            Some(known) if self.members.held.contains_key(&known) => drop(answer.send(Ok(false))),
            Some(known) => {
                self.change();
                tracing::info!(db = %known.display(), "stopped by a request: final sync");
                self.leave(&known, Then::Hold, Some(answer));
            }
        }
    }

    /// Asks a database to stop.
    fn leave(&mut self, path: &Path, then: Then, answer: Option<Answer<bool>>) {
        let until = Instant::now() + self.stop_timeout;
        let Some(member) = self.members.get(path) else { return };
        member.stopper.ask();
        let leave =
            member.leave.get_or_insert_with(|| Leave { until, then: Then::Forget, answers: Vec::new() });
        leave.then = then;
        leave.answers.extend(answer);
    }

    /// Replaces the configuration. What has the same settings goes on.
    fn reload(&mut self, databases: Vec<DatabaseOptions>, directories: Vec<DirectoryOptions>) -> Changes {
        self.change();
        let mut changes = Changes::default();
        let (kept, dropped) = self.directories.replace(directories, &self.shared.watches, &mut changes);
        dropped.iter().for_each(|dir| self.shared.vitals.forget(dir));
        let mut named: BTreeMap<PathBuf, DatabaseOptions> =
            databases.into_iter().map(|d| (d.path.clone(), d)).collect();
        let running: Vec<PathBuf> = self.members.by_path.keys().cloned().collect();
        for path in running {
            let Some(member) = self.members.get(&path) else { continue };
            let is_same = |new: &DatabaseOptions| new.fingerprint == member.options.fingerprint;
            let (origin, leaves) = (member.origin, member.leave.is_some());
            match (named.remove(&path), origin) {
                (Some(new), Origin::Named | Origin::Registered) if is_same(&new) && !leaves => {
                    member.origin = Origin::Named;
                    changes.unchanged += 1;
                }
                (Some(new), _) => {
                    changes.changed += 1;
                    self.leave(&path, Then::Start(Rc::new(new), Origin::Named), None);
                }
                (None, Origin::Named) => {
                    changes.removed += 1;
                    self.leave(&path, Then::LookAgain, None);
                }
                (None, Origin::Registered) => {}
                (None, Origin::Found) if dropped.iter().any(|dir| path.starts_with(dir)) => {
                    let stays = kept.iter().filter(|dir| path.starts_with(&dir.path));
                    let stays = stays.filter_map(|dir| (dir.choose)(&path)?.ok()).any(|new| is_same(&new));
                    if !stays {
                        self.leave(&path, Then::LookAgain, None);
                    }
                }
                (None, Origin::Found) => {}
            }
        }
        let held: Vec<PathBuf> = self.members.held.keys().cloned().collect();
        for path in held {
            match (named.remove(&path), self.members.held.get_mut(&path)) {
                (Some(new), Some(held)) => *held = (Rc::new(new), Origin::Named),
                (None, Some((_, Origin::Named))) => {
                    self.members.held.remove(&path);
                    self.shared.vitals.forget(&path);
                    changes.removed += 1;
                }
                _ => {}
            }
        }
        changes.added += named.len();
        named.into_values().for_each(|database| self.add(Rc::new(database), Origin::Named));
        changes
    }

    /// A database has ended that was asked to, while the process goes on.
    pub(super) fn left(&mut self, member: Member, leave: Leave, result: Result<Ended, FollowError>) {
        let path = member.options.path.clone();
        let failed = match result {
            // It was waited for, and has nothing to store.
            Ok(_) | Err(FollowError::NeverCame(_)) => None,
            Err(e) => {
                tracing::error!(db = %path.display(), error = %e, "this database was to be stopped, and not everything of it is stored");
                Some(e)
            }
        };
        self.shared.desks.close(&path, "the database was stopped");
        let why = failed.as_ref().map(ToString::to_string);
        if let Then::Hold = leave.then {
            self.shared.vitals.stopped(&path);
            self.members.held.insert(path, (member.options, member.origin));
        } else {
            self.shared.vitals.forget(&path);
            let goes_on = match leave.then {
                Then::Start(options, origin) => {
                    self.add(options, origin);
                    true
                }
                Then::LookAgain => {
                    let found = self.directories.again(&path);
                    let is_found = !found.is_empty();
                    found.into_iter().for_each(|f| self.found(f));
                    is_found
                }
                Then::Forget | Then::Hold => false,
            };
            if let Some(e) = failed.filter(|_| !goes_on) {
                // The end of this process must not call everything stored.
                self.note(e.into());
            }
        }
        for answer in leave.answers {
            let _ = answer.send(why.clone().map_or(Ok(true), |why| Err(ControlError::Failed(why))));
        }
    }
}
