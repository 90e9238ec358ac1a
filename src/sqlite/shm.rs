//! The mapped wal-index of a live database, and the locks that lsfast holds on it.
//!
//! `DB-shm` is shared memory: every connection of every process maps it, and its bytes 120 to 128
//! carry SQLite's locks. [`Shm`] maps the first page and takes *open file description* locks on
//! those bytes. They conflict with SQLite's POSIX locks, those of this process included, and they
//! belong to this descriptor alone.
//!
//! Closing any descriptor of the file drops all POSIX locks that the process holds on it, those of
//! a connection of SQLite's included. Hence the order: a connection is opened and closed while
//! [`Shm`] is open (`Database` sees to it).
//!
//! SQLite shortens the file only when nobody locks DMS, and `Database` does. Any other program may
//! cut it all the same; what becomes of the mapping then is in [`fault`].
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};

use memmap2::{MmapOptions, MmapRaw};

pub(super) mod fault;

use super::walindex::{self, CheckpointInfo, WalIndexError, WalIndexHeader};
use crate::base::FrameNo;

/// Bytes of the wal-index that are looked at: both header copies, the checkpoint info and the
/// locks.
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
    /// The locks were let go of for good: none is taken any more.
    left: AtomicBool,
    /// What the wal-index said then. The next to open the file may empty it.
    last: OnceLock<(WalIndexHeader, CheckpointInfo)>,
}

impl Shm {
    /// Opens and maps `path`, which a connection of this process has open already.
    ///
    /// # Errors
    /// What the operating system says, or `UnexpectedEof` for a file that is too short to be a
    /// wal-index.
    pub fn open(path: &Path) -> io::Result<Shm> {
        #[allow(clippy::disallowed_methods, reason = "this module owns the right to open a wal-index")]
        let file = File::options().read(true).write(true).open(path)?;
        if file.metadata()?.len() < MAPPED as u64 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("{} is too short to be a wal-index", path.display()),
            ));
        }
        fault::watch()?;
        let map = MmapOptions::new().len(MAPPED).map_raw_read_only(&file)?;
        Ok(Shm { file, map, path: path.to_owned(), left: AtomicBool::new(false), last: OnceLock::new() })
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

    /// The 32-bit word at byte `offset`, loaded once. Only inside [`Shm::load`].
    fn word(&self, offset: usize) -> u32 {
        assert!(offset.is_multiple_of(4) && offset + 4 <= MAPPED);
        // Other processes write these words at any time, so they are only read as atomics; no reference to
        // plain memory is formed. Safe code has no view of memory that others write.
        // SAFETY: the mapping is MAPPED bytes long, page-aligned, and lives as long as `self`; `offset` is
        // inside it and aligned, as asserted above. If the file was cut, the access reads zeros
        // (`fault`).
        unsafe { AtomicU32::from_ptr(self.map.as_mut_ptr().add(offset).cast::<u32>()) }
            .load(Ordering::Relaxed)
    }

    /// Reads words of the mapping. `None` if the file no longer reaches there.
    fn load<T>(&self, read: impl FnOnce() -> T) -> Option<T> {
        let from = self.map.as_ptr() as usize;
        let (value, cut) = fault::survive(from..from + MAPPED, read);
        if cut {
            // The file may be whole again at any time, so the page of zeros does not stay.
            self.map_again();
        }
        (!cut).then_some(value)
    }

    fn map_again(&self) {
        // SAFETY: the address is that of our own mapping, which is page-aligned, has at least MAPPED bytes,
        // and lives as long as `self`; MAP_FIXED replaces exactly its page. All reads of it go
        // through `word`, which holds no reference. If it fails, the page of zeros stays, which
        // reads as a damaged header. memmap2 can't map over a mapping.
        unsafe {
            libc::mmap(
                self.map.as_mut_ptr().cast(),
                MAPPED,
                libc::PROT_READ,
                libc::MAP_SHARED | libc::MAP_FIXED,
                self.file.as_raw_fd(),
                0,
            );
        }
    }

    /// The header, if it is at rest: both copies equal and checksummed.
    ///
    /// # Errors
    /// [`WalIndexError`] while a writer publishes it, or for as long as it is damaged.
    pub fn header(&self) -> Result<WalIndexHeader, WalIndexError> {
        if let Some((header, _)) = self.last.get() {
            return Ok(*header);
        }
        WalIndexHeader::parse(&self.headers().ok_or(WalIndexError::Cut)?)
    }

    fn headers(&self) -> Option<[u8; walindex::HEADERS_BYTES]> {
        self.load(|| {
            let mut bytes = [0; walindex::HEADERS_BYTES];
            let copy = bytes.len() / 2;
            // A writer stores copy 2, then copy 1; so read copy 1 first.
            self.copy_words(0, &mut bytes[..copy]);
            fence(Ordering::Acquire);
            self.copy_words(copy, &mut bytes[copy..]);
            bytes
        })
    }

    fn copy_words(&self, offset: usize, out: &mut [u8]) {
        for (i, chunk) in out.chunks_exact_mut(4).enumerate() {
            chunk.copy_from_slice(&self.word(offset + i * 4).to_ne_bytes());
        }
    }

    /// A cheap fingerprint of both copies of the header, unchecked: a commit and any damage change
    /// it.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let words = || {
            (0..walindex::HEADERS_BYTES).step_by(4).fold(0u64, |sum, at| {
                (sum.rotate_left(5) ^ u64::from(self.word(at))).wrapping_mul(0x517c_c1b7_2722_0a95)
            })
        };
        self.load(words).unwrap_or(u64::MAX)
    }

    /// What checkpointers and readers have published; all zero in a file that was cut, which is the
    /// cautious answer.
    #[must_use]
    pub fn checkpoint_info(&self) -> CheckpointInfo {
        if let Some((_, info)) = self.last.get() {
            return *info;
        }
        let bytes = self.load(|| {
            let mut bytes = [0; walindex::CHECKPOINT_BYTES];
            self.copy_words(walindex::CHECKPOINT_OFFSET, &mut bytes);
            bytes
        });
        CheckpointInfo::parse(&bytes.unwrap_or([0; walindex::CHECKPOINT_BYTES]))
    }

    /// The page numbers of the frames from `first` on, as the lookup tables have them: what SQLite
    /// itself goes by. Those of published frames don't change until the log starts over.
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
            // SAFETY: the descriptor is open for as long as `self` lives, `l` is a valid flock structure that
            // the call may write, and all three operations used here take exactly that argument.
            // The standard library has no byte-range locks.
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
        if self.left.load(Ordering::SeqCst) {
            return Ok(false);
        }
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
        self.lock_op(libc::F_OFD_SETLKW, raw(kind), byte)?;
        if self.left.load(Ordering::SeqCst) {
            // It came after `leave` had let go of all others.
            self.unlock(byte)?;
            return Err(io::Error::new(io::ErrorKind::NotFound, "the database was removed"));
        }
        Ok(())
    }

    /// Lets go of all lock bytes but DMS, and takes none any more, helper threads that wait for one
    /// included. What the header says from now on is what it said last.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn leave(&self) -> io::Result<()> {
        if let Ok(header) = self.header() {
            let _ = self.last.set((header, self.checkpoint_info()));
        }
        self.left.store(true, Ordering::SeqCst);
        (walindex::LOCK_WRITE..walindex::LOCK_DMS).try_for_each(|byte| self.unlock(byte))
    }

    /// Makes the header one that nobody trusts, so that SQLite rebuilds the wal-index, as after a
    /// writer that died while it published. For what SQLite itself does not find damaged.
    /// `Ok(false)` if a writer is in the way.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn invalidate(&self) -> io::Result<bool> {
        if !self.try_lock(walindex::LOCK_WRITE, LockKind::Exclusive)? {
            return Ok(false);
        }
        let written = self.file.write_all_at(&[0; walindex::HEADERS_BYTES], 0);
        self.unlock(walindex::LOCK_WRITE)?;
        written.map(|()| true)
    }

    /// After [`leave`](Shm::leave): turns our share of DMS into having it alone. `Ok(false)` if
    /// another process uses the wal-index.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn have_alone(&self) -> io::Result<bool> {
        match self.lock_op(libc::F_OFD_SETLK, raw(LockKind::Exclusive), walindex::LOCK_DMS) {
            Ok(_) => Ok(true),
            Err(e) if matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(false),
            Err(e) => Err(e),
        }
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
