//! Which threads of this process have anything to do, by a count of those that wait for another.
//!
//! The standard library waits and wakes by `syscall`, and starts threads by `pthread_create`: both
//! are defined here in the place of libc's, and count. What waits in any other way is found by the
//! states of all threads.
#![allow(unsafe_code, reason = "libc's functions can only be replaced by unsafe code")]

use std::cell::Cell;
use std::fs::File;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::sync::Mutex;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize};

use libc::{c_int, c_long};

use super::clock::{are_asleep, lock, replaced};

/// How often a thread was woken, or may have been.
static WAKES: AtomicU64 = AtomicU64::new(0);
/// Threads of this process.
static LIVE: AtomicI64 = AtomicI64::new(0);
/// Threads that wait for another one. Those that were woken are no longer among them, even if they
/// did not run since.
static WAITING: AtomicI64 = AtomicI64::new(0);
/// How often a thread was to be woken that may only have been about to wait, and how many of these
/// cases a look at all threads has settled.
static UNSURE: AtomicU64 = AtomicU64::new(0);
static SETTLED: AtomicU64 = AtomicU64::new(0);

/// How many threads there were, and the state of each but the driver's. One that ran at the last
/// look is the first.
static THREADS: Mutex<(u64, Vec<Thread>)> = Mutex::new((0, Vec::new()));
/// [`WAKES`] before the last look that found no thread at work.
static IDLE_SINCE: AtomicU64 = AtomicU64::new(u64::MAX);

/// Looks in a row that only count the threads that wait.
const LOOKS_BY_COUNT: u32 = 8;

/// The file with the state of a thread, and where the state is in it: `TID (NAME) STATE ...`.
struct Thread(File, Cell<usize>);

/// Begins to count: there are these threads already.
pub fn start() {
    let unseen = count_threads() as i64 - LIVE.load(SeqCst);
    LIVE.fetch_add(unseen, SeqCst);
}

/// The calling thread begins to sleep, and waits for none meanwhile, or goes on.
pub fn sleeps(begins: bool) {
    WAKES.fetch_add(1, SeqCst);
    WAITING.fetch_add(if begins { 1 } else { -1 }, SeqCst);
}

/// Another process may have woken a thread that waits for a lock.
pub fn may_wake() {
    WAKES.fetch_add(1, Relaxed);
}

/// Whether any other thread of this process runs, by the count of those that wait. Where that is
/// not certain, or one seems to run for long, the states of all threads are read.
pub fn others_run(looks: u32) -> bool {
    let unsure = UNSURE.load(SeqCst);
    if unsure == SETTLED.load(Relaxed) {
        if WAITING.load(SeqCst) + 1 == LIVE.load(SeqCst) {
            return false;
        }
        if looks < LOOKS_BY_COUNT {
            return true;
        }
    }
    let run = any_runs();
    if !run {
        SETTLED.store(unsure, Relaxed);
    }
    run
}

/// How many threads there are: the kernel tells it as the links of their folder, of which two are
/// of the folder itself.
fn count_threads() -> u64 {
    std::fs::metadata("/proc/self/task").map_or(2, |m| m.nlink()) - 2
}

/// Whether any other thread of this process runs, by the states of all threads. Those that sleep do
/// so until a call of [`syscall`] wakes them, so that their states are rarely read.
fn any_runs() -> bool {
    let wakes = WAKES.load(SeqCst);
    let count = count_threads();
    let mut known = lock(&THREADS);
    if known.0 == count {
        if IDLE_SINCE.load(Relaxed) == wakes && !are_asleep() {
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
    // SAFETY: libc's function has this type.
    let call: Call = unsafe { std::mem::transmute(replaced(c"syscall", &KNOWN)) };
    // SAFETY: the caller keeps the rules of the call.
    let done = || unsafe { call(number, a, b, c, d, e, f) };
    if number != libc::SYS_futex {
        return done();
    }
    if matches!(b as c_int & 0x7f, libc::FUTEX_WAIT | libc::FUTEX_WAIT_BITSET) {
        WAITING.fetch_add(1, SeqCst);
        let woken = done();
        // Who wakes a thread takes it from the count.
        if woken != 0 {
            WAITING.fetch_sub(1, SeqCst);
        }
        return woken;
    }
    WAKES.fetch_add(1, SeqCst);
    // Meanwhile no thread counts as one that waits.
    WAITING.fetch_sub(MANY, SeqCst);
    let woken = done();
    if woken <= 0 {
        UNSURE.fetch_add(1, SeqCst);
    }
    WAITING.fetch_add(MANY - woken.max(0), SeqCst);
    woken
}

/// More threads than there are.
const MANY: i64 = 1 << 20;

/// # Safety
/// As `pthread_create(3)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_create(
    thread: *mut libc::pthread_t,
    attributes: *const libc::pthread_attr_t,
    begin: extern "C" fn(*mut libc::c_void) -> *mut libc::c_void,
    with: *mut libc::c_void,
) -> c_int {
    static KNOWN: AtomicUsize = AtomicUsize::new(0);
    type Create = unsafe extern "C" fn(
        *mut libc::pthread_t,
        *const libc::pthread_attr_t,
        extern "C" fn(*mut libc::c_void) -> *mut libc::c_void,
        *mut libc::c_void,
    ) -> c_int;
    /// What the thread does, and with what.
    type Job = (extern "C" fn(*mut libc::c_void) -> *mut libc::c_void, *mut libc::c_void);
    extern "C" fn counted(job: *mut libc::c_void) -> *mut libc::c_void {
        // SAFETY: made of a box below, for this thread alone.
        let (begin, with) = *unsafe { Box::from_raw(job.cast::<Job>()) };
        let result = begin(with);
        WAKES.fetch_add(1, SeqCst);
        LIVE.fetch_sub(1, SeqCst);
        result
    }
    LIVE.fetch_add(1, SeqCst);
    let job: *mut Job = Box::into_raw(Box::new((begin, with)));
    // SAFETY: libc's function has this type.
    let create: Create = unsafe { std::mem::transmute(replaced(c"pthread_create", &KNOWN)) };
    // SAFETY: the caller keeps the rules of `pthread_create`.
    let done = unsafe { create(thread, attributes, counted, job.cast()) };
    if done != 0 {
        LIVE.fetch_sub(1, SeqCst);
        // SAFETY: no thread was started that could use it.
        drop(unsafe { Box::from_raw(job) });
    }
    done
}
