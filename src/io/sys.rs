//! System calls that `io` needs and the standard library lacks.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers a descriptor for readability with the present runtime.
pub(super) fn readable<T: AsFd + AsRawFd>(owner: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: `owner` implements `AsFd`, so it owns or borrows an open descriptor for as long as it
    // lives, and always returns the same one. The `AsyncFd` owns it. The function is unsafe only
    // for types whose `AsRawFd` promises nothing.
    unsafe { AsyncFd::register_with_interest(owner, Interest::READABLE) }
        .map_err(|e| io::Error::other(e.to_string()))
}

/// The present time of a clock.
pub(super) fn clock(id: libc::clockid_t) -> Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid `timespec` that outlives the call, which keeps no pointer to it. The
    // call fails only for clocks that the kernel lacks; callers name two that every kernel has.
    unsafe { libc::clock_gettime(id, &raw mut now) };
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// Creates a timer on the monotonic clock, not armed.
pub(super) fn timer() -> io::Result<OwnedFd> {
    // SAFETY: takes no pointers; the result is checked below.
    let fd = unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call above has just returned `fd`, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Arms a timer to expire once after `wait`, which must not be 0.
pub(super) fn arm(timer: &OwnedFd, wait: Duration) {
    assert!(!wait.is_zero(), "0 would disarm the timer");
    let spec = libc::itimerspec {
        it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 },
        it_value: libc::timespec {
            tv_sec: wait.as_secs().try_into().unwrap_or(i32::MAX.into()),
            tv_nsec: libc::c_long::from(wait.subsec_nanos() as i32),
        },
    };
    // SAFETY: the descriptor is open, `spec` is only read, and a null pointer for the old value is
    // allowed.
    let rc = unsafe { libc::timerfd_settime(timer.as_raw_fd(), 0, &raw const spec, std::ptr::null_mut()) };
    assert_eq!(rc, 0, "a valid timer accepts a valid time");
}

/// Reads what is in the page cache, and does not wait for the disk.
///
/// # Errors
/// `WouldBlock` if nothing of the range is in the cache, `Unsupported` if the file system has no
/// such read.
#[cfg(feature = "internals")]
pub(super) fn read_cached(file: BorrowedFd<'_>, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    let offset = libc::off_t::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
    let iov = libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() };
    // SAFETY: `iov` describes exactly `buf`, which is borrowed mutably for the whole call, and the
    // descriptor is borrowed and therefore open.
    let n = unsafe { libc::preadv2(file.as_raw_fd(), &raw const iov, 1, offset, libc::RWF_NOWAIT) };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

/// Appends at most `len` bytes of the file to `buf`, by one `preadv2(2)`.
///
/// # Errors
/// Any error of the call.
pub(super) fn pread_more(
    file: BorrowedFd<'_>,
    buf: &mut Vec<u8>,
    len: usize,
    offset: u64,
    flags: libc::c_int,
) -> io::Result<usize> {
    let offset = libc::off_t::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
    buf.reserve(len);
    let room = &mut buf.spare_capacity_mut()[..len];
    let iov = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
    // SAFETY: `iov` describes exactly `room`, which is borrowed mutably for the whole call and may
    // be written to, and the descriptor is borrowed and therefore open.
    let n = unsafe { libc::preadv2(file.as_raw_fd(), &raw const iov, 1, offset, flags) };
    let n = usize::try_from(n).map_err(|_| io::Error::last_os_error())?;
    assert!(n <= len, "the kernel reads no more than it is asked for");
    // SAFETY: the kernel has written the first `n` bytes of the room after the old end.
    unsafe { buf.set_len(buf.len() + n) };
    Ok(n)
}

/// Starts writing the dirty pages of a range to the disk, without waiting. A length of 0 means up
/// to the end. This is only a hint: errors are ignored, because the following fsync reports them.
pub(super) fn start_writeback(file: BorrowedFd<'_>, offset: u64, len: u64) {
    let (Ok(offset), Ok(len)) = (libc::off64_t::try_from(offset), libc::off64_t::try_from(len)) else {
        return;
    };
    // SAFETY: no memory is passed; the descriptor is borrowed and therefore open.
    unsafe { libc::sync_file_range(file.as_raw_fd(), offset, len, libc::SYNC_FILE_RANGE_WRITE) };
}

/// Drops the file's clean pages from the cache. This is only a hint, for files that are not read
/// again, and for benches.
pub(super) fn forget_cached(file: BorrowedFd<'_>) {
    // SAFETY: no memory is passed; the descriptor is borrowed and therefore open.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
}

/// For each page of the first `len` bytes of a file, whether it is in the page cache.
#[cfg(test)]
pub(super) fn cached_pages(file: BorrowedFd<'_>, len: usize) -> Vec<bool> {
    let mut pages = vec![0u8; len.div_ceil(page_bytes())];
    // SAFETY: the kernel chooses the place of a new map, which is never read, only asked about, and
    // is gone at the end. `pages` has a byte for each page of the map and outlives the call.
    unsafe {
        let map =
            libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0);
        assert_ne!(map, libc::MAP_FAILED, "mapped");
        assert_eq!(libc::mincore(map, len, pages.as_mut_ptr()), 0, "asked");
        libc::munmap(map, len);
    }
    pages.into_iter().map(|page| page & 1 == 1).collect()
}

/// Bytes of a page of the kernel's memory.
pub(super) fn page_bytes() -> usize {
    // SAFETY: takes no pointers.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(bytes).unwrap_or(4096)
}

/// Process id of the holder of a lock that prevents writing any of these bytes (or reading them,
/// without `exclusive`). It is -1 if the kernel can't tell, as for an OFD lock.
pub(super) fn locked_by(
    file: BorrowedFd<'_>,
    from: u64,
    len: u64,
    exclusive: bool,
) -> io::Result<Option<libc::pid_t>> {
    let mut lock = range(if exclusive { libc::F_WRLCK } else { libc::F_RDLCK }, from, len)?;
    // SAFETY: the descriptor is borrowed and therefore open. `lock` lives until the call returns.
    let rc = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &raw mut lock) };
    if rc != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((i32::from(lock.l_type) != libc::F_UNLCK).then_some(lock.l_pid))
}

/// Takes a lock of this kind on a range, or releases it with `F_UNLCK`, without waiting. The lock
/// belongs to the descriptor.
pub(super) fn lock_range(file: BorrowedFd<'_>, kind: libc::c_int, from: u64, len: u64) -> io::Result<bool> {
    let lock = range(kind, from, len)?;
    loop {
        // SAFETY: the descriptor is borrowed and therefore open. `lock` lives until the call
        // returns, which only reads it.
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

/// `F_SETSIG` of `fcntl(2)`: sets the signal that the kernel sends when it needs a lease back. The
/// number is the same on all architectures that lsfast is built for.
const F_SETSIG: libc::c_int = 10;

/// Whether the kernel knows another descriptor of the file. It grants a write lease only for the
/// sole open descriptor. So this function requests one, and returns it at once.
pub(super) fn is_open_elsewhere(file: BorrowedFd<'_>) -> bool {
    let fd = file.as_raw_fd();
    // If another process opens the file meanwhile, the kernel sends a signal to get the lease back.
    // SIGURG is ignored by default; the usual SIGIO would end this process.
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
    // SAFETY: `flock` is a plain structure of integers, for which zeros are a valid value.
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
    // 0 and negative numbers would mean process groups.
    assert!(pid > 0, "a process has a positive number");
    // SAFETY: takes no pointers.
    let rc = unsafe { libc::kill(pid, signal) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sends a signal to all processes of the group that the process `leader` leads.
pub(super) fn kill_group(leader: u32, signal: i32) -> io::Result<()> {
    let group = libc::pid_t::try_from(leader).map_err(|_| io::ErrorKind::InvalidInput)?;
    // 0 means the caller's own group. The effect of 1 depends on the C library.
    assert!(group > 1, "a group has the number of a process");
    // SAFETY: takes no pointers.
    let rc = unsafe { libc::killpg(group, signal) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Gives this thread priority over all ordinary threads (`SCHED_FIFO`). `Ok(false)` if the thread
/// has another policy already. Threads that it starts meanwhile are ordinary.
pub(super) fn make_urgent() -> io::Result<bool> {
    // SAFETY: takes no pointers.
    let policy = unsafe { libc::syscall(libc::SYS_sched_getscheduler, 0) };
    // The flag remains from an earlier call.
    if policy & !libc::c_long::from(libc::SCHED_RESET_ON_FORK) != libc::c_long::from(libc::SCHED_OTHER) {
        return Ok(false);
    }
    set_scheduler(libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, 1).map(|()| true)
}

/// Makes this thread an ordinary one. The flag stays, because only `CAP_SYS_NICE` may clear it, and
/// without that capability the whole call would fail.
pub(super) fn make_ordinary() -> io::Result<()> {
    set_scheduler(libc::SCHED_OTHER | libc::SCHED_RESET_ON_FORK, 0)
}

fn set_scheduler(policy: libc::c_int, priority: libc::c_int) -> io::Result<()> {
    // The kernel's `sched_param` is this one number. That of a C library may have more fields.
    // In some C libraries the function of this name sets the policy of the process, so this is the
    // system call.
    // SAFETY: 0 means the calling thread; `priority` is only read.
    let rc = unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const priority) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Returns free heap memory to the system, if the C library can.
pub(super) fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes no pointers and may be called by any thread at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Makes the heap keep freed memory and serve blocks up to 32 MiB, if the C library can. All
/// threads share one heap; otherwise each thread would keep what it once needed.
pub(super) fn keep_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes no pointers, and any thread may call it at any time. A refused option keeps its
    // value.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_MMAP_THRESHOLD, 32 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
    }
}

/// Type of the constants that name limits; it differs between C libraries.
#[cfg(target_env = "gnu")]
type Resource = libc::__rlimit_resource_t;
#[cfg(not(target_env = "gnu"))]
type Resource = libc::c_int;

/// Sets a soft limit to `new(soft, hard)`, at most the hard limit. Returns the soft limit before
/// and after. It allocates no memory, so it may run between `fork` and `exec`.
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

/// Raises the soft limit of open descriptors to the hard limit. Returns the soft limit before and
/// after.
pub(super) fn raise_descriptors() -> io::Result<(u64, u64)> {
    change_limit(libc::RLIMIT_NOFILE, |_, hard| hard)
}

/// Sets the maximum size of core files to 0. Returns the soft limit before.
pub(super) fn forbid_core() -> io::Result<u64> {
    change_limit(libc::RLIMIT_CORE, |_, _| 0).map(|(before, _)| before)
}

/// Prepares a program that is about to start. It gets these soft limits of open files and of core
/// files, and inherits the descriptor `kept`.
pub(super) fn equip_child(command: &mut Command, limits: (Option<u64>, Option<u64>), kept: RawFd) {
    let limits = [(libc::RLIMIT_NOFILE, limits.0), (libc::RLIMIT_CORE, limits.1)];
    let prepare = move || {
        for (which, soft) in limits {
            if let Some(soft) = soft {
                change_limit(which, |_, _| soft)?;
            }
        }
        // SAFETY: takes no pointers.
        if unsafe { libc::fcntl(kept, libc::F_SETFD, 0) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    };
    // SAFETY: `prepare` runs in the child between `fork` and `exec`, where locks of other threads
    // may be held for ever. It takes no locks: it only makes system calls, allocates no memory, and
    // owns nothing but numbers.
    unsafe { command.pre_exec(prepare) };
}

/// Takes over a descriptor that the parent process has left open for this one. Programs that this
/// process starts do not inherit it.
pub(super) fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: takes no pointers. It fails if the descriptor is not open.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is open. The parent left it open for this process, which runs nothing
    // yet that could own it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Blocks the signals that are sent to whole process groups, for all threads that start from now
/// on. Returns the mask before.
pub(super) fn block_signals() -> io::Result<libc::sigset_t> {
    let (mut blocked, mut before) = (empty_signal_set(), empty_signal_set());
    for signal in [
        libc::SIGINT,
        libc::SIGTERM,
        libc::SIGHUP,
        libc::SIGQUIT,
        libc::SIGUSR1,
        libc::SIGUSR2,
        libc::SIGPIPE,
    ] {
        // SAFETY: the set is initialised and lives until the call returns.
        unsafe { libc::sigaddset(&raw mut blocked, signal) };
    }
    // SAFETY: both sets live until the call returns.
    let rc = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const blocked, &raw mut before) };
    if rc == 0 { Ok(before) } else { Err(io::Error::from_raw_os_error(rc)) }
}

fn empty_signal_set() -> libc::sigset_t {
    // SAFETY: `sigset_t` is a plain structure, for which zeros are a valid value.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` lives until the call returns, which fills it.
    unsafe { libc::sigemptyset(&raw mut set) };
    set
}

/// Prepares a program that is about to start. It gets this signal mask, and SIGTERM when the thread
/// that starts it ends.
pub(super) fn tie_child(command: &mut Command, mask: libc::sigset_t) {
    let parent = std::process::id();
    let prepare = move || {
        // SAFETY: `mask` lives until the call returns, and a null pointer for the old one is
        // allowed.
        let rc = unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const mask, std::ptr::null_mut()) };
        if rc != 0 {
            return Err(io::Error::from_raw_os_error(rc));
        }
        // SAFETY: takes no pointers.
        if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // If our process has ended before this call, the kernel sends no signal.
        if std::os::unix::process::parent_id() != parent {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        Ok(())
    };
    // SAFETY: as in `equip_child`; it owns a plain structure besides.
    unsafe { command.pre_exec(prepare) };
}

/// Process id of a child that has ended and was not waited for. The child remains in that state.
pub(super) fn ended_child() -> io::Result<Option<u32>> {
    // SAFETY: `siginfo_t` is a plain structure, for which zeros are a valid value.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: `info` lives until the call returns, which fills it.
    let rc =
        unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT) };
    if rc != 0 {
        let e = io::Error::last_os_error();
        return if e.raw_os_error() == Some(libc::ECHILD) { Ok(None) } else { Err(e) };
    }
    // SAFETY: a successful `waitid` sets this field, or leaves the 0 from above if there is no such
    // child.
    let pid = unsafe { info.si_pid() };
    Ok(u32::try_from(pid).ok().filter(|pid| *pid != 0))
}

/// Takes the exit status of a child that has ended, which removes the zombie.
pub(super) fn reap(pid: u32) -> io::Result<()> {
    let pid = libc::pid_t::try_from(pid).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: a null pointer for the status is allowed.
    let rc = unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::WNOHANG) };
    if rc == pid { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Bytes that an ordinary user may still write to the file system of `path`, and its magic number.
pub(super) fn file_system(path: &Path) -> io::Result<(u64, u64)> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: `statfs` is a plain structure of integers, for which zeros are a valid value.
    let mut found: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the name is NUL-terminated and `found` has the size that the kernel writes; both live
    // until the call returns.
    let rc = unsafe { libc::statfs(path.as_ptr(), &raw mut found) };
    if rc != 0 {
        return Err(io::Error::last_os_error());
    }
    let block = u64::try_from(found.f_bsize).unwrap_or(0);
    // The width of this type differs between architectures; magic numbers have 32 bits.
    Ok((found.f_bavail.saturating_mul(block), u64::from(found.f_type as u32)))
}

/// Whether the effective user of this process may access `path` as `mode` says.
pub(super) fn may(path: &Path, mode: libc::c_int) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: the name is NUL-terminated and lives until the call returns.
    let rc = unsafe { libc::faccessat(libc::AT_FDCWD, path.as_ptr(), mode, libc::AT_EACCESS) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
