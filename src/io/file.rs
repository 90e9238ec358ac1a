//! Open files.
#![allow(clippy::disallowed_methods)]
// This is where files are opened.

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

/// Opening a FIFO or a device must not wait for its other end, and a terminal must not become ours.
const SWIFT: i32 = libc::O_NONBLOCK | libc::O_NOCTTY;

/// The device number of `/dev/null`.
const NULL_DEVICE: u64 = 0x103;

/// File systems that may compress: btrfs, ZFS, bcachefs, F2FS.
const COMPRESSING: [u32; 4] = [0x9123_683e, 0x2fc1_2fc1, 0xca45_1a4e, 0xf2f5_2010];

/// Which links are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Links {
    /// All of them: a user named the path.
    Follow,
    /// None at the end of the path: lsfast, SQLite or a replica named the file.
    Refuse,
}

/// An open file that several requests share. The descriptor is closed when the last clone is
/// dropped: for a database file that moment matters, see the rules of [`crate::io`].
#[derive(Debug, Clone)]
pub struct File(Arc<std::fs::File>);

impl File {
    /// Opens an existing file for reading.
    ///
    /// # Errors
    /// Those of `open(2)`; `InvalidInput` for what is not a regular file, which is not waited for.
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

    /// As [`File::open`], for a file whose name no user gave: one next to a database, or in a
    /// replica. A symbolic link in its place leads where somebody else wants.
    ///
    /// # Errors
    /// As [`File::open`], and for a link.
    pub fn open_itself(path: &Path) -> io::Result<File> {
        open(OpenOptions::new().read(true), path, Links::Refuse)
    }

    /// As [`File::open_rw`], but a symbolic link is refused.
    ///
    /// # Errors
    /// As [`File::open_itself`].
    pub fn open_rw_itself(path: &Path) -> io::Result<File> {
        open(OpenOptions::new().read(true).write(true), path, Links::Refuse)
    }

    /// Opens a directory, to flush it or to work in it.
    ///
    /// # Errors
    /// Those of `open(2)`.
    pub fn open_directory(path: &Path) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(libc::O_DIRECTORY);
        options.open(path).map(File::from).map_err(explain_open)
    }

    /// Makes a new file for reading and writing, with the mode bits `mode` (less the umask).
    ///
    /// # Errors
    /// Those of `open(2)`; `AlreadyExists` if anything is there.
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

    /// Opens a file for reading and writing, made empty if it is not there; an existing one keeps
    /// its content. A symbolic link is refused.
    ///
    /// # Errors
    /// As [`File::open_itself`].
    pub fn open_or_create(path: &Path, mode: u32) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(mode);
        open(&mut options, path, Links::Refuse)
    }

    /// Makes a new file in an open directory.
    ///
    /// # Errors
    /// As [`File::create_new`].
    pub(super) fn create_in(directory: BorrowedFd<'_>, name: &OsStr, mode: u32) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = rustix::fs::openat(directory, name, flags, Mode::from_raw_mode(mode));
        made.map(|fd| File::from(std::fs::File::from(fd))).map_err(|e| explain_open(e.into()))
    }

    /// Opens a regular file in an open directory, never through a link; made empty if it is not
    /// there and `create` has mode bits.
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

    /// Reads at `offset` with plain calls on this thread until `buf` is full or the file ends. For
    /// a short piece that is in the page cache, such as the tail of a log, nothing is faster.
    ///
    /// # Errors
    /// Those of `pread(2)`.
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
    /// `UnexpectedEof`, and those of `pread(2)`.
    pub fn pread_exact(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buf, offset)
    }

    /// Writes all of `buf` at `offset` with plain calls on this thread.
    ///
    /// # Errors
    /// Those of `pwrite(2)`.
    pub fn pwrite_all(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(buf, offset)
    }

    /// Reads what the page cache has, until `buf` is full, and gives the number of bytes; `None` if
    /// the disk would be needed or the file system does not say.
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

    /// Asks the kernel to begin writing a range to the disk, so that a later fsync has less to wait
    /// for. A length of 0 means up to the end of the file.
    pub fn start_writeback(&self, offset: u64, len: u64) {
        sys::start_writeback(self.0.as_fd(), offset, len);
    }

    /// Asks the kernel to drop the clean pages of this file from its cache.
    pub fn forget_cached(&self) {
        sys::forget_cached(self.0.as_fd());
    }

    /// Takes an OFD lock on these bytes as one of several readers, without waiting; it lasts until
    /// the descriptor is closed. `Ok(false)` if somebody has them for himself.
    ///
    /// # Errors
    /// Those of `fcntl(2)`.
    pub fn share_range(&self, from: u64, len: u64) -> io::Result<bool> {
        sys::lock_range(self.0.as_fd(), libc::F_RDLCK, from, len)
    }

    /// Takes an OFD lock on these bytes alone, without waiting. `Ok(false)` if another descriptor
    /// has one on any of them.
    ///
    /// # Errors
    /// Those of `fcntl(2)`.
    pub fn have_range(&self, from: u64, len: u64) -> io::Result<bool> {
        sys::lock_range(self.0.as_fd(), libc::F_WRLCK, from, len)
    }

    /// Lets go of the OFD locks of this descriptor on these bytes.
    ///
    /// # Errors
    /// Those of `fcntl(2)`.
    pub fn unlock_range(&self, from: u64, len: u64) -> io::Result<()> {
        sys::lock_range(self.0.as_fd(), libc::F_UNLCK, from, len).map(drop)
    }

    /// Makes the file this long.
    ///
    /// # Errors
    /// Those of `ftruncate(2)`.
    pub fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    /// Waits until what was written is on the disk.
    ///
    /// # Errors
    /// Those of `fdatasync(2)`.
    pub fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    /// Who holds a POSIX or OFD lock on any of these bytes, in words; `None` if nobody but this
    /// descriptor does.
    ///
    /// # Errors
    /// Those of `fcntl(2)`.
    pub fn locked_by(&self, from: u64, len: u64) -> io::Result<Option<String>> {
        Ok(sys::locked_by(self.0.as_fd(), from, len, true)?.map(holder))
    }

    /// Who holds these bytes for himself alone, so that not even a reader gets a lock on them.
    ///
    /// # Errors
    /// Those of `fcntl(2)`.
    pub fn held_alone_by(&self, from: u64, len: u64) -> io::Result<Option<String>> {
        Ok(sys::locked_by(self.0.as_fd(), from, len, false)?.map(holder))
    }

    /// Whether anything has the file open but this one descriptor, in any process or container of
    /// this host, as far as the file system tells; false where it does not, or where only the
    /// owner of the file may ask.
    #[must_use]
    pub fn is_open_elsewhere(&self) -> bool {
        sys::is_open_elsewhere(self.0.as_fd())
    }

    /// Bytes that this process may still write to the file system of the file; `None` where it does
    /// not tell, or where what is written takes less room than it has bytes.
    #[must_use]
    pub fn free_space(&self) -> Option<u64> {
        let found = rustix::fs::fstatvfs(&self.0).ok().filter(|f| f.f_blocks > 0)?;
        let kind = rustix::fs::fstatfs(&self.0).ok()?.f_type as u32;
        let free = if rustix::process::geteuid().is_root() { found.f_bfree } else { found.f_bavail };
        (!COMPRESSING.contains(&kind)).then(|| free.saturating_mul(found.f_frsize))
    }

    /// The file of the standard library, for what is not offered here. Don't clone or reopen it.
    #[must_use]
    pub fn std(&self) -> &std::fs::File {
        &self.0
    }

    /// Its metadata, by descriptor.
    ///
    /// # Errors
    /// Those of `fstat(2)`.
    pub fn metadata(&self) -> io::Result<Metadata> {
        self.0.metadata()
    }

    /// Its length in bytes.
    ///
    /// # Errors
    /// Those of `fstat(2)`.
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

/// Opens a regular file, without waiting for anything else that may be in its place.
fn open(options: &mut OpenOptions, path: &Path, links: Links) -> io::Result<File> {
    let no_link = if links == Links::Refuse { libc::O_NOFOLLOW } else { 0 };
    let file = options.custom_flags(SWIFT | no_link).open(path).map_err(|e| explain_open(explain_kind(e)))?;
    regular(&file.metadata()?)?;
    Ok(File::from(file))
}

/// Refuses what is not a regular file.
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

/// The same error; with what it means where a link, a FIFO or a socket is in the way.
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
/// `FileTooLarge` above `max` bytes, and those of `open(2)` and `read(2)`.
pub fn read_small(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    read_small_with_mode(path, max).map(|(bytes, _)| bytes)
}

/// As [`read_small`], for a file whose name no user gave: a symbolic link in its place is refused.
///
/// # Errors
/// As [`read_small`], and for a link.
pub fn read_small_itself(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    read_up_to(File::open_itself(path)?.std(), path, max)
}

/// As [`read_small`], with the mode bits of the file.
///
/// # Errors
/// As [`read_small`].
pub fn read_small_with_mode(path: &Path, max: u64) -> io::Result<(Vec<u8>, u32)> {
    // What the system itself keeps there may be anything, such as the pipe of `--config <(...)`.
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

/// All bytes of an open file, at most `max`.
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

    fn fifo(path: &Path) {
        let made = std::process::Command::new("mkfifo").arg(path).status().unwrap();
        assert!(made.success());
    }

    /// Anybody who may write to a folder can put such a thing into it.
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
                ("open_or_create", File::open_or_create(&at, 0o600).map(drop)),
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
            File::open_or_create(&link, 0o600).map(drop),
            read_small_itself(&link, 10).map(drop),
        ] {
            let e = opened.unwrap_err().to_string();
            assert!(e.contains("symbolic link"), "{e}");
        }
        std::fs::remove_file(&file).unwrap();
        assert!(File::open_or_create(&link, 0o600).is_err());
        assert!(!file.exists(), "nothing is made where a link leads");
    }
}
