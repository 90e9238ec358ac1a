//! Folders of lsfast's own in places where others may write.
//!
//! State is kept next to a database, in a directory that often belongs to another user than lsfast
//! runs as. Whoever owns that directory can put links, FIFOs and files of his own where lsfast
//! expects its state, at any moment. So a folder of ours is opened step by step, each step by the
//! descriptor of the one before ([`openat(2)`]), never through a symbolic link, and belongs to us,
//! to root, or to the one who owns the directory that it is in and can do as he likes there anyway.
//! In it only regular files are opened, never through a link, and none that has a second name in
//! somebody else's folder.
//!
//! A [`Private`] takes no descriptor: it is opened when it is used, which with thousands of
//! databases at rest counts.
//!
//! [`openat(2)`]: https://man7.org/linux/man-pages/man2/openat.2.html

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat};
use rustix::fs::{chmod, chmodat, fchmod, fstat, mkdirat, openat, renameat, statat, unlinkat};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::durable::{self, Pending, directory_of};
use super::file::{File, read_up_to};
use super::host::user_name;

/// Mode bits of a folder of ours.
const MODE: u32 = 0o700;

/// Mode bits that let others look into a folder, or change it. Passing through (`x`) is left to a
/// socket that is meant for others.
const OPEN_TO_OTHERS: u32 = 0o066;

/// The path of a folder of ours, of which the last `levels` names are never followed if they are
/// links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Private {
    path: PathBuf,
    levels: usize,
}

/// A folder of ours, open.
#[derive(Debug)]
pub struct Folder {
    fd: OwnedFd,
    path: PathBuf,
    /// Who owns it.
    owner: u32,
}

impl Private {
    /// The folder at `path`; its last `levels` names (at least one) are ours, the path before them
    /// was named by a user.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, levels: usize) -> Private {
        Private { path: path.into(), levels: levels.max(1) }
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens it.
    ///
    /// # Errors
    /// `NotFound`; `PermissionDenied` if it belongs to another user; `NotADirectory` if it, or a
    /// folder of ours above it, is anything else, such as a link.
    pub fn open(&self) -> io::Result<Folder> {
        self.walk(|_, _| Ok(()))
    }

    /// Opens it, made with mode 0700 if it is not there. An old one that others can look into is
    /// closed to them, and that is logged. It may also belong to `owner`.
    ///
    /// # Errors
    /// As [`Private::open`], and those of `mkdir(2)`.
    pub fn make(&self, owner: Option<u32>) -> io::Result<Folder> {
        let folder = self.walk(|above, name| match mkdirat(above, name, Mode::from_raw_mode(MODE)) {
            Ok(()) => sync(above),
            Err(Errno::EXIST) => Ok(()),
            Err(e) => Err(e.into()),
        })?;
        let above = std::fs::metadata(directory_of(&self.path)).map(|m| m.uid()).ok();
        if !may_own(folder.owner, above) && owner != Some(folder.owner) {
            return Err(foreign(folder.owner));
        }
        folder.close_to_others();
        Ok(folder)
    }

    /// Goes down to it; `before` comes before each step.
    fn walk(&self, before: impl Fn(BorrowedFd<'_>, &OsStr) -> io::Result<()>) -> io::Result<Folder> {
        let mut base = self.path.as_path();
        let mut names = Vec::new();
        while names.len() < self.levels
            && let Some(name) = base.file_name()
        {
            names.push(name);
            base = directory_of(base);
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut fd = openat(CWD, base, flags, Mode::empty())?;
        let mut owner = fstat(&fd)?.st_uid;
        for name in names.into_iter().rev() {
            before(fd.as_fd(), name)?;
            let next = openat(&fd, name, flags | OFlags::NOFOLLOW, Mode::empty());
            fd = next.map_err(|e| not_a_folder(fd.as_fd(), name, e))?;
            let found = fstat(&fd)?.st_uid;
            // Root meets folders of any owner; which of them it takes is decided when it makes its state
            // there.
            if !may_own(found, Some(owner)) && !geteuid().is_root() {
                return Err(foreign(found));
            }
            owner = found;
        }
        Ok(Folder { fd, path: self.path.clone(), owner })
    }
}

fn may_own(owner: u32, above: Option<u32>) -> bool {
    owner == geteuid().as_raw() || owner == 0 || Some(owner) == above
}

fn foreign(owner: u32) -> io::Error {
    let message = format!(
        "it belongs to {}, and lsfast runs as {}: run lsfast as that user, or, if nothing of that user's uses it any more, \
         remove it",
        user_name(owner),
        user_name(geteuid().as_raw())
    );
    io::Error::new(io::ErrorKind::PermissionDenied, message)
}

/// The same error; with what it means where something else than a folder is in the way.
fn not_a_folder(above: BorrowedFd<'_>, name: &OsStr, e: Errno) -> io::Error {
    if !matches!(e, Errno::NOTDIR | Errno::LOOP) {
        return e.into();
    }
    let found = statat(above, name, AtFlags::SYMLINK_NOFOLLOW);
    let is_link = found.is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::Symlink);
    let what = if is_link { "a symbolic link, which is not followed here" } else { "not a folder" };
    let message = format!("{} is {what}: remove it", name.to_string_lossy());
    io::Error::new(io::ErrorKind::NotADirectory, message)
}

/// Flushes the directory, which may be open for nothing but its name.
fn sync(directory: BorrowedFd<'_>) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let readable = openat(directory, c".", flags, Mode::empty())?;
    Ok(rustix::fs::fsync(readable)?)
}

impl Folder {
    /// Its path, for messages.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A descriptor that reads and flushes; the one that the folder is held by only names it.
    fn readable(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(openat(&self.fd, c".", flags, Mode::empty())?)
    }

    fn close_to_others(&self) {
        let mode = |s: Stat| s.st_mode & 0o7777;
        if fstat(&self.fd).map_or(0, mode) & OPEN_TO_OTHERS == 0 {
            return;
        }
        let closed = self.readable().and_then(|fd| Ok(fchmod(fd, Mode::from_raw_mode(MODE))?));
        match closed {
            // Some file systems keep no modes, and say that all is well.
            Ok(()) if fstat(&self.fd).map_or(0, mode) & OPEN_TO_OTHERS != 0 => {}
            Ok(()) => {
                tracing::info!(folder = %self.path.display(), "closed to other users (mode 0700)");
            }
            Err(e) => {
                tracing::debug!(folder = %self.path.display(), error = %e, "cannot be closed to other users");
            }
        }
    }

    /// Lets those pass through the folder whom a socket in it with this mode is meant for.
    ///
    /// # Errors
    /// Those of `fchmod(2)`.
    pub fn admit(&self, socket_mode: u32) -> io::Result<()> {
        let pass = [(0o060, 0o010), (0o006, 0o001)];
        let bits =
            pass.iter().filter(|(for_whom, _)| socket_mode & for_whom != 0).map(|(_, x)| x).sum::<u32>();
        if bits == 0 {
            return Ok(());
        }
        Ok(fchmod(self.readable()?, Mode::from_raw_mode(MODE | bits))?)
    }

    /// Opens a file for reading and writing, made empty with these mode bits if it is not there.
    ///
    /// # Errors
    /// Those of `open(2)`; `InvalidInput` for what is not a regular file, or has another name
    /// elsewhere.
    pub fn open_or_create(&self, name: &str, mode: u32) -> io::Result<File> {
        self.own(File::open_in(self.fd.as_fd(), OsStr::new(name), true, Some(mode))?)
    }

    /// A whole small file.
    ///
    /// # Errors
    /// As [`Folder::open_or_create`]; `NotFound`; `FileTooLarge` above `max` bytes.
    pub fn read_small(&self, name: &str, max: u64) -> io::Result<Vec<u8>> {
        let file = self.own(File::open_in(self.fd.as_fd(), OsStr::new(name), false, None)?)?;
        read_up_to(file.std(), &self.path.join(name), max)
    }

    /// A hard link to a file of ours may be put where another user can write. In a folder that is
    /// ours nobody else can.
    fn own(&self, file: File) -> io::Result<File> {
        if self.owner != geteuid().as_raw() && file.metadata()?.nlink() > 1 {
            let message =
                "it has another name elsewhere (a hard link), and is not opened in a folder of another user";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        Ok(file)
    }

    /// A new, empty file in the place of whatever is there.
    ///
    /// # Errors
    /// Those of `unlink(2)` and `open(2)`.
    pub fn create_anew(&self, name: &str, mode: u32) -> io::Result<File> {
        self.remove(name)?;
        File::create_in(self.fd.as_fd(), OsStr::new(name), mode)
    }

    /// Writes a whole file, durably, in the place of whatever is there.
    ///
    /// # Errors
    /// Those of [`durable::write`].
    pub fn write(&self, name: &str, content: &[u8], mode: u32) -> io::Result<()> {
        let target = self.path.join(name);
        let directory = File::from(std::fs::File::from(self.readable()?));
        durable::write_pending(Pending::create_in(directory, &target, mode)?, &target, content)
    }

    /// Renames a file in it.
    ///
    /// # Errors
    /// Those of `rename(2)`.
    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(renameat(&self.fd, from, &self.fd, to)?)
    }

    /// Removes a name that is not a directory's; none is no error.
    ///
    /// # Errors
    /// Those of `unlink(2)`.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        self.remove_name(OsStr::new(name))
    }

    pub(super) fn remove_name(&self, name: &OsStr) -> io::Result<()> {
        match unlinkat(&self.fd, name, AtFlags::empty()) {
            Err(e) if e != Errno::NOENT => Err(e.into()),
            _ => Ok(()),
        }
    }

    /// Removes a folder in it with all that is in that; links in it are removed, not followed.
    ///
    /// # Errors
    /// Those of `unlink(2)` and `rmdir(2)`.
    pub fn remove_folder(&self, name: &str) -> io::Result<()> {
        std::fs::remove_dir_all(self.short_path(OsStr::new(name)))
    }

    /// The names in it.
    ///
    /// # Errors
    /// Those of `getdents(2)`.
    pub fn names(&self) -> io::Result<Vec<OsString>> {
        use std::os::unix::ffi::OsStrExt as _;
        let mut names = Vec::new();
        for entry in Dir::read_from(self.readable()?)? {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name != "." && name != ".." {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    /// The inode of a file in it.
    ///
    /// # Errors
    /// Those of `stat(2)`.
    pub fn inode(&self, name: &str) -> io::Result<u64> {
        Ok(statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW)?.st_ino)
    }

    /// The directory at `path`, which a user named: links are followed, and anybody may own it.
    pub(super) fn named(path: &Path) -> io::Result<Folder> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = openat(CWD, path, flags, Mode::empty())?;
        let owner = fstat(&fd)?.st_uid;
        Ok(Folder { fd, path: path.to_owned(), owner })
    }

    /// What a name means, if it means anything; a link is a link.
    pub(super) fn kind(&self, name: &OsStr) -> io::Result<Option<FileType>> {
        match statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => Ok(Some(FileType::from_raw_mode(found.st_mode))),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// A short path of a name in it, for an address of a socket; it holds for as long as the folder
    /// is open.
    pub(super) fn short_path(&self, name: &OsStr) -> PathBuf {
        let short = PathBuf::from(format!("/proc/self/fd/{}", self.fd.as_raw_fd()));
        // Without /proc only the long one is left.
        if short.exists() { short.join(name) } else { self.path.join(name) }
    }

    /// Sets the mode of a socket, and of nothing that has taken its place.
    pub(super) fn set_socket_mode(&self, name: &OsStr, mode: u32) -> io::Result<()> {
        let fd = openat(&self.fd, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        if FileType::from_raw_mode(fstat(&fd)?.st_mode) != FileType::Socket {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "the socket was replaced by something else",
            ));
        }
        // A descriptor of this kind has no other way.
        match chmod(format!("/proc/self/fd/{}", fd.as_raw_fd()), Mode::from_raw_mode(mode)) {
            Err(Errno::NOENT) if self.owner == geteuid().as_raw() => {
                Ok(chmodat(&self.fd, name, Mode::from_raw_mode(mode), AtFlags::empty())?)
            }
            done => Ok(done?),
        }
    }

    /// Gives a socket its name, in the place of the one that is there.
    pub(super) fn rename_socket(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        Ok(renameat(&self.fd, from, &self.fd, to)?)
    }
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_folder_is_made_for_us_alone_and_an_old_one_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        Private::new(&home, 1).make(None).unwrap();
        assert_eq!(mode(&home), 0o700);
        for (before, after) in [(0o755, 0o700), (0o777, 0o700), (0o711, 0o711), (0o700, 0o700)] {
            fs::set_permissions(&home, fs::Permissions::from_mode(before)).unwrap();
            let folder = Private::new(&home, 1).make(None).unwrap();
            assert_eq!(mode(&home), after, "{before:o}");
            drop(folder);
        }
        let folder = Private::new(&home, 1).open().unwrap();
        for (socket, after) in [(0o660, 0o710), (0o666, 0o711)] {
            folder.admit(socket).unwrap();
            assert_eq!(mode(&home), after);
        }
    }

    #[test]
    fn no_link_is_followed_at_any_level_and_nothing_is_made_behind_one() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("elsewhere")).unwrap();
        symlink(at("elsewhere"), at("home")).unwrap();
        for (path, levels) in [(at("home"), 1), (at("home").join("replica"), 2)] {
            let e = Private::new(&path, levels).make(None).unwrap_err().to_string();
            assert_eq!(e, "home is a symbolic link, which is not followed here: remove it");
        }
        fs::remove_file(at("home")).unwrap();
        fs::create_dir(at("home")).unwrap();
        symlink(at("elsewhere"), at("home/replica")).unwrap();
        let replica = Private::new(at("home/replica"), 2);
        assert!(replica.open().is_err() && replica.make(None).is_err());
        // Above our own names a link is a user's business.
        symlink(dir.path(), at("there")).unwrap();
        Private::new(at("there/home"), 1).open().unwrap();
        assert_eq!(fs::read_dir(at("elsewhere")).unwrap().count(), 0);
        fs::write(at("file"), "").unwrap();
        let e = Private::new(at("file"), 1).open().unwrap_err();
        assert_eq!(e.to_string(), "file is not a folder: remove it");
    }

    #[test]
    fn files_in_it_are_regular_and_links_stay_alone() {
        let dir = tempfile::tempdir().unwrap();
        let victim = dir.path().join("victim");
        fs::write(&victim, "root only").unwrap();
        let home = dir.path().join("home");
        let folder = Private::new(&home, 1).make(None).unwrap();
        symlink(&victim, home.join("state")).unwrap();
        assert!(folder.open_or_create("state", 0o600).is_err());
        assert!(folder.read_small("state", 100).is_err());
        folder.create_anew("state", 0o600).unwrap().pwrite_all(b"ours", 0).unwrap();
        assert_eq!(folder.read_small("state", 100).unwrap(), b"ours");
        fs::remove_file(home.join("state")).unwrap();
        symlink(&victim, home.join("state")).unwrap();
        folder.write("state", b"ours again", 0o600).unwrap();
        assert_eq!(folder.read_small("state", 100).unwrap(), b"ours again");
        folder.rename("state", "other").unwrap();
        assert_eq!(folder.names().unwrap(), ["other"]);
        assert_eq!(fs::read(&victim).unwrap(), b"root only");
    }

    /// Another user can put a file of root's into his own folder, under a name of ours.
    #[test]
    fn a_second_name_counts_in_the_folder_of_another_user_alone() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        let mut folder = Private::new(&home, 1).make(None).unwrap();
        fs::write(home.join("state"), "kept").unwrap();
        fs::hard_link(home.join("state"), home.join("backup")).unwrap();
        folder.open_or_create("state", 0o600).unwrap();
        folder.owner = folder.owner.wrapping_add(1);
        let e = folder.open_or_create("state", 0o600).unwrap_err().to_string();
        assert!(e.contains("hard link"), "{e}");
        folder.open_or_create("new", 0o600).unwrap();
    }

    #[test]
    fn whose_folder_it_may_be() {
        let us = geteuid().as_raw();
        let (other, third) = (us.wrapping_add(1), us.wrapping_add(2));
        assert!(may_own(us, None) && may_own(0, None) && may_own(other, Some(other)));
        assert!(!may_own(other, Some(us)) && !may_own(other, Some(third)) && !may_own(other, None));
        if us != 0 {
            return;
        }
        // Root in a folder of a stranger's, in a directory that is not the stranger's: only if the database
        // is.
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        fs::create_dir(&home).unwrap();
        std::os::unix::fs::chown(&home, Some(other), None).unwrap();
        let private = Private::new(&home, 1);
        let e = private.make(None).unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::PermissionDenied);
        assert!(e.to_string().contains("lsfast runs as root"), "{e}");
        private.make(Some(other)).unwrap();
    }
}
