//! Writes files that are complete or absent, even after a power failure.
//!
//! # Order of writes
//!
//! The content goes to a temporary file next to the target. The file is flushed, then renamed, and
//! then the directory is flushed: a rename is durable only after that.
//!
//! # Failure and crash
//!
//! If a step before the rename fails, the target is unchanged and the temporary file is removed. A
//! crash may leave the temporary file, whose name begins with [`temporary_prefix`].

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, RenameFlags, linkat, renameat, renameat_with, statat, unlinkat};
use rustix::io::Errno;

use super::File;
use super::direct::DirectFile;

/// Bytes of the target's name that its temporary file's name contains. The rest of that name must
/// fit into the maximum of 255 bytes.
const NAME_BYTES_MAX: usize = 200;

/// Temporary names that are tried. Only a program that wants to interfere takes a name first, so
/// after these it is an error.
const NAMES_MAX: usize = 16;

/// What to do if the target exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Replace it.
    Replace,
    /// Fail with `AlreadyExists`.
    Refuse,
}

/// A file under a temporary name. If it is dropped without [`Pending::commit`] it is removed.
///
/// Every step works in one directory, which is held open. If the path changes meanwhile, nothing is
/// written, renamed or removed elsewhere.
#[derive(Debug)]
pub struct Pending {
    file: File,
    directory: File,
    temporary: Option<PathBuf>,
}

impl Pending {
    /// Creates the file at `temporary`.
    ///
    /// # Errors
    /// Any error of `open(2)`; `AlreadyExists` if the name is taken.
    pub fn create(temporary: PathBuf, mode: u32) -> io::Result<Pending> {
        let directory = File::open_directory(directory_of(&temporary))?;
        let file = File::create_in(directory.as_fd(), name_of(&temporary)?, mode)?;
        Ok(Pending { file, directory, temporary: Some(temporary) })
    }

    /// Creates the file next to `target`, under an unused name.
    ///
    /// # Errors
    /// Any error of `open(2)`.
    pub fn create_beside(target: &Path, mode: u32) -> io::Result<Pending> {
        Pending::create_in(File::open_directory(directory_of(target))?, target, mode)
    }

    /// Like [`Pending::create_beside`], with `directory` as the open directory of `target`.
    ///
    /// # Errors
    /// Any error of `open(2)`.
    pub(super) fn create_in(directory: File, target: &Path, mode: u32) -> io::Result<Pending> {
        let mut tries = NAMES_MAX;
        loop {
            tries -= 1;
            let temporary = temporary_beside(target);
            match File::create_in(directory.as_fd(), name_of(&temporary)?, mode) {
                Ok(file) => return Ok(Pending { file, directory, temporary: Some(temporary) }),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists && tries > 0 => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// The open file, for writing the content and flushing it.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Path of the temporary file.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.temporary.as_deref().unwrap_or(Path::new(""))
    }

    /// Whether the temporary name still belongs to the open file, and has not been given to another
    /// one.
    #[must_use]
    pub fn is_itself(&self) -> bool {
        let named = name_of(self.path()).and_then(|n| self.stat(n));
        named.is_ok_and(|named| self.file.metadata().is_ok_and(|m| (m.dev(), m.ino()) == named))
    }

    /// A second descriptor of the file, for direct writes. `None` if the file system has none.
    #[must_use]
    pub fn direct(&self) -> Option<DirectFile> {
        let direct = DirectFile::open_in(self.directory.as_fd(), name_of(self.path()).ok()?)?;
        let same = |m: std::fs::Metadata, n: std::fs::Metadata| (m.dev(), m.ino()) == (n.dev(), n.ino());
        let itself = same(self.file.metadata().ok()?, direct.file().metadata().ok()?);
        itself.then_some(direct)
    }

    /// The directory of the file, as it was opened.
    #[must_use]
    pub fn directory(&self) -> Directory {
        Directory(self.directory.clone())
    }

    fn stat(&self, name: &OsStr) -> io::Result<(u64, u64)> {
        let found = statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok((found.st_dev, found.st_ino))
    }

    /// Renames the file to `target`, which is in the same directory, and flushes the directory. The
    /// caller must have flushed the content before.
    ///
    /// # Errors
    /// `AlreadyExists` if the target exists and may not be replaced; any error of `rename(2)` and
    /// `fsync(2)`. The temporary file is removed unless it has been renamed.
    pub fn commit(mut self, target: &Path, existing: Existing) -> io::Result<()> {
        if directory_of(target) != directory_of(self.path()) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a temporary file keeps its directory"));
        }
        let (from, to) = (name_of(self.path())?, name_of(target)?);
        match existing {
            Existing::Replace => renameat(&self.directory, from, &self.directory, to)?,
            Existing::Refuse => rename_new(&self.directory, from, to)?,
        }
        self.temporary = None;
        self.directory.std().sync_all()
    }
}

/// An open directory. Files in it are named by their path, of which only the last name counts: if
/// the path of the directory leads elsewhere meanwhile, nothing is renamed or removed there.
#[derive(Debug)]
pub struct Directory(File);

impl Directory {
    /// Removes a file. A missing one is not an error.
    ///
    /// # Errors
    /// Any error of `unlink(2)`.
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        match unlinkat(&self.0, name_of(path)?, AtFlags::empty()) {
            Err(e) if e != Errno::NOENT => Err(e.into()),
            _ => Ok(()),
        }
    }

    /// Renames a file within the directory, and replaces one that has the new name.
    ///
    /// # Errors
    /// Any error of `rename(2)`.
    pub fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Ok(renameat(&self.0, name_of(from)?, &self.0, name_of(to)?)?)
    }

    /// Whether the path still leads to it.
    #[must_use]
    pub fn is_at(&self, path: &Path) -> bool {
        let here = self.0.metadata().map(|m| (m.dev(), m.ino()));
        here.is_ok_and(|here| std::fs::metadata(path).is_ok_and(|m| (m.dev(), m.ino()) == here))
    }

    /// Flushes the names in it.
    ///
    /// # Errors
    /// Any error of `fsync(2)`.
    pub fn sync(&self) -> io::Result<()> {
        self.0.std().sync_all()
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(name) = self.temporary.as_deref().and_then(Path::file_name) {
            // Best effort: there is no caller to report an error to.
            let _ = unlinkat(&self.directory, name, AtFlags::empty());
        }
    }
}

fn name_of(path: &Path) -> io::Result<&OsStr> {
    path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a path without a name"))
}

/// Writes a whole file: temporary file next to the target, fsync, rename, fsync of the directory.
///
/// # Errors
/// The first error of these steps. Unless that was the last fsync, the target is unchanged and the
/// temporary file is removed.
pub fn write(target: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    write_pending(Pending::create_beside(target, mode)?, target, content)
}

pub(super) fn write_pending(pending: Pending, target: &Path, content: &[u8]) -> io::Result<()> {
    let mut out = pending.file().std();
    out.write_all(content)?;
    out.sync_all()?;
    pending.commit(target, Existing::Replace)
}

/// A name next to `target`, `.NAME.PID-N.tmp`, that no other process and no other call uses, and
/// that other programs can't predict.
#[must_use]
pub fn temporary_beside(target: &Path) -> PathBuf {
    let mut name = temporary_prefix(target);
    name.push(format!("{}-{}.tmp", std::process::id(), fastrand::u32(..)));
    target.with_file_name(name)
}

/// The beginning of the names of all temporary files of `target`: `.NAME.`. A long NAME is cut.
#[must_use]
pub fn temporary_prefix(target: &Path) -> OsString {
    let name = target.file_name().unwrap_or_default().as_bytes();
    let mut prefix = OsString::from(".");
    prefix.push(OsStr::from_bytes(&name[..name.len().min(NAME_BYTES_MAX)]));
    prefix.push(".");
    prefix
}

/// Flushes a directory.
///
/// # Errors
/// Any error of `open(2)` and `fsync(2)`.
pub fn sync_dir(directory: &Path) -> io::Result<()> {
    File::open_directory(directory)?.std().sync_all()
}

/// The directory that contains `path`; `.` for a name without a directory.
#[must_use]
pub fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    }
}

/// Creates a directory and its missing parents, durably, with mode 0777 less the umask.
///
/// # Errors
/// Any error of `mkdir(2)`, `open(2)` and `fsync(2)`.
pub fn create_dir_all(directory: &Path) -> io::Result<()> {
    create_dir_all_with(directory, 0o777)
}

/// Like [`create_dir_all`], with `mode` for each directory that is created.
///
/// # Errors
/// As [`create_dir_all`].
pub fn create_dir_all_with(directory: &Path, mode: u32) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    let above = directory_of(directory);
    if above != Path::new(".") {
        create_dir_all_with(above, mode)?;
    }
    match std::fs::DirBuilder::new().mode(mode).create(directory) {
        Ok(()) => sync_dir(above),
        // Another process created it first.
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && directory.is_dir() => Ok(()),
        Err(e) => Err(e),
    }
}

/// Renames without replacing. On file systems without such a rename, a hard link has the same
/// effect.
fn rename_new(directory: &File, from: &OsStr, to: &OsStr) -> io::Result<()> {
    match renameat_with(directory, from, directory, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS) => {
            linkat(directory, from, directory, to, AtFlags::empty())?;
            Ok(unlinkat(directory, from, AtFlags::empty())?)
        }
        result => Ok(result?),
    }
}

/// Whether the error means that the disk or the quota is full.
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

    /// A user who may write to the folder can move it, and put a link to another folder in its
    /// place.
    #[test]
    fn a_directory_that_is_exchanged_meanwhile_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir(at("a")).unwrap();
        std::fs::create_dir(at("other")).unwrap();
        let target = at("a").join("file");
        let pending = Pending::create_beside(&target, 0o600).unwrap();
        assert!(pending.is_itself());
        std::fs::rename(at("a"), at("b")).unwrap();
        std::os::unix::fs::symlink(at("other"), at("a")).unwrap();
        pending.commit(&target, Existing::Replace).unwrap();
        assert_eq!(names(&at("b")), ["file"]);
        assert_eq!(names(&at("other")), Vec::<String>::new());
    }

    #[test]
    fn a_file_that_was_exchanged_is_noticed_and_long_names_fit() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("x".repeat(255));
        let pending = Pending::create_beside(&target, 0o600).unwrap();
        let path = pending.path().to_owned();
        std::fs::rename(&path, dir.path().join("moved")).unwrap();
        std::fs::write(&path, "theirs").unwrap();
        assert!(!pending.is_itself());
        drop(pending);
        write(&target, b"ours", 0o600).unwrap();
        assert_eq!(crate::io::read_small(&target, 100).unwrap(), b"ours");
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
