//! A clock that jumps over every wait: hours of backoffs, intervals and retention pass within
//! milliseconds.
//!
//! The program's time is the kernel's plus [`AHEAD`]. What the standard library, tokio and SQLite
//! ask for the time or wait with is defined here in the place of libc's: `clock_gettime`,
//! `epoll_wait`, `timerfd_settime`, `nanosleep`, `clock_nanosleep` and `syscall`. Unless [`start`]
//! was called they do what libc does, so that no other test of this binary notices them.
//!
//! When the thread of the simulation waits for events, and no other thread of the process has
//! anything to do, the clock jumps to the end of the shortest wait. While a thread works, time goes
//! by as it does outside.
#![allow(unsafe_code, reason = "libc's functions can only be replaced by unsafe code")]

use std::cell::Cell;
use std::ffi::CStr;
use std::fs::File;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use libc::{c_int, c_long, clockid_t, timespec};

/// Whether the clock jumps.
static ON: AtomicBool = AtomicBool::new(false);
/// Nanoseconds by which the program's clocks are ahead of the kernel's.
static AHEAD: AtomicI64 = AtomicI64::new(0);
/// Nanoseconds by which the wall clock alone is ahead of that.
static WALL: AtomicI64 = AtomicI64::new(0);
/// Another process has something to do.
static OUTSIDE: AtomicBool = AtomicBool::new(false);
/// No thread may sleep any more.
static DRAINS: AtomicBool = AtomicBool::new(false);
/// How often a thread was woken, or may have been.
static WAKES: AtomicU64 = AtomicU64::new(0);
/// When the sleep of each sleeping thread ends.
static SLEEPERS: Mutex<Vec<i64>> = Mutex::new(Vec::new());
thread_local! {
    /// Whether this is the thread whose waits the clock jumps over.
    static IS_DRIVER: Cell<bool> = const { Cell::new(false) };
}

/// How many threads there were, and the state of each but the driver's. One that ran at the last
/// look is the first.
static THREADS: Mutex<(u64, Vec<Thread>)> = Mutex::new((0, Vec::new()));
/// [`WAKES`] before the last look that found no thread at work.
static IDLE_SINCE: AtomicU64 = AtomicU64::new(u64::MAX);
/// Timer descriptors that are armed, and when they expire.
static TIMERS: Mutex<Vec<(c_int, i64)>> = Mutex::new(Vec::new());

/// Pause between two looks whether anything has happened, in nanoseconds: the first one, and the
/// longest. They grow, because a thread that waits for a processor does not get it by looks.
const LOOK_AGAIN: i64 = 15_000;
const LOOK_AGAIN_MAX: i64 = 150_000;

/// Looks within which a timer that is due is seen to expire.
const EXPIRES_WITHIN: u32 = 200;

fn lock<T>(of: &'static Mutex<T>) -> MutexGuard<'static, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on the clock jumps over the waits of the calling thread.
pub fn start() {
    IS_DRIVER.set(true);
    ON.store(true, Relaxed);
}

/// Sets the wall clock this far from what it would be, in milliseconds.
pub fn set_wall(ms: i64) {
    WALL.store(ms * 1_000_000, Relaxed);
}

/// Another process works for this one, so that time goes by as it does outside.
pub fn outside(works: bool) {
    OUTSIDE.store(works, Relaxed);
    may_wake();
}

/// Another process may have woken a thread that waits for a lock.
pub fn may_wake() {
    WAKES.fetch_add(1, Relaxed);
}

/// The file with the state of a thread, and where the state is in it: `TID (NAME) STATE ...`.
struct Thread(File, Cell<usize>);

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

/// Time since the start of the host, without any jump.
pub fn real() -> Duration {
    Duration::from_nanos((now() - AHEAD.load(Relaxed)) as u64)
}

fn spec(nanos: i64) -> timespec {
    timespec { tv_sec: nanos.div_euclid(1_000_000_000), tv_nsec: nanos.rem_euclid(1_000_000_000) }
}

fn nanos(time: &timespec) -> i64 {
    time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec)
}

/// The monotonic clock with its jumps.
fn now() -> i64 {
    let mut time = spec(0);
    // SAFETY: `time` outlives the call, which only writes to it.
    unsafe { clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    nanos(&time)
}

/// Whether this thread's waits are jumped over.
fn is_driver() -> bool {
    IS_DRIVER.try_with(Cell::get).unwrap_or(false)
}

/// Whether any other thread of this process runs. Those that sleep do so until a call of
/// [`syscall`] wakes them, so that their states are rarely read. The kernel tells the number of
/// threads as the links of their folder.
fn others_run() -> bool {
    let wakes = WAKES.load(SeqCst);
    let count = std::fs::metadata("/proc/self/task").map_or(0, |m| m.nlink());
    let mut known = lock(&THREADS);
    if known.0 == count {
        if IDLE_SINCE.load(Relaxed) == wakes && lock(&SLEEPERS).is_empty() {
            return false;
        }
        match known.1.iter().position(|thread| thread.runs() != Some(false)) {
            None => {
                IDLE_SINCE.store(wakes, Relaxed);
                return false;
            }
            Some(at) if known.1[at].runs().is_some() => {
                known.1.swap(0, at);
                return true;
            }
            Some(_) => {}
        }
    }
    // SAFETY: takes nothing, and cannot fail.
    let own = unsafe { libc::gettid() }.to_string();
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let others = threads.filter(|t| t.file_name().to_str() != Some(&own));
    let files = others.filter_map(|t| File::open(t.path().join("stat")).ok());
    *known = (count, files.map(|file| Thread(file, Cell::new(0))).collect());
    true
}

impl Thread {
    /// Whether it runs; `None` if it has ended.
    fn runs(&self) -> Option<bool> {
        let mut line = [0; 64];
        let len = self.0.read_at(&mut line, 0).ok().filter(|len| *len > 0)?;
        let mut at = self.1.get();
        if at < 2 || line[at - 2..at] != *b") " {
            at = line[..len].windows(2).position(|w| w == b") ")? + 2;
            self.1.set(at);
        }
        Some(!b"SZX".contains(line.get(at)?))
    }
}

/// Moves the clock, and the timers with it.
fn jump(by: i64) {
    AHEAD.fetch_add(by.max(0), Relaxed);
    let now = now();
    lock(&TIMERS).retain(|(fd, at)| {
        arm(*fd, (at - now).max(1));
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
fn replaced(name: &CStr, known: &AtomicUsize) -> usize {
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
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(id: clockid_t, time: *mut timespec) -> c_int {
    static KNOWN: AtomicUsize = AtomicUsize::new(0);
    type Get = unsafe extern "C" fn(clockid_t, *mut timespec) -> c_int;
    // SAFETY: libc's function has this type.
    let get: Get = unsafe { std::mem::transmute(replaced(c"clock_gettime", &KNOWN)) };
    // SAFETY: the caller keeps the rules of `clock_gettime`.
    let done = unsafe { get(id, time) };
    if done != 0 || !ON.load(Relaxed) {
        return done;
    }
    let wall = matches!(id, libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE);
    let other = [
        libc::CLOCK_MONOTONIC,
        libc::CLOCK_MONOTONIC_RAW,
        libc::CLOCK_MONOTONIC_COARSE,
        libc::CLOCK_BOOTTIME,
    ];
    if wall || other.contains(&id) {
        let ahead = AHEAD.load(Relaxed) + if wall { WALL.load(Relaxed) } else { 0 };
        // SAFETY: the call above has written to it.
        unsafe { *time = spec(nanos(&*time) + ahead) };
    }
    done
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
    let mut pause_ns = LOOK_AGAIN;
    loop {
        let found = wait(0);
        if found != 0 || timeout == 0 {
            return found;
        }
        if OUTSIDE.load(Relaxed) || others_run() {
            if end.is_some_and(|end| now() >= end) {
                return 0;
            }
            let (mut one, time) =
                (libc::pollfd { fd: epfd, events: libc::POLLIN, revents: 0 }, spec(pause_ns));
            pause_ns = (pause_ns + pause_ns / 2).min(LOOK_AGAIN_MAX);
            // SAFETY: one descriptor that outlives the call, a time that is only read, no mask.
            unsafe { libc::ppoll(&raw mut one, 1, &raw const time, std::ptr::null()) };
            continue;
        }
        // A thread may have finished its work between the two looks.
        let found = wait(0);
        if found != 0 {
            return found;
        }
        let timers: Vec<i64> = lock(&TIMERS).iter().map(|(_, at)| *at).collect();
        let sleepers = lock(&SLEEPERS).clone();
        let Some(next) = end.into_iter().chain(timers).chain(sleepers).min() else {
            pause(Duration::from_micros(200));
            continue;
        };
        jump(next - now());
        pause_ns = LOOK_AGAIN;
        if end.is_some_and(|end| now() >= end) {
            return wait(0);
        }
        // The thread that sleeps, or the timer, needs a moment to be seen.
        if !lock(&SLEEPERS).is_empty() {
            pause(Duration::from_micros(5));
            continue;
        }
        for _ in 0..EXPIRES_WITHIN {
            let found = wait(0);
            if found != 0 {
                return found;
            }
        }
    }
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
    }
    // SAFETY: the caller keeps the rules of `timerfd_settime`.
    unsafe { libc::syscall(libc::SYS_timerfd_settime, fd, flags, new, old) as c_int }
}

/// Notes who wakes threads: the standard library does so by this function.
///
/// # Safety
/// As `syscall(2)`, which takes any number of arguments: more than are passed are read, and ignored
/// by the kernel.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syscall(
    number: c_long,
    a: c_long,
    b: c_long,
    c: c_long,
    d: c_long,
    e: c_long,
    f: c_long,
) -> c_long {
    static KNOWN: AtomicUsize = AtomicUsize::new(0);
    type Call = unsafe extern "C" fn(c_long, ...) -> c_long;
    if number == libc::SYS_futex && !matches!(b as c_int & 0x7f, libc::FUTEX_WAIT | libc::FUTEX_WAIT_BITSET) {
        WAKES.fetch_add(1, SeqCst);
    }
    // SAFETY: libc's function has this type.
    let call: Call = unsafe { std::mem::transmute(replaced(c"syscall", &KNOWN)) };
    // SAFETY: the caller keeps the rules of the call.
    unsafe { call(number, a, b, c, d, e, f) }
}

/// Sleeps until `end` of the clock that jumps.
fn sleep_until(end: i64) {
    if is_driver() {
        return jump(end - now());
    }
    lock(&SLEEPERS).push(end);
    while now() < end && !DRAINS.load(Relaxed) {
        pause(Duration::from_micros(30));
    }
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
