//! Hints that a file may have changed, from one inotify instance for the whole process.
//!
//! # Overview
//!
//! An event only says "look again". Several events merge into one hint, and after an overflow every
//! watcher gets one. Files are watched by path; the watch then stays with the inode.
//!
//! # Without inotify
//!
//! Instances and watches are limited, and all processes of a user share them. When none is
//! available the clock gives the hints, at the intervals [`limits::SAFETY_TICK`] and
//! [`limits::ARRIVALS_TICK`]. Changes are then noticed later, but none is missed. A watch on a
//! directory may become available later; a process without an instance stays with the clock.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use inotify::{Event, EventMask, Inotify, WatchDescriptor, WatchMask};
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

use super::sys;
use super::timer::Timers;
use crate::base::limits;

/// Bytes of one read from the instance: some hundred events.
const EVENTS_BYTES: usize = 16 << 10;

/// Pause after each read, so that the events of a busy writer merge instead of being read one by
/// one. A watcher that got a hint looks again by itself at shorter intervals than this.
const READ_GAP: Duration = Duration::from_micros(200);

/// The watches of one single-threaded runtime.
#[derive(Clone, Debug)]
pub struct Watches(Rc<Shared>);

#[derive(Debug)]
struct Shared {
    /// `None` if no inotify instance is available.
    watches: Option<RefCell<inotify::Watches>>,
    table: RefCell<HashMap<WatchDescriptor, Vec<Watcher>>>,
    /// Watchers without a watch, which get their hints from the clock.
    by_clock: RefCell<Vec<Watcher>>,
    /// Whether the task of the clock runs.
    ticks: Cell<bool>,
    /// Whether it was logged that the clock is used.
    reported: Cell<bool>,
}

#[derive(Debug, Clone)]
struct Watcher {
    hint: Rc<Hint>,
    of: Of,
    /// The watched directory, if its arrivals are reported by name.
    directory: Option<PathBuf>,
}

/// Files and directories that appeared in watched directories.
#[derive(Debug, Default)]
pub struct Arrivals {
    /// Paths of those that appeared.
    pub paths: BTreeSet<PathBuf>,
    /// Whether some were lost, so that the whole directory has to be read.
    pub lost: bool,
}

/// Receives the hints of one watcher.
#[derive(Debug, Default)]
pub struct Hint {
    notify: Notify,
    moved: Cell<bool>,
    arrivals: RefCell<Arrivals>,
}

impl Hint {
    /// Waits for the next hint. One that arrived since the last wait counts.
    pub async fn wait(&self) {
        self.notify.notified().await;
    }

    /// Whether the file may have been removed, renamed or replaced since the last call.
    pub fn take_moved(&self) -> bool {
        self.moved.take()
    }

    /// Records that the file may have been removed, renamed or replaced without an event.
    pub fn note_moved(&self) {
        self.moved.set(true);
    }

    /// Returns the arrivals since the last call, in directories watched for [`Of::Arrivals`].
    pub fn take_arrivals(&self) -> Arrivals {
        self.arrivals.take()
    }

    fn note_arrival(&self, path: PathBuf) {
        let mut arrivals = self.arrivals.borrow_mut();
        if arrivals.paths.len() < limits::ARRIVALS_MAX {
            arrivals.paths.insert(path);
        } else {
            arrivals.lost = true;
        }
    }

    /// Gives a hint without an event.
    pub fn give(&self) {
        self.notify.notify_one();
    }
}

/// A watch; it ends when dropped.
#[derive(Debug)]
pub struct Watch {
    shared: Rc<Shared>,
    /// `None` if the clock gives the hints.
    descriptor: Option<WatchDescriptor>,
    hint: Rc<Hint>,
}

/// The kind of events to watch for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// Writes to a file, and its removal or renaming.
    File,
    /// Files that appear in a directory, or are closed after writing.
    Directory,
    /// Files and directories that appear in a directory, by name, except those that SQLite creates
    /// next to a database. Also the removal and renaming of the directory itself.
    Arrivals,
}

impl Watches {
    /// Creates the instance and spawns its reader on the present `LocalSet`. Without an instance
    /// the clock gives the hints.
    ///
    /// # Errors
    /// Any error of registering the instance with the runtime.
    pub fn new(timers: &Timers) -> io::Result<Watches> {
        Watches::with(Inotify::init(), timers)
    }

    fn with(instance: io::Result<Inotify>, timers: &Timers) -> io::Result<Watches> {
        let instance = instance.map_err(|e| explain(&e, "max_user_instances"));
        let shared = Shared {
            watches: instance.as_ref().ok().map(|i| RefCell::new(i.watches())),
            table: RefCell::default(),
            by_clock: RefCell::default(),
            ticks: Cell::default(),
            reported: Cell::default(),
        };
        let watches = Watches(Rc::new(shared));
        match instance {
            Ok(inotify) => {
                let inotify = sys::readable(inotify)?;
                tokio::task::spawn_local(read_events(inotify, Rc::downgrade(&watches.0), timers.clone()));
            }
            Err(e) => watches.0.report(&e),
        }
        Ok(watches)
    }

    /// Watches the file or directory that `path` names now. If no watch is available the clock
    /// gives the hints.
    ///
    /// # Errors
    /// Any other error of `inotify_add_watch(2)`: `NotFound`, `PermissionDenied`, ...
    pub fn add(&self, path: &Path, of: Of, hint: &Rc<Hint>) -> io::Result<Watch> {
        let mask = match of {
            Of::File => WatchMask::MODIFY | WatchMask::ATTRIB | WatchMask::DELETE_SELF | WatchMask::MOVE_SELF,
            Of::Directory => {
                WatchMask::CREATE | WatchMask::MOVED_TO | WatchMask::CLOSE_WRITE | WatchMask::ONLYDIR
            }
            Of::Arrivals => {
                WatchMask::CREATE | WatchMask::MOVED_TO | WatchMask::MOVE_SELF | WatchMask::ONLYDIR
            }
        };
        // Several watchers may watch one directory, each for its own kind of event.
        let mask = if of == Of::File { mask } else { mask | WatchMask::MASK_ADD };
        let directory = (of == Of::Arrivals).then(|| path.to_owned());
        let watcher = Watcher { hint: Rc::clone(hint), of, directory };
        let added = self.0.watches.as_ref().map(|w| w.borrow_mut().add(path, mask));
        let descriptor = match added {
            Some(Ok(descriptor)) => {
                self.0.table.borrow_mut().entry(descriptor.clone()).or_default().push(watcher);
                Some(descriptor)
            }
            Some(Err(e)) if !is_limit(&e) => return Err(e),
            limited => {
                // Returns the error that adding the watch would have returned.
                std::fs::metadata(path)?;
                if let Some(Err(e)) = limited {
                    self.0.report(&explain(&e, "max_user_watches"));
                }
                self.0.by_clock.borrow_mut().push(watcher);
                self.0.start_clock();
                None
            }
        };
        Ok(Watch { shared: Rc::clone(&self.0), descriptor, hint: Rc::clone(hint) })
    }
}

/// Whether the error means that a limit of the system is reached.
fn is_limit(e: &io::Error) -> bool {
    matches!(e.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOSPC | libc::ENOMEM))
}

fn explain(e: &io::Error, setting: &str) -> io::Error {
    match e.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE | libc::ENOSPC) => io::Error::new(
            e.kind(),
            format!("raise fs.inotify.{setting} (sysctl) or stop other programs that watch files: {e}"),
        ),
        _ => io::Error::new(e.kind(), e.to_string()),
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let Some(descriptor) = &self.descriptor else {
            let mut by_clock = self.shared.by_clock.borrow_mut();
            if let Some(at) = by_clock.iter().position(|w| Rc::ptr_eq(&w.hint, &self.hint)) {
                by_clock.swap_remove(at);
            }
            return;
        };
        let mut table = self.shared.table.borrow_mut();
        let Some(watchers) = table.get_mut(descriptor) else { return };
        if let Some(at) = watchers.iter().position(|w| Rc::ptr_eq(&w.hint, &self.hint)) {
            watchers.swap_remove(at);
        }
        if watchers.is_empty() {
            table.remove(descriptor);
            // If the file is gone the kernel has removed the watch already.
            let _ = self.shared.watches.as_ref().map(|w| w.borrow_mut().remove(descriptor.clone()));
        }
    }
}

async fn read_events(mut inotify: AsyncFd<Inotify>, shared: Weak<Shared>, timers: Timers) {
    let mut buffer = vec![0; EVENTS_BYTES];
    let mut not_before = Instant::now();
    loop {
        let Ok(mut ready) = inotify.readable_mut().await else { return };
        timers.until(not_before).await;
        let Some(shared) = shared.upgrade() else { return };
        // Most commits are complete when the first of their events is read. The second read then
        // finds no more events, so no wake-up after the pause is wasted.
        for _ in 0..2 {
            match ready.get_inner_mut().read_events(&mut buffer) {
                Ok(events) => shared.dispatch(events),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    ready.clear_ready();
                    break;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    shared.report(&e);
                    let mut by_clock = shared.by_clock.borrow_mut();
                    by_clock.extend(shared.table.borrow().values().flatten().cloned());
                    drop(by_clock);
                    shared.start_clock();
                    return;
                }
            }
        }
        not_before = Instant::now() + READ_GAP;
    }
}

impl Shared {
    fn report(&self, e: &io::Error) {
        if !self.reported.replace(true) {
            tracing::warn!(
                error = %e,
                "inotify is at its limit: changes are noticed by the clock, within seconds instead of at once"
            );
        }
    }

    fn start_clock(self: &Rc<Shared>) {
        if !self.ticks.replace(true) {
            tokio::task::spawn_local(tick(Rc::downgrade(self)));
        }
    }

    fn dispatch<'a>(&self, events: impl Iterator<Item = Event<&'a OsStr>>) {
        let table = self.table.borrow();
        for event in events {
            if event.mask.contains(EventMask::Q_OVERFLOW) {
                for watcher in table.values().flatten() {
                    if watcher.directory.is_some() {
                        watcher.hint.arrivals.borrow_mut().lost = true;
                    }
                    watcher.hint.give();
                }
                return;
            }
            let moved =
                EventMask::ATTRIB | EventMask::DELETE_SELF | EventMask::MOVE_SELF | EventMask::IGNORED;
            for Watcher { hint, directory, .. } in table.get(&event.wd).into_iter().flatten() {
                if let (Some(directory), Some(name)) = (directory, event.name) {
                    if is_sqlites_own(name) {
                        continue;
                    }
                    hint.note_arrival(directory.join(name));
                }
                hint.moved.set(hint.moved.get() || event.mask.intersects(moved));
                hint.give();
            }
        }
    }
}

/// Gives hints by the clock while any watcher needs them.
async fn tick(shared: Weak<Shared>) {
    let mut arrivals_at = Instant::now();
    loop {
        tokio::time::sleep(limits::SAFETY_TICK).await;
        let Some(shared) = shared.upgrade() else { return };
        let by_clock = shared.by_clock.borrow();
        if by_clock.is_empty() {
            shared.ticks.set(false);
            return;
        }
        let with_arrivals = arrivals_at <= Instant::now();
        if with_arrivals {
            arrivals_at = Instant::now() + limits::ARRIVALS_TICK;
        }
        for Watcher { hint, of, .. } in by_clock.iter() {
            match of {
                Of::File => hint.note_moved(),
                Of::Directory => {}
                Of::Arrivals if !with_arrivals => continue,
                Of::Arrivals => hint.arrivals.borrow_mut().lost = true,
            }
            hint.give();
        }
    }
}

/// Whether SQLite creates and removes this file next to a database, perhaps with each transaction.
fn is_sqlites_own(name: &OsStr) -> bool {
    [&b"-wal"[..], b"-shm", b"-journal"].iter().any(|end| name.as_encoded_bytes().ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_gives_a_hint_and_an_ended_watch_gives_none() {
        let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&rt, async {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("log");
            std::fs::write(&path, b"a").unwrap();
            let watches = Watches::new(&Timers::new().unwrap()).unwrap();
            let (first, second) = (Rc::new(Hint::default()), Rc::new(Hint::default()));
            let one = watches.add(&path, Of::File, &first).unwrap();
            let _two = watches.add(&path, Of::File, &second).unwrap();
            std::fs::write(&path, b"b").unwrap();
            first.wait().await;
            second.wait().await;
            drop(one);
            std::fs::write(&path, b"c").unwrap();
            second.wait().await;
            assert_eq!(watches.0.table.borrow().values().map(Vec::len).sum::<usize>(), 1);
        });
    }

    #[test]
    fn a_new_file_in_a_watched_directory_gives_a_hint() {
        let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&rt, async {
            let dir = tempfile::tempdir().unwrap();
            let watches = Watches::new(&Timers::new().unwrap()).unwrap();
            let hint = Rc::new(Hint::default());
            let _watch = watches.add(dir.path(), Of::Directory, &hint).unwrap();
            std::fs::write(dir.path().join("app.db"), b"x").unwrap();
            hint.wait().await;
        });
    }

    #[test]
    fn without_a_watch_the_clock_gives_the_hints() {
        let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&rt, async {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("app.db");
            let limit = io::Error::from_raw_os_error(libc::EMFILE);
            let watches = Watches::with(Err(limit), &Timers::new().unwrap()).unwrap();
            let (file, arrivals) = (Rc::new(Hint::default()), Rc::new(Hint::default()));
            let missing = watches.add(&path, Of::File, &file).unwrap_err();
            assert_eq!(missing.kind(), io::ErrorKind::NotFound);
            std::fs::write(&path, b"x").unwrap();
            let watch = watches.add(&path, Of::File, &file).unwrap();
            let _second = watches.add(dir.path(), Of::Arrivals, &arrivals).unwrap();
            file.wait().await;
            assert!(file.take_moved());
            arrivals.wait().await;
            assert!(arrivals.take_arrivals().lost);
            drop(watch);
            assert_eq!(watches.0.by_clock.borrow().len(), 1);
        });
    }

    #[test]
    fn arrivals_have_names_and_the_files_of_sqlite_are_none() {
        let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&rt, async {
            let dir = tempfile::tempdir().unwrap();
            let watches = Watches::new(&Timers::new().unwrap()).unwrap();
            let hint = Rc::new(Hint::default());
            let _watch = watches.add(dir.path(), Of::Arrivals, &hint).unwrap();
            for name in ["app.db-wal", "app.db-shm", "app.db-journal", "app.db"] {
                std::fs::write(dir.path().join(name), b"x").unwrap();
            }
            std::fs::create_dir(dir.path().join("sub")).unwrap();
            let mut seen = BTreeSet::new();
            while seen.len() < 2 {
                hint.wait().await;
                let arrivals = hint.take_arrivals();
                assert!(!arrivals.lost);
                seen.extend(arrivals.paths);
            }
            assert_eq!(seen, [dir.path().join("app.db"), dir.path().join("sub")].into());
            for n in 0..=limits::ARRIVALS_MAX {
                hint.note_arrival(dir.path().join(n.to_string()));
            }
            let arrivals = hint.take_arrivals();
            assert!(arrivals.lost && arrivals.paths.len() == limits::ARRIVALS_MAX);
        });
    }
}
