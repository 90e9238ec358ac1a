//! The mapped wal-index of a live database, and the locks that lsfast holds on it.
//!
//! `DB-shm` is shared memory: every connection of every process maps it, and its bytes 120 to 128 carry SQLite's locks. [`Shm`] maps
//! the first page and takes *open file description* locks on those bytes. They conflict with SQLite's POSIX locks, those
//! of this process included, and they belong to this descriptor alone.
//!
//! Closing any descriptor of the file drops all POSIX locks that the process holds on it, those of a connection of SQLite's
//! included. Hence the order: a connection is opened and closed while [`Shm`] is open (`Database` sees to it).
//!
//! The mapping cannot fault: SQLite shortens the file only when nobody locks DMS, and `Database` does.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering, fence};

use memmap2::{MmapOptions, MmapRaw};

use super::walindex::{self, CheckpointInfo, WalIndexError, WalIndexHeader};
use crate::base::FrameNo;

/// Bytes of the wal-index that are looked at: both header copies, the checkpoint info and the locks.
const MAPPED: usize = walindex::LEAD_BYTES;

/// How a lock byte is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockKind {
    /// As a reader.
    Shared,
    /// Alone.
    Exclusive,
}

/// A mapped wal-index.
#[derive(Debug)]
pub struct Shm {
    file: File,
    map: MmapRaw,
    path: PathBuf,
}

impl Shm {
    /// Opens and maps `path`, which a connection of this process has open already.
    ///
    /// # Errors
    /// What the operating system says, or `UnexpectedEof` for a file that is too short to be a wal-index.
    pub fn open(path: &Path) -> io::Result<Shm> {
        #[allow(clippy::disallowed_methods, reason = "this module owns the right to open a wal-index")]
        let file = File::options().read(true).write(true).open(path)?;
        if file.metadata()?.len() < MAPPED as u64 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("{} is too short to be a wal-index", path.display()),
            ));
        }
        let map = MmapOptions::new().len(MAPPED).map_raw_read_only(&file)?;
        Ok(Shm { file, map, path: path.to_owned() })
    }

    /// Path of the file, for messages.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The open file, for its identity.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The 32-bit word at byte `offset`, loaded once.
    fn word(&self, offset: usize) -> u32 {
        assert!(offset.is_multiple_of(4) && offset + 4 <= MAPPED);
        // Other processes write these words at any time, so they are only read as atomics; no reference to plain memory is formed. The
        // file is not shortened while it is locked (module text). Safe code has no view of memory that others write.
        // SAFETY: the mapping is MAPPED bytes long, page-aligned, and lives as long as `self`; `offset` is inside it and
        // aligned, as asserted above.
        unsafe { AtomicU32::from_ptr(self.map.as_mut_ptr().add(offset).cast::<u32>()) }
            .load(Ordering::Relaxed)
    }

    /// The header, if it is at rest: both copies equal and checksummed.
    ///
    /// # Errors
    /// [`WalIndexError`] while a writer publishes it, or for as long as it is damaged.
    pub fn header(&self) -> Result<WalIndexHeader, WalIndexError> {
        let mut bytes = [0; walindex::HEADERS_BYTES];
        let copy = bytes.len() / 2;
        // A writer stores copy 2, then copy 1; so read copy 1 first.
        self.copy_words(0, &mut bytes[..copy]);
        fence(Ordering::Acquire);
        self.copy_words(copy, &mut bytes[copy..]);
        WalIndexHeader::parse(&bytes)
    }

    fn copy_words(&self, offset: usize, out: &mut [u8]) {
        for (i, chunk) in out.chunks_exact_mut(4).enumerate() {
            chunk.copy_from_slice(&self.word(offset + i * 4).to_ne_bytes());
        }
    }

    /// A cheap fingerprint of the published header: the change counter, `mxFrame` and the salts, unchecked.
    #[must_use]
    pub fn fingerprint(&self) -> [u32; 4] {
        [self.word(8), self.word(16), self.word(32), self.word(36)]
    }

    /// What checkpointers and readers have published.
    #[must_use]
    pub fn checkpoint_info(&self) -> CheckpointInfo {
        let mut bytes = [0; walindex::CHECKPOINT_BYTES];
        self.copy_words(walindex::CHECKPOINT_OFFSET, &mut bytes);
        CheckpointInfo::parse(&bytes)
    }

    /// The page numbers of the frames from `first` on, as the lookup tables have them: what SQLite itself goes by. Those of published frames
    /// don't change until the log starts over.
    ///
    /// # Errors
    /// What the operating system says, or `UnexpectedEof` if the file does not have them.
    pub fn page_numbers(&self, first: FrameNo, count: usize) -> io::Result<Vec<u32>> {
        let mut bytes = vec![0; count * 4];
        let (mut done, mut frame) = (0, first);
        while done < count {
            let (at, in_block) = walindex::page_number_at(frame);
            let n = (in_block as usize).min(count - done);
            self.file.read_exact_at(&mut bytes[done * 4..(done + n) * 4], at)?;
            (done, frame) = (done + n, FrameNo(frame.0.saturating_add(in_block)));
        }
        let number = |b: &[u8]| u32::from_ne_bytes(b.try_into().expect("a page number has 4 bytes"));
        Ok(bytes.chunks_exact(4).map(number).collect())
    }

    fn lock_op(&self, op: libc::c_int, kind: libc::c_int, byte: u64) -> io::Result<libc::flock> {
        let mut l = libc::flock {
            l_type: kind as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: byte as libc::off_t,
            l_len: 1,
            l_pid: 0,
        };
        loop {
            // SAFETY: the descriptor is open for as long as `self` lives, `l` is a valid flock structure that the call may write, and
            // all three operations used here take exactly that argument. The standard library has no byte-range locks.
            if unsafe { libc::fcntl(self.file.as_raw_fd(), op, &raw mut l) } == 0 {
                return Ok(l);
            }
            let e = io::Error::last_os_error();
            if e.kind() != io::ErrorKind::Interrupted {
                return Err(e);
            }
        }
    }

    /// Tries to take a lock byte, without waiting.
    ///
    /// # Errors
    /// What the operating system says, other than "somebody else holds it", which is `Ok(false)`.
    pub fn try_lock(&self, byte: u64, kind: LockKind) -> io::Result<bool> {
        match self.lock_op(libc::F_OFD_SETLK, raw(kind), byte) {
            Ok(_) => Ok(true),
            Err(e) if matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Takes a lock byte, waiting in the kernel for whoever holds it.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn lock_blocking(&self, byte: u64, kind: LockKind) -> io::Result<()> {
        self.lock_op(libc::F_OFD_SETLKW, raw(kind), byte).map(drop)
    }

    /// Lets go of a lock byte.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn unlock(&self, byte: u64) -> io::Result<()> {
        self.lock_op(libc::F_OFD_SETLK, libc::F_UNLCK, byte).map(drop)
    }

    /// Whether anybody else holds a lock byte, shared or alone.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn held_by_other(&self, byte: u64) -> io::Result<bool> {
        let l = self.lock_op(libc::F_OFD_GETLK, libc::F_WRLCK, byte)?;
        Ok(l.l_type != libc::F_UNLCK as libc::c_short)
    }
}

fn raw(kind: LockKind) -> libc::c_int {
    match kind {
        LockKind::Shared => libc::F_RDLCK,
        LockKind::Exclusive => libc::F_WRLCK,
    }
}
