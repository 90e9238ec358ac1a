//! The system's allocator, counting what it is asked for.
#![allow(unsafe_code, reason = "an allocator can only be replaced by unsafe code")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// Counts for all threads but those that are part of the measurement.
pub struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static CALLS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static IGNORED: Cell<bool> = const { Cell::new(false) };
}

/// What was asked for so far.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// Calls that gave or moved memory.
    pub calls: u64,
    /// Bytes of them.
    pub bytes: u64,
}

/// So far, in all threads that are not ignored.
pub fn asked() -> Asked {
    Asked { calls: CALLS.load(Relaxed), bytes: BYTES.load(Relaxed) }
}

/// From now on this thread is not counted.
pub fn ignore_this_thread() {
    IGNORED.set(true);
}

fn note(bytes: usize) {
    if !IGNORED.get() {
        CALLS.fetch_add(1, Relaxed);
        BYTES.fetch_add(bytes as u64, Relaxed);
    }
}

// SAFETY: every call is handed to `System` as it is; counting neither allocates nor unwinds, since
// the flag of a thread is a constant without a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        note(bytes);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(at, layout, bytes) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }
}
