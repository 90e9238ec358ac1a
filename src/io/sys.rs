//! The system calls that `io` needs and the standard library does not have.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers a readable descriptor with the present runtime.
pub(super) fn readable<T: AsFd + AsRawFd>(owner: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: `owner` has an `AsFd`, so it owns or borrows an open descriptor for as long as it lives and always answers with the same
    // one, and the `AsyncFd` owns it. The function is unsafe only for types whose `AsRawFd` promises nothing.
    unsafe { AsyncFd::register_with_interest(owner, Interest::READABLE) }
        .map_err(|e| io::Error::other(e.to_string()))
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
    // SAFETY: the descriptor is open, `spec` is only read, and a null pointer for the old value is allowed.
    let rc = unsafe { libc::timerfd_settime(timer.as_raw_fd(), 0, &raw const spec, std::ptr::null_mut()) };
    assert_eq!(rc, 0, "a valid timer accepts a valid time");
}

/// Takes note of an expiry. Without one it does nothing.
pub(super) fn acknowledge(timer: &OwnedFd) {
    let mut count = [0u8; 8];
    // SAFETY: the descriptor is open and the buffer has the 8 bytes that a timer writes. A failure (not expired after all) needs
    // nothing: the next expiry wakes the reader again.
    unsafe { libc::read(timer.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
}
