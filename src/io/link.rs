//! Symbolic links: which file a path leads to, and whether it is in a directory.

use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use super::durable::directory_of;
use super::file::File;

/// Links in succession that are followed; the kernel follows as many. A longer chain is not
/// resolved.
const LINKS_MAX: usize = 40;

/// The file that `path` leads to: the target of the last link, whether it exists or not. SQLite
/// puts `-wal` and `-shm` next to that file. Links among the directories above are kept, and so is
/// a path without links. The links may change at any time afterwards.
#[must_use]
pub fn target_of(path: &Path) -> PathBuf {
    let mut target = path.to_owned();
    for _ in 0..LINKS_MAX {
        match std::fs::read_link(&target) {
            // An absolute target replaces the whole path.
            Ok(next) => target = directory_of(&target).join(next),
            Err(_) => return target,
        }
    }
    path.to_owned()
}

/// Whether `path` is in `directory` or below it, with all links followed.
///
/// # Errors
/// Any error of resolving either path; `NotFound` for a link without a target.
pub fn is_inside(path: &Path, directory: &Path) -> io::Result<bool> {
    Ok(path.canonicalize()?.starts_with(directory.canonicalize()?))
}

/// Whether an open file is in `directory` or below it, even if its path has changed since.
///
/// # Errors
/// Any error of resolving either path, for example without `/proc`.
pub fn is_open_inside(file: &File, directory: &Path) -> io::Result<bool> {
    let link = Path::new("/proc/self/fd").join(file.std().as_raw_fd().to_string());
    Ok(std::fs::read_link(link)?.starts_with(directory.canonicalize()?))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn the_file_behind_links() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir(at("volume")).unwrap();
        symlink("volume/app.db", at("one")).unwrap();
        symlink(at("one"), at("two")).unwrap();
        symlink("circle", at("circle")).unwrap();
        assert_eq!(target_of(&at("plain")), at("plain"));
        // The target does not exist yet.
        assert_eq!(target_of(&at("two")), at("volume/app.db"));
        assert_eq!(target_of(&at("circle")), at("circle"));
        std::fs::write(at("volume/app.db"), b"x").unwrap();
        assert_eq!(target_of(&at("two")), at("volume/app.db"));
        assert!(is_inside(&at("two"), dir.path()).unwrap());
        assert!(is_inside(&at("volume/app.db"), &at("volume/..")).unwrap());
        symlink("/etc/passwd", at("volume/out")).unwrap();
        assert!(!is_inside(&at("volume/out"), &at("volume")).unwrap());
        let file = File::open(&at("two")).unwrap();
        assert!(is_open_inside(&file, &at("volume")).unwrap());
        std::fs::create_dir(at("other")).unwrap();
        assert!(!is_open_inside(&file, &at("other")).unwrap());
    }
}
