//! Hints that a file may have changed, by one inotify instance for the whole process.
//!
//! An event says "look again" and nothing else; several merge into one, and after an overflow
//! everybody looks. Files are watched by path; the watch then stays with the inode.
//!
//! Instances and watches are few, and shared by all processes of a user. Where none is left the
//! clock gives the hints, at the intervals [`limits::SAFETY_TICK`] and [`limits::ARRIVALS_TICK`]: later, and right all the same. A directory watch may come free later; a process without
//! an instance stays with the clock.

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

use super::nap::Naps;
use super::sys;
use crate::base::limits;

/// Bytes read from the instance at once: some hundred events.
const EVENTS_BYTES: usize = 16 << 10;

/// So many arrivals are kept by name until somebody asks; with more, everything is looked at.
const ARRIVALS_MAX: usize = 4096;

/// The pause after each read, so that the events of a busy writer merge instead of being read one
/// by one. Whoever was given a hint looks again at shorter gaps than this by itself.
const READ_GAP: Duration = Duration::from_micros(200);

/// The watches of one single-threaded runtime.
#[derive(Clone, Debug)]
pub struct Watches(Rc<Shared>);

#[derive(Debug)]
struct Shared {
    /// `None` where no instance can be had.
    watches: Option<RefCell<inotify::Watches>>,
    table: RefCell<HashMap<WatchDescriptor, Vec<Watcher>>>,
    /// Watchers for which there is no watch.
    by_clock: RefCell<Vec<Watcher>>,
    /// Whether the clock runs.
    ticks: Cell<bool>,
    /// Whether it was logged that it does.
    reported: Cell<bool>,
}

#[derive(Debug, Clone)]
struct Watcher {
    hint: Rc<Hint>,
    of: Of,
    /// The directory whose arrivals are wanted by name.
    directory: Option<PathBuf>,
}

/// What appeared in watched directories.
#[derive(Debug, Default)]
pub struct Arrivals {
    /// By path.
    pub paths: BTreeSet<PathBuf>,
    /// Some were lost: look at everything.
    pub lost: bool,
}

/// Where the hints of one watcher arrive.
#[derive(Debug, Default)]
pub struct Hint {
    notify: Notify,
    moved: Cell<bool>,
    arrivals: RefCell<Arrivals>,
}

impl Hint {
    /// Waits for the next hint; one that came since the last wait counts.
    pub async fn wait(&self) {
        self.notify.notified().await;
    }

    /// Whether the file may have been removed, renamed or replaced since this was asked last.
    pub fn take_moved(&self) -> bool {
        self.moved.take()
    }

    /// The file may have been removed, renamed or replaced while nobody watched.
    pub fn note_moved(&self) {
        self.moved.set(true);
    }

    /// What appeared since this was asked last, in directories watched for [`Of::Arrivals`].
    pub fn take_arrivals(&self) -> Arrivals {
        self.arrivals.take()
    }

    fn note_arrival(&self, path: PathBuf) {
        let mut arrivals = self.arrivals.borrow_mut();
        if arrivals.paths.len() < ARRIVALS_MAX {
            arrivals.paths.insert(path);
        } else {
            arrivals.lost = true;
        }
    }

    /// Gives a hint by hand.
    pub fn give(&self) {
        self.notify.notify_one();
    }
}

/// A watch; dropping it ends it.
#[derive(Debug)]
pub struct Watch {
    shared: Rc<Shared>,
    /// `None` if the clock gives the hints.
    descriptor: Option<WatchDescriptor>,
    hint: Rc<Hint>,
}

/// What to watch for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// Writes to a file, and its removal or renaming.
    File,
    /// Files that appear in a directory.
    Directory,
    /// Files and directories that appear in a directory, by name; not those that SQLite makes
    /// beside a database. Also its own removal and renaming.
    Arrivals,
}

impl Watches {
    /// Makes the instance and spawns its reader on the present `LocalSet`. Without an instance, the
    /// clock gives the hints.
    ///
    /// # Errors
    /// The instance cannot be registered with the runtime.
    pub fn new(naps: &Naps) -> io::Result<Watches> {
        Watches::with(Inotify::init(), naps)
    }

    fn with(instance: io::Result<Inotify>, naps: &Naps) -> io::Result<Watches> {
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
                tokio::task::spawn_local(read_events(inotify, Rc::downgrade(&watches.0), naps.clone()));
            }
            Err(e) => watches.0.report(&e),
        }
        Ok(watches)
    }

    /// Watches what `path` names now. Where no watch is left, the clock gives the hints.
    ///
    /// # Errors
    /// What the operating system says otherwise: `NotFound`, `PermissionDenied`, ...
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
        // Several may watch one directory, each for its own kind of event.
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
                // The error that the watch would have had.
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

/// Whether the system has no more of something.
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
            // The kernel has removed it already if the file is gone.
            let _ = self.shared.watches.as_ref().map(|w| w.borrow_mut().remove(descriptor.clone()));
        }
    }
}

async fn read_events(mut inotify: AsyncFd<Inotify>, shared: Weak<Shared>, naps: Naps) {
    let mut buffer = vec![0; EVENTS_BYTES];
    let mut not_before = Instant::now();
    loop {
        let Ok(mut ready) = inotify.readable_mut().await else { return };
        naps.until(not_before).await;
        let Some(shared) = shared.upgrade() else { return };
        // Most commits are over when the first of their events is read. The second read then says so, and
        // nobody wakes up after the pause to find nothing.
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

/// Gives hints by the clock, for as long as any are wanted.
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

/// The files that SQLite makes and removes beside a database, some of them with each transaction.
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
            let watches = Watches::new(&Naps::new().unwrap()).unwrap();
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
            let watches = Watches::new(&Naps::new().unwrap()).unwrap();
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
            let watches = Watches::with(Err(limit), &Naps::new().unwrap()).unwrap();
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
            let watches = Watches::new(&Naps::new().unwrap()).unwrap();
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
            for n in 0..=ARRIVALS_MAX {
                hint.note_arrival(dir.path().join(n.to_string()));
            }
            let arrivals = hint.take_arrivals();
            assert!(arrivals.lost && arrivals.paths.len() == ARRIVALS_MAX);
        });
    }
}
