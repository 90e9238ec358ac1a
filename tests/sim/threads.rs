//! The threads of this process run one at a time, and a seed decides which one is next.
//!
//! A thread runs until it waits: for another thread, for events, for time, or for a lock of a file.
//! Then the next one is chosen among those that have something to do. If none has, the clock jumps
//! to the end of the shortest wait. So a seed always leads to the same order, and how fast the
//! machine is changes nothing.
//!
//! The functions of libc by which threads wait are in [`super::hooks`].
#![allow(unsafe_code, reason = "libc's functions can only be replaced by unsafe code")]

use std::cell::Cell;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::sync::{Mutex, MutexGuard, PoisonError};

use fastrand::Rng;
use libc::c_int;

use super::{clock, hooks};

/// Whether threads run one at a time.
static ON: AtomicBool = AtomicBool::new(false);
static THREADS: Mutex<Threads> = Mutex::new(Threads::new());

thread_local! {
    /// The number of the calling thread.
    static OWN: Cell<usize> = const { Cell::new(NONE) };
}

/// The number of a thread that does not take part.
const NONE: usize = usize::MAX;

/// What a thread waits for, in addition to the end of its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Another thread wakes it: the address of a futex, and which wakes count.
    Futex(usize, u32),
    /// Events of an epoll descriptor that had none at this step.
    Events(c_int, u64),
    /// Anything that another thread or process does after this step.
    Step(u64),
    /// Nothing else.
    Time,
}

/// A thread that waits.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    thread: usize,
    on: Wait,
    until: Option<i64>,
}

/// A thread.
#[derive(Debug, Clone, Copy)]
struct Thread {
    /// 1 if it may run.
    go: &'static AtomicU32,
    /// Its last wait ended because its time was over.
    late: bool,
    /// It has ended.
    over: bool,
    handle: libc::pthread_t,
}

#[derive(Debug)]
struct Threads {
    all: Vec<Thread>,
    ready: Vec<usize>,
    waiting: Vec<Waiting>,
    /// Grows with everything that a thread may have done for another one.
    step: u64,
    /// No thread may sleep any more.
    drains: bool,
    /// Which thread is next.
    rng: Option<Rng>,
    /// Of a thousand points at which a thread can be interrupted, how many are used.
    interrupts: u16,
}

fn lock() -> MutexGuard<'static, Threads> {
    THREADS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether the calling thread is one of those that run one at a time.
pub fn takes_part() -> bool {
    ON.load(Relaxed) && OWN.try_with(Cell::get).is_ok_and(|own| own != NONE)
}

/// From now on the calling thread and all that it starts run one at a time.
pub fn start(seed: u64) {
    let mut threads = lock();
    let own = threads.add();
    threads.rng = Some(Rng::with_seed(seed));
    OWN.set(own);
    ON.store(true, Relaxed);
}

/// How often threads are interrupted where they call the operating system, of a thousand times.
pub fn interrupt(per_thousand: u16) {
    lock().interrupts = per_thousand;
}

/// Ends the sleeps of all threads at once, from now on or no longer.
pub fn drain(drains: bool) {
    let mut threads = lock();
    threads.drains = drains;
    if drains {
        threads.wake(false, |w| w.on == Wait::Time);
    }
}

/// The step that another thread or process has to go beyond.
pub fn step() -> u64 {
    lock().step
}

/// Another process may have done something that a thread waits for.
pub fn steps() {
    lock().step += 1;
}

/// Lets others run until what is waited for has happened; `false` if the time was over before.
pub fn wait(on: Wait, until: Option<i64>) -> bool {
    let own = OWN.get();
    let mut threads = lock();
    if threads.drains && on == Wait::Time {
        drop(threads);
        let_others_run();
        return false;
    }
    if !matches!(on, Wait::Step(_) | Wait::Events(..)) {
        threads.step += 1;
    }
    threads.waiting.push(Waiting { thread: own, on, until });
    threads.all[own].late = false;
    hand_over(own, threads);
    !lock().all[own].late
}

/// Lets others run that have something to do, and then the calling thread.
pub fn let_others_run() {
    let own = OWN.get();
    let mut threads = lock();
    threads.step += 1;
    let step = threads.step;
    threads.wake(false, |w| matches!(w.on, Wait::Step(tried) if tried < step));
    if threads.ready.is_empty() {
        return;
    }
    threads.ready.push(own);
    hand_over(own, threads);
}

/// Lets others run until all of them wait, without any time that passes.
pub fn come_to_rest() {
    while takes_part() && !lock().ready.is_empty() {
        let_others_run();
    }
}

/// A place at which the calling thread may be interrupted.
pub fn point() {
    if !takes_part() {
        return;
    }
    let interrupted = {
        let mut threads = lock();
        let most = threads.interrupts;
        most > 0 && threads.rng.as_mut().is_some_and(|rng| rng.u16(..1000) < most)
    };
    if interrupted {
        let_others_run();
    }
}

/// Wakes at most this many threads that wait at an address. Returns how many.
pub fn wake(address: usize, mask: u32, most: i64) -> i64 {
    let mut threads = lock();
    let mut woken = 0;
    threads.wake(false, |w| {
        let is_there = matches!(w.on, Wait::Futex(at, bits) if at == address && bits & mask != 0);
        let wakes = is_there && woken < most;
        woken += i64::from(wakes);
        wakes
    });
    woken
}

/// A thread is about to be started. Returns its number, and what tells it that it may run.
pub fn added() -> (usize, &'static AtomicU32) {
    let mut threads = lock();
    let thread = threads.add();
    threads.ready.push(thread);
    (thread, threads.all[thread].go)
}

/// What `pthread_create` said of it.
pub fn named(thread: usize, handle: libc::pthread_t) {
    lock().all[thread].handle = handle;
}

/// The calling thread begins, with this number. Until it is called it touches nothing that belongs
/// to the thread that runs.
pub fn begun(thread: usize, go: &'static AtomicU32) {
    until_called(go);
    OWN.set(thread);
}

/// The calling thread has ended.
pub fn ended(own: usize) {
    let mut threads = lock();
    threads.all[own].over = true;
    threads.step += 1;
    let next = threads.next();
    let go = threads.all[next].go;
    drop(threads);
    call(go);
}

/// Waits until the thread has ended.
pub fn join(handle: libc::pthread_t) {
    loop {
        let threads = lock();
        let step = threads.step;
        if threads.all.iter().rev().find(|t| t.handle == handle).is_none_or(|t| t.over) {
            return;
        }
        drop(threads);
        wait(Wait::Step(step), None);
    }
}

fn hand_over(own: usize, mut threads: MutexGuard<'_, Threads>) {
    let next = threads.next();
    let (to, from) = (threads.all[next].go, threads.all[own].go);
    drop(threads);
    if next != own {
        call(to);
        until_called(from);
    }
}

fn call(go: &AtomicU32) {
    go.store(1, Release);
    hooks::futex_wake(go);
}

fn until_called(go: &AtomicU32) {
    while go.swap(0, Acquire) == 0 {
        hooks::futex_wait(go, 0);
    }
}

impl Threads {
    const fn new() -> Threads {
        Threads {
            all: Vec::new(),
            ready: Vec::new(),
            waiting: Vec::new(),
            step: 0,
            drains: false,
            rng: None,
            interrupts: 0,
        }
    }

    fn add(&mut self) -> usize {
        let go = Box::leak(Box::new(AtomicU32::new(0)));
        self.all.push(Thread { go, late: false, over: false, handle: 0 });
        self.all.len() - 1
    }

    /// Makes those threads ready that wait for this.
    fn wake(&mut self, late: bool, mut which: impl FnMut(&Waiting) -> bool) {
        let Threads { all, ready, waiting, .. } = self;
        waiting.retain(|w| {
            let wakes = which(w);
            if wakes {
                all[w.thread].late = late;
                ready.push(w.thread);
            }
            !wakes
        });
    }

    /// The thread that runs next. The clock jumps until there is one.
    fn next(&mut self) -> usize {
        loop {
            if !self.ready.is_empty() {
                let count = self.ready.len();
                let at = self.rng.as_mut().map_or(0, |rng| if count > 1 { rng.usize(..count) } else { 0 });
                return self.ready.remove(at);
            }
            let step = self.step;
            self.wake(false, |w| match w.on {
                Wait::Events(epoll, looked) => looked < step && hooks::has_events(epoll),
                Wait::Step(tried) => tried < step,
                Wait::Futex(..) | Wait::Time => false,
            });
            if !self.ready.is_empty() {
                continue;
            }
            let ends = self.waiting.iter().filter_map(|w| w.until);
            let Some(end) = ends.chain(clock::next_timer()).min() else {
                eprintln!("no thread can go on: {:?}", self.waiting);
                std::process::abort();
            };
            let (now, expired) = clock::jump_to(end);
            self.step += u64::from(expired);
            self.wake(true, |w| w.until.is_some_and(|until| until <= now));
        }
    }
}
