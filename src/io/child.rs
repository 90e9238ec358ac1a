//! Programs that this process starts, and the orphans that it adopts as process 1 of a container.
//!
//! Process 1 becomes the parent of every process whose own parent ends, and has to wait for it.
//! Otherwise that process stays as a zombie. Process 1 must not take the exit status of its own
//! children in passing, because another part of the program waits for it. [`own`] therefore
//! registers each child under the lock that [`reap_orphans`] takes.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::sys;

/// Process ids of children that some part of the program waits for.
static OWN: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

/// Soft limits before this process changed them.
#[derive(Debug, Default)]
struct Before {
    open_files: OnceLock<u64>,
    core: OnceLock<u64>,
}

static BEFORE: Before = Before { open_files: OnceLock::new(), core: OnceLock::new() };

fn registered() -> MutexGuard<'static, BTreeSet<u32>> {
    OWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Registers a child that some part of the program waits for, until this is dropped.
#[derive(Debug)]
pub struct Own(u32);

impl Drop for Own {
    fn drop(&mut self) {
        registered().remove(&self.0);
    }
}

/// Starts a child that [`reap_orphans`] does not wait for. `id` returns its process id. Keep the
/// [`Own`] until the child has been waited for.
///
/// # Errors
/// Any error of `start`.
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

/// Waits for every child that has ended and that no part of the program waits for. Returns `false`
/// if a registered child that has ended may hide more: then call again soon.
pub fn reap_orphans() -> bool {
    // While this lock is held, no child can start without being registered.
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

/// Gives a program that is about to start the limits that this process was started with. It also
/// inherits `socket`.
pub(super) fn give_limits(command: &mut Command, socket: &UnixStream) {
    let limits = (BEFORE.open_files.get().copied(), BEFORE.core.get().copied());
    sys::equip_child(command, limits, socket.as_raw_fd());
}

/// Raises the soft limit of open descriptors to the hard limit, and returns it. Each database needs
/// about five.
///
/// # Errors
/// Any error of `getrlimit(2)` or `setrlimit(2)`; the limit is then unchanged.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let (before, now) = sys::raise_descriptors()?;
    _ = BEFORE.open_files.set(before);
    Ok(now)
}

/// Prevents core files, which would contain keys and pages of databases.
///
/// # Errors
/// Any error of `setrlimit(2)`; a crash may then leave a core file.
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
        // The child is not waited for, so it stays as a zombie and hides children that end later.
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
