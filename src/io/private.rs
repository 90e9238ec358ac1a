//! Folders that belong to lsfast, in places where other users may write.
//!
//! # Overview
//!
//! State is kept next to a database, in a directory that often belongs to another user than the one
//! that lsfast runs as. The owner of that directory can put links, FIFOs and other files where
//! lsfast expects its state, at any moment.
//!
//! # Rules
//!
//! - A folder of lsfast is opened step by step, each step through the descriptor of the step before
//!   ([`openat(2)`]), and never through a symbolic link.
//! - It must belong to us, to root, or to the owner of the directory that contains it. That owner
//!   can do anything there anyway.
//! - Only regular files are opened in it, never through a link. In a folder of another user, a file
//!   with a second name (a hard link) is refused too.
//!
//! A [`Private`] holds no descriptor. It is opened when it is used, which matters with thousands of
//! idle databases.
//!
//! [`openat(2)`]: https://man7.org/linux/man-pages/man2/openat.2.html

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, chmod, chmodat, fchmod, fstat, mkdirat, openat,
    renameat, statat, unlinkat,
};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::durable::{self, Pending, directory_of};
use super::file::{File, read_up_to};
use super::host::user_name;
use super::process::explain_own;

/// Mode bits of a folder of lsfast.
const MODE: u32 = 0o700;

/// Mode bits that let other users list a folder or change it. The `x` bits are not among them,
/// because a socket that is meant for others needs them.
const OPEN_TO_OTHERS: u32 = 0o066;

/// The path of a folder of lsfast. The last `levels` names of it are never followed if they are
/// links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Private {
    path: PathBuf,
    levels: usize,
}

/// An open folder of lsfast.
#[derive(Debug)]
pub struct Folder {
    pub(super) fd: OwnedFd,
    pub(super) path: PathBuf,
    /// User id of its owner, or of that of the directory above it that a user named.
    pub(super) owner: u32,
}

impl Private {
    /// The folder at `path`. Its last `levels` names (at least one) belong to lsfast; a user named
    /// the path before them.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, levels: usize) -> Private {
        Private { path: path.into(), levels: levels.max(1) }
    }

    /// Opens the folder.
    ///
    /// # Errors
    /// `NotFound`; `PermissionDenied` if it belongs to another user; `NotADirectory` if it, or one
    /// of the `levels` above it, is anything else, such as a link.
    pub fn open(&self) -> io::Result<Folder> {
        self.walk(|_, _| Ok(()))
    }

    /// Opens the folder, and creates it with mode 0700 if it is missing. If other users can list or
    /// change an existing folder, its mode is set to 0700, and that is logged. The folder may also
    /// belong to `owner`.
    ///
    /// # Errors
    /// As [`Private::open`], and any error of `mkdir(2)`.
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

    /// Opens the folder level by level; `before` is called before each step.
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
            // Root accepts folders of any owner here. `make` decides which of them get state.
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

/// Explains an error that is caused by a link or file in the place of a folder; returns any other
/// error unchanged.
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

/// Flushes a directory, which may be open with `O_PATH` only.
pub(super) fn sync(directory: BorrowedFd<'_>) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let readable = openat(directory, c".", flags, Mode::empty())?;
    Ok(rustix::fs::fsync(readable)?)
}

impl Folder {
    /// Opens a file as [`Folder::open_or_create`] does, with an error that names it.
    pub(super) fn open_own(&self, name: &str, mode: u32) -> io::Result<File> {
        self.open_or_create(name, mode).map_err(|e| explain_own(&self.path.join(name), e))
    }

    /// Path of the folder, for messages.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A descriptor for reading and flushing. The one in `fd` is open with `O_PATH` only.
    pub(super) fn readable(&self) -> io::Result<OwnedFd> {
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
            // Some file systems store no modes but report success.
            Ok(()) if fstat(&self.fd).map_or(0, mode) & OPEN_TO_OTHERS != 0 => {}
            Ok(()) => {
                tracing::info!(folder = %self.path.display(), "closed to other users (mode 0700)");
            }
            Err(e) => {
                tracing::debug!(folder = %self.path.display(), error = %e, "cannot be closed to other users");
            }
        }
    }

    /// Adds the `x` bits that let the users of a socket with mode `socket_mode` pass through the
    /// folder.
    ///
    /// # Errors
    /// Any error of `fchmod(2)`.
    pub fn admit(&self, socket_mode: u32) -> io::Result<()> {
        let pass = [(0o060, 0o010), (0o006, 0o001)];
        let bits =
            pass.iter().filter(|(for_whom, _)| socket_mode & for_whom != 0).map(|(_, x)| x).sum::<u32>();
        if bits == 0 {
            return Ok(());
        }
        Ok(fchmod(self.readable()?, Mode::from_raw_mode(MODE | bits))?)
    }

    /// Opens a file for reading and writing. If it is missing, an empty one is created with the
    /// mode bits `mode`.
    ///
    /// # Errors
    /// Any error of `open(2)`; `InvalidInput` if it is not a regular file, or has another name
    /// elsewhere.
    pub fn open_or_create(&self, name: &str, mode: u32) -> io::Result<File> {
        self.own(File::open_in(self.fd.as_fd(), OsStr::new(name), true, Some(mode))?)
    }

    /// Reads a whole small file.
    ///
    /// # Errors
    /// As [`Folder::open_or_create`]; `NotFound`; `FileTooLarge` above `max` bytes.
    pub fn read_small(&self, name: &str, max: u64) -> io::Result<Vec<u8>> {
        let file = self.own(File::open_in(self.fd.as_fd(), OsStr::new(name), false, None)?)?;
        read_up_to(file.std(), &self.path.join(name), max)
    }

    /// Refuses a file with a second name in a folder of another user, who may have put a hard link
    /// to a file of ours there. In our own folder no other user can do that.
    pub(super) fn own(&self, file: File) -> io::Result<File> {
        if self.owner != geteuid().as_raw() && file.metadata()?.nlink() > 1 {
            let message =
                "it has another name elsewhere (a hard link), and is not opened in a folder of another user";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        Ok(file)
    }

    /// Removes the file or link with this name, if there is one, and creates an empty file.
    ///
    /// # Errors
    /// Any error of `unlink(2)` and `open(2)`.
    pub fn create_anew(&self, name: &str, mode: u32) -> io::Result<File> {
        self.remove(name)?;
        File::create_in(self.fd.as_fd(), OsStr::new(name), mode)
    }

    /// Writes a whole file durably, and replaces a file that has its name.
    ///
    /// # Errors
    /// As [`durable::write`].
    pub fn write(&self, name: &str, content: &[u8], mode: u32) -> io::Result<()> {
        let target = self.path.join(name);
        let directory = File::from(std::fs::File::from(self.readable()?));
        durable::write_pending(Pending::create_in(directory, &target, mode)?, &target, content)
    }

    /// Renames a file within the folder.
    ///
    /// # Errors
    /// Any error of `rename(2)`.
    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(renameat(&self.fd, from, &self.fd, to)?)
    }

    /// Removes a file or link of this name. A missing one is not an error.
    ///
    /// # Errors
    /// Any error of `unlink(2)`, for example if it is a directory.
    pub fn remove(&self, name: impl AsRef<OsStr>) -> io::Result<()> {
        self.remove_name(name.as_ref())
    }

    pub(super) fn remove_name(&self, name: &OsStr) -> io::Result<()> {
        match unlinkat(&self.fd, name, AtFlags::empty()) {
            Err(e) if e != Errno::NOENT => Err(e.into()),
            _ => Ok(()),
        }
    }

    /// Removes a folder within this one with everything in it. Links are removed, not followed.
    ///
    /// # Errors
    /// Any error of `unlink(2)` and `rmdir(2)`.
    pub fn remove_folder(&self, name: &str) -> io::Result<()> {
        std::fs::remove_dir_all(self.short_path(OsStr::new(name)))
    }

    /// Names of everything in the folder.
    ///
    /// # Errors
    /// Any error of `getdents(2)`.
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

    /// Inode of a file in the folder; a link is not followed.
    ///
    /// # Errors
    /// Any error of `stat(2)`.
    pub fn inode(&self, name: &str) -> io::Result<u64> {
        Ok(statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW)?.st_ino)
    }

    /// Opens the directory at `path`, which a user named. Links are followed, and any user may own
    /// it.
    pub(super) fn named(path: &Path) -> io::Result<Folder> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = openat(CWD, path, flags, Mode::empty())?;
        let owner = fstat(&fd)?.st_uid;
        Ok(Folder { fd, path: path.to_owned(), owner })
    }

    /// Type of the file with this name, or `None` if there is none. A link is not followed.
    pub(super) fn kind(&self, name: &OsStr) -> io::Result<Option<FileType>> {
        match statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => Ok(Some(FileType::from_raw_mode(found.st_mode))),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// A short path of a name in the folder, for a socket address. It is valid while the folder is
    /// open.
    pub(super) fn short_path(&self, name: &OsStr) -> PathBuf {
        let short = PathBuf::from(format!("/proc/self/fd/{}", self.fd.as_raw_fd()));
        // Without /proc there is only the long path.
        if short.exists() { short.join(name) } else { self.path.join(name) }
    }

    /// Sets the mode of a socket. It is an error if something else has taken its name.
    pub(super) fn set_socket_mode(&self, name: &OsStr, mode: u32) -> io::Result<()> {
        let fd = openat(&self.fd, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        if FileType::from_raw_mode(fstat(&fd)?.st_mode) != FileType::Socket {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "the socket was replaced by something else",
            ));
        }
        // A descriptor with `O_PATH` allows no other way to change the mode.
        match chmod(format!("/proc/self/fd/{}", fd.as_raw_fd()), Mode::from_raw_mode(mode)) {
            Err(Errno::NOENT) if self.owner == geteuid().as_raw() => {
                Ok(chmodat(&self.fd, name, Mode::from_raw_mode(mode), AtFlags::empty())?)
            }
            done => Ok(done?),
        }
    }

    /// Gives a socket its final name, and replaces the one that has this name.
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
        // In the path that the user named, links are followed.
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

    /// Another user can put a hard link to a file of root into a folder of that user, under a name
    /// of ours.
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
        // Root meets a folder of another user, in a directory of a third one. It may be used only
        // if the database belongs to the folder's owner.
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
