//! The identity of a file: device and inode.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Identity of the file that a path names: device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileId {
    /// Number of the device.
    pub dev: u64,
    /// Number of the inode.
    pub ino: u64,
}

impl FileId {
    /// The identity of an open file.
    ///
    /// # Errors
    /// Any error of `fstat`.
    pub fn of(file: &std::fs::File) -> io::Result<FileId> {
        let m = file.metadata()?;
        Ok(FileId { dev: m.dev(), ino: m.ino() })
    }

    /// The identity of the file that `path` names now. `None` if nothing has this path, or if a
    /// component of it is not a directory.
    ///
    /// # Errors
    /// Any other error of `stat`.
    pub fn at(path: &Path) -> io::Result<Option<FileId>> {
        match std::fs::metadata(path) {
            Ok(m) => Ok(Some(FileId { dev: m.dev(), ino: m.ino() })),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(e) => Err(e),
        }
    }
}
