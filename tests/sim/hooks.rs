//! Functions of libc that are defined here in its place: those by which threads wait for each
//! other, for files and for nothing in particular, and the one that returns random bytes.
//!
//! Unless the calling thread [takes part](threads::takes_part) they do what libc does.
#![allow(unsafe_code, reason = "libc's functions can only be replaced by unsafe code")]

use std::ffi::CStr;
use std::sync::Mutex;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicUsize};

use fastrand::Rng;
use libc::{c_int, c_long, c_void};

use super::threads::{self, Wait};
use super::{app, clock};

/// What random bytes come from, in a history.
static RANDOM: Mutex<Option<Rng>> = Mutex::new(None);

/// Processors that this process seems to have.
static PROCESSORS: AtomicU32 = AtomicU32::new(2);

/// From now on random bytes are those of a seed, and the number of processors, too: one in most
/// histories, because each further thread of a restore costs a history more than all that it does.
pub fn start(seed: u64) {
    *clock::lock(&RANDOM) = Some(Rng::with_seed(seed));
    PROCESSORS.store(if seed.is_multiple_of(4) { 2 } else { 1 }, Relaxed);
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

/// A system call, without any of what is defined here.
///
/// # Safety
/// As `syscall(2)`, which takes any number of arguments: more than are passed are read, and ignored
/// by the kernel.
pub unsafe fn call(number: c_long, [a, b, c, d, e, f]: [c_long; 6]) -> c_long {
    static KNOWN: AtomicUsize = AtomicUsize::new(0);
    type Call = unsafe extern "C" fn(c_long, ...) -> c_long;
    // SAFETY: libc's function has this type.
    let call: Call = unsafe { std::mem::transmute(replaced(c"syscall", &KNOWN)) };
    // SAFETY: the caller keeps the rules of the call.
    unsafe { call(number, a, b, c, d, e, f) }
}

/// Waits in the kernel while the number is this one.
pub fn futex_wait(at: &AtomicU32, value: u32) {
    let op = c_long::from(libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG);
    // SAFETY: the number outlives the call, and there is no time limit.
    unsafe { call(libc::SYS_futex, [at.as_ptr() as c_long, op, c_long::from(value), 0, 0, 0]) };
}

/// Wakes the thread that waits in [`futex_wait`].
pub fn futex_wake(at: &AtomicU32) {
    let op = c_long::from(libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG);
    // SAFETY: only the address is used.
    unsafe { call(libc::SYS_futex, [at.as_ptr() as c_long, op, 1, 0, 0, 0]) };
}

/// Whether an epoll descriptor has events.
pub fn has_events(epoll: c_int) -> bool {
    let mut one = libc::pollfd { fd: epoll, events: libc::POLLIN, revents: 0 };
    // SAFETY: one descriptor that outlives the call.
    unsafe { libc::poll(&raw mut one, 1, 0) > 0 }
}

fn fail(number: c_int) -> c_long {
    // SAFETY: libc returns the place of the calling thread's own error number.
    unsafe { *libc::__errno_location() = number };
    -1
}

/// # Safety
/// As `syscall(2)`.
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
    if threads::takes_part() {
        match number {
            libc::SYS_futex => {
                // SAFETY: the caller keeps the rules of `futex(2)`.
                if let Some(done) = unsafe { futex(a, b, c, d, f) } {
                    return done;
                }
            }
            // SAFETY: the caller keeps the rules of `getrandom(2)`.
            libc::SYS_getrandom => return unsafe { getrandom(a as *mut c_void, b as usize, 0) } as c_long,
            _ => {}
        }
    }
    // SAFETY: the caller keeps the rules of the call.
    unsafe { call(number, [a, b, c, d, e, f]) }
}

/// Waits for a thread, or wakes some.
///
/// # Safety
/// As `futex(2)`.
unsafe fn futex(at: c_long, op: c_long, value: c_long, time: c_long, mask: c_long) -> Option<c_long> {
    let op = op as c_int;
    let mask = match op & 0x7f {
        libc::FUTEX_WAIT_BITSET | libc::FUTEX_WAKE_BITSET => mask as u32,
        _ => u32::MAX,
    };
    match op & 0x7f {
        libc::FUTEX_WAIT | libc::FUTEX_WAIT_BITSET => {
            // SAFETY: the caller passes the address of a number that may be shared.
            let now = unsafe { &*(at as *const AtomicU32) }.load(Relaxed);
            if now != value as u32 {
                return Some(fail(libc::EAGAIN));
            }
            // SAFETY: the caller passes a time, or none.
            let time = unsafe { (time as *const libc::timespec).as_ref() }.map(clock::nanos);
            let until = time.map(|t| if op & 0x7f == libc::FUTEX_WAIT { clock::now() + t } else { t });
            let woken = threads::wait(Wait::Futex(at as usize, mask), until);
            Some(if woken { 0 } else { fail(libc::ETIMEDOUT) })
        }
        libc::FUTEX_WAKE | libc::FUTEX_WAKE_BITSET => {
            Some(threads::wake(at as usize, mask, i64::from(value as c_int)))
        }
        _ => None,
    }
}

/// # Safety
/// As `getrandom(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(to: *mut c_void, len: usize, flags: u32) -> isize {
    if threads::takes_part()
        && let Some(rng) = clock::lock(&RANDOM).as_mut()
    {
        // SAFETY: the caller passes the place for that many bytes.
        rng.fill(unsafe { std::slice::from_raw_parts_mut(to.cast::<u8>(), len) });
        return len.cast_signed();
    }
    let flags = c_long::from(flags);
    // SAFETY: the caller keeps the rules of `getrandom(2)`.
    unsafe { call(libc::SYS_getrandom, [to as c_long, len as c_long, flags, 0, 0, 0]) as isize }
}

/// # Safety
/// As `pthread_create(3)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_create(
    thread: *mut libc::pthread_t,
    attributes: *const libc::pthread_attr_t,
    begin: Begin,
    with: *mut c_void,
) -> c_int {
    static KNOWN: AtomicUsize = AtomicUsize::new(0);
    type Create =
        unsafe extern "C" fn(*mut libc::pthread_t, *const libc::pthread_attr_t, Begin, *mut c_void) -> c_int;
    // SAFETY: libc's function has this type.
    let create: Create = unsafe { std::mem::transmute(replaced(c"pthread_create", &KNOWN)) };
    if !threads::takes_part() {
        // SAFETY: the caller keeps the rules of `pthread_create`.
        return unsafe { create(thread, attributes, begin, with) };
    }
    let (number, go) = threads::added();
    let job: *mut Job = Box::into_raw(Box::new((begin, with, number, go)));
    // SAFETY: the caller keeps the rules of `pthread_create`.
    let done = unsafe { create(thread, attributes, run, job.cast()) };
    assert_eq!(done, 0, "a thread is started");
    // SAFETY: the call has just filled it.
    threads::named(number, unsafe { *thread });
    0
}

/// What a thread does, with what, its number, and what tells it that it may run.
type Job = (Begin, *mut c_void, usize, &'static AtomicU32);
type Begin = extern "C" fn(*mut c_void) -> *mut c_void;

/// A thread from its begin to its end.
extern "C" fn run(job: *mut c_void) -> *mut c_void {
    // SAFETY: made of a box in `pthread_create`, for this thread alone.
    let (begin, with, number, go) = *unsafe { Box::from_raw(job.cast::<Job>()) };
    threads::begun(number, go);
    // What is destroyed with a key comes after all that Rust destroys at the end of a thread.
    // SAFETY: the key exists from the first call on; the value is a number, and is never read as an
    // address.
    unsafe { libc::pthread_setspecific(key(), (number + 1) as *const c_void) };
    begin(with)
}

fn key() -> libc::pthread_key_t {
    static KEY: AtomicUsize = AtomicUsize::new(0);
    unsafe extern "C" fn over(number: *mut c_void) {
        threads::ended(number as usize - 1);
    }
    if KEY.load(Relaxed) == 0 {
        let mut key = 0;
        // SAFETY: the place of the key outlives the call.
        let done = unsafe { libc::pthread_key_create(&raw mut key, Some(over)) };
        assert_eq!(done, 0, "a key");
        KEY.store(key as usize + 1, Relaxed);
    }
    (KEY.load(Relaxed) - 1) as libc::pthread_key_t
}

/// # Safety
/// As `pthread_join(3)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_join(thread: libc::pthread_t, value: *mut *mut c_void) -> c_int {
    static KNOWN: AtomicUsize = AtomicUsize::new(0);
    type Join = unsafe extern "C" fn(libc::pthread_t, *mut *mut c_void) -> c_int;
    if threads::takes_part() {
        threads::join(thread);
    }
    // SAFETY: libc's function has this type.
    let join: Join = unsafe { std::mem::transmute(replaced(c"pthread_join", &KNOWN)) };
    // SAFETY: the caller keeps the rules of `pthread_join`.
    unsafe { join(thread, value) }
}

/// # Safety
/// As `pthread_mutex_lock(3)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_mutex_lock(mutex: *mut libc::pthread_mutex_t) -> c_int {
    static KNOWN: AtomicUsize = AtomicUsize::new(0);
    type Lock = unsafe extern "C" fn(*mut libc::pthread_mutex_t) -> c_int;
    while threads::takes_part() {
        let step = threads::step();
        // SAFETY: the caller keeps the rules of `pthread_mutex_lock`.
        match unsafe { libc::pthread_mutex_trylock(mutex) } {
            libc::EBUSY => threads::wait(Wait::Step(step), None),
            done => return done,
        };
    }
    // SAFETY: libc's function has this type.
    let lock: Lock = unsafe { std::mem::transmute(replaced(c"pthread_mutex_lock", &KNOWN)) };
    // SAFETY: the caller keeps the rules of `pthread_mutex_lock`.
    unsafe { lock(mutex) }
}

/// # Safety
/// As `sched_yield(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sched_yield() -> c_int {
    if threads::takes_part() {
        // Who looks again and again lets time pass.
        threads::wait(Wait::Time, Some(clock::now() + 20_000));
        return 0;
    }
    // SAFETY: takes nothing.
    unsafe { call(libc::SYS_sched_yield, [0; 6]) as c_int }
}

/// # Safety
/// As `fcntl(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fcntl(fd: c_int, command: c_int, with: c_long) -> c_int {
    let ask = |command: c_int| {
        let all = [c_long::from(fd), c_long::from(command), with, 0, 0, 0];
        // SAFETY: the caller keeps the rules of `fcntl`, of which there is one in the kernel.
        unsafe { call(libc::SYS_fcntl, all) as c_int }
    };
    let tries = match command {
        libc::F_OFD_SETLKW => libc::F_OFD_SETLK,
        libc::F_SETLKW => libc::F_SETLK,
        libc::F_SETLK | libc::F_OFD_SETLK => {
            threads::point();
            app::point();
            return ask(command);
        }
        _ => return ask(command),
    };
    while threads::takes_part() {
        let step = threads::step();
        if ask(tries) == 0 {
            return 0;
        }
        match std::io::Error::last_os_error().raw_os_error() {
            Some(libc::EAGAIN | libc::EACCES) => threads::wait(Wait::Step(step), None),
            _ => return -1,
        };
    }
    ask(command)
}

/// # Safety
/// As `fcntl(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fcntl64(fd: c_int, command: c_int, with: c_long) -> c_int {
    // SAFETY: the caller keeps the rules of `fcntl`.
    unsafe { fcntl(fd, command, with) }
}

/// The same processors on each machine, because the number of threads depends on it.
///
/// # Safety
/// As `sched_getaffinity(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sched_getaffinity(pid: c_int, len: usize, set: *mut libc::cpu_set_t) -> c_int {
    if threads::takes_part() {
        // SAFETY: the caller passes the place for a set of that many bytes, which is more than one.
        unsafe {
            set.cast::<u8>().write_bytes(0, len);
            set.cast::<u8>().write((1 << PROCESSORS.load(Relaxed)) - 1);
        }
        return 0;
    }
    let all = [c_long::from(pid), len as c_long, set as c_long, 0, 0, 0];
    // SAFETY: the caller keeps the rules of `sched_getaffinity`.
    match unsafe { call(libc::SYS_sched_getaffinity, all) } {
        -1 => -1,
        bytes => {
            // libc's function zeroes what the kernel does not fill.
            let bytes = usize::try_from(bytes).unwrap_or(len);
            // SAFETY: the rest of the caller's set.
            unsafe { set.cast::<u8>().add(bytes).write_bytes(0, len.saturating_sub(bytes)) };
            0
        }
    }
}

/// # Safety
/// As `close(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn close(fd: c_int) -> c_int {
    if threads::takes_part() {
        clock::forget_timer(fd);
    }
    // SAFETY: the caller keeps the rules of `close`.
    unsafe { call(libc::SYS_close, [c_long::from(fd), 0, 0, 0, 0, 0]) as c_int }
}
