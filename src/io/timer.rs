//! Short waits with a precision of about ten microseconds; the runtime's own timers have one of a
//! millisecond.
//!
//! One timer descriptor serves all waits of a runtime. Each wait stores its waker under its
//! deadline, and the descriptor is armed for the earliest deadline.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::io::unix::AsyncFd;

use super::sys;

/// Shortest time for which the descriptor is armed (1 us); 0 would disarm it.
const ARM_MIN: Duration = Duration::from_micros(1);

/// The waits of one single-threaded runtime.
#[derive(Clone, Debug)]
pub struct Timers(Rc<Shared>);

#[derive(Debug)]
struct Shared {
    timer: AsyncFd<OwnedFd>,
    waits: RefCell<Waits>,
}

#[derive(Debug, Default)]
struct Waits {
    by_deadline: BTreeMap<(Instant, u64), Waker>,
    next_id: u64,
    armed_for: Option<Instant>,
}

impl Timers {
    /// Creates the timer and spawns its driver on the present `LocalSet`.
    ///
    /// # Errors
    /// Any error of `timerfd_create(2)`, or of registering the timer with the runtime.
    pub fn new() -> io::Result<Timers> {
        let timers =
            Timers(Rc::new(Shared { timer: sys::readable(sys::timer()?)?, waits: RefCell::default() }));
        tokio::task::spawn_local(drive(Rc::downgrade(&timers.0)));
        Ok(timers)
    }

    /// A future that completes at `deadline`.
    #[must_use]
    pub fn until(&self, deadline: Instant) -> Nap {
        Nap { shared: Rc::clone(&self.0), deadline, id: None }
    }
}

impl Shared {
    fn arm(&self, deadline: Instant) {
        let mut waits = self.waits.borrow_mut();
        if waits.armed_for.is_some_and(|t| t <= deadline) {
            return;
        }
        waits.armed_for = Some(deadline);
        let wait = deadline.saturating_duration_since(Instant::now()).max(ARM_MIN);
        sys::arm(self.timer.get_ref(), wait);
    }

    /// Wakes all waits that are due, and arms the descriptor for the next one.
    fn fire(&self) {
        let now = Instant::now();
        self.waits.borrow_mut().armed_for = None;
        while let Some(waker) = self.take_due(now) {
            waker.wake();
        }
        let next = self.waits.borrow().by_deadline.keys().next().map(|k| k.0);
        if let Some(t) = next {
            self.arm(t);
        }
    }

    /// Removes and returns the waker of one wait that is due. They are taken one by one, so that no
    /// waker is called while `waits` is borrowed.
    fn take_due(&self, now: Instant) -> Option<Waker> {
        let mut waits = self.waits.borrow_mut();
        let entry = waits.by_deadline.first_entry().filter(|e| e.key().0 <= now)?;
        Some(entry.remove())
    }
}

async fn drive(shared: std::rc::Weak<Shared>) {
    loop {
        let Some(shared) = shared.upgrade() else { return };
        let readable = std::future::poll_fn(|cx| match shared.timer.poll_read_ready(cx) {
            Poll::Ready(r) => Poll::Ready(r.map(|mut guard| guard.clear_ready())),
            Poll::Pending => Poll::Pending,
        });
        if readable.await.is_err() {
            return;
        }
        // The number of expiries is not read: each expiry wakes the driver, and arming resets the
        // number to 0.
        shared.fire();
    }
}

/// A wait; see [`Timers::until`].
#[derive(Debug)]
pub struct Nap {
    shared: Rc<Shared>,
    deadline: Instant,
    id: Option<u64>,
}

impl Future for Nap {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if Instant::now() >= self.deadline {
            return Poll::Ready(());
        }
        {
            let this = &mut *self;
            let mut waits = this.shared.waits.borrow_mut();
            let id = *this.id.get_or_insert_with(|| {
                waits.next_id += 1;
                waits.next_id
            });
            waits.by_deadline.insert((this.deadline, id), cx.waker().clone());
        }
        self.shared.arm(self.deadline);
        Poll::Pending
    }
}

impl Drop for Nap {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.shared.waits.borrow_mut().by_deadline.remove(&(self.deadline, id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_local<F: Future>(f: impl FnOnce() -> F) -> F::Output {
        let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&rt, async { f().await })
    }

    #[test]
    fn waits_end_in_order_of_their_deadlines_and_not_early() {
        on_local(|| async {
            let timers = Timers::new().unwrap();
            let order = Rc::new(RefCell::new(Vec::new()));
            let start = Instant::now();
            let mut tasks = Vec::new();
            for us in [900u64, 100, 500] {
                let (timers, order) = (timers.clone(), order.clone());
                tasks.push(tokio::task::spawn_local(async move {
                    timers.until(start + Duration::from_micros(us)).await;
                    assert!(start.elapsed() >= Duration::from_micros(us));
                    order.borrow_mut().push(us);
                }));
            }
            for t in tasks {
                t.await.unwrap();
            }
            assert_eq!(*order.borrow(), [100, 500, 900]);
        });
    }

    #[test]
    fn a_dropped_wait_leaves_nothing_behind() {
        on_local(|| async {
            let timers = Timers::new().unwrap();
            let far = Instant::now() + Duration::from_secs(3600);
            tokio::select! {
                biased;
                () = timers.until(far) => unreachable!(),
                () = timers.until(Instant::now() + Duration::from_micros(200)) => {}
            }
            assert!(timers.0.waits.borrow().by_deadline.is_empty());
        });
    }
}
