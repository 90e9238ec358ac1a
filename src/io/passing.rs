//! Reads and writes whose bytes do not stay in the page cache.
//!
//! Reading a database once, for an image, would fill the page cache with it, and what applications
//! have there would have to go. With `RWF_DONTCACHE` (from Linux 6.16) the kernel drops what such a
//! read brought in, and keeps what was there before. That needs no second descriptor of the
//! database, which would drop the locks of this process when it is closed. What such a write brings
//! goes to the disk at once and is dropped then.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::OnceLock;

use rustix::io::{Errno, ReadWriteFlags, preadv2, pwritev2};

use super::{File, read_small, sys};
use crate::base::limits;

/// `RWF_DONTCACHE` of `preadv2(2)` and `pwritev2(2)`.
const DONT_CACHE: ReadWriteFlags = ReadWriteFlags::from_bits_retain(0x80);

/// The first version of Linux whose `RWF_DONTCACHE` is used. The flag came with 6.14. It was tried
/// with 6.18 only, and the first two versions that have it are left out as a precaution.
const SOUND_FROM: (u32, u32) = (6, 16);

/// Whether this kernel's `RWF_DONTCACHE` is used.
pub(crate) fn is_sound() -> bool {
    static KNOWN: OnceLock<bool> = OnceLock::new();
    *KNOWN.get_or_init(|| {
        let release = read_small(Path::new("/proc/sys/kernel/osrelease"), 200).unwrap_or_default();
        version(&String::from_utf8_lossy(&release)).is_some_and(|version| version >= SOUND_FROM)
    })
}

/// The first two numbers of a release such as `6.18.44-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

impl File {
    /// Like [`File::pread`], for bytes that this process does not read again soon. Those that are
    /// not in the page cache are not left there, if the kernel and the file system can do that.
    /// Reads shorter than [`limits::PASSING_READ_BYTES_MIN`] are ordinary ones.
    ///
    /// # Errors
    /// Any error of `pread(2)`.
    pub fn pread_passing(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        if buf.len() < limits::PASSING_READ_BYTES_MIN || !is_sound() {
            return self.pread(buf, offset);
        }
        let mut done = 0;
        while done < buf.len() {
            let rest = &mut [IoSliceMut::new(&mut buf[done..])];
            match preadv2(self, rest, offset + done as u64, DONT_CACHE) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(Errno::INTR) => {}
                // An older kernel, or a file system without it.
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                    return Ok(done + self.pread(&mut buf[done..], offset + done as u64)?);
                }
                Err(e) => return Err(e.into()),
            }
        }
        Ok(done)
    }

    /// Reads at most `len` bytes at `offset` into new memory, like [`File::pread_passing`]. Less
    /// comes only at the end of the file. The memory is not zeroed first.
    ///
    /// # Errors
    /// Any error of `pread(2)`.
    pub fn read_passing(&self, len: usize, offset: u64) -> io::Result<Vec<u8>> {
        let mut buf = Vec::with_capacity(len);
        let is_long = len >= limits::PASSING_READ_BYTES_MIN;
        let mut flags = if is_long && is_sound() { DONT_CACHE.bits() as i32 } else { 0 };
        while buf.len() < len {
            let (left, at) = (len - buf.len(), offset + buf.len() as u64);
            match sys::pread_more(self.as_fd(), &mut buf, left, at, flags) {
                Ok(0) => break,
                Ok(_) => {}
                Err(e) => match Errno::from_io_error(&e) {
                    Some(Errno::INTR) => {}
                    // An older kernel, or a file system without it.
                    Some(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) if flags != 0 => flags = 0,
                    _ => return Err(e),
                },
            }
        }
        Ok(buf)
    }

    /// Writes all of `buf` at `offset`, for bytes that this process does not read soon. They do not
    /// stay in the page cache, if the kernel and the file system can do that. Short writes stay,
    /// so that the kernel can make longer ones of them.
    ///
    /// # Errors
    /// Any error of `pwrite(2)`.
    pub fn pwrite_all_passing(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let mut done = 0;
        while is_sound() && buf.len() >= limits::PASSING_WRITE_BYTES_MIN && done < buf.len() {
            match pwritev2(self, &[IoSlice::new(&buf[done..])], offset + done as u64, DONT_CACHE) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => done += n,
                Err(Errno::INTR) => {}
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => break,
                Err(e) => return Err(e.into()),
            }
        }
        self.pwrite_all(&buf[done..], offset + done as u64)
    }
}

#[cfg(test)]
impl File {
    /// Forgets what is cached of the first `len` bytes, and waits until it is gone. False if it
    /// stays.
    pub(crate) fn cool(&self, len: usize) -> bool {
        // The kernel keeps what has just been written until its journal lets go.
        (0..400).any(|_| {
            self.forget_cached();
            let is_cold = self.cached_pages(len).iter().all(|page| !page);
            if !is_cold {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            is_cold
        })
    }

    /// For each page of the first `len` bytes, whether it is cached.
    pub(crate) fn cached_pages(&self, len: usize) -> Vec<bool> {
        sys::cached_pages(self.as_fd(), len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_their_numbers() {
        for (release, found) in [
            ("6.18.44-fc\n", Some((6, 18))),
            ("6.9.0", Some((6, 9))),
            ("10.0-rc1", Some((10, 0))),
            ("6", None),
            ("", None),
        ] {
            assert_eq!(version(release), found, "{release}");
        }
        assert!((6, 9) < SOUND_FROM && (10, 0) > SOUND_FROM);
    }

    #[test]
    fn what_was_cached_stays_and_the_rest_does_not_come() {
        const PIECE: usize = 1 << 20;
        let dir = tempfile::tempdir().unwrap();
        let file = File::create_new(&dir.path().join("database"), 0o600).unwrap();
        let content: Vec<u8> = (0..8 * PIECE + 100).map(|i| (i / 4096 * 31 + i) as u8).collect();
        file.pwrite_all(&content, 0).unwrap();
        file.sync_data().unwrap();
        let len = 8 * PIECE;
        if !file.cool(len) {
            eprintln!("not tested: {} keeps what was written in memory", dir.path().display());
            return;
        }
        // What an application uses, some of it in the middle of a piece.
        let used = [2 * PIECE, 5 * PIECE + 65_536];
        // Without what the kernel would read ahead.
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Random).unwrap();
        for at in used {
            file.pread(&mut [0; 4096], at as u64).unwrap();
        }
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Normal).unwrap();
        let mut read = vec![0; PIECE];
        for (n, expected) in content.chunks(PIECE).enumerate() {
            let have = file.pread_passing(&mut read, (n * PIECE) as u64).unwrap();
            assert!(read[..have] == *expected, "piece {n}");
        }
        assert_eq!(file.pread_passing(&mut read, content.len() as u64).unwrap(), 0);
        for (from, len) in [(0, PIECE), (PIECE + 7, 3 * PIECE), (content.len() - 50, 50), (9, 0)] {
            assert!(file.read_passing(len, from as u64).unwrap() == content[from..from + len]);
        }
        // What the end of the file cuts off, and what is beyond it.
        let last = content.len() - 100;
        assert!(file.read_passing(PIECE, last as u64).unwrap() == content[last..]);
        assert!(file.read_passing(PIECE, content.len() as u64).unwrap().is_empty());
        if !is_sound() || preadv2(&file, &mut [IoSliceMut::new(&mut read)], 0, DONT_CACHE).is_err() {
            eprintln!("not tested: this kernel keeps what it reads");
            return;
        }
        let pages = file.cached_pages(len);
        let page = len / pages.len();
        assert!(used.iter().all(|at| pages[at / page]), "what was there stays");
        let left = pages.iter().filter(|page| **page).count();
        assert!(left <= pages.len() / 2, "{left} of {} pages came into the cache", pages.len());
        let after = (9 * PIECE) as u64;
        for len in [100, PIECE] {
            file.pwrite_all_passing(&content[..len], after).unwrap();
            file.pread_exact(&mut read[..len], after).unwrap();
            assert!(read[..len] == content[..len]);
        }
    }
}
