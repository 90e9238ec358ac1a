//! Directories full of databases: those that are there at the start, and those that come.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use super::DatabaseOptions;
use crate::base::limits;
use crate::io::watch::{Hint, Of, Watch, Watches};

/// Says what to do with a file: `None` to leave it alone, or how to replicate it.
pub type Choose = Arc<dyn Fn(&Path) -> Option<Result<DatabaseOptions, String>> + Send + Sync>;

/// A directory whose databases are replicated.
#[derive(Clone)]
pub struct DirectoryOptions {
    /// The directory.
    pub path: PathBuf,
    /// Whether the directories below it count, too.
    pub recursive: bool,
    /// Whether databases that come later are followed.
    pub watch: bool,
    /// Which files, and how.
    pub choose: Choose,
}

impl fmt::Debug for DirectoryOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DirectoryOptions")
            .field("path", &self.path)
            .field("recursive", &self.recursive)
            .field("watch", &self.watch)
            .finish_non_exhaustive()
    }
}

/// What a look at a directory gives.
#[derive(Debug)]
pub(super) enum Found {
    /// A database to follow.
    Database(Box<DatabaseOptions>),
    /// One that can't be.
    Failed(PathBuf, String),
}

/// All directories of the process.
#[derive(Debug, Default)]
pub(super) struct Directories {
    roots: Vec<Root>,
    /// What was found and is followed.
    followed: BTreeSet<PathBuf>,
    first_look: bool,
}

#[derive(Debug)]
struct Root {
    options: DirectoryOptions,
    hint: Rc<Hint>,
    watches: Watches,
    watched: HashMap<PathBuf, Watch>,
}

impl Directories {
    pub(super) fn new(directories: Vec<DirectoryOptions>, watches: &Watches) -> Directories {
        let root = |options| Root {
            options,
            hint: Rc::new(Hint::default()),
            watches: watches.clone(),
            watched: HashMap::new(),
        };
        Directories {
            roots: directories.into_iter().map(root).collect(),
            followed: BTreeSet::new(),
            first_look: false,
        }
    }

    /// Whether nothing can come from here.
    pub(super) fn is_empty(&self) -> bool {
        self.first_look && self.roots.iter().all(|r| !r.options.watch) || self.roots.is_empty()
    }

    /// Whether `path` was found in a directory.
    pub(super) fn has(&self, path: &Path) -> bool {
        self.followed.contains(path)
    }

    /// `path` is not followed any more; it may be found again.
    pub(super) fn forget(&mut self, path: &Path) {
        self.followed.remove(path);
    }

    /// Waits until there is something new.
    pub(super) async fn next(&mut self) -> Vec<Found> {
        if !std::mem::replace(&mut self.first_look, true) {
            let mut found = Vec::new();
            for root in &mut self.roots {
                root.look(&root.options.path.clone(), &mut self.followed, &mut found);
            }
            return found;
        }
        let waits = self.roots.iter().filter(|r| r.options.watch).map(|r| Box::pin(r.hint.wait()));
        let waits: Vec<_> = waits.collect();
        if waits.is_empty() {
            return std::future::pending().await;
        }
        any(waits).await;
        let mut found = Vec::new();
        for root in self.roots.iter_mut().filter(|r| r.options.watch) {
            root.arrivals(&mut self.followed, &mut found);
        }
        found
    }
}

/// Waits for the first of several.
async fn any<F: Future<Output = ()> + Unpin>(mut waits: Vec<F>) {
    std::future::poll_fn(|cx| {
        // All are asked: each takes its own hint, and one that is lost here was seen by `arrivals`, which looks at all.
        let ready =
            waits.iter_mut().filter_map(|w| std::pin::Pin::new(w).poll(cx).is_ready().then_some(())).count();
        if ready > 0 { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

impl Root {
    fn arrivals(&mut self, followed: &mut BTreeSet<PathBuf>, found: &mut Vec<Found>) {
        let moved = self.hint.take_moved();
        let arrivals = self.hint.take_arrivals();
        self.watched.retain(|dir, _| dir.is_dir());
        if arrivals.lost || moved {
            // The directory itself may have gone and come back.
            if moved {
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

    /// Looks at all that is in `dir`. Watched before it is read, so that nothing comes between.
    fn look(&mut self, dir: &Path, followed: &mut BTreeSet<PathBuf>, found: &mut Vec<Found>) {
        let mut todo = vec![dir.to_owned()];
        while let Some(dir) = todo.pop() {
            if let Err(e) = self.look_into(&dir, &mut todo, followed, found) {
                // Below the root, a directory that went meanwhile is no news.
                if dir == self.options.path || e.kind() != io::ErrorKind::NotFound {
                    found.push(Found::Failed(
                        dir.clone(),
                        format!("cannot look for databases in {}: {e}", dir.display()),
                    ));
                }
            }
        }
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
        match (self.options.choose)(path) {
            None => {}
            Some(Ok(mut database)) => {
                database.leave_when_gone = true;
                followed.insert(path.to_owned());
                found.push(Found::Database(Box::new(database)));
            }
            Some(Err(e)) => found.push(Found::Failed(path.to_owned(), e)),
        }
    }
}

/// All plain files in a directory, and below it if it is `recursive`, in order.
///
/// # Errors
/// What the operating system says.
pub fn files_in(directory: &DirectoryOptions) -> io::Result<Vec<PathBuf>> {
    let (mut todo, mut files) = (vec![directory.path.clone()], Vec::new());
    while let Some(dir) = todo.pop() {
        read_dir(&dir, directory.recursive, &mut todo, &mut files)?;
    }
    files.sort_unstable();
    Ok(files)
}

/// Adds what is in `dir` to `todo` and `files`.
fn read_dir(
    dir: &Path,
    recursive: bool,
    todo: &mut Vec<PathBuf>,
    files: &mut Vec<PathBuf>,
) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        // A link to a directory is not followed: it may lead back up.
        if !entry.file_type()?.is_dir() {
            files.push(entry.path());
        } else if recursive && is_searched(&entry.path()) {
            todo.push(entry.path());
        }
    }
    Ok(())
}

/// What lsfast and Litestream keep beside a database holds no databases.
fn is_searched(dir: &Path) -> bool {
    let name = dir.file_name().unwrap_or_default().as_encoded_bytes();
    !(name.starts_with(b".") && (name.ends_with(b"-lsfast") || name.ends_with(b"-litestream")))
}
