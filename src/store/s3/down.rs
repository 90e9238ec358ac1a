//! Whether a store has failed last, so that further calls do not try long.

use std::sync::atomic::{AtomicBool, Ordering};

use http::Method;

/// Which kinds of calls have failed last, after all their attempts.
#[derive(Debug, Default)]
pub(super) struct Down {
    reads: AtomicBool,
    writes: AtomicBool,
}

impl Down {
    fn of(&self, method: &Method) -> &AtomicBool {
        if matches!(*method, Method::GET | Method::HEAD) { &self.reads } else { &self.writes }
    }

    pub(super) fn is(&self, method: &Method) -> bool {
        self.of(method).load(Ordering::Relaxed)
    }

    pub(super) fn set(&self, method: &Method, down: bool) {
        let flag = self.of(method);
        // Written rarely, so that requests of several threads do not take the line from each other.
        if flag.load(Ordering::Relaxed) != down {
            flag.store(down, Ordering::Relaxed);
        }
    }
}
