//! Writes that go from memory straight to the disk, not through the page cache (`O_DIRECT`).
//!
//! They take less processor time, since nothing is copied, and leave what other programs have in
//! the cache there. Place, length and address in memory must be multiples of the file system's
//! blocks. Some file systems refuse them when the file is opened, others at the first
//! write ([`is_refusal`]).
//!
//! # Rules
//!
//! A block of a file is written directly or through the page cache, never both: what is in the
//! cache would have to be dropped first, and if that fails the kernel reports an error at the next
//! flush.

use std::ffi::OsStr;
use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use memmap2::{Advice, MmapMut};
use rustix::fs::{FallocateFlags, Mode, OFlags};

use super::{File, read_small, sys};

/// Bytes of the smallest alignment. Disks have sectors of 512 or 4096 bytes.
const ALIGN_MIN: usize = 4096;

/// Bytes of the largest alignment that is worth it. A file system with larger blocks, such as a
/// network one, gets ordinary writes.
const ALIGN_MAX: usize = 64 << 10;

/// Bytes of a huge page on most processors. If they are larger, small ones are used.
const HUGE: usize = 2 << 20;

/// Says in brackets whether the kernel gives huge pages.
const HUGE_PAGES: &str = "/sys/kernel/mm/transparent_hugepage/enabled";

/// A second descriptor of a file, for direct writes.
#[derive(Debug, Clone)]
pub struct DirectFile {
    file: File,
    /// Bytes that place, length and address in memory of a write are multiples of. A power of two.
    align: usize,
}

impl DirectFile {
    /// Opens a regular file in an open directory, never through a link. `None` if its file system
    /// has no direct writes, or if there are no huge pages: of small ones a disk may take only some
    /// hundred in one request, and ordinary writes are faster.
    pub(super) fn open_in(directory: BorrowedFd<'_>, name: &OsStr) -> Option<DirectFile> {
        if !gives_huge_pages(&read_small(Path::new(HUGE_PAGES), 100).ok()?) {
            return None;
        }
        let flags = OFlags::WRONLY | OFlags::DIRECT | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(directory, name, flags, Mode::empty()).ok()?;
        let file = File::from(std::fs::File::from(opened));
        let block = file.metadata().ok().filter(std::fs::Metadata::is_file)?.blksize();
        let align = usize::try_from(block).ok()?.max(ALIGN_MIN).max(sys::page_bytes());
        (align <= ALIGN_MAX && align.is_power_of_two()).then_some(DirectFile { file, align })
    }

    /// The open file.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The part of these bytes at `offset` that a direct write may have. The rest shares its blocks
    /// with other bytes.
    #[must_use]
    pub fn whole_blocks(&self, offset: u64, len: usize) -> Range<usize> {
        let align = self.align as u64;
        let end = offset + len as u64;
        let (first, last) = (offset.next_multiple_of(align), end - end % align);
        if first < last { (first - offset) as usize..(last - offset) as usize } else { 0..0 }
    }
}

fn gives_huge_pages(says: &[u8]) -> bool {
    let says = String::from_utf8_lossy(says);
    says.contains("[always]") || says.contains("[madvise]")
}

/// Whether the error of a direct write says that the file system has none of this kind. The same
/// bytes can then be written in the ordinary way.
#[must_use]
pub fn is_refusal(e: &io::Error) -> bool {
    matches!(e.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP))
}

/// Takes all blocks for the first `len` bytes of a file, which extends it to `len`.
///
/// # Errors
/// Any error of `fallocate(2)`, such as that the file system cannot do it.
pub fn allocate(file: &File, len: u64) -> io::Result<()> {
    if len == 0 {
        return Ok(());
    }
    rustix::fs::fallocate(file.std(), FallocateFlags::empty(), 0, len).map_err(io::Error::from)
}

/// Memory for one write, whose bytes lie in it as they lie in the blocks of the file. It is a huge
/// page of its own, so that the disk gets a write in one piece.
#[derive(Debug)]
pub struct Aligned {
    map: MmapMut,
    /// Index of the huge page in the map.
    page: usize,
    /// Index of the first byte in the map.
    start: usize,
    len: usize,
}

impl Aligned {
    /// Bytes that fit in any case.
    pub const ROOM: usize = HUGE - ALIGN_MAX;

    /// Takes memory.
    ///
    /// # Errors
    /// Any error of `mmap(2)`.
    pub fn new() -> io::Result<Aligned> {
        let map = MmapMut::map_anon(2 * HUGE)?;
        let address = map.as_ptr() as usize;
        let page = address.next_multiple_of(HUGE) - address;
        // Where there are no huge pages, small ones do.
        let _ = map.advise_range(Advice::HugePage, page, HUGE);
        Ok(Aligned { map, page, start: page, len: 0 })
    }

    /// Begins with an empty write at `offset`.
    pub fn begin(&mut self, offset: u64) {
        self.start = self.page + (offset % ALIGN_MAX as u64) as usize;
        self.len = 0;
    }

    /// Memory for the next `len` bytes. They belong to the write once [`Aligned::grow`] adds them.
    /// Its content is that of an earlier write.
    pub fn room(&mut self, len: usize) -> &mut [u8] {
        let end = self.start + self.len;
        &mut self.map[end..end + len]
    }

    /// Adds the first `len` bytes of [`Aligned::room`], of which [`Aligned::ROOM`] fit.
    pub fn grow(&mut self, len: usize) {
        self.len += len;
    }

    /// Number of bytes.
    #[must_use]
    #[allow(clippy::len_without_is_empty)] // a run that is written has bytes
    pub fn len(&self) -> usize {
        self.len
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.map[self.start..self.start + self.len]
    }
}

#[cfg(test)]
impl DirectFile {
    /// Any file in the place of one for direct writes, to see its errors.
    pub(crate) fn made_of(file: File, align: usize) -> DirectFile {
        DirectFile { file, align }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn direct(align: usize) -> DirectFile {
        let file = tempfile::tempfile().unwrap();
        DirectFile::made_of(File::from(file), align)
    }

    #[test]
    fn only_whole_blocks_are_written_directly() {
        let file = direct(4096);
        for (offset, len, whole) in [
            (0, 8192, 0..8192),
            (0, 8191, 0..4096),
            (0, 4095, 0..0),
            (1, 8191, 4095..8191),
            (1, 8190, 0..0),
            (4095, 4098, 1..4097),
            (512, 512, 0..0),
            (5 << 30, 4096, 0..4096),
        ] {
            assert_eq!(file.whole_blocks(offset, len), whole, "{len} bytes at {offset}");
        }
    }

    #[test]
    fn bytes_lie_in_memory_as_in_the_blocks_of_the_file() {
        let mut buffer = Aligned::new().unwrap();
        for offset in [0, 1, 4095, 4096, 512 * 7, 65_535, 10_000_000_001] {
            buffer.begin(offset);
            assert_eq!(buffer.len(), 0);
            for (byte, len) in [(1, 50_000), (2, Aligned::ROOM - 50_000)] {
                buffer.room(len).fill(byte);
                buffer.grow(len);
            }
            assert_eq!(buffer.len(), Aligned::ROOM);
            let bytes = buffer.bytes();
            assert_eq!(bytes.as_ptr() as usize % ALIGN_MAX, offset as usize % ALIGN_MAX);
            assert!(bytes[..50_000].iter().all(|b| *b == 1) && bytes[50_000..].iter().all(|b| *b == 2));
            let first = bytes.as_ptr() as usize / HUGE;
            assert_eq!((bytes.as_ptr() as usize + bytes.len() - 1) / HUGE, first, "in one huge page");
        }
    }

    #[test]
    fn kernels_without_huge_pages_are_known() {
        assert!(
            gives_huge_pages(b"always [madvise] never\n") && gives_huge_pages(b"[always] madvise never\n")
        );
        assert!(!gives_huge_pages(b"always madvise [never]\n") && !gives_huge_pages(b""));
    }

    #[test]
    fn a_file_system_that_has_no_direct_writes_is_no_error() {
        let refused = |number| is_refusal(&io::Error::from_raw_os_error(number));
        assert!(refused(libc::EINVAL) && refused(libc::EOPNOTSUPP));
        assert!(!refused(libc::EIO) && !refused(libc::ENOSPC) && !refused(libc::EBADF));
    }
}
