//! Folders below a directory that a user named, such as the levels of a replica.
//!
//! The directory itself may be reached by links. The names below it are lsfast's: another user who
//! may write there could put a link in the place of each of them. So each folder is opened by the
//! descriptor of the one above, never through a link.

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, linkat, mkdirat, openat, statat};
use rustix::io::Errno;

use super::durable::{Pending, directory_of};
use super::file::File;
use super::private::{Folder, sync};

/// What is known of a file without opening it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Whether it is a regular file.
    pub is_file: bool,
    /// Its length in bytes.
    pub len: u64,
    /// When its content was changed last.
    pub modified: SystemTime,
    /// When its inode was changed last.
    pub changed: SystemTime,
}

impl From<Stat> for Seen {
    fn from(stat: Stat) -> Seen {
        let time = |seconds: i64, nanos: u64| {
            let whole = Duration::from_secs(seconds.unsigned_abs());
            let whole = if seconds >= 0 { UNIX_EPOCH + whole } else { UNIX_EPOCH - whole };
            whole + Duration::from_nanos(nanos)
        };
        Seen {
            is_file: FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile,
            len: u64::try_from(stat.st_size).unwrap_or(0),
            modified: time(stat.st_mtime, stat.st_mtime_nsec),
            changed: time(stat.st_ctime, stat.st_ctime_nsec),
        }
    }
}

impl Folder {
    /// The folder at the relative path `below` in the directory `root`, which a user named.
    ///
    /// # Errors
    /// `NotFound`; `NotADirectory`; `Other` where a link stands for a folder below `root`.
    pub fn below(root: &Path, below: &Path) -> io::Result<Folder> {
        below.iter().try_fold(Folder::named(root)?, Folder::enter)
    }

    /// The same. Folders that are missing are made durably, with the mode bits `mode` less the
    /// umask.
    ///
    /// # Errors
    /// As [`Folder::below`], and those of `mkdir(2)`.
    pub fn make_below(root: &Path, below: &Path, mode: u32) -> io::Result<Folder> {
        below.iter().try_fold(Folder::named(root)?, |folder, name| {
            match mkdirat(&folder.fd, name, Mode::from_raw_mode(mode)) {
                Ok(()) => sync(folder.as_fd())?,
                Err(Errno::EXIST) => {}
                Err(e) => return Err(e.into()),
            }
            folder.enter(name)
        })
    }

    fn enter(self, name: &OsStr) -> io::Result<Folder> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        match openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => Ok(Folder { fd, path: self.path.join(name), owner: self.owner }),
            Err(e) => {
                if (e == Errno::NOTDIR || e == Errno::LOOP) && self.kind(name)? == Some(FileType::Symlink) {
                    return Err(io::Error::other(format!(
                        "{} is a symbolic link, which is not followed here: put the directory itself in its place, or \
                         mount it there (mount --bind)",
                        name.to_string_lossy()
                    )));
                }
                Err(e.into())
            }
        }
    }

    /// Opens the file at `path` for reading and writing. A user named its directory; its own name
    /// is lsfast's. If it is missing and `create` has mode bits, an empty file is created.
    ///
    /// # Errors
    /// As [`Folder::open_or_create`].
    pub fn open_beside(path: &Path, create: Option<u32>) -> io::Result<File> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let folder = Folder::named(directory_of(path))?;
        folder.own(File::open_in(folder.fd.as_fd(), name, true, create)?)
    }

    /// Opens a regular file in it for reading, never through a link.
    ///
    /// # Errors
    /// As [`File::open_itself`].
    pub fn open_file(&self, name: impl AsRef<OsStr>) -> io::Result<File> {
        File::open_in(self.fd.as_fd(), name.as_ref(), false, None)
    }

    /// What a name in it means: with `follow`, what a link leads to.
    ///
    /// # Errors
    /// Those of `stat(2)`.
    pub fn look(&self, name: &OsStr, follow: bool) -> io::Result<Seen> {
        let flags = if follow { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW };
        Ok(statat(&self.fd, name, flags)?.into())
    }

    /// Calls `f` with the names in it, in no order; `false` if there are more than `max`.
    ///
    /// # Errors
    /// Those of `getdents(2)`.
    pub fn each_name(&self, max: usize, mut f: impl FnMut(&OsStr)) -> io::Result<bool> {
        use std::os::unix::ffi::OsStrExt as _;
        let mut count = 0;
        for entry in Dir::read_from(self.readable()?)? {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            if count == max {
                return Ok(false);
            }
            count += 1;
            f(name);
        }
        Ok(true)
    }

    /// Begins a file in it that gets the name of `target` when it is whole.
    ///
    /// # Errors
    /// Those of `open(2)`.
    pub fn begin(&self, target: &Path, mode: u32) -> io::Result<Pending> {
        Pending::create_in(File::from(std::fs::File::from(self.readable()?)), target, mode)
    }

    /// Gives a file in it a second name in another folder.
    ///
    /// # Errors
    /// Those of `link(2)`.
    pub fn link(&self, name: &str, folder: &Folder, other: &str) -> io::Result<()> {
        Ok(linkat(&self.fd, name, &folder.fd, other, AtFlags::empty())?)
    }

    /// Flushes its names.
    ///
    /// # Errors
    /// Those of `fsync(2)`.
    pub fn sync(&self) -> io::Result<()> {
        sync(self.as_fd())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// Another user can put a hard link to a file of ours there, under a name of ours.
    #[test]
    fn a_file_of_ours_is_not_written_to_by_another_name_in_the_directory_of_another_user() {
        let dir = tempfile::tempdir().unwrap();
        let (file, other) = (dir.path().join("out-follow"), dir.path().join("other"));
        assert_eq!(Folder::open_beside(&file, None).unwrap_err().kind(), io::ErrorKind::NotFound);
        Folder::open_beside(&file, Some(0o600)).unwrap();
        fs::hard_link(&file, &other).unwrap();
        Folder::open_beside(&file, None).unwrap();
        // Only root can give the directory away.
        if std::os::unix::fs::chown(dir.path(), Some(65534), None).is_ok() {
            for create in [None, Some(0o600)] {
                let e = Folder::open_beside(&file, create).unwrap_err().to_string();
                assert!(e.contains("hard link"), "{e}");
            }
        }
    }

    #[test]
    fn links_lead_to_the_root_and_not_below_it() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("disk/rep")).unwrap();
        symlink(at("disk/rep"), at("rep")).unwrap();
        let folder = Folder::make_below(&at("rep"), Path::new("ltx/0"), 0o700).unwrap();
        folder.write("a", b"content", 0o600).unwrap();
        assert_eq!(fs::read(at("disk/rep/ltx/0/a")).unwrap(), b"content");
        let mut names = Vec::new();
        assert!(folder.each_name(1, |name| names.push(name.to_owned())).unwrap());
        assert_eq!(names, ["a"]);
        assert!(!folder.each_name(0, |_| {}).unwrap());
        let seen = folder.look(OsStr::new("a"), false).unwrap();
        assert_eq!(seen, folder.look(OsStr::new("a"), true).unwrap());
        assert!(seen.is_file && seen.len == 7);
        assert_eq!(seen.modified, fs::metadata(at("rep/ltx/0/a")).unwrap().modified().unwrap());

        fs::create_dir_all(at("victim/0")).unwrap();
        symlink(at("victim"), at("rep/link")).unwrap();
        symlink(at("victim/0"), at("rep/ltx/1")).unwrap();
        for below in ["link", "link/0", "ltx/1"] {
            for e in [
                Folder::below(&at("rep"), Path::new(below)).unwrap_err(),
                Folder::make_below(&at("rep"), Path::new(below), 0o700).unwrap_err(),
            ] {
                assert!(e.to_string().contains("is a symbolic link, which is not followed"), "{below}: {e}");
            }
        }
        let e = Folder::below(&at("rep"), Path::new("ltx/0/a")).unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::NotADirectory);
        let e = Folder::below(&at("rep"), Path::new("none/0")).unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::NotFound);
        assert_eq!(fs::read_dir(at("victim/0")).unwrap().count(), 0);
    }
}
