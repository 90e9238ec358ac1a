//! Open files.
#![allow(clippy::disallowed_methods)]
// Only this module opens files.

use std::ffi::OsStr;
use std::fs::{Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};

use super::process::explain_open;
use super::sys;

/// Flags of every open: a FIFO or device is not waited for, and a terminal does not become ours.
const SWIFT: i32 = libc::O_NONBLOCK | libc::O_NOCTTY;

/// Device number of `/dev/null`.
const NULL_DEVICE: u64 = 0x103;

/// Magic numbers of file systems that may compress: btrfs, ZFS, bcachefs, F2FS.
const COMPRESSING: [u32; 4] = [0x9123_683e, 0x2fc1_2fc1, 0xca45_1a4e, 0xf2f5_2010];

/// Whether symbolic links are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Links {
    /// All links are followed, because a user named the path.
    Follow,
    /// No link at the end of the path is followed, because lsfast, SQLite or a replica named the
    /// file.
    Refuse,
}

/// An open file that several requests share. The descriptor is closed when the last clone is
/// dropped. For a database file that moment matters: see the rules of [`crate::io`].
#[derive(Debug, Clone)]
pub struct File(Arc<std::fs::File>);

impl File {
    /// Opens an existing file for reading.
    ///
    /// # Errors
    /// Any error of `open(2)`; `InvalidInput` if it is not a regular file. A FIFO or device is not
    /// waited for.
    pub fn open(path: &Path) -> io::Result<File> {
        open(OpenOptions::new().read(true), path, Links::Follow)
    }

    /// Opens an existing file for reading and writing.
    ///
    /// # Errors
    /// As [`File::open`].
    pub fn open_rw(path: &Path) -> io::Result<File> {
        open(OpenOptions::new().read(true).write(true), path, Links::Follow)
    }

    /// Like [`File::open`], for a file that no user named, such as one next to a database or in a
    /// replica. Another user could have put a symbolic link in its place, so a link is refused.
    ///
    /// # Errors
    /// As [`File::open`]; also `InvalidInput` for a link.
    pub fn open_itself(path: &Path) -> io::Result<File> {
        open(OpenOptions::new().read(true), path, Links::Refuse)
    }

    /// Like [`File::open_rw`], but refuses a symbolic link.
    ///
    /// # Errors
    /// As [`File::open_itself`].
    pub fn open_rw_itself(path: &Path) -> io::Result<File> {
        open(OpenOptions::new().read(true).write(true), path, Links::Refuse)
    }

    /// Opens a directory, to flush it or to work in it.
    ///
    /// # Errors
    /// Any error of `open(2)`.
    pub fn open_directory(path: &Path) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(libc::O_DIRECTORY);
        options.open(path).map(File::from).map_err(explain_open)
    }

    /// Creates a file for reading and writing, with the mode bits `mode` less the umask.
    ///
    /// # Errors
    /// Any error of `open(2)`; `AlreadyExists` if the name is taken.
    pub fn create_new(path: &Path, mode: u32) -> io::Result<File> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(path)
            .map(File::from)
            .map_err(explain_open)
    }

    /// Creates a file in an open directory.
    ///
    /// # Errors
    /// As [`File::create_new`].
    pub(super) fn create_in(directory: BorrowedFd<'_>, name: &OsStr, mode: u32) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = rustix::fs::openat(directory, name, flags, Mode::from_raw_mode(mode));
        made.map(|fd| File::from(std::fs::File::from(fd))).map_err(|e| explain_open(e.into()))
    }

    /// Opens a regular file in an open directory, never through a link. If it is missing and
    /// `create` has mode bits, an empty file is created.
    ///
    /// # Errors
    /// As [`File::open_itself`].
    pub(super) fn open_in(
        directory: BorrowedFd<'_>,
        name: &OsStr,
        write: bool,
        create: Option<u32>,
    ) -> io::Result<File> {
        let access = if write { OFlags::RDWR } else { OFlags::RDONLY };
        let make = create.map_or(OFlags::empty(), |_| OFlags::CREATE);
        let swift = OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(create.unwrap_or(0));
        let opened = rustix::fs::openat(directory, name, access | make | swift, mode);
        let file = std::fs::File::from(opened.map_err(|e| explain_open(explain_kind(e.into())))?);
        regular(&file.metadata()?)?;
        Ok(File::from(file))
    }

    /// Reads at `offset` with plain calls on this thread until `buf` is full or the file ends. This
    /// is the fastest way to read a short piece in the page cache, such as the end of a WAL.
    ///
    /// # Errors
    /// Any error of `pread(2)`.
    pub fn pread(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            match self.0.read_at(&mut buf[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }

    /// Like [`File::pread`], but a file that ends too early is an error.
    ///
    /// # Errors
    /// `UnexpectedEof`, and any error of `pread(2)`.
    pub fn pread_exact(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buf, offset)
    }

    /// Writes all of `buf` at `offset` with plain calls on this thread.
    ///
    /// # Errors
    /// Any error of `pwrite(2)`.
    pub fn pwrite_all(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(buf, offset)
    }

    /// Reads from the page cache until `buf` is full or the file ends, and returns the number of
    /// bytes. `None` if the disk would be needed or the file system does not support the question.
    #[cfg(feature = "internals")]
    #[must_use]
    pub(super) fn pread_cached(&self, buf: &mut [u8], offset: u64) -> Option<usize> {
        let mut done = 0;
        while done < buf.len() {
            match sys::read_cached(self.0.as_fd(), &mut buf[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
        Some(done)
    }

    /// Asks the kernel to start writing a range to the disk, so that a later fsync takes less time.
    /// A length of 0 means up to the end of the file.
    pub fn start_writeback(&self, offset: u64, len: u64) {
        sys::start_writeback(self.0.as_fd(), offset, len);
    }

    /// Asks the kernel to drop the file's clean pages from its cache.
    pub fn forget_cached(&self) {
        sys::forget_cached(self.0.as_fd());
    }

    /// Takes a shared OFD lock on these bytes, without waiting. It lasts until the descriptor is
    /// closed. `Ok(false)` if another descriptor or process has an exclusive lock on any of them.
    ///
    /// # Errors
    /// Any other error of `fcntl(2)`.
    pub fn share_range(&self, from: u64, len: u64) -> io::Result<bool> {
        sys::lock_range(self.0.as_fd(), libc::F_RDLCK, from, len)
    }

    /// Takes an exclusive OFD lock on these bytes, without waiting. `Ok(false)` if another
    /// descriptor or process has a lock on any of them.
    ///
    /// # Errors
    /// Any other error of `fcntl(2)`.
    pub fn have_range(&self, from: u64, len: u64) -> io::Result<bool> {
        sys::lock_range(self.0.as_fd(), libc::F_WRLCK, from, len)
    }

    /// Releases this descriptor's OFD locks on these bytes.
    ///
    /// # Errors
    /// Any error of `fcntl(2)`.
    pub fn unlock_range(&self, from: u64, len: u64) -> io::Result<()> {
        sys::lock_range(self.0.as_fd(), libc::F_UNLCK, from, len).map(drop)
    }

    /// Cuts or extends the file to `len` bytes.
    ///
    /// # Errors
    /// Any error of `ftruncate(2)`.
    pub fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    /// Waits until the data written so far is on the disk.
    ///
    /// # Errors
    /// Any error of `fdatasync(2)`.
    pub fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    /// The holder of a POSIX or OFD lock on any of these bytes, in words for a message. `None` if
    /// only this descriptor holds one.
    ///
    /// # Errors
    /// Any error of `fcntl(2)`.
    pub fn locked_by(&self, from: u64, len: u64) -> io::Result<Option<String>> {
        Ok(sys::locked_by(self.0.as_fd(), from, len, true)?.map(holder))
    }

    /// The holder of an exclusive lock on any of these bytes, so that not even a shared lock is
    /// possible.
    ///
    /// # Errors
    /// Any error of `fcntl(2)`.
    pub fn held_alone_by(&self, from: u64, len: u64) -> io::Result<Option<String>> {
        Ok(sys::locked_by(self.0.as_fd(), from, len, false)?.map(holder))
    }

    /// Whether another descriptor has the file open, in any process or container of this host.
    /// `false` if the file system can't tell, or if only the owner of the file may ask.
    #[must_use]
    pub fn is_open_elsewhere(&self) -> bool {
        sys::is_open_elsewhere(self.0.as_fd())
    }

    /// Bytes that this process may still write to the file system of the file. `None` if the file
    /// system does not report it, or if it may compress, so that data takes less space than its
    /// length.
    #[must_use]
    pub fn free_space(&self) -> Option<u64> {
        let found = rustix::fs::fstatvfs(&self.0).ok().filter(|f| f.f_blocks > 0)?;
        let kind = rustix::fs::fstatfs(&self.0).ok()?.f_type as u32;
        let free = if rustix::process::geteuid().is_root() { found.f_bfree } else { found.f_bavail };
        (!COMPRESSING.contains(&kind)).then(|| free.saturating_mul(found.f_frsize))
    }

    /// The standard library's file, for calls that this type lacks. Don't clone or reopen it.
    #[must_use]
    pub fn std(&self) -> &std::fs::File {
        &self.0
    }

    /// Metadata of the open file.
    ///
    /// # Errors
    /// Any error of `fstat(2)`.
    pub fn metadata(&self) -> io::Result<Metadata> {
        self.0.metadata()
    }

    /// Length in bytes.
    ///
    /// # Errors
    /// Any error of `fstat(2)`.
    #[allow(clippy::len_without_is_empty)] // the length of a file is a question to the kernel that can fail
    pub fn len(&self) -> io::Result<u64> {
        self.0.metadata().map(|m| m.len())
    }
}

fn holder(pid: libc::pid_t) -> String {
    match pid {
        0.. => format!("process {pid}"),
        _ => "another process".to_owned(),
    }
}

/// Opens a regular file. Anything else at the path is refused without waiting for it.
fn open(options: &mut OpenOptions, path: &Path, links: Links) -> io::Result<File> {
    let no_link = if links == Links::Refuse { libc::O_NOFOLLOW } else { 0 };
    let file = options.custom_flags(SWIFT | no_link).open(path).map_err(|e| explain_open(explain_kind(e)))?;
    regular(&file.metadata()?)?;
    Ok(File::from(file))
}

/// Returns an error unless it is a regular file.
fn regular(metadata: &Metadata) -> io::Result<()> {
    let kind = metadata.file_type();
    let what = match () {
        () if kind.is_file() => return Ok(()),
        () if kind.is_dir() => "a directory",
        () if kind.is_fifo() => "a FIFO",
        () if kind.is_socket() => "a socket",
        () => "a device",
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("it is {what}, and must be a regular file")))
}

/// Explains an error of `open(2)` that is caused by a link, a FIFO, a socket or a device; returns
/// any other error unchanged.
fn explain_kind(e: io::Error) -> io::Error {
    let what = match e.raw_os_error() {
        Some(libc::ELOOP) => "it is a symbolic link, which is not followed here",
        Some(libc::ENXIO) => "it is a FIFO, a socket or a device, and must be a regular file",
        _ => return e,
    };
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

impl From<std::fs::File> for File {
    fn from(file: std::fs::File) -> File {
        File(Arc::new(file))
    }
}

impl AsFd for File {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for File {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Reads a whole small file, such as a configuration or a state file.
///
/// # Errors
/// `FileTooLarge` above `max` bytes, and any error of `open(2)` and `read(2)`.
pub fn read_small(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    read_small_with_mode(path, max).map(|(bytes, _)| bytes)
}

/// Like [`read_small`], for a file that no user named: a symbolic link in its place is refused.
///
/// # Errors
/// As [`read_small`]; also `InvalidInput` for a link.
pub fn read_small_itself(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    read_up_to(File::open_itself(path)?.std(), path, max)
}

/// Like [`read_small`], and also returns the mode bits of the file.
///
/// # Errors
/// As [`read_small`].
pub fn read_small_with_mode(path: &Path, max: u64) -> io::Result<(Vec<u8>, u32)> {
    // Files that the system itself provides there may be of any kind, such as the pipe of `--config
    // <(...)`.
    let file = if path.starts_with("/dev") && !path.starts_with("/dev/shm") || path.starts_with("/proc") {
        OpenOptions::new().read(true).open(path).map_err(explain_open)?
    } else {
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(SWIFT);
        options.open(path).map_err(|e| explain_open(explain_kind(e)))?
    };
    let metadata = file.metadata()?;
    let is_null = metadata.file_type().is_char_device() && metadata.rdev() == NULL_DEVICE;
    if !is_null && !path.starts_with("/dev") && !path.starts_with("/proc") {
        regular(&metadata)?;
    }
    read_up_to(&file, path, max).map(|bytes| (bytes, metadata.mode()))
}

/// All bytes of an open file; `FileTooLarge` if there are more than `max`.
pub(super) fn read_up_to(file: &std::fs::File, path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        let message = format!("{} is larger than {max} bytes, which is not expected here", path.display());
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::Folder;

    fn fifo(path: &Path) {
        let made = std::process::Command::new("mkfifo").arg(path).status().unwrap();
        assert!(made.success());
    }

    /// Any user who may write to a folder can create such a thing in it.
    #[test]
    fn nothing_but_a_regular_file_is_opened_or_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("it");
        let every = || {
            [
                ("open", File::open(&at).map(drop)),
                ("open_rw", File::open_rw(&at).map(drop)),
                ("open_itself", File::open_itself(&at).map(drop)),
                ("open_rw_itself", File::open_rw_itself(&at).map(drop)),
                ("open_beside", Folder::open_beside(&at, Some(0o600)).map(drop)),
                ("read_small", read_small(&at, 100).map(drop)),
                ("read_small_itself", read_small_itself(&at, 100).map(drop)),
            ]
        };
        fifo(&at);
        for (how, opened) in every() {
            let e = opened.unwrap_err();
            assert!(e.kind() == io::ErrorKind::InvalidInput && e.to_string().contains("FIFO"), "{how}: {e}");
        }
        std::fs::remove_file(&at).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(&at).unwrap();
        for (how, opened) in every() {
            assert!(opened.is_err(), "{how}: a socket");
        }
        std::fs::remove_file(&at).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &at).unwrap();
        for (how, opened) in every() {
            assert!(opened.is_err(), "{how}: a device");
        }
        assert_eq!(read_small(Path::new("/dev/null"), 10).unwrap(), b"");
    }

    #[test]
    fn links_are_followed_only_where_a_user_named_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        std::fs::write(&file, "kept").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert_eq!(read_small(&link, 10).unwrap(), b"kept");
        File::open(&link).unwrap();
        File::open_rw(&link).unwrap();
        for opened in [
            File::open_itself(&link).map(drop),
            File::open_rw_itself(&link).map(drop),
            Folder::open_beside(&link, Some(0o600)).map(drop),
            read_small_itself(&link, 10).map(drop),
        ] {
            let e = opened.unwrap_err().to_string();
            assert!(e.contains("symbolic link"), "{e}");
        }
        std::fs::remove_file(&file).unwrap();
        assert!(Folder::open_beside(&link, Some(0o600)).is_err());
        assert!(!file.exists(), "nothing is made where a link leads");
    }
}
