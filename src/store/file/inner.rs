//! The files of a replica in a directory: reads, lists and removes them. Blocks.

use std::ffi::OsStr;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::base::clock::Millis;
use crate::base::{Level, LtxId, limits};
use crate::io::{Folder, durable, is_file_limit};
use crate::store::api::{BoxFuture, Result, Scope};
use crate::store::{Entry, ErrorKind, StoreError};

/// A temporary file that has not been touched for this long belongs to a dead process.
const ABANDONED: Duration = Duration::from_secs(3600);

/// The directory of a replica.
pub(super) struct Inner {
    pub(super) root: PathBuf,
    pub(super) url: String,
    /// Mode bits of the files, before the umask. Users who may read the files may also enter the
    /// directories.
    pub(super) mode: u32,
    /// Whether abandoned temporary files were removed, which happens before the first write.
    pub(super) swept: AtomicBool,
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
    /// Runs `work` on a blocking thread.
    pub(super) fn blocking<T: Send + 'static>(
        self: &Arc<Inner>,
        work: impl FnOnce(&Inner) -> Result<T> + Send + 'static,
    ) -> BoxFuture<'static, Result<T>> {
        let inner = Arc::clone(self);
        Box::pin(async move {
            match tokio::task::spawn_blocking(move || work(&inner)).await {
                Ok(result) => result,
                // The runtime is shutting down, or `work` panicked.
                Err(e) => Err(StoreError::new(ErrorKind::Fatal, format!("file work was cut off: {e}"))),
            }
        })
    }

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

    pub(super) fn list(&self, scope: Scope) -> Result<Vec<Entry>> {
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
        let mut ids = Vec::new();
        let Some(folder) = self.each_id(level, |id| ids.push(id))? else { return Ok(()) };
        entries(&folder, ids, into)
    }

    /// Calls `f` with the files of a level, in no order. Returns the folder of the level, if there
    /// is one.
    pub(super) fn each_id(&self, level: Level, mut f: impl FnMut(LtxId)) -> Result<Option<Folder>> {
        let below = level_path(level);
        let failed = |e| error("list", &self.root.join(&below), &e);
        let Some(folder) = if_there(self.folder(&below)).map_err(failed)? else { return Ok(None) };
        let of_name = |name: &OsStr| {
            name.to_str().and_then(|n| LtxId::parse_file_name(level, n)).into_iter().for_each(&mut f);
        };
        if !folder.each_name(limits::LIST_OBJECTS, of_name).map_err(failed)? {
            let message = format!(
                "cannot list {}: it has more than {} names; remove what is not of this replica",
                folder.path().display(),
                limits::LIST_OBJECTS
            );
            return Err(StoreError::new(ErrorKind::Fatal, message));
        }
        Ok(Some(folder))
    }

    pub(super) fn head(&self, id: LtxId) -> Result<Option<Entry>> {
        let folder = if_there(self.folder(&level_path(id.level)));
        match folder.map_err(|e| error("read", &self.path(id), &e))? {
            Some(folder) => entry(id, &folder),
            None => Ok(None),
        }
    }

    /// Reads `range` of the file `name` in a folder.
    pub(super) fn get(&self, below: &Path, name: &str, range: &Range<u64>) -> Result<Bytes> {
        let path = self.root.join(below).join(name);
        let failed = |e: io::Error| match e.kind() {
            io::ErrorKind::NotFound => {
                StoreError::new(ErrorKind::NotFound, format!("there is no {}", path.display()))
            }
            _ => error("read", &path, &e),
        };
        let folder = self.folder(below).map_err(failed)?;
        let file = folder.open_file(name).map_err(|e| match e.kind() {
            // A FIFO, a folder or a link was not stored by lsfast: that one file is damaged.
            io::ErrorKind::InvalidInput | io::ErrorKind::IsADirectory => {
                StoreError::new(ErrorKind::Corrupt, format!("cannot read {}: {e}", path.display()))
            }
            _ => failed(e),
        })?;
        let size = file.len().map_err(failed)?;
        let end = range.end.min(size);
        let Some(len) = end.checked_sub(range.start).filter(|&l| l > 0) else { return Ok(Bytes::new()) };
        let len = usize::try_from(len).map_err(|_| failed(io::ErrorKind::OutOfMemory.into()))?;
        let buf = file.read_passing(len, range.start).map_err(failed)?;
        if buf.len() < len {
            return Err(failed(io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(buf.into())
    }

    pub(super) fn delete(&self, ids: &[LtxId]) -> Result<()> {
        let mut folders: Vec<(Level, Option<Folder>)> = Vec::new();
        for &id in ids {
            let failed = |e| error("remove", &self.path(id), &e);
            if !folders.iter().any(|(level, _)| *level == id.level) {
                folders.push((id.level, if_there(self.folder(&level_path(id.level))).map_err(failed)?));
            }
            let of_level = folders.iter().find(|(level, _)| *level == id.level);
            if let Some((_, Some(folder))) = of_level {
                folder.remove(id.file_name()).map_err(failed)?;
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

/// Appends the entries of files of one folder, without those that are not there any more.
pub(super) fn entries(
    folder: &Folder,
    ids: impl IntoIterator<Item = LtxId>,
    into: &mut Vec<Entry>,
) -> Result<()> {
    for id in ids {
        into.extend(entry(id, folder)?);
    }
    Ok(())
}

/// The entry of one file; `None` if nothing has its name. A link to a file is listed, so that it is
/// not silently missing, and is refused when it is read. Anything else that is not a file, such as
/// a directory, is listed as empty: it cannot be what was stored, so readers count it as damaged.
fn entry(id: LtxId, folder: &Folder) -> Result<Option<Entry>> {
    let name = id.file_name();
    let name = OsStr::new(&name);
    let seen = match folder.look(name, true) {
        // A link that leads nowhere, or in a circle.
        Err(e) if e.kind() == io::ErrorKind::NotFound || e.raw_os_error() == Some(libc::ELOOP) => {
            if_there(folder.look(name, false))
        }
        seen => seen.map(Some),
    };
    let seen = seen.map_err(|e| error("read", &folder.path().join(name), &e))?;
    Ok(seen.map(|seen| {
        let size = if seen.is_file { seen.len } else { 0 };
        Entry { id, size, modified: Millis::from_system(seen.modified) }
    }))
}

/// Classifies an I/O error, and names the operation, the path and the cause.
pub(super) fn error(what: &str, path: &Path, e: &io::Error) -> StoreError {
    use io::ErrorKind as K;
    let path = path.display();
    let copy = io::Error::from(e.kind());
    let number = e.raw_os_error().or_else(|| is_file_limit(e).then_some(libc::EMFILE));
    let cause = number.map_or(copy, io::Error::from_raw_os_error);
    let (kind, message) = match e.kind() {
        _ if durable::is_full(e) => {
            (ErrorKind::Full, format!("cannot {what} {path}: the disk or the quota is full; make room"))
        }
        K::PermissionDenied => (
            ErrorKind::Credentials,
            format!("cannot {what} {path}: permission denied; give this user the right to it"),
        ),
        K::IsADirectory => (
            ErrorKind::Fatal,
            format!("cannot {what} {path}: it is a directory, not a file; move it out of the replica"),
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
        _ if e.raw_os_error() == Some(libc::EIO) || is_file_limit(e) => {
            (ErrorKind::Transient, format!("cannot {what} {path}: {e}"))
        }
        _ => (ErrorKind::Fatal, format!("cannot {what} {path}: {e}")),
    };
    let error = StoreError::new(kind, message);
    // An error of lsfast itself is in the message, and has no other cause.
    if number.is_none() && e.get_ref().is_some() { error } else { error.with_source(cause) }
}
