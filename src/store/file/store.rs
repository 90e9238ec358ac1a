//! The directory store.

use std::ffi::OsStr;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};
use std::{fmt, io};

use bytes::Bytes;

use super::write;
use crate::base::clock::Millis;
use crate::base::{Level, LtxId, limits};
use crate::io::{Folder, durable};
use crate::ltx::TimesId;
use crate::store::api::{BoxFuture, Entry, PutOptions, Result, Scope, Store, Upload};
use crate::store::{ErrorKind, Listing, SideId, StoreError};

#[cfg(test)]
#[path = "tests.rs"]
mod tests;

/// A temporary file that has not been touched for this long belongs to a dead process.
const ABANDONED: Duration = Duration::from_secs(3600);

/// An upload gathers this many bytes before it hands them to a blocking thread.
pub(super) const GATHER_BYTES: usize = 1 << 20;

/// A replica in a directory.
#[derive(Clone)]
pub struct FileStore(Arc<Inner>);

pub(super) struct Inner {
    pub(super) root: PathBuf,
    url: String,
    /// Mode bits of the files, before the umask. Users who may read the files may also enter the
    /// directories.
    pub(super) mode: u32,
    /// Whether abandoned temporary files were removed, which happens before the first write.
    swept: AtomicBool,
}

impl FileStore {
    /// Opens the replica in `root`, which need not exist yet. Only the owner may read its files.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> FileStore {
        FileStore::with_mode(root, 0o600)
    }

    /// Like [`FileStore::new`], with other mode bits for new files, such as those of the database.
    #[must_use]
    pub fn with_mode(root: impl Into<PathBuf>, mode: u32) -> FileStore {
        let root = root.into();
        let url = format!("file://{}", std::path::absolute(&root).unwrap_or_else(|_| root.clone()).display());
        FileStore(Arc::new(Inner { root, url, mode, swept: AtomicBool::new(false) }))
    }

    /// Runs `work` on a blocking thread.
    pub(super) fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T> + Send + 'static,
    ) -> BoxFuture<'static, Result<T>> {
        let inner = Arc::clone(&self.0);
        Box::pin(async move {
            match tokio::task::spawn_blocking(move || work(&inner)).await {
                Ok(result) => result,
                // The runtime is shutting down, or `work` panicked.
                Err(e) => Err(StoreError::new(ErrorKind::Fatal, format!("file work was cut off: {e}"))),
            }
        })
    }
}

/// The folder of a level, relative to the root.
pub(super) fn level_path(level: Level) -> PathBuf {
    Path::new("ltx").join(level.to_string())
}

/// Turns "not found" into `None`.
pub(super) fn if_there<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

impl Inner {
    /// Creates a folder of the replica, which the users who may read its files may enter.
    /// Directories above the replica are created with the umask's mode.
    pub(super) fn make(&self, below: &Path) -> io::Result<Folder> {
        let mode = self.mode | (self.mode & 0o444) >> 2;
        durable::create_dir_all(durable::directory_of(&self.root))?;
        durable::create_dir_all_with(&self.root, mode)?;
        Folder::make_below(&self.root, below, mode)
    }

    pub(super) fn folder(&self, below: &Path) -> io::Result<Folder> {
        Folder::below(&self.root, below)
    }

    pub(super) fn path(&self, id: LtxId) -> PathBuf {
        self.root.join(level_path(id.level)).join(id.file_name())
    }

    fn list(&self, scope: Scope) -> Result<Vec<Entry>> {
        let mut all = Vec::new();
        match scope {
            Scope::Level(level) => self.list_level(level, &mut all)?,
            Scope::All => {
                for level in Level::all() {
                    self.list_level(level, &mut all)?;
                }
            }
        }
        all.sort_unstable_by_key(|e| e.id);
        // A directory that changes during the read may list a file twice.
        all.dedup_by_key(|e| e.id);
        Ok(all)
    }

    fn list_level(&self, level: Level, into: &mut Vec<Entry>) -> Result<()> {
        let below = level_path(level);
        let failed = |e| error("list", &self.root.join(&below), &e);
        let Some(folder) = if_there(self.folder(&below)).map_err(failed)? else { return Ok(()) };
        let names = folder.names_up_to(limits::LIST_OBJECTS).map_err(failed)?.ok_or_else(|| {
            let message = format!(
                "cannot list {}: it has more than {} names; remove what is not of this replica",
                folder.path().display(),
                limits::LIST_OBJECTS
            );
            StoreError::new(ErrorKind::Fatal, message)
        })?;
        for name in names {
            let Some(id) = name.to_str().and_then(|n| LtxId::parse_file_name(level, n)) else { continue };
            into.extend(entry(id, &folder)?);
        }
        Ok(())
    }

    fn head(&self, id: LtxId) -> Result<Option<Entry>> {
        let folder = if_there(self.folder(&level_path(id.level)));
        match folder.map_err(|e| error("read", &self.path(id), &e))? {
            Some(folder) => entry(id, &folder),
            None => Ok(None),
        }
    }

    /// Reads `range` of the file `name` in a folder.
    fn get(&self, below: &Path, name: &str, range: &Range<u64>) -> Result<Bytes> {
        let path = self.root.join(below).join(name);
        let failed = |e: io::Error| match e.kind() {
            io::ErrorKind::NotFound => {
                StoreError::new(ErrorKind::NotFound, format!("there is no {}", path.display()))
            }
            _ => error("read", &path, &e),
        };
        let file = self.folder(below).and_then(|folder| folder.open_file(name)).map_err(failed)?;
        let size = file.len().map_err(failed)?;
        let end = range.end.min(size);
        let Some(len) = end.checked_sub(range.start).filter(|&l| l > 0) else { return Ok(Bytes::new()) };
        let len = usize::try_from(len).map_err(|_| failed(io::ErrorKind::OutOfMemory.into()))?;
        let mut buf = vec![0; len];
        file.pread_exact(&mut buf, range.start).map_err(failed)?;
        Ok(buf.into())
    }

    fn delete(&self, ids: &[LtxId]) -> Result<()> {
        let mut folders: Vec<(Level, Option<Folder>)> = Vec::new();
        for &id in ids {
            let failed = |e| error("remove", &self.path(id), &e);
            if !folders.iter().any(|(level, _)| *level == id.level) {
                folders.push((id.level, if_there(self.folder(&level_path(id.level))).map_err(failed)?));
            }
            let of_level = folders.iter().find(|(level, _)| *level == id.level);
            if let Some((_, Some(folder))) = of_level {
                folder.remove(&id.file_name()).map_err(failed)?;
            }
        }
        for folder in folders.into_iter().filter_map(|(_, folder)| folder) {
            folder.sync().map_err(|e| error("flush", folder.path(), &e))?;
        }
        Ok(())
    }

    /// Removes temporary files that dead processes left. Best effort, once per process.
    pub(super) fn sweep(&self) {
        if self.swept.swap(true, Ordering::Relaxed) {
            return;
        }
        for level in Level::all() {
            let Ok(folder) = self.folder(&level_path(level)) else { continue };
            for name in folder.names().unwrap_or_default() {
                let Some(name) = name.to_str().filter(|n| n.ends_with(".tmp")) else { continue };
                if is_abandoned(&folder, name) {
                    let _ = folder.remove(name);
                }
            }
        }
    }
}

/// Whether a temporary file is abandoned. The age is that of the inode's last change: just before
/// the rename, the modification time is set to the header's, which may be long ago.
fn is_abandoned(folder: &Folder, name: &str) -> bool {
    let Ok(seen) = folder.look(OsStr::new(name), false) else { return false };
    let age = SystemTime::now().duration_since(seen.changed).unwrap_or_default();
    seen.is_file && age > ABANDONED
}

/// Resolves links and `..` in the absolute path `path`. Parts that do not exist yet contain no
/// links.
fn real_path(mut path: PathBuf) -> PathBuf {
    loop {
        let real = path.ancestors().find_map(|above| {
            let rest = path.strip_prefix(above).ok()?;
            Some((std::fs::canonicalize(above).ok()?, rest.to_owned()))
        });
        let Some((mut folded, rest)) = real else { return path };
        let mut goes_up = false;
        for part in rest.components() {
            if part == Component::ParentDir {
                (goes_up, _) = (true, folded.pop());
            } else {
                folded.push(part);
            }
        }
        if !goes_up {
            return folded;
        }
        // The resulting path may exist, and may be a link.
        path = folded;
    }
}

/// The entry of one file; `None` if it does not exist or is not a file. A link to a file is listed,
/// so that it is not silently missing, and is refused when it is read.
fn entry(id: LtxId, folder: &Folder) -> Result<Option<Entry>> {
    let name = id.file_name();
    let seen = if_there(folder.look(OsStr::new(&name), true));
    let seen = seen.map_err(|e| error("read", &folder.path().join(&name), &e))?.filter(|seen| seen.is_file);
    Ok(seen.map(|seen| Entry { id, size: seen.len, modified: Millis::from_system(seen.modified) }))
}

/// Classifies an I/O error, and names the operation, the path and the cause.
pub(super) fn error(what: &str, path: &Path, e: &io::Error) -> StoreError {
    use io::ErrorKind as K;
    let path = path.display();
    let copy = io::Error::from(e.kind());
    let cause = e.raw_os_error().map_or(copy, io::Error::from_raw_os_error);
    let (kind, message) = match e.kind() {
        _ if durable::is_full(e) => {
            (ErrorKind::Full, format!("cannot {what} {path}: the disk or the quota is full; make room"))
        }
        K::PermissionDenied => (
            ErrorKind::Credentials,
            format!("cannot {what} {path}: permission denied; give this user the right to it"),
        ),
        K::NotADirectory => (
            ErrorKind::Fatal,
            format!("cannot {what} {path}: a part of this path is not a directory; choose another path"),
        ),
        K::ReadOnlyFilesystem => {
            (ErrorKind::Fatal, format!("cannot {what} {path}: the file system is mounted read-only"))
        }
        K::Interrupted | K::TimedOut | K::StaleNetworkFileHandle | K::OutOfMemory | K::ResourceBusy => {
            (ErrorKind::Transient, format!("cannot {what} {path}: {e}"))
        }
        _ if matches!(e.raw_os_error(), Some(libc::EIO | libc::EMFILE | libc::ENFILE)) => {
            (ErrorKind::Transient, format!("cannot {what} {path}: {e}"))
        }
        _ => (ErrorKind::Fatal, format!("cannot {what} {path}: {e}")),
    };
    StoreError::new(kind, message).with_source(cause)
}

impl fmt::Debug for FileStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileStore({})", self.0.url)
    }
}

impl Store for FileStore {
    fn url(&self) -> &str {
        &self.0.url
    }

    /// The path, with links resolved in the part that exists.
    fn identity(&self) -> String {
        let root = std::path::absolute(&self.0.root).unwrap_or_else(|_| self.0.root.clone());
        let mut name = format!("file://{}", real_path(root).display());
        name.truncate(name.trim_end_matches('/').len());
        name
    }

    fn place(&self) -> String {
        let identity = self.identity();
        identity.rsplit_once('/').map_or_else(|| identity.clone(), |(above, _)| above.to_owned())
    }

    fn list(&self, scope: Scope) -> BoxFuture<'_, Result<Vec<Entry>>> {
        self.blocking(move |inner| inner.list(scope))
    }

    fn put<'a>(&'a self, id: LtxId, body: Vec<Bytes>, options: PutOptions) -> BoxFuture<'a, Result<()>> {
        self.blocking(move |inner| inner.put(id, &body, options))
    }

    fn upload<'a>(
        &'a self,
        id: LtxId,
        _size_max: u64,
        options: PutOptions,
    ) -> BoxFuture<'a, Result<Box<dyn Upload>>> {
        Box::pin(write::begin(self.clone(), id, options))
    }

    fn get<'a>(&'a self, id: LtxId, range: Range<u64>) -> BoxFuture<'a, Result<Bytes>> {
        self.blocking(move |inner| inner.get(&level_path(id.level), &id.file_name(), &range))
    }

    fn head<'a>(&'a self, id: LtxId) -> BoxFuture<'a, Result<Option<Entry>>> {
        self.blocking(move |inner| inner.head(id))
    }

    fn delete<'a>(&'a self, ids: &'a [LtxId]) -> BoxFuture<'a, Result<()>> {
        let ids = ids.to_vec();
        self.blocking(move |inner| inner.delete(&ids))
    }

    fn copy<'a>(&'a self, from: LtxId, to: LtxId, options: PutOptions) -> BoxFuture<'a, Result<()>> {
        self.blocking(move |inner| inner.copy(from, to, options))
    }

    fn prewarm(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    fn list_all(&self) -> BoxFuture<'_, Result<Listing>> {
        self.blocking(|inner| Ok(Listing { files: inner.list(Scope::All)?, sides: inner.list_sides()? }))
    }

    fn get_side<'a>(&'a self, id: SideId, range: Range<u64>) -> BoxFuture<'a, Result<Bytes>> {
        self.blocking(move |inner| {
            let path = id.path();
            let (below, name) = path.rsplit_once('/').unwrap_or(("", &path));
            inner.get(Path::new(below), name, &range)
        })
    }

    fn put_times<'a>(&'a self, id: TimesId, body: Bytes) -> BoxFuture<'a, Result<()>> {
        self.blocking(move |inner| inner.put_times(id, &body))
    }

    fn delete_times<'a>(&'a self, ids: &'a [TimesId]) -> BoxFuture<'a, Result<()>> {
        let ids = ids.to_vec();
        self.blocking(move |inner| inner.delete_times(&ids))
    }
}
