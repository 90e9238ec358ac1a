//! Open files.
#![allow(clippy::disallowed_methods)]
// This is where files are opened.

use std::fs::{Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use super::process::explain_open;
use super::sys;

/// An open file that several requests share. The descriptor is closed when the last clone is dropped: for a database
/// file that moment matters, see the rules of [`crate::io`].
#[derive(Debug, Clone)]
pub struct File(Arc<std::fs::File>);

impl File {
    /// Opens an existing file for reading.
    ///
    /// # Errors
    /// Those of `open(2)`.
    pub fn open(path: &Path) -> io::Result<File> {
        OpenOptions::new().read(true).open(path).map(File::from).map_err(explain_open)
    }

    /// Opens an existing file for reading and writing.
    ///
    /// # Errors
    /// Those of `open(2)`.
    pub fn open_rw(path: &Path) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).open(path).map(File::from).map_err(explain_open)
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

    /// Opens a file for reading and writing, made empty if it is not there; an existing one keeps its content.
    ///
    /// # Errors
    /// Those of `open(2)`.
    pub fn open_or_create(path: &Path, mode: u32) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(mode);
        options.open(path).map(File::from).map_err(explain_open)
    }

    /// Reads at `offset` with plain calls on this thread until `buf` is full or the file ends. For a short piece that
    /// is in the page cache, such as the tail of a log, nothing is faster.
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

    /// Reads what the page cache has, until `buf` is full, and gives the number of bytes; `None` if the disk would be
    /// needed or the file system does not say.
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

    /// Asks the kernel to begin writing a range to the disk, so that a later fsync has less to wait for. A length of 0
    /// means up to the end of the file.
    pub fn start_writeback(&self, offset: u64, len: u64) {
        sys::start_writeback(self.0.as_fd(), offset, len);
    }

    /// Asks the kernel to drop the clean pages of this file from its cache.
    pub fn forget_cached(&self) {
        sys::forget_cached(self.0.as_fd());
    }

    /// Takes an OFD lock on these bytes as one of several readers, without waiting; it lasts until the descriptor is closed. `Ok(false)` if
    /// somebody has them for himself.
    ///
    /// # Errors
    /// Those of `fcntl(2)`.
    pub fn share_range(&self, from: u64, len: u64) -> io::Result<bool> {
        sys::share_range(self.0.as_fd(), from, len)
    }

    /// Who holds a POSIX or OFD lock on any of these bytes, in words; `None` if nobody but this descriptor does.
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

/// As [`read_small`], with the mode bits of the file.
///
/// # Errors
/// As [`read_small`].
pub fn read_small_with_mode(path: &Path, max: u64) -> io::Result<(Vec<u8>, u32)> {
    let file = OpenOptions::new().read(true).open(path)?;
    let mode = file.metadata()?.mode();
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        let message = format!("{} is larger than {max} bytes, which is not expected here", path.display());
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok((bytes, mode))
}
