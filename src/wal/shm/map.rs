//! The mapping of the wal-index, and the lock bytes in it.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};

use memmap2::{MmapOptions, MmapRaw};

use super::fault;
use crate::base::FrameNo;
use crate::wal::index::{self, BLOCK_BYTES, CheckpointInfo, WalIndexError, WalIndexHeader};
use crate::wal::tables;

/// Bytes of the wal-index that are mapped and read: both header copies, the checkpoint info and the
/// lock bytes.
const MAPPED: usize = index::LEAD_BYTES;

/// The mode in which a lock byte is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockKind {
    /// Together with other shared locks.
    Shared,
    /// Without any other lock on the byte.
    Exclusive,
}

/// A mapped wal-index.
#[derive(Debug)]
pub struct Shm {
    file: File,
    map: MmapRaw,
    path: PathBuf,
    /// Set by [`leave`](Shm::leave), which releases the locks for good: no lock is taken after
    /// that.
    left: AtomicBool,
    /// Header and checkpoint info as `leave` read them. The next program that opens the file may
    /// empty it.
    last: OnceLock<(WalIndexHeader, CheckpointInfo)>,
}

impl Shm {
    /// Opens and maps `path`. A connection of this process must have it open already.
    ///
    /// # Errors
    /// Any I/O error of opening or mapping the file, or `UnexpectedEof` if it is too short to be a
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

    /// The open file, from which a caller reads device and inode.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Loads the 32-bit word at byte `offset` once. Call it only inside [`Shm::load`].
    fn word(&self, offset: usize) -> u32 {
        assert!(offset.is_multiple_of(4) && offset + 4 <= MAPPED);
        // Other processes write these words at any time. So they are read only as atomics, and no
        // reference to plain memory exists. Safe code has no access to memory that others write.
        // SAFETY: the mapping is MAPPED bytes long, page-aligned, and lives as long as `self`.
        // `offset` is inside it and aligned, as asserted above. If the file was cut, the access
        // reads zeros (see `fault`).
        unsafe { AtomicU32::from_ptr(self.map.as_mut_ptr().add(offset).cast::<u32>()) }
            .load(Ordering::Relaxed)
    }

    /// Runs `read`, which reads words of the mapping. `None` if the file no longer reaches there.
    fn load<T>(&self, read: impl FnOnce() -> T) -> Option<T> {
        let from = self.map.as_ptr() as usize;
        let (value, cut) = fault::survive(from..from + MAPPED, read);
        if cut {
            // The file may grow back at any time, so the page of zeros must not stay.
            self.map_again();
        }
        (!cut).then_some(value)
    }

    fn map_again(&self) {
        // SAFETY: the address is that of our own mapping, which is page-aligned, has at least
        // MAPPED bytes, and lives as long as `self`. MAP_FIXED replaces exactly its page. All reads
        // of it go through `word`, which holds no reference. If the call fails, the page of zeros
        // stays, which reads as a damaged header. memmap2 can't map over a mapping.
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

    /// The header, if both copies are equal and the checksum is right.
    ///
    /// # Errors
    /// [`WalIndexError`] while a writer publishes a commit, or while the header is damaged.
    pub fn header(&self) -> Result<WalIndexHeader, WalIndexError> {
        if let Some((header, _)) = self.last.get() {
            return Ok(*header);
        }
        WalIndexHeader::parse(&self.headers().ok_or(WalIndexError::Cut)?)
    }

    fn headers(&self) -> Option<[u8; index::HEADERS_BYTES]> {
        self.load(|| {
            let mut bytes = [0; index::HEADERS_BYTES];
            let copy = bytes.len() / 2;
            // A writer stores copy 2, then copy 1, so copy 1 is read first.
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

    /// A cheap fingerprint of the bytes of both header copies, without validation. Any commit and
    /// any damage changes it.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let words = || {
            (0..index::HEADERS_BYTES).step_by(4).fold(0u64, |sum, at| {
                (sum.rotate_left(5) ^ u64::from(self.word(at))).wrapping_mul(0x517c_c1b7_2722_0a95)
            })
        };
        self.load(words).unwrap_or(u64::MAX)
    }

    /// The state that checkpointers and readers have published. All zeros if the file was cut,
    /// which is the cautious answer.
    #[must_use]
    pub fn checkpoint_info(&self) -> CheckpointInfo {
        if let Some((_, info)) = self.last.get() {
            return *info;
        }
        let bytes = self.load(|| {
            let mut bytes = [0; index::CHECKPOINT_BYTES];
            self.copy_words(index::CHECKPOINT_OFFSET, &mut bytes);
            bytes
        });
        CheckpointInfo::parse(&bytes.unwrap_or([0; index::CHECKPOINT_BYTES]))
    }

    /// The page numbers of `count` frames from `first` on, from the lookup tables that SQLite
    /// itself uses. The numbers of published frames don't change until the WAL starts over.
    ///
    /// # Errors
    /// Any I/O error of the read, or `UnexpectedEof` if the file does not have these numbers.
    pub fn page_numbers(&self, first: FrameNo, count: usize) -> io::Result<Vec<u32>> {
        let mut bytes = vec![0; count * 4];
        let (mut done, mut frame) = (0, first);
        while done < count {
            let (at, in_block) = index::page_number_at(frame);
            let n = (in_block as usize).min(count - done);
            self.file.read_exact_at(&mut bytes[done * 4..(done + n) * 4], at)?;
            (done, frame) = (done + n, FrameNo(frame.0.saturating_add(in_block)));
        }
        let number = |b: &[u8]| u32::from_ne_bytes(b.try_into().expect("a page number has 4 bytes"));
        Ok(bytes.chunks_exact(4).map(number).collect())
    }

    /// Whether a search finds each of the frames up to `mx`. A file that is too short for their
    /// tables has none of them.
    fn finds_all(&self, mx: FrameNo) -> io::Result<bool> {
        let blocks = tables::blocks_for(mx);
        if self.file.metadata()?.len() < u64::from(blocks) * BLOCK_BYTES {
            return Ok(false);
        }
        if mx.0 == 0 {
            return Ok(true);
        }
        // On the stack, because a hint that no commit explains comes after many a commit.
        let mut block = [0; BLOCK_BYTES as usize];
        for number in 0..blocks {
            match self.file.read_exact_at(&mut block, u64::from(number) * BLOCK_BYTES) {
                Ok(()) if tables::finds_all(&block, number, mx) => {}
                Ok(()) => return Ok(false),
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
                Err(e) => return Err(e),
            }
        }
        Ok(true)
    }

    /// Whether SQLite finds all published frames by the lookup tables. `true` if a commit came
    /// between, or if the header is invalid: SQLite notices that itself.
    ///
    /// # Errors
    /// Any I/O error of the read.
    pub fn is_sound(&self) -> io::Result<bool> {
        let Ok(header) = self.header() else { return Ok(true) };
        Ok(self.finds_all(header.mx_frame)? || self.header() != Ok(header))
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
            // SAFETY: the descriptor is open for as long as `self` lives. `l` is a valid flock
            // structure that the call may write. All three operations used here take exactly that
            // argument. The standard library has no byte-range locks.
            if unsafe { libc::fcntl(self.file.as_raw_fd(), op, &raw mut l) } == 0 {
                return Ok(l);
            }
            let e = io::Error::last_os_error();
            if e.kind() != io::ErrorKind::Interrupted {
                return Err(e);
            }
        }
    }

    /// Tries to take a lock byte without waiting. `Ok(false)` if another connection or process
    /// holds it, or after [`leave`](Shm::leave).
    ///
    /// # Errors
    /// Any other error of `fcntl`.
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

    /// Takes a lock byte. Waits in the kernel until its holder releases it.
    ///
    /// # Errors
    /// Any error of `fcntl`, or `NotFound` if [`leave`](Shm::leave) was called meanwhile.
    pub fn lock_blocking(&self, byte: u64, kind: LockKind) -> io::Result<()> {
        self.lock_op(libc::F_OFD_SETLKW, raw(kind), byte)?;
        if self.left.load(Ordering::SeqCst) {
            // The lock arrived after `leave` had released all others.
            self.unlock(byte)?;
            return Err(io::Error::new(io::ErrorKind::NotFound, "the database was removed"));
        }
        Ok(())
    }

    /// Releases all lock bytes except DMS, and makes every later attempt to take one fail. That
    /// includes helper threads that are waiting for one. From now on the header and the checkpoint
    /// info are those read last.
    ///
    /// # Errors
    /// Any error of `fcntl`.
    pub fn leave(&self) -> io::Result<()> {
        if let Ok(header) = self.header() {
            let _ = self.last.set((header, self.checkpoint_info()));
        }
        self.left.store(true, Ordering::SeqCst);
        (index::LOCK_WRITE..index::LOCK_DMS).try_for_each(|byte| self.unlock(byte))
    }

    /// Zeroes both header copies so that no connection trusts them. SQLite then rebuilds the
    /// wal-index, as it does after a writer that died while publishing a commit. This is for damage
    /// that SQLite itself does not detect. `Ok(false)` if a writer holds WRITE.
    ///
    /// # Errors
    /// Any I/O error of locking or writing.
    pub fn invalidate(&self) -> io::Result<bool> {
        if !self.try_lock(index::LOCK_WRITE, LockKind::Exclusive)? {
            return Ok(false);
        }
        let written = self.file.write_all_at(&[0; index::HEADERS_BYTES], 0);
        self.unlock(index::LOCK_WRITE)?;
        written.map(|()| true)
    }

    /// Notes that frames up to `to` may soon be in the database file. Only with CKPT held.
    ///
    /// # Errors
    /// Any I/O error of the write, or `NotFound` after [`leave`](Shm::leave).
    pub fn note_attempt(&self, to: FrameNo) -> io::Result<()> {
        self.put(index::ATTEMPTED_OFFSET, to)
    }

    /// Publishes that frames up to `to` are in the database file. Only with CKPT and READ(0) held.
    ///
    /// # Errors
    /// As for [`note_attempt`](Shm::note_attempt).
    pub fn publish_backfilled(&self, to: FrameNo) -> io::Result<()> {
        self.put(index::CHECKPOINT_OFFSET, to)
    }

    fn put(&self, offset: usize, frame: FrameNo) -> io::Result<()> {
        if self.left.load(Ordering::SeqCst) {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the database was removed"));
        }
        self.file.write_all_at(&frame.0.to_ne_bytes(), offset as u64)
    }

    /// After [`leave`](Shm::leave): turns the shared lock on DMS into an exclusive one. `Ok(false)`
    /// if another process uses the wal-index.
    ///
    /// # Errors
    /// Any other error of `fcntl`.
    pub fn have_alone(&self) -> io::Result<bool> {
        match self.lock_op(libc::F_OFD_SETLK, raw(LockKind::Exclusive), index::LOCK_DMS) {
            Ok(_) => Ok(true),
            Err(e) if matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Releases a lock byte.
    ///
    /// # Errors
    /// Any error of `fcntl`.
    pub fn unlock(&self, byte: u64) -> io::Result<()> {
        self.lock_op(libc::F_OFD_SETLK, libc::F_UNLCK, byte).map(drop)
    }

    /// Whether another descriptor or process holds a lock byte, shared or exclusive.
    ///
    /// # Errors
    /// Any error of `fcntl`.
    pub fn held_by_other(&self, byte: u64) -> io::Result<bool> {
        let l = self.lock_op(libc::F_OFD_GETLK, libc::F_WRLCK, byte)?;
        Ok(l.l_type != libc::F_UNLCK as libc::c_short)
    }

    /// Whether another descriptor or process holds a lock byte exclusively.
    ///
    /// # Errors
    /// Any error of `fcntl`.
    pub fn is_exclusive(&self, byte: u64) -> io::Result<bool> {
        let l = self.lock_op(libc::F_OFD_GETLK, libc::F_RDLCK, byte)?;
        Ok(l.l_type != libc::F_UNLCK as libc::c_short)
    }
}

fn raw(kind: LockKind) -> libc::c_int {
    match kind {
        LockKind::Shared => libc::F_RDLCK,
        LockKind::Exclusive => libc::F_WRLCK,
    }
}
