//! How far the images and comparisons of this process are.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use tokio::sync::Notify;

static DONE: AtomicU64 = AtomicU64::new(0);
static OF: AtomicU64 = AtomicU64::new(0);
static BEGUN: Notify = Notify::const_new();

/// A whole database, or many pages of it, being read. Counts until it is dropped.
#[derive(Debug)]
pub(super) struct Work {
    of: u64,
    done: u64,
}

impl Work {
    /// Begins to read `bytes` bytes.
    pub(super) fn begin(bytes: u64) -> Work {
        OF.fetch_add(bytes, Relaxed);
        BEGUN.notify_one();
        Work { of: bytes, done: 0 }
    }

    /// Another `bytes` bytes are done.
    pub(super) fn add(&mut self, bytes: u64) {
        self.done += bytes;
        DONE.fetch_add(bytes, Relaxed);
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        DONE.fetch_sub(self.done, Relaxed);
        OF.fetch_sub(self.of, Relaxed);
    }
}

/// Bytes of pages that are done, and of those that will be, over all databases; `None` if nothing
/// is under way.
#[must_use]
pub fn image_progress() -> Option<(u64, u64)> {
    let (done, of) = (DONE.load(Relaxed), OF.load(Relaxed));
    (of > 0).then_some((done, of))
}

/// Waits until something is under way.
pub async fn image_begun() {
    while image_progress().is_none() {
        BEGUN.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_ended_counts_no_more() {
        // Other tests of this process may read images meanwhile, of far fewer bytes.
        const LARGE: u64 = 1 << 60;
        let mut work = Work::begin(LARGE);
        work.add(LARGE / 2);
        let (done, of) = image_progress().unwrap();
        assert!(done >= LARGE / 2 && of >= LARGE);
        drop(work);
        assert!(image_progress().is_none_or(|(done, of)| done < LARGE / 2 && of < LARGE));
    }
}
