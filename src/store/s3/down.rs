//! Whether the last calls to a store failed, so that further calls do not retry for long.

use std::sync::atomic::{AtomicBool, Ordering};

use http::Method;

/// Whether the last read, and the last write, failed after all its attempts.
#[derive(Debug, Default)]
pub(super) struct Down {
    reads: AtomicBool,
    writes: AtomicBool,
}

impl Down {
    fn of(&self, method: &Method) -> &AtomicBool {
        if matches!(*method, Method::GET | Method::HEAD) { &self.reads } else { &self.writes }
    }

    /// Whether a call by this method is likely to fail, and so is not worth several attempts. For a
    /// read, a failed write counts as well: a store that takes no writes often answers no reads
    /// either, and it is for the write that the read is asked for.
    pub(super) fn is(&self, method: &Method) -> bool {
        self.writes.load(Ordering::Relaxed) || self.of(method).load(Ordering::Relaxed)
    }

    pub(super) fn set(&self, method: &Method, down: bool) {
        let flag = self.of(method);
        // Stored only on a change, so that threads do not contend for the cache line.
        if flag.load(Ordering::Relaxed) != down {
            flag.store(down, Ordering::Relaxed);
        }
    }
}
