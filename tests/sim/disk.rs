//! A disk that loses at a power failure what was not flushed.
//!
//! Each write notes what it replaces, and each flush that what was written to its file is safe. At
//! a power failure any part of the other writes is taken back, in pieces of a sector. So what is
//! left of a file is torn, and its writes seem to have happened in another order.
//!
//! The names of files are always safe: lsfast renames and removes files by calls that nothing here
//! replaces.
#![allow(unsafe_code, reason = "libc's functions can only be replaced by unsafe code")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use fastrand::Rng;
use libc::{c_int, c_long, c_void};

use super::hooks::call;
use super::place::files_below;
use super::{app, clock, threads};

/// Where the notes of all processes of a history are.
static NOTES: Mutex<Option<(File, PathBuf)>> = Mutex::new(None);

/// Bytes that a disk writes as a whole.
const SECTOR: u64 = 512;

/// Bytes of a note before the bytes that were replaced.
const HEAD: usize = 48;

/// A write, a change of the length, or a flush.
#[derive(Debug, Clone)]
struct Note {
    inode: u64,
    kind: Kind,
    at: u64,
    /// Bytes that were written.
    len: u64,
    /// Length of the file before.
    size: u64,
    before: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Write,
    Flush,
}

/// The file of the notes of a history in this folder.
pub fn notes_of(dir: &Path) -> PathBuf {
    dir.with_extension("notes")
}

/// From now on this process notes what it writes.
pub fn start(notes: &Path) {
    let file = File::options().create(true).append(true).open(notes).expect("a file");
    *clock::lock(&NOTES) = Some((file, notes.to_owned()));
}

/// Where it notes that.
pub fn notes() -> Option<PathBuf> {
    clock::lock(&NOTES).as_ref().map(|(_, path)| path.clone())
}

/// All that was written is safe, as after `sync`.
pub fn flush_all() {
    if let Some((notes, _)) = clock::lock(&NOTES).as_ref() {
        let fd = c_long::from(std::os::fd::AsRawFd::as_raw_fd(notes));
        // SAFETY: takes no memory.
        unsafe { call(libc::SYS_ftruncate, [fd, 0, 0, 0, 0, 0]) };
    }
}

/// Takes back what was not flushed of these files, or a part of it, and whatever is in a wal-index.
/// Returns how many writes there were, and how many of them were lost or torn.
pub fn fail(notes: &Path, of: &dyn Fn(&Path) -> bool, dir: &Path, rng: &mut Rng) -> (usize, usize) {
    let mut files: BTreeMap<u64, PathBuf> = BTreeMap::new();
    for path in files_below(dir).into_keys().filter(|path| of(path)) {
        if let Ok(found) = path.metadata() {
            files.insert(found.ino(), path);
        }
    }
    let mut writes: Vec<Note> = Vec::new();
    for note in read(&std::fs::read(notes).unwrap_or_default()) {
        match note.kind {
            Kind::Flush => writes.retain(|w| w.inode != note.inode),
            Kind::Write => writes.push(note),
        }
    }
    writes.retain(|w| files.contains_key(&w.inode));
    // All, most, some or few of them are lost.
    let chance = [100, 90, 50, 10][rng.usize(..4)];
    let mut lost = 0;
    for write in writes.iter().rev() {
        if rng.u8(..100) < chance {
            lost += 1;
            let path = &files[&write.inode];
            let file = File::options().read(true).write(true).open(path).expect("a file of a history");
            // A third of those is only torn.
            write.take_back(&file, rng, chance < 100);
        }
    }
    flush_all();
    (writes.len(), lost)
}

impl Note {
    fn take_back(&self, file: &File, rng: &mut Rng, may_tear: bool) {
        let torn = may_tear && rng.u8(..3) == 0;
        let mut from = self.at;
        while from < self.at + self.len {
            let to = ((from / SECTOR + 1) * SECTOR).min(self.at + self.len);
            if !torn || rng.bool() {
                let begin = usize::try_from(from - self.at).unwrap_or(usize::MAX);
                let mut piece = self.before.get(begin..).unwrap_or_default().to_vec();
                piece.resize(usize::try_from(to - from).unwrap_or(0), 0);
                let _ = file.write_all_at(&piece, from);
            }
            from = to;
        }
        // What was written beyond the end, and is not followed by what is kept.
        let len = file.metadata().map_or(0, |m| m.len());
        if !torn && self.size < len && len <= self.at + self.len {
            let _ = file.set_len(self.size);
        }
    }
}

fn read(mut bytes: &[u8]) -> Vec<Note> {
    let mut notes = Vec::new();
    while bytes.len() >= HEAD {
        let number = |at: usize| u64::from_le_bytes(bytes[at * 8..at * 8 + 8].try_into().expect("8 bytes"));
        let kept = usize::try_from(number(5)).unwrap_or(usize::MAX);
        let Some(before) = bytes.get(HEAD..HEAD.saturating_add(kept)) else { break };
        notes.push(Note {
            inode: number(0),
            kind: if number(1) == 0 { Kind::Write } else { Kind::Flush },
            at: number(2),
            len: number(3),
            size: number(4),
            before: before.to_vec(),
        });
        bytes = &bytes[HEAD + kept..];
    }
    notes
}

/// Whether this process writes for a history.
fn takes_part() -> bool {
    threads::takes_part() || app::is_one()
}

/// Notes that bytes from `at` on are about to be replaced; at the present position without it.
pub fn before_write(fd: c_int, at: Option<i64>, len: u64) {
    if !takes_part() {
        return;
    }
    let notes = clock::lock(&NOTES);
    let Some((notes, _)) = notes.as_ref() else { return };
    let Some((inode, size)) = regular(fd) else { return };
    // SAFETY: takes no memory.
    let at = at.unwrap_or_else(|| unsafe { libc::lseek(fd, 0, libc::SEEK_CUR) });
    let at = u64::try_from(at).unwrap_or(0);
    let kept = size.saturating_sub(at).min(len);
    let mut before = vec![0; usize::try_from(kept).unwrap_or(0)];
    let all = [c_long::from(fd), before.as_mut_ptr() as c_long, before.len() as c_long, at as c_long, 0, 0];
    // SAFETY: `before` has room for that many bytes, and outlives the call.
    unsafe { call(libc::SYS_pread64, all) };
    note(notes, [inode, 0, at, len, size, before.len() as u64], &before);
}

/// Notes that the length of a file is about to change.
pub fn before_cut(fd: c_int, len: i64) {
    let size = if takes_part() { regular(fd).map_or(0, |(_, size)| size) } else { 0 };
    let len = u64::try_from(len).unwrap_or(0);
    if len < size {
        before_write(fd, Some(len as i64), size - len);
    }
}

/// Notes that all that was written to a file is safe.
pub fn flushed(fd: c_int) {
    if takes_part()
        && let Some((notes, _)) = clock::lock(&NOTES).as_ref()
        && let Some((inode, _)) = regular(fd)
    {
        note(notes, [inode, 1, 0, 0, 0, 0], &[]);
    }
}

fn note(notes: &File, head: [u64; 6], before: &[u8]) {
    let mut line: Vec<u8> = head.into_iter().flat_map(u64::to_le_bytes).collect();
    line.extend_from_slice(before);
    // One call, so that lines of two processes are not mixed. The file is not one of those that are
    // noted, because the call below is the system's.
    let _ = RawWrite(notes).write_all(&line);
}

/// Writes by a system call.
struct RawWrite<'a>(&'a File);

impl std::io::Write for RawWrite<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let fd = c_long::from(std::os::fd::AsRawFd::as_raw_fd(self.0));
        // SAFETY: the bytes outlive the call.
        let done =
            unsafe { call(libc::SYS_write, [fd, bytes.as_ptr() as c_long, bytes.len() as c_long, 0, 0, 0]) };
        usize::try_from(done).map_err(|_| std::io::Error::last_os_error())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Inode and length of a regular file.
fn regular(fd: c_int) -> Option<(u64, u64)> {
    // SAFETY: the structure is made of numbers, for which zeros are valid.
    let mut found: libc::stat64 = unsafe { std::mem::zeroed() };
    // SAFETY: the place of the answer outlives the call.
    let done = unsafe { libc::fstat64(fd, &raw mut found) };
    let is_file = done == 0 && found.st_mode & libc::S_IFMT == libc::S_IFREG;
    is_file.then_some((found.st_ino, found.st_size.unsigned_abs()))
}

/// # Safety
/// As `write(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn write(fd: c_int, from: *const c_void, len: usize) -> isize {
    before_write(fd, None, len as u64);
    // SAFETY: the caller keeps the rules of `write`.
    unsafe { call(libc::SYS_write, [c_long::from(fd), from as c_long, len as c_long, 0, 0, 0]) as isize }
}

/// # Safety
/// As `writev(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn writev(fd: c_int, parts: *const libc::iovec, count: c_int) -> isize {
    // SAFETY: the caller passes that many parts.
    let all = unsafe { std::slice::from_raw_parts(parts, usize::try_from(count).unwrap_or(0)) };
    before_write(fd, None, all.iter().map(|part| part.iov_len as u64).sum());
    let all = [c_long::from(fd), parts as c_long, c_long::from(count), 0, 0, 0];
    // SAFETY: the caller keeps the rules of `writev`.
    unsafe { call(libc::SYS_writev, all) as isize }
}

/// # Safety
/// As `pwrite(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite64(fd: c_int, from: *const c_void, len: usize, at: i64) -> isize {
    threads::point();
    app::point();
    before_write(fd, Some(at), len as u64);
    let all = [c_long::from(fd), from as c_long, len as c_long, at, 0, 0];
    // SAFETY: the caller keeps the rules of `pwrite`.
    unsafe { call(libc::SYS_pwrite64, all) as isize }
}

/// # Safety
/// As `pwrite(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite(fd: c_int, from: *const c_void, len: usize, at: i64) -> isize {
    // SAFETY: the caller keeps the rules of `pwrite`.
    unsafe { pwrite64(fd, from, len, at) }
}

/// See `ftruncate(2)`.
#[unsafe(no_mangle)]
pub extern "C" fn ftruncate64(fd: c_int, len: i64) -> c_int {
    threads::point();
    app::point();
    before_cut(fd, len);
    // SAFETY: takes no memory.
    unsafe { call(libc::SYS_ftruncate, [c_long::from(fd), len, 0, 0, 0, 0]) as c_int }
}

/// See `ftruncate(2)`.
#[unsafe(no_mangle)]
pub extern "C" fn ftruncate(fd: c_int, len: i64) -> c_int {
    ftruncate64(fd, len)
}

/// See `fsync(2)`. In a history there is no need to wait for a disk.
#[unsafe(no_mangle)]
pub extern "C" fn fsync(fd: c_int) -> c_int {
    threads::point();
    app::point();
    if takes_part() {
        flushed(fd);
        return 0;
    }
    // SAFETY: takes no memory.
    unsafe { call(libc::SYS_fsync, [c_long::from(fd), 0, 0, 0, 0, 0]) as c_int }
}

/// See [`fsync`].
#[unsafe(no_mangle)]
pub extern "C" fn fdatasync(fd: c_int) -> c_int {
    fsync(fd)
}
