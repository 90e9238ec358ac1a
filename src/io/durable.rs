//! Files that are whole or not there, also after a power cut.
//!
//! Content goes to a temporary file beside the target, is flushed, renamed, and then the directory is flushed: a
//! rename is durable only with its directory.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::{File, sys};

/// What may be at the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// It is replaced.
    Replace,
    /// It is an error of kind `AlreadyExists`.
    Refuse,
}

/// A file under a temporary name. Dropped without [`Pending::commit`] it is removed.
#[derive(Debug)]
pub struct Pending {
    file: File,
    temporary: Option<PathBuf>,
}

impl Pending {
    /// Makes the file at `temporary`, where nothing may be.
    ///
    /// # Errors
    /// Those of `open(2)`.
    pub fn create(temporary: PathBuf, mode: u32) -> io::Result<Pending> {
        let file = File::create_new(&temporary, mode)?;
        Ok(Pending { file, temporary: Some(temporary) })
    }

    /// The open file.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Its name for now.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.temporary.as_deref().unwrap_or(Path::new(""))
    }

    /// Gives it its name and flushes the directory. The content must have been flushed before.
    ///
    /// # Errors
    /// `AlreadyExists` if there is something that may not be replaced, and those of `rename(2)` and `fsync(2)`. The
    /// temporary file is removed unless it has its name already.
    pub fn commit(mut self, target: &Path, existing: Existing) -> io::Result<()> {
        let temporary = self.path();
        match existing {
            Existing::Replace => std::fs::rename(temporary, target)?,
            Existing::Refuse => rename_new(temporary, target)?,
        }
        self.temporary = None;
        sync_dir_of(target)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(path) = &self.temporary {
            // Best effort: there is nobody to tell.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Writes a whole file: temporary file beside the target, fsync, rename, fsync of the directory.
///
/// # Errors
/// The first that occurs; the target is then as it was, and the temporary file is gone.
pub fn write(target: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let pending = Pending::create(temporary_beside(target), mode)?;
    let mut out = pending.file().std();
    out.write_all(content)?;
    out.sync_all()?;
    pending.commit(target, Existing::Replace)
}

/// A name beside `target` that no other process and no other call uses: `.NAME.PID-N.tmp`.
#[must_use]
pub fn temporary_beside(target: &Path) -> PathBuf {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let mut name = std::ffi::OsString::from(".");
    name.push(target.file_name().unwrap_or_default());
    name.push(format!(".{}-{n}.tmp", std::process::id()));
    target.with_file_name(name)
}

/// Flushes the directory that `path` is in.
///
/// # Errors
/// Those of `open(2)` and `fsync(2)`.
pub fn sync_dir_of(path: &Path) -> io::Result<()> {
    sync_dir(directory_of(path))
}

/// Flushes a directory.
///
/// # Errors
/// Those of `open(2)` and `fsync(2)`.
pub fn sync_dir(directory: &Path) -> io::Result<()> {
    File::open(directory)?.std().sync_all()
}

/// The directory that `path` is in; `.` for a bare name.
#[must_use]
pub fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    }
}

/// Makes a directory and those above it, durably.
///
/// # Errors
/// Those of `mkdir(2)`, `open(2)` and `fsync(2)`.
pub fn create_dir_all(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    let above = directory_of(directory);
    if above != Path::new(".") {
        create_dir_all(above)?;
    }
    match std::fs::create_dir(directory) {
        Ok(()) => sync_dir(above),
        // Another process was faster.
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && directory.is_dir() => Ok(()),
        Err(e) => Err(e),
    }
}

/// Renames without replacing. Where the file system has no such rename, a hard link does the same.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match sys::rename_no_replace(from, to) {
        Err(e) if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS)) => {
            std::fs::hard_link(from, to)?;
            std::fs::remove_file(from)
        }
        result => result,
    }
}

/// Whether the disk or the quota is full.
#[must_use]
pub fn is_full(e: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(e.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut all: Vec<_> =
            std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        all.sort();
        all
    }

    #[test]
    fn a_write_replaces_the_whole_file_and_leaves_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("state");
        write(&target, b"one", 0o600).unwrap();
        write(&target, b"twelve", 0o600).unwrap();
        assert_eq!(crate::io::read_small(&target, 100).unwrap(), b"twelve");
        assert_eq!(names(dir.path()), ["state"]);
    }

    #[test]
    fn an_existing_file_is_refused_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("a");
        write(&target, b"old", 0o600).unwrap();
        let pending = Pending::create(dir.path().join("b.tmp"), 0o600).unwrap();
        let e = pending.commit(&target, Existing::Refuse).unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(crate::io::read_small(&target, 100).unwrap(), b"old");
        assert_eq!(names(dir.path()), ["a"]);
    }

    #[test]
    fn a_failed_write_leaves_no_temporary_file() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("taken");
        std::fs::create_dir(&target).unwrap();
        std::fs::create_dir(target.join("full")).unwrap();
        assert!(write(&target, b"x", 0o600).is_err());
        assert_eq!(names(dir.path()), ["taken"]);
    }

    #[test]
    fn directories_are_made_once_and_again() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b/c");
        create_dir_all(&deep).unwrap();
        create_dir_all(&deep).unwrap();
        assert!(deep.is_dir());
        write(&deep.join("f"), b"", 0o600).unwrap();
        assert!(create_dir_all(&deep.join("f")).is_err());
    }

    #[test]
    fn a_small_file_has_a_largest_size() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        write(&path, &[7; 100], 0o600).unwrap();
        assert_eq!(crate::io::read_small(&path, 100).unwrap().len(), 100);
        assert_eq!(crate::io::read_small(&path, 99).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }
}
