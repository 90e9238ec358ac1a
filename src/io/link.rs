//! Symbolic links: which file a path leads to, and whether it is in a directory.

use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
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

/// Whether `path`, which is below `directory`, may have led to the open `file`, even if the path
/// has changed since. Between them there may be one link, as the last name of `path`, if it belongs
/// to root or to the owner of the file, and leads to a file in `directory`. Other users could have
/// made any other link, to a file that they may not read themselves.
///
/// # Errors
/// Any error of resolving the paths, for example without `/proc`.
pub fn is_open_inside(file: &File, path: &Path, directory: &Path) -> io::Result<bool> {
    let link = Path::new("/proc/self/fd").join(file.std().as_raw_fd().to_string());
    let (real, root) = (std::fs::read_link(link)?, directory.canonicalize()?);
    if path.strip_prefix(directory).is_ok_and(|below| root.join(below) == real) {
        return Ok(true);
    }
    let found = std::fs::symlink_metadata(path)?;
    let may_lead = found.uid() == 0 || found.uid() == file.metadata()?.uid();
    Ok(found.is_symlink() && may_lead && real.starts_with(root))
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
    }

    #[test]
    fn a_link_between_a_path_and_its_file_belongs_to_the_owner_of_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("root/a/deep")).unwrap();
        std::fs::create_dir_all(at("root/b")).unwrap();
        std::fs::create_dir(at("other")).unwrap();
        std::fs::write(at("root/b/app.db"), b"x").unwrap();
        symlink(at("root"), at("named")).unwrap();
        symlink("../b/app.db", at("root/a/link.db")).unwrap();
        symlink("../../b", at("root/a/deep/directory")).unwrap();
        let opened = |path: &str, root: &str| {
            let file = File::open(&at(path)).unwrap();
            is_open_inside(&file, &at(path), &at(root)).unwrap()
        };
        assert!(opened("root/b/app.db", "root") && opened("named/b/app.db", "named"));
        assert!(opened("root/a/link.db", "root"));
        assert!(!opened("root/a/link.db", "root/a") && !opened("root/b/app.db", "other"));
        assert!(!opened("root/a/deep/directory/app.db", "root"), "a link in place of a directory");
        // Links of others are another matter. Only root can make one here.
        let tenant = 65534;
        if std::os::unix::fs::lchown(at("root/a/link.db"), Some(tenant), None).is_ok() {
            assert!(!opened("root/a/link.db", "root"));
            std::os::unix::fs::chown(at("root/b/app.db"), Some(tenant), None).unwrap();
            assert!(opened("root/a/link.db", "root"));
        }
    }
}
