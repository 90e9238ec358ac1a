//! A clock that jumps over every wait: hours of backoffs, intervals and retention pass within
//! milliseconds.
//!
//! What the standard library, tokio and SQLite ask for the time or wait with is defined here in the
//! place of libc's: `clock_gettime`, `epoll_wait`, timer descriptors, `nanosleep` and
//! `clock_nanosleep`. Unless [`start`] was called they do what libc does.
//!
//! While a thread works, the clock nearly stands still. When none has anything to do, it jumps to
//! the end of the shortest wait ([`threads`]).
#![allow(unsafe_code, reason = "libc's functions can only be replaced by unsafe code")]

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use libc::{c_int, c_long, clockid_t, timespec};

use super::hooks::{call, replaced};
use super::threads::{self, Wait};

/// Whether the clock jumps.
static ON: AtomicBool = AtomicBool::new(false);
/// The monotonic clock of the program in nanoseconds.
static TIME: AtomicI64 = AtomicI64::new(BEGIN);
/// Nanoseconds by which the wall clock was set.
static WALL: AtomicI64 = AtomicI64::new(0);
/// Timer descriptors that are armed, and when they expire.
static TIMERS: Mutex<Vec<(c_int, i64)>> = Mutex::new(Vec::new());

/// Nanoseconds by which each look at the clock moves it.
const LOOK: i64 = 200;
const DAY: i64 = 86_400 * 1_000_000_000;
/// The monotonic clock as a history begins.
const BEGIN: i64 = 3650 * DAY;
/// The wall clock as a history begins: at midnight, so that levels end at the same moments of it,
/// and later than the times that the kernel gives to files.
const WALL_BEGIN: i64 = 24_472 * DAY;

pub fn lock<T>(of: &'static Mutex<T>) -> MutexGuard<'static, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A history begins.
pub fn start() {
    ON.store(true, Relaxed);
}

/// Sets the wall clock this far from what it would be, in milliseconds.
pub fn set_wall(ms: i64) {
    WALL.store(ms * 1_000_000, Relaxed);
}

/// Time since the start of the host, without any jump.
pub fn real() -> Duration {
    let mut time = spec(0);
    // SAFETY: `time` outlives the call, which only writes to it.
    unsafe { kernel_clock(libc::CLOCK_MONOTONIC, &raw mut time) };
    Duration::from_nanos(nanos(&time) as u64)
}

fn spec(nanos: i64) -> timespec {
    timespec { tv_sec: nanos.div_euclid(1_000_000_000), tv_nsec: nanos.rem_euclid(1_000_000_000) }
}

pub fn nanos(time: &timespec) -> i64 {
    time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec)
}

/// The monotonic clock with its jumps.
pub fn now() -> i64 {
    TIME.fetch_add(LOOK, Relaxed) + LOOK
}

/// When the next timer expires.
pub fn next_timer() -> Option<i64> {
    lock(&TIMERS).iter().map(|(_, at)| *at).min()
}

/// Moves the clock, and lets the timers expire that are due then. Returns the time, and whether any
/// has expired.
pub fn jump_to(end: i64) -> (i64, bool) {
    let now = TIME.fetch_max(end, Relaxed).max(end);
    let mut timers = lock(&TIMERS);
    let before = timers.len();
    timers.retain(|(fd, at)| {
        if *at <= now {
            let one = 1_u64;
            // SAFETY: the eight bytes outlive the call.
            unsafe { call(libc::SYS_write, [c_long::from(*fd), &raw const one as c_long, 8, 0, 0, 0]) };
        }
        *at > now
    });
    (now, timers.len() < before)
}

/// The descriptor is closed.
pub fn forget_timer(fd: c_int) {
    lock(&TIMERS).retain(|(of, _)| *of != fd);
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
    let ahead = if wall { WALL_BEGIN - BEGIN + WALL.load(Relaxed) } else { 0 };
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
    let look = |timeout: c_int| {
        let all = [epfd, max, timeout].map(c_long::from);
        // SAFETY: the caller keeps the rules of `epoll_wait`; no signal mask is passed.
        unsafe { call(libc::SYS_epoll_pwait, [all[0], events as c_long, all[1], all[2], 0, 8]) as c_int }
    };
    if !threads::takes_part() {
        return look(timeout);
    }
    threads::let_others_run();
    let until = (timeout > 0).then(|| now() + i64::from(timeout) * 1_000_000);
    loop {
        let step = threads::step();
        let found = look(0);
        if found != 0 || timeout == 0 {
            return found;
        }
        if !threads::wait(Wait::Events(epfd, step), until) {
            return if threads::step() == step { 0 } else { look(0) };
        }
    }
}

/// A counter of events in the place of a timer, which the kernel's clock does not reach.
#[unsafe(no_mangle)]
pub extern "C" fn timerfd_create(id: clockid_t, flags: c_int) -> c_int {
    if threads::takes_part() {
        // SAFETY: takes no memory.
        return unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | flags & libc::EFD_CLOEXEC) };
    }
    // SAFETY: takes no memory.
    unsafe { call(libc::SYS_timerfd_create, [c_long::from(id), c_long::from(flags), 0, 0, 0, 0]) as c_int }
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
    if threads::takes_part() {
        assert_eq!(flags, 0, "a time from now on");
        // SAFETY: the caller passes a valid time.
        let wait = nanos(unsafe { &(*new).it_value });
        let mut count = 0_u64;
        // SAFETY: the eight bytes outlive the call, which does not wait.
        unsafe { call(libc::SYS_read, [c_long::from(fd), &raw mut count as c_long, 8, 0, 0, 0]) };
        let mut timers = lock(&TIMERS);
        timers.retain(|(of, _)| *of != fd);
        if wait > 0 {
            timers.push((fd, now() + wait));
        }
        return 0;
    }
    let all = [c_long::from(fd), c_long::from(flags), new as c_long, old as c_long, 0, 0];
    // SAFETY: the caller keeps the rules of `timerfd_settime`.
    unsafe { call(libc::SYS_timerfd_settime, all) as c_int }
}

/// Sleeps until `end` of the clock that jumps.
fn sleep_until(end: i64) {
    threads::wait(Wait::Time, Some(end));
}

/// # Safety
/// As `nanosleep(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nanosleep(time: *const timespec, rest: *mut timespec) -> c_int {
    // SAFETY: the caller passes a valid time.
    let wait = nanos(unsafe { &*time });
    if super::app::sleeps(wait) {
        return 0;
    }
    if threads::takes_part() {
        sleep_until(now() + wait);
        return 0;
    }
    // SAFETY: the caller keeps the rules of `nanosleep`.
    unsafe { call(libc::SYS_nanosleep, [time as c_long, rest as c_long, 0, 0, 0, 0]) as c_int }
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
    if threads::takes_part() {
        // SAFETY: the caller passes a valid time.
        let time = nanos(unsafe { &*time });
        sleep_until(if flags == libc::TIMER_ABSTIME { time } else { now() + time });
        return 0;
    }
    let all = [c_long::from(id), c_long::from(flags), time as c_long, rest as c_long, 0, 0];
    // SAFETY: the caller keeps the rules of `clock_nanosleep`.
    match unsafe { call(libc::SYS_clock_nanosleep, all) } {
        0 => 0,
        _ => std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINTR),
    }
}
