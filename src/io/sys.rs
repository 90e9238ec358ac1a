//! The system calls that `io` needs and the standard library does not have.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers a readable descriptor with the present runtime.
pub(super) fn readable<T: AsFd + AsRawFd>(owner: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: `owner` has an `AsFd`, so it owns or borrows an open descriptor for as long as it lives
    // and always answers with the same one, and the `AsyncFd` owns it. The function is unsafe only
    // for types whose `AsRawFd` promises nothing.
    unsafe { AsyncFd::register_with_interest(owner, Interest::READABLE) }
        .map_err(|e| io::Error::other(e.to_string()))
}

/// What a clock shows.
pub(super) fn clock(id: libc::clockid_t) -> Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid `timespec` that outlives the call, which keeps no pointer to it. It
    // fails only for clocks that the kernel does not have; callers name two that every kernel has.
    unsafe { libc::clock_gettime(id, &raw mut now) };
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// A timer on the monotonic clock, not armed.
pub(super) fn timer() -> io::Result<OwnedFd> {
    // SAFETY: takes no pointers; the result is checked below.
    let fd = unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `fd` was just made by the call above and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Arms a timer to expire once after `wait`, which must not be 0.
pub(super) fn arm(timer: &OwnedFd, wait: Duration) {
    assert!(!wait.is_zero(), "0 would disarm the timer");
    let spec = libc::itimerspec {
        it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 },
        it_value: libc::timespec {
            tv_sec: libc::time_t::try_from(wait.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: libc::c_long::from(wait.subsec_nanos() as i32),
        },
    };
    // SAFETY: the descriptor is open, `spec` is only read, and a null pointer for the old value is
    // allowed.
    let rc = unsafe { libc::timerfd_settime(timer.as_raw_fd(), 0, &raw const spec, std::ptr::null_mut()) };
    assert_eq!(rc, 0, "a valid timer accepts a valid time");
}

/// Reads what the page cache holds and does not wait for the disk.
///
/// # Errors
/// `WouldBlock` if nothing of it is in the cache, `Unsupported` where the file system has no such
/// read.
pub(super) fn read_cached(file: BorrowedFd<'_>, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    let offset = libc::off_t::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
    let iov = libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() };
    // SAFETY: `iov` describes exactly `buf`, which is borrowed mutably for the whole call, and the
    // descriptor is borrowed and therefore open.
    let n = unsafe { libc::preadv2(file.as_raw_fd(), &raw const iov, 1, offset, libc::RWF_NOWAIT) };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

/// Starts writing dirty pages of a range to the disk, without waiting for them; a length of 0 means
/// up to the end. A hint: errors are ignored, the fsync that follows reports them.
pub(super) fn start_writeback(file: BorrowedFd<'_>, offset: u64, len: u64) {
    let (Ok(offset), Ok(len)) = (libc::off64_t::try_from(offset), libc::off64_t::try_from(len)) else {
        return;
    };
    // SAFETY: no memory is passed; the descriptor is borrowed and therefore open.
    unsafe { libc::sync_file_range(file.as_raw_fd(), offset, len, libc::SYNC_FILE_RANGE_WRITE) };
}

/// Drops clean pages of the whole file from the cache. A hint, for benches and for files that
/// nobody reads again.
pub(super) fn forget_cached(file: BorrowedFd<'_>) {
    // SAFETY: no memory is passed; the descriptor is borrowed and therefore open.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
}

/// Process that holds a lock on any of these bytes which would forbid to write them (or, if not
/// `exclusive`, to read them); -1 if it cannot be told.
pub(super) fn locked_by(
    file: BorrowedFd<'_>,
    from: u64,
    len: u64,
    exclusive: bool,
) -> io::Result<Option<libc::pid_t>> {
    let mut lock = range(if exclusive { libc::F_WRLCK } else { libc::F_RDLCK }, from, len)?;
    // SAFETY: the descriptor is borrowed and therefore open, and `lock` lives until the call returns.
    let rc = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &raw mut lock) };
    if rc != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((i32::from(lock.l_type) != libc::F_UNLCK).then_some(lock.l_pid))
}

/// Takes a lock of this kind, or none, on a range. It belongs to the descriptor. Does not wait.
pub(super) fn lock_range(file: BorrowedFd<'_>, kind: libc::c_int, from: u64, len: u64) -> io::Result<bool> {
    let lock = range(kind, from, len)?;
    loop {
        // SAFETY: the descriptor is borrowed and therefore open, and `lock` lives until the call returns,
        // which only reads it.
        if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) } == 0 {
            return Ok(true);
        }
        let e = io::Error::last_os_error();
        match e.raw_os_error() {
            Some(libc::EINTR) => {}
            Some(libc::EAGAIN | libc::EACCES) => return Ok(false),
            _ => return Err(e),
        }
    }
}

/// `F_SETSIG` of `fcntl(2)`: which signal tells of a lease that is wanted back. The same number on
/// all machines that lsfast is built for.
const F_SETSIG: libc::c_int = 10;

/// Whether the kernel knows of another descriptor of the file. It lends a file for writing only to
/// its sole user, so that is what is asked for, and given back at once.
pub(super) fn is_open_elsewhere(file: BorrowedFd<'_>) -> bool {
    let fd = file.as_raw_fd();
    // Who opens the file in between has it taken back by a signal. SIGURG is one that a process ignores
    // unless it asks for it; the usual SIGIO would end this one.
    // SAFETY: takes no pointers; the descriptor is borrowed and therefore open.
    if unsafe { libc::fcntl(fd, F_SETSIG, libc::SIGURG) } != 0 {
        return false;
    }
    // SAFETY: as above.
    if unsafe { libc::fcntl(fd, libc::F_SETLEASE, libc::F_WRLCK) } != 0 {
        return io::Error::last_os_error().raw_os_error() == Some(libc::EAGAIN);
    }
    // SAFETY: as above.
    unsafe { libc::fcntl(fd, libc::F_SETLEASE, libc::F_UNLCK) };
    false
}

fn range(kind: libc::c_int, from: u64, len: u64) -> io::Result<libc::flock> {
    let wide = |n: u64| libc::off_t::try_from(n).map_err(|_| io::ErrorKind::InvalidInput);
    // SAFETY: `flock` is a plain structure of integers, for which zeros are a value.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock.l_start = wide(from)?;
    lock.l_len = wide(len)?;
    Ok(lock)
}

/// Sends a signal to a process.
pub(super) fn kill(pid: u32, signal: i32) -> io::Result<()> {
    let pid = libc::pid_t::try_from(pid).map_err(|_| io::ErrorKind::InvalidInput)?;
    // 0 and negative numbers mean whole groups.
    assert!(pid > 0, "a process has a positive number");
    // SAFETY: takes no pointers.
    let rc = unsafe { libc::kill(pid, signal) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sends a signal to all processes of the group that this one leads.
pub(super) fn kill_group(leader: u32, signal: i32) -> io::Result<()> {
    let group = libc::pid_t::try_from(leader).map_err(|_| io::ErrorKind::InvalidInput)?;
    // 0 means the caller's own group, 1 whatever the C library makes of it.
    assert!(group > 1, "a group has the number of a process");
    // SAFETY: takes no pointers.
    let rc = unsafe { libc::killpg(group, signal) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Lets this thread, if it is an ordinary one, go before all ordinary ones. `Ok(false)` if it is
/// not ordinary. Threads that it starts meanwhile are ordinary.
pub(super) fn make_urgent() -> io::Result<bool> {
    // SAFETY: takes no pointers.
    let policy = unsafe { libc::syscall(libc::SYS_sched_getscheduler, 0) };
    // The flag is left from the last time.
    if policy & !libc::c_long::from(libc::SCHED_RESET_ON_FORK) != libc::c_long::from(libc::SCHED_OTHER) {
        return Ok(false);
    }
    set_scheduler(libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, 1).map(|()| true)
}

/// Makes this thread an ordinary one. The flag stays: only `CAP_SYS_NICE` may clear it, and without
/// that the whole call would fail.
pub(super) fn make_ordinary() -> io::Result<()> {
    set_scheduler(libc::SCHED_OTHER | libc::SCHED_RESET_ON_FORK, 0)
}

fn set_scheduler(policy: libc::c_int, priority: libc::c_int) -> io::Result<()> {
    let priority = libc::sched_param { sched_priority: priority };
    // The functions of the C library of this name concern the process in some libraries.
    // SAFETY: 0 is the calling thread; `priority` is only read.
    let rc = unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const priority) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Gives free memory of the heap back to the system, where the C library can.
pub(super) fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes no pointers and may be called by any thread at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Makes the heap keep what is freed, and take blocks up to 32 MiB from it, where the C library
/// can. All threads share it: else each would keep what it once needed.
pub(super) fn keep_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes no pointers and may be called by any thread at any time. What it refuses stays as it was.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_MMAP_THRESHOLD, 32 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
    }
}

/// The type of the names of limits, which differs between C libraries.
#[cfg(target_env = "gnu")]
type Resource = libc::__rlimit_resource_t;
#[cfg(not(target_env = "gnu"))]
type Resource = libc::c_int;

/// Sets a soft limit to what `new` makes of the soft and the hard one; the result is the soft one
/// before and after. No memory is allocated: it may run between `fork` and `exec`.
fn change_limit(which: Resource, new: impl FnOnce(u64, u64) -> u64) -> io::Result<(u64, u64)> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` lives until the call returns, which fills it.
    if unsafe { libc::getrlimit(which, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let before = limit.rlim_cur;
    limit.rlim_cur = new(before, limit.rlim_max).min(limit.rlim_max);
    // SAFETY: `limit` is only read.
    if unsafe { libc::setrlimit(which, &raw const limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((before, limit.rlim_cur))
}

/// Raises the limit of open descriptors to what the process may have; the result is the limit
/// before and after.
pub(super) fn raise_descriptors() -> io::Result<(u64, u64)> {
    change_limit(libc::RLIMIT_NOFILE, |_, hard| hard)
}

/// Sets the size of core files to 0; the result is the limit before.
pub(super) fn forbid_core() -> io::Result<u64> {
    change_limit(libc::RLIMIT_CORE, |_, _| 0).map(|(before, _)| before)
}

/// Lets a program that is about to start have these soft limits, and SIGTERM when the thread that
/// starts it ends.
pub(super) fn bind_child(command: &mut Command, open_files: Option<u64>, core: Option<u64>) {
    let parent = std::process::id();
    let limits = [(libc::RLIMIT_NOFILE, open_files), (libc::RLIMIT_CORE, core)];
    let prepare = move || {
        for (which, soft) in limits {
            if let Some(soft) = soft {
                change_limit(which, |_, _| soft)?;
            }
        }
        // SAFETY: takes no pointers.
        if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // Our end may have come before this call, which then tells nothing.
        if std::os::unix::process::parent_id() != parent {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        Ok(())
    };
    // SAFETY: `prepare` runs in the child between `fork` and `exec`, where another thread's locks may
    // be held for ever. It takes none: it makes four system calls, allocates no memory, and owns
    // nothing but numbers.
    unsafe { command.pre_exec(prepare) };
}

/// The number of a child that has ended and was not waited for; it stays so.
pub(super) fn ended_child() -> io::Result<Option<u32>> {
    // SAFETY: `siginfo_t` is a plain structure, for which zeros are a value.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: `info` lives until the call returns, which fills it.
    let rc =
        unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT) };
    if rc != 0 {
        let e = io::Error::last_os_error();
        return if e.raw_os_error() == Some(libc::ECHILD) { Ok(None) } else { Err(e) };
    }
    // SAFETY: of a successful `waitid` this field is set, or 0 as before if there is no such child.
    let pid = unsafe { info.si_pid() };
    Ok(u32::try_from(pid).ok().filter(|pid| *pid != 0))
}

/// Takes the exit status of a child that has ended.
pub(super) fn reap(pid: u32) -> io::Result<()> {
    let pid = libc::pid_t::try_from(pid).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: a null pointer for the status is allowed.
    let rc = unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::WNOHANG) };
    if rc == pid { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Bytes that an ordinary user may still write, and the magic number of the file system that `path`
/// is on.
pub(super) fn file_system(path: &Path) -> io::Result<(u64, u64)> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: `statfs` is a plain structure of integers, for which zeros are a value.
    let mut found: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the name is NUL-terminated and `found` has the size that the kernel writes; both live
    // until the call returns.
    let rc = unsafe { libc::statfs(path.as_ptr(), &raw mut found) };
    if rc != 0 {
        return Err(io::Error::last_os_error());
    }
    let block = u64::try_from(found.f_bsize).unwrap_or(0);
    // The width of the type differs between machines; the magic numbers have 32 bits.
    Ok((found.f_bavail.saturating_mul(block), u64::from(found.f_type as u32)))
}

/// Whether this process, by its effective user, may do what `mode` says to `path`.
pub(super) fn may(path: &Path, mode: libc::c_int) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: the name is NUL-terminated and lives until the call returns.
    let rc = unsafe { libc::faccessat(libc::AT_FDCWD, path.as_ptr(), mode, libc::AT_EACCESS) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
