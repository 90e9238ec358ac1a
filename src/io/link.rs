//! Symbolic links: which file a name means, and whether it is in a directory.

use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use super::durable::directory_of;
use super::file::File;

/// Links that lead to each other; the kernel follows as many.
const LINKS_MAX: usize = 40;

/// The file that `path` means: where the last link leads, whether anything is there or not. SQLite
/// puts `-wal` and `-shm` next to that file. Links among the directories above are left as they
/// are, and so is a path without links. The state is that of this moment.
#[must_use]
pub fn target_of(path: &Path) -> PathBuf {
    let mut target = path.to_owned();
    for _ in 0..LINKS_MAX {
        match std::fs::read_link(&target) {
            // A target that begins at the root replaces all of it.
            Ok(next) => target = directory_of(&target).join(next),
            Err(_) => return target,
        }
    }
    path.to_owned()
}

/// Whether `path` is in `directory` or below it, with all links followed.
///
/// # Errors
/// What the operating system says; `NotFound` for a link that leads nowhere.
pub fn is_inside(path: &Path, directory: &Path) -> io::Result<bool> {
    Ok(path.canonicalize()?.starts_with(directory.canonicalize()?))
}

/// Whether an open file is in `directory` or below it, whatever happened to its path meanwhile.
///
/// # Errors
/// What the operating system says, as without `/proc`.
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
        // Nothing is there yet.
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
