//! Watched directories: finds the databases that are in them at the start and those that come
//! later.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use super::files::{is_root, is_searched, read_dir};
use crate::base::backoff::Backoff;
use crate::base::limits;
use crate::io::watch::{Hint, Of, Watch, Watches};
use crate::replicate::options::{DatabaseOptions, DirectoryOptions};

/// What a reload does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Changes {
    /// Databases and directories that are new.
    pub added: usize,
    /// Databases and directories that are not there any more.
    pub removed: usize,
    /// Databases and directories with other settings than before.
    pub changed: usize,
    /// Databases and directories that go on as they are.
    pub unchanged: usize,
}

/// A result of searching a directory.
#[derive(Debug)]
pub(crate) enum Found {
    /// A database to follow.
    Database(Box<DatabaseOptions>),
    /// A database or directory that cannot be followed, with the reason.
    Failed(PathBuf, String),
    /// A link that leads out of the directory; not followed because the process has the rights of
    /// root.
    Skipped {
        /// Path of the link.
        path: PathBuf,
        /// Target of the link.
        target: PathBuf,
    },
    /// A directory that cannot be read, and is waited for.
    Missing {
        /// Path of the directory.
        dir: PathBuf,
        /// The reason, as text.
        why: String,
        /// Whether the directory does not exist. If it does, another error prevents reading it.
        absent: bool,
    },
    /// A directory that was missing can be read again.
    Back(PathBuf),
}

/// First wait before a directory that cannot be read is tried again without a hint. The wait grows
/// up to [`AGAIN_MAX`].
const AGAIN_MIN: Duration = Duration::from_secs(1);
/// Longest wait before a directory that cannot be read is tried again.
const AGAIN_MAX: Duration = Duration::from_secs(60);

/// All watched directories of the process.
#[derive(Debug, Default)]
pub(crate) struct Directories {
    roots: Vec<Root>,
    /// Databases that were found and are followed.
    followed: BTreeSet<PathBuf>,
    /// Set with `--once`: a missing directory is an error, and nothing is waited for.
    once: bool,
}

#[derive(Debug)]
struct Root {
    options: DirectoryOptions,
    hint: Rc<Hint>,
    watches: Watches,
    watched: HashMap<PathBuf, Watch>,
    /// Whether it was searched once.
    is_searched: bool,
    missing: Option<Missing>,
    /// Links that are not followed and were logged.
    skipped: RefCell<BTreeSet<PathBuf>>,
}

/// The state of a directory that cannot be read.
#[derive(Debug)]
struct Missing {
    why: String,
    absent: bool,
    /// Given when something appears in the nearest existing directory above it.
    hint: Rc<Hint>,
    _above: Option<Watch>,
    backoff: Backoff,
    again: Instant,
}

impl Directories {
    pub(crate) fn new(directories: Vec<DirectoryOptions>, watches: &Watches, once: bool) -> Directories {
        Directories {
            roots: directories.into_iter().map(|options| Root::new(options, watches)).collect(),
            followed: BTreeSet::new(),
            once,
        }
    }

    /// Whether no database can come from these directories any more.
    pub(crate) fn is_empty(&self) -> bool {
        self.roots.iter().all(|r| r.is_searched && !r.options.watch && r.missing.is_none())
    }

    /// Whether `path` was found in a directory and is followed.
    pub(crate) fn has(&self, path: &Path) -> bool {
        self.followed.contains(path)
    }

    /// Notes that `path` is not followed any more; it may be found again.
    pub(crate) fn forget(&mut self, path: &Path) {
        self.followed.remove(path);
    }

    /// Notes that a database that was found is gone. If another file has taken its place meanwhile,
    /// that counts as a new one.
    pub(crate) fn gone(&mut self, path: &Path) -> Vec<Found> {
        self.find(path, |root| root.options.watch)
    }

    /// Notes that `path` is not followed any more because of other settings. It may be found with
    /// those.
    pub(crate) fn again(&mut self, path: &Path) -> Vec<Found> {
        self.find(path, |root| root.is_searched)
    }

    fn find(&mut self, path: &Path, which: impl Fn(&Root) -> bool) -> Vec<Found> {
        self.followed.remove(path);
        let mut found = Vec::new();
        for root in self.roots.iter().filter(|r| which(r) && path.starts_with(&r.options.path)) {
            root.file(path, &mut self.followed, &mut found);
        }
        found
    }

    /// Takes other directories from now on. Those that are as before go on; the others are searched
    /// with the next call of [`Directories::next`]. Returns the new ones, and the paths of those
    /// that are gone or changed.
    pub(crate) fn replace(
        &mut self,
        directories: Vec<DirectoryOptions>,
        watches: &Watches,
        changes: &mut Changes,
    ) -> (Vec<DirectoryOptions>, Vec<PathBuf>) {
        let mut before = std::mem::take(&mut self.roots);
        let mut fresh = Vec::new();
        for options in directories {
            match before.iter().position(|r| r.options.fingerprint == options.fingerprint) {
                Some(same) => {
                    changes.unchanged += 1;
                    self.roots.push(before.swap_remove(same));
                }
                None => fresh.push(options),
            }
        }
        for options in &fresh {
            let was_there = before.iter().any(|r| r.options.path == options.path);
            changes.changed += usize::from(was_there);
            changes.added += usize::from(!was_there);
            self.roots.push(Root::new(options.clone(), watches));
        }
        let dropped: Vec<PathBuf> = before.into_iter().map(|r| r.options.path).collect();
        changes.removed += dropped.iter().filter(|d| !fresh.iter().any(|f| f.path == **d)).count();
        (fresh, dropped)
    }

    /// Why a directory that exists cannot be read.
    pub(crate) fn trouble(&self) -> Option<&str> {
        let missing = self.roots.iter().filter_map(|r| r.missing.as_ref());
        missing.filter(|m| !m.absent).map(|m| m.why.as_str()).next()
    }

    /// Waits until something new is found. A new directory is searched immediately.
    pub(crate) async fn next(&mut self) -> Vec<Found> {
        if self.roots.iter().any(|r| !r.is_searched) {
            let mut found = Vec::new();
            for root in self.roots.iter_mut().filter(|r| !r.is_searched) {
                root.is_searched = true;
                root.look(&root.options.path.clone(), &mut self.followed, &mut found);
                if let Some(missing) = root.missing.take_if(|_| self.once) {
                    found.retain(|f| !matches!(f, Found::Missing { dir, .. } if *dir == root.options.path));
                    found.push(Found::Failed(root.options.path.clone(), missing.why));
                }
            }
            return found;
        }
        let waits: Vec<_> = self.roots.iter().filter_map(Root::news).collect();
        if waits.is_empty() {
            return std::future::pending().await;
        }
        any(waits).await;
        let mut found = Vec::new();
        for root in &mut self.roots {
            root.arrivals(&mut self.followed, &mut found);
        }
        found
    }
}

/// Waits for the first of several futures.
async fn any<F: Future<Output = ()> + Unpin>(mut waits: Vec<F>) {
    std::future::poll_fn(|cx| {
        // All are polled, because each takes its own hint. A hint that is dropped here is not lost:
        // `arrivals` looks at all directories.
        let ready = waits.iter_mut().filter_map(|w| Pin::new(w).poll(cx).is_ready().then_some(())).count();
        if ready > 0 { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

impl Root {
    fn new(options: DirectoryOptions, watches: &Watches) -> Root {
        Root {
            options,
            hint: Rc::default(),
            watches: watches.clone(),
            watched: HashMap::new(),
            is_searched: false,
            missing: None,
            skipped: RefCell::default(),
        }
    }

    /// Waits for something new; `None` if nothing can come.
    fn news(&self) -> Option<Pin<Box<dyn Future<Output = ()> + '_>>> {
        if let Some(missing) = &self.missing {
            return Some(Box::pin(async {
                tokio::select! {
                    () = missing.hint.wait() => {}
                    () = tokio::time::sleep_until(missing.again) => {}
                }
            }));
        }
        self.options.watch.then(|| Box::pin(self.hint.wait()) as _)
    }

    fn arrivals(&mut self, followed: &mut BTreeSet<PathBuf>, found: &mut Vec<Found>) {
        if let Some(missing) = &self.missing {
            drop(missing.hint.take_arrivals());
            return self.look(&self.options.path.clone(), followed, found);
        }
        if !self.options.watch {
            return;
        }
        let moved = self.hint.take_moved();
        let arrivals = self.hint.take_arrivals();
        self.watched.retain(|dir, _| dir.is_dir());
        // The directory is gone, and its watch, which would report that, was dropped in the line
        // before.
        let gone = !self.watched.contains_key(&self.options.path);
        if arrivals.lost || moved || gone {
            // The directory itself may have gone and come back.
            if moved || gone {
                self.watched.clear();
            }
            return self.look(&self.options.path.clone(), followed, found);
        }
        for path in arrivals.paths {
            if path.is_dir() {
                if self.options.recursive && is_searched(&path) {
                    self.look(&path, followed, found);
                }
            } else {
                self.file(&path, followed, found);
            }
        }
    }

    /// Searches `dir` and its subdirectories. Each is watched before it is read, so that nothing is
    /// missed in between.
    fn look(&mut self, dir: &Path, followed: &mut BTreeSet<PathBuf>, found: &mut Vec<Found>) {
        let mut todo = vec![dir.to_owned()];
        while let Some(dir) = todo.pop() {
            let looked = self.look_into(&dir, &mut todo, followed, found);
            let is_root = dir == self.options.path;
            match looked {
                Ok(()) if is_root && self.missing.take().is_some() => found.push(Found::Back(dir)),
                Err(e) if is_root => self.miss(&e, found),
                // A subdirectory that has gone meanwhile is not reported.
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    let why = format!("cannot look for databases in {}: {e}", dir.display());
                    found.push(Found::Failed(dir, why));
                }
                _ => {}
            }
        }
    }

    /// The directory itself cannot be read: waits for it. From now on it is watched even if the
    /// options do not say so, because nothing tells when it is completely filled.
    fn miss(&mut self, e: &io::Error, found: &mut Vec<Found>) {
        let dir = self.options.path.clone();
        self.options.watch = true;
        self.watched.clear();
        let absent = e.kind() == io::ErrorKind::NotFound;
        let why = match absent {
            true => format!("the directory {} does not exist", dir.display()),
            false => format!("cannot look for databases in {}: {e}", dir.display()),
        };
        let before = self.missing.take();
        let mut backoff = before.as_ref().map_or(Backoff::new(AGAIN_MIN, AGAIN_MAX), |m| m.backoff);
        let again = Instant::now() + backoff.fail();
        let hint = before.as_ref().map_or_else(Rc::default, |m| Rc::clone(&m.hint));
        let above = dir.ancestors().skip(1).find(|d| d.is_dir());
        let above = above.and_then(|d| self.watches.add(d, Of::Arrivals, &hint).ok());
        // The directory may have come between the look and the watch.
        if absent && dir.exists() {
            hint.give();
        }
        if before.is_none_or(|m| m.why != why) {
            found.push(Found::Missing { dir, why: why.clone(), absent });
        }
        self.missing = Some(Missing { why, absent, hint, _above: above, backoff, again });
    }

    fn look_into(
        &mut self,
        dir: &Path,
        todo: &mut Vec<PathBuf>,
        followed: &mut BTreeSet<PathBuf>,
        found: &mut Vec<Found>,
    ) -> io::Result<()> {
        if self.options.watch && !self.watched.contains_key(dir) {
            self.watched.insert(dir.to_owned(), self.watches.add(dir, Of::Arrivals, &self.hint)?);
        }
        let mut paths = Vec::new();
        read_dir(dir, self.options.recursive, todo, &mut paths)?;
        paths.sort_unstable();
        paths.iter().for_each(|path| self.file(path, followed, found));
        Ok(())
    }

    fn file(&self, path: &Path, followed: &mut BTreeSet<PathBuf>, found: &mut Vec<Found>) {
        if followed.contains(path) || !path.is_file() {
            return;
        }
        if followed.len() >= limits::DATABASES_MAX {
            found.push(Found::Failed(
                path.to_owned(),
                format!("lsfast follows at most {} databases found in directories", limits::DATABASES_MAX),
            ));
            return;
        }
        let inside = is_root().then(|| self.options.path.clone());
        if let Ok(target) = std::fs::read_link(path) {
            match self.of_link(path, inside.is_some()) {
                OfLink::Followed => {}
                OfLink::Known => return,
                OfLink::Outside => {
                    if self.skipped.borrow_mut().insert(path.to_owned()) {
                        found.push(Found::Skipped { path: path.to_owned(), target });
                    }
                    return;
                }
            }
        }
        match (self.options.choose)(path) {
            None => {}
            Some(Ok(mut database)) => {
                database.leave_when_gone = true;
                database.inside = inside;
                followed.insert(path.to_owned());
                found.push(Found::Database(Box::new(database)));
            }
            Some(Err(e)) => found.push(Found::Failed(path.to_owned(), e)),
        }
    }

    /// What to do with a link to a file.
    fn of_link(&self, link: &Path, stay_inside: bool) -> OfLink {
        let (Ok(target), Ok(root)) = (link.canonicalize(), self.options.path.canonicalize()) else {
            return OfLink::Known;
        };
        match target.strip_prefix(&root) {
            Err(_) if stay_inside => OfLink::Outside,
            Err(_) => OfLink::Followed,
            // The target is found under its own name, unless it is not searched there or does not
            // match.
            Ok(relative) => {
                let looked_at = self.options.recursive || relative.components().count() == 1;
                let known = looked_at && (self.options.choose)(&self.options.path.join(relative)).is_some();
                if known { OfLink::Known } else { OfLink::Followed }
            }
        }
    }
}

/// What to do with a link to a file.
enum OfLink {
    /// Follow it like any other database.
    Followed,
    /// Ignore it: its target is found by itself, or does not exist.
    Known,
    /// Do not follow it, and report it: it leads out of the directory.
    Outside,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::io::timer::Timers;
    use crate::replicate::options::Choose;

    /// The hint is for something else: the event that reports the removal of the directory has not
    /// been read yet.
    #[tokio::test]
    async fn a_directory_that_goes_while_something_appears_in_it_is_waited_for() {
        let local = tokio::task::LocalSet::new();
        local
            .run_until(async {
                let dir = tempfile::tempdir().unwrap();
                let path = dir.path().join("tenants");
                std::fs::create_dir(&path).unwrap();
                let choose: Choose = Arc::new(|_| None);
                let options = DirectoryOptions {
                    path: path.clone(),
                    recursive: true,
                    watch: true,
                    choose,
                    fingerprint: 0,
                };
                let watches = Watches::new(&Timers::new().unwrap()).unwrap();
                let mut directories = Directories::new(vec![options], &watches, false);
                assert!(directories.next().await.is_empty());
                std::fs::remove_dir(&path).unwrap();
                directories.roots[0].hint.give();
                let found = directories.next().await;
                assert!(matches!(&found[..], [Found::Missing { absent: true, .. }]), "{found:?}");
                std::fs::create_dir(&path).unwrap();
                let found = directories.next().await;
                assert!(matches!(&found[..], [Found::Back(_)]), "{found:?}");
            })
            .await;
    }
}
