//! Bytes of memory that are in use, and the most at any moment.
#![allow(unsafe_code, reason = "an allocator is unsafe code")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static USED: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

/// Bytes in use. From now on [`most`] counts from there.
pub fn begin() -> usize {
    let used = USED.load(Relaxed);
    MOST.store(used, Relaxed);
    used
}

/// The most bytes that were in use since [`begin`].
pub fn most() -> usize {
    MOST.load(Relaxed)
}

fn grows(by: usize) {
    MOST.fetch_max(USED.fetch_add(by, Relaxed) + by, Relaxed);
}

// SAFETY: each call goes to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grows(layout.size());
        // SAFETY: the caller keeps the rules of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grows(layout.size());
        // SAFETY: the caller keeps the rules of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        USED.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller keeps the rules of `dealloc`.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        grows(size);
        USED.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller keeps the rules of `realloc`.
        unsafe { System.realloc(place, layout, size) }
    }
}
