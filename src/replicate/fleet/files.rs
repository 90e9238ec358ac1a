//! The files in a directory of databases.

use std::io;
use std::path::{Path, PathBuf};

/// Whether links must stay inside the directory. With the rights of root they must: otherwise the
/// owner of a directory could have root read, and change, any file of the host through a link.
pub(super) fn is_root() -> bool {
    crate::io::host::user().is_ok_and(|user| user == 0)
}

/// All files in a directory, and in its subdirectories if it is `recursive`, sorted. For root,
/// links that lead out of the directory are left out, because they are not followed either.
///
/// # Errors
/// Any I/O error of reading a directory.
pub fn files_in(directory: &Path, recursive: bool) -> io::Result<Vec<PathBuf>> {
    let (mut todo, mut files) = (vec![directory.to_owned()], Vec::new());
    while let Some(dir) = todo.pop() {
        read_dir(&dir, recursive, &mut todo, &mut files)?;
    }
    if is_root() {
        files.retain(|file| !file.is_symlink() || !leaves(file, directory));
    }
    files.sort_unstable();
    Ok(files)
}

/// Whether a link leads out of the directory.
fn leaves(link: &Path, directory: &Path) -> bool {
    crate::io::link::is_inside(link, directory).is_ok_and(|inside| !inside)
}

/// Adds the subdirectories of `dir` to `todo`, and its files to `files`.
pub(super) fn read_dir(
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

/// Whether a directory may hold databases. Those in which lsfast and Litestream keep their state do
/// not.
pub(super) fn is_searched(dir: &Path) -> bool {
    let name = dir.file_name().unwrap_or_default().as_encoded_bytes();
    !(name.starts_with(b".") && (name.ends_with(b"-lsfast") || name.ends_with(b"-litestream")))
}
