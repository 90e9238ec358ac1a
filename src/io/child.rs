//! Programs that this process starts, and the orphans that it gets as process 1 of a container.
//!
//! Process 1 becomes the parent of every process whose own parent ends, and has to wait for them:
//! otherwise they stay as zombies. It must not wait for its own children in passing, whose exit
//! status another part of the program expects. [`own`] therefore registers each child under the
//! lock that [`reap_orphans`] takes.

use std::collections::BTreeSet;
use std::io;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::sys;

/// Children that some part of the program waits for, by number.
static OWN: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

/// Limits as they were before this process changed its own.
#[derive(Debug, Default)]
struct Before {
    open_files: OnceLock<u64>,
    core: OnceLock<u64>,
}

static BEFORE: Before = Before { open_files: OnceLock::new(), core: OnceLock::new() };

fn registered() -> MutexGuard<'static, BTreeSet<u32>> {
    OWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A child that some part of the program waits for, until this is dropped.
#[derive(Debug)]
pub struct Own(u32);

impl Drop for Own {
    fn drop(&mut self) {
        registered().remove(&self.0);
    }
}

/// Starts a child that [`reap_orphans`] leaves alone. `id` is its number. Keep the [`Own`] until
/// the child has been waited for.
///
/// # Errors
/// Those of `start`.
pub fn own<C>(
    start: impl FnOnce() -> io::Result<C>,
    id: impl FnOnce(&C) -> Option<u32>,
) -> io::Result<(C, Own)> {
    let mut own = registered();
    let child = start()?;
    let id = id(&child).unwrap_or(0);
    own.insert(id);
    Ok((child, Own(id)))
}

/// Waits for every child that has ended and that no part of the program waits for. `false` if there
/// may be more, hidden by a child of our own that has not been waited for yet: call again in a
/// moment.
pub fn reap_orphans() -> bool {
    // While this is held no child is started that is not registered yet.
    let own = registered();
    while let Ok(Some(pid)) = sys::ended_child() {
        if own.contains(&pid) {
            return false;
        }
        if sys::reap(pid).is_err() {
            break;
        }
    }
    true
}

/// Gives a program that is about to start the limits that this process was started with, and
/// SIGTERM should this process be killed.
///
/// The kernel sends that signal when the *thread* that starts the program ends: start it from one
/// that lives as long as the process. It is lost if the program changes its user or runs with the
/// rights of its file's owner.
pub fn bind(command: &mut Command) {
    sys::bind_child(command, BEFORE.open_files.get().copied(), BEFORE.core.get().copied());
}

/// Raises the soft limit of open descriptors to the hard one and returns it: each database takes
/// some five.
///
/// # Errors
/// What the operating system says; the limit is then as before.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let (before, now) = sys::raise_descriptors()?;
    _ = BEFORE.open_files.set(before);
    Ok(now)
}

/// Lets no crash leave a core file: it would hold keys and pages of databases.
///
/// # Errors
/// What the operating system says; a crash may then leave one.
pub fn forbid_core_files() -> io::Result<()> {
    _ = BEFORE.core.set(sys::forbid_core()?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_of_our_own_keeps_its_status() {
        let start = || Command::new("sh").args(["-c", "exit 7"]).spawn();
        let (mut child, registered) = own(start, |c| Some(c.id())).unwrap();
        // It is not waited for: it stays as a zombie, which hides what comes after it.
        while sys::ended_child().unwrap() != Some(child.id()) {
            std::thread::yield_now();
        }
        assert!(!reap_orphans());
        assert_eq!(child.wait().unwrap().code(), Some(7));
        drop(registered);
        let mut orphan = Command::new("true").spawn().unwrap();
        while sys::ended_child().unwrap().is_none() {
            std::thread::yield_now();
        }
        assert!(reap_orphans());
        assert_eq!(orphan.wait().unwrap_err().raw_os_error(), Some(libc::ECHILD));
    }
}
