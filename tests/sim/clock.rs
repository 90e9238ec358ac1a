//! A clock that jumps over every wait: hours of backoffs, intervals and retention pass within
//! milliseconds.
//!
//! What the standard library, tokio and SQLite ask for the time or wait with is defined here in the
//! place of libc's: `clock_gettime`, `epoll_wait`, `timerfd_settime`, `nanosleep` and
//! `clock_nanosleep`; what shows whether a thread has something to do is in [`threads`]. Unless
//! [`start`] was called they do what libc does.
//!
//! When the thread of the simulation waits for events, and no other thread of the process has
//! anything to do, the clock jumps to the end of the shortest wait. While a thread works, the clock
//! nearly stands still, so that a history hardly depends on how fast the machine is. Time goes by
//! as it does outside while another process works for this one, and once a thread has worked for
//! [`PATIENCE`].
#![allow(unsafe_code, reason = "libc's functions can only be replaced by unsafe code")]

use std::cell::Cell;
use std::ffi::CStr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use libc::{c_int, clockid_t, timespec};

use super::threads;

/// Whether the clock jumps.
static ON: AtomicBool = AtomicBool::new(false);
/// The monotonic clock of the program in nanoseconds, years ahead of the kernel's, so that the
/// kernel ends no wait by itself.
static TIME: AtomicI64 = AtomicI64::new(0);
/// Nanoseconds by which the wall clock is ahead of [`TIME`] as a history begins.
static WALL_BASE: AtomicI64 = AtomicI64::new(0);
/// Nanoseconds by which the wall clock was set since then.
static WALL: AtomicI64 = AtomicI64::new(0);
/// The thread of the simulation waits for events.
static DRIVER_WAITS: AtomicBool = AtomicBool::new(false);
/// Another process has something to do.
static OUTSIDE: AtomicBool = AtomicBool::new(false);
/// No thread may sleep any more.
static DRAINS: AtomicBool = AtomicBool::new(false);
/// When the sleep of each sleeping thread ends.
static SLEEPERS: Mutex<Vec<i64>> = Mutex::new(Vec::new());
thread_local! {
    /// Whether this is the thread whose waits the clock jumps over.
    static IS_DRIVER: Cell<bool> = const { Cell::new(false) };
}

/// Timer descriptors that are armed, and when they expire.
static TIMERS: Mutex<Vec<(c_int, i64)>> = Mutex::new(Vec::new());

/// Pause between two looks whether anything has happened, in nanoseconds: the first one, and the
/// longest. They grow, because a thread that waits for a processor does not get it by looks.
const LOOK_AGAIN: i64 = 15_000;
const LOOK_AGAIN_MAX: i64 = 150_000;

/// Looks within which a timer that is due is seen to expire.
const EXPIRES_WITHIN: u32 = 200;

/// Nanoseconds by which each look at the clock moves it.
const LOOK: i64 = 200;
/// Nanoseconds by which the program's clock is ahead of the kernel's at first.
const AHEAD: i64 = 10 * 365 * 86_400 * 1_000_000_000;
/// Nanoseconds of a day. A history begins at midnight, so that levels end at the same moments of
/// it.
const DAY: i64 = 86_400 * 1_000_000_000;
/// Nanoseconds for which other threads work before time goes by as outside: they may wait for it.
const PATIENCE: i64 = 2_000_000_000;

/// Whether any thread sleeps by this clock.
pub fn are_asleep() -> bool {
    !lock(&SLEEPERS).is_empty()
}

pub fn lock<T>(of: &'static Mutex<T>) -> MutexGuard<'static, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on the clock jumps over the waits of the calling thread.
pub fn start() {
    IS_DRIVER.set(true);
    TIME.store(kernel(libc::CLOCK_MONOTONIC) + AHEAD, Relaxed);
    threads::start();
    ON.store(true, Relaxed);
}

/// A history begins: whatever came before, the wall clock shows the beginning of tomorrow.
pub fn begin() {
    let tomorrow = (kernel(libc::CLOCK_REALTIME) / DAY + 1) * DAY;
    WALL_BASE.store(tomorrow - TIME.load(Relaxed), Relaxed);
    WALL.store(0, Relaxed);
    lock(&TIMERS).clear();
}

/// Sets the wall clock this far from what it would be, in milliseconds.
pub fn set_wall(ms: i64) {
    WALL.store(ms * 1_000_000, Relaxed);
}

/// Another process works for this one, so that time goes by as it does outside.
pub fn outside(works: bool) {
    OUTSIDE.store(works, Relaxed);
    threads::may_wake();
}

/// Ends the sleeps of all threads at once, from now on or no longer.
pub fn drain(drains: bool) {
    DRAINS.store(drains, Relaxed);
    if !drains {
        lock(&TIMERS).clear();
    }
}

/// A real pause of the calling thread.
pub fn pause(time: Duration) {
    let wait = spec(time.as_nanos() as i64);
    // SAFETY: `wait` is only read; a null pointer for the rest is allowed.
    unsafe { libc::syscall(libc::SYS_nanosleep, &raw const wait, std::ptr::null_mut::<timespec>()) };
}

/// A real wait until there is something to read.
pub fn wait_for(stream: &std::os::unix::net::UnixStream) {
    use std::os::fd::AsRawFd as _;
    let mut one = libc::pollfd { fd: stream.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one descriptor that outlives the call.
    unsafe { libc::poll(&raw mut one, 1, -1) };
}

/// Time since the start of the host, without any jump.
pub fn real() -> Duration {
    Duration::from_nanos(kernel(libc::CLOCK_MONOTONIC) as u64)
}

fn spec(nanos: i64) -> timespec {
    timespec { tv_sec: nanos.div_euclid(1_000_000_000), tv_nsec: nanos.rem_euclid(1_000_000_000) }
}

fn nanos(time: &timespec) -> i64 {
    time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec)
}

/// The monotonic clock with its jumps.
fn now() -> i64 {
    TIME.fetch_add(LOOK, Relaxed) + LOOK
}

/// A clock of the kernel.
fn kernel(id: clockid_t) -> i64 {
    let mut time = spec(0);
    // SAFETY: `time` outlives the call, which only writes to it.
    unsafe { kernel_clock(id, &raw mut time) };
    nanos(&time)
}

/// Whether this thread's waits are jumped over.
fn is_driver() -> bool {
    IS_DRIVER.try_with(Cell::get).unwrap_or(false)
}

/// Moves the clock, and lets the timers expire that are due then.
fn jump(by: i64) {
    let now = TIME.fetch_add(by.max(0), Relaxed) + by.max(0);
    lock(&TIMERS).retain(|(fd, at)| {
        if *at <= now {
            arm(*fd, 1);
        }
        *at > now
    });
}

fn arm(timer: c_int, wait: i64) -> c_int {
    let when = libc::itimerspec { it_interval: spec(0), it_value: spec(wait) };
    let none = std::ptr::null_mut::<libc::itimerspec>();
    // SAFETY: `when` is only read, and a null pointer for the old value is allowed. A descriptor
    // that is closed by now is an error without effect.
    unsafe { libc::syscall(libc::SYS_timerfd_settime, timer, 0, &raw const when, none) as c_int }
}

/// The function of libc that a definition here replaces.
pub fn replaced(name: &CStr, known: &AtomicUsize) -> usize {
    match known.load(Relaxed) {
        0 => {
            // SAFETY: the name ends with a zero byte; the result is only used as that function.
            let found = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) } as usize;
            assert_ne!(found, 0, "libc has {name:?}");
            known.store(found, Relaxed);
            found
        }
        known => known,
    }
}

/// # Safety
/// As `clock_gettime(2)`.
unsafe fn kernel_clock(id: clockid_t, time: *mut timespec) -> c_int {
    static KNOWN: AtomicUsize = AtomicUsize::new(0);
    type Get = unsafe extern "C" fn(clockid_t, *mut timespec) -> c_int;
    // SAFETY: libc's function has this type.
    let get: Get = unsafe { std::mem::transmute(replaced(c"clock_gettime", &KNOWN)) };
    // SAFETY: the caller keeps the rules of `clock_gettime`.
    unsafe { get(id, time) }
}

/// # Safety
/// As `clock_gettime(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(id: clockid_t, time: *mut timespec) -> c_int {
    let wall = matches!(id, libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE);
    let other = [
        libc::CLOCK_MONOTONIC,
        libc::CLOCK_MONOTONIC_RAW,
        libc::CLOCK_MONOTONIC_COARSE,
        libc::CLOCK_BOOTTIME,
    ];
    if !ON.load(Relaxed) || !wall && !other.contains(&id) {
        // SAFETY: the caller keeps the rules of `clock_gettime`.
        return unsafe { kernel_clock(id, time) };
    }
    let ahead = if wall { WALL_BASE.load(Relaxed) + WALL.load(Relaxed) } else { 0 };
    // SAFETY: the caller passes a place for the time.
    unsafe { *time = spec(now() + ahead) };
    0
}

/// # Safety
/// As `epoll_wait(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn epoll_wait(
    epfd: c_int,
    events: *mut libc::epoll_event,
    max: c_int,
    timeout: c_int,
) -> c_int {
    let wait = |timeout: c_int| {
        let none = std::ptr::null::<libc::sigset_t>();
        // SAFETY: the caller keeps the rules of `epoll_wait`; no signal mask is passed.
        unsafe { libc::syscall(libc::SYS_epoll_pwait, epfd, events, max, timeout, none, 8) as c_int }
    };
    if !ON.load(Relaxed) || !is_driver() {
        return wait(timeout);
    }
    let end = (timeout >= 0).then(|| now() + i64::from(timeout) * 1_000_000);
    let (mut pause_ns, mut looked, mut busy_ns, mut looks) = (LOOK_AGAIN, None, 0, 0);
    DRIVER_WAITS.store(true, Relaxed);
    let found = loop {
        // In this order: what a thread has done before it waits is seen.
        let busy = OUTSIDE.load(Relaxed) || threads::others_run(looks);
        let found = wait(0);
        if found != 0 || timeout == 0 {
            break found;
        }
        if busy {
            looks += 1;
            let before = looked.unwrap_or_else(|| kernel(libc::CLOCK_MONOTONIC));
            let (mut one, time) =
                (libc::pollfd { fd: epfd, events: libc::POLLIN, revents: 0 }, spec(pause_ns));
            pause_ns = (pause_ns + pause_ns / 2).min(LOOK_AGAIN_MAX);
            // SAFETY: one descriptor that outlives the call, a time that is only read, no mask.
            unsafe { libc::ppoll(&raw mut one, 1, &raw const time, std::ptr::null()) };
            let after = kernel(libc::CLOCK_MONOTONIC);
            looked = Some(after);
            busy_ns += after - before;
            if OUTSIDE.load(Relaxed) || busy_ns > PATIENCE {
                jump(after - before);
            }
            if end.is_some_and(|end| now() >= end) {
                break 0;
            }
            continue;
        }
        (looked, busy_ns, looks) = (None, 0, 0);
        let timers: Vec<i64> = lock(&TIMERS).iter().map(|(_, at)| *at).collect();
        let sleepers = lock(&SLEEPERS).clone();
        let Some(next) = end.into_iter().chain(timers).chain(sleepers).min() else {
            pause(Duration::from_micros(200));
            continue;
        };
        jump(next - now());
        pause_ns = LOOK_AGAIN;
        if end.is_some_and(|end| now() >= end) {
            break 0;
        }
        // The thread that sleeps, or the timer, needs a moment to be seen.
        if !lock(&SLEEPERS).is_empty() {
            pause(Duration::from_micros(5));
            continue;
        }
        if let Some(found) = (0..EXPIRES_WITHIN).map(|_| wait(0)).find(|found| *found != 0) {
            break found;
        }
    };
    DRIVER_WAITS.store(false, Relaxed);
    found
}

/// # Safety
/// As `timerfd_settime(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn timerfd_settime(
    fd: c_int,
    flags: c_int,
    new: *const libc::itimerspec,
    old: *mut libc::itimerspec,
) -> c_int {
    if ON.load(Relaxed) && flags == 0 {
        // SAFETY: the caller passes a valid time.
        let wait = nanos(unsafe { &(*new).it_value });
        let mut timers = lock(&TIMERS);
        timers.retain(|(of, _)| *of != fd);
        if wait > 0 {
            timers.push((fd, now() + wait));
        }
        // Until then it does not run.
        return arm(fd, 0);
    }
    // SAFETY: the caller keeps the rules of `timerfd_settime`.
    unsafe { libc::syscall(libc::SYS_timerfd_settime, fd, flags, new, old) as c_int }
}

/// Sleeps until `end` of the clock that jumps.
fn sleep_until(end: i64) {
    if is_driver() {
        return jump(end - now());
    }
    lock(&SLEEPERS).push(end);
    threads::sleeps(true);
    let mut looked = kernel(libc::CLOCK_MONOTONIC);
    while now() < end && !DRAINS.load(Relaxed) {
        pause(Duration::from_micros(30));
        let at = kernel(libc::CLOCK_MONOTONIC);
        // The driver may wait for this thread, and moves no clock then.
        if !DRIVER_WAITS.load(Relaxed) {
            jump(at - looked);
        }
        looked = at;
    }
    threads::sleeps(false);
    let mut sleepers = lock(&SLEEPERS);
    if let Some(at) = sleepers.iter().position(|s| *s == end) {
        sleepers.swap_remove(at);
    }
}

/// # Safety
/// As `nanosleep(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nanosleep(time: *const timespec, rest: *mut timespec) -> c_int {
    if !ON.load(Relaxed) {
        // SAFETY: the caller keeps the rules of `nanosleep`.
        return unsafe { libc::syscall(libc::SYS_nanosleep, time, rest) as c_int };
    }
    // SAFETY: the caller passes a valid time.
    sleep_until(now() + nanos(unsafe { &*time }));
    0
}

/// # Safety
/// As `clock_nanosleep(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_nanosleep(
    id: clockid_t,
    flags: c_int,
    time: *const timespec,
    rest: *mut timespec,
) -> c_int {
    if !ON.load(Relaxed) {
        // SAFETY: the caller keeps the rules of `clock_nanosleep`.
        let done = unsafe { libc::syscall(libc::SYS_clock_nanosleep, id, flags, time, rest) };
        return if done == 0 {
            0
        } else {
            std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINTR)
        };
    }
    // SAFETY: the caller passes a valid time.
    let time = nanos(unsafe { &*time });
    sleep_until(if flags == libc::TIMER_ABSTIME { time } else { now() + time });
    0
}
