//! Whether the last calls to a store failed, so that further calls do not retry for long.

use std::sync::atomic::{AtomicBool, Ordering};

use http::Method;

use super::call::Call;

/// What a call does. A policy, or a fault of the store, may concern one of these alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doing {
    Reads,
    /// Writes a batch, which is an object of level 0.
    Batches,
    /// Writes an object that the history makes.
    History,
    Deletes,
}

impl Doing {
    pub(super) fn of(call: &Call<'_>) -> Doing {
        let deletes = || call.query.iter().any(|(name, _)| *name == "delete");
        match call.method {
            Method::GET | Method::HEAD => Doing::Reads,
            Method::DELETE => Doing::Deletes,
            Method::POST if deletes() => Doing::Deletes,
            _ => Doing::writing(call.key.unwrap_or_default()),
        }
    }

    /// Writing this object.
    pub(super) fn writing(key: &str) -> Doing {
        if key.rsplit('/').nth(1) == Some("0000") { Doing::Batches } else { Doing::History }
    }
}

/// Whether the last call of each kind failed after all its attempts.
#[derive(Debug, Default)]
pub(super) struct Down {
    reads: AtomicBool,
    batches: AtomicBool,
    history: AtomicBool,
    deletes: AtomicBool,
}

impl Down {
    fn of(&self, doing: Doing) -> &AtomicBool {
        match doing {
            Doing::Reads => &self.reads,
            Doing::Batches => &self.batches,
            Doing::History => &self.history,
            Doing::Deletes => &self.deletes,
        }
    }

    /// Whether such a call is likely to fail, and so is not worth several attempts. For anything
    /// but a batch, failed writes count as well: a store that takes none often answers no reads
    /// either, and it is for the write that the read is asked for.
    pub(super) fn is(&self, doing: Doing) -> bool {
        let is = |doing| self.of(doing).load(Ordering::Relaxed);
        is(doing) || doing != Doing::Batches && (is(Doing::Batches) || is(Doing::History))
    }

    pub(super) fn set(&self, doing: Doing, down: bool) {
        let flag = self.of(doing);
        // Stored only on a change, so that threads do not contend for the cache line.
        if flag.load(Ordering::Relaxed) != down {
            flag.store(down, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BATCH: &str = "db/0000/0000000000000001-0000000000000001.ltx";
    const MERGED: &str = "db/0001/0000000000000001-0000000000000009.ltx";

    /// Batches go on while files of higher levels cannot be written, or nothing can be deleted.
    #[test]
    fn a_batch_that_is_stored_says_nothing_of_merges_and_deletions() {
        let put = |key| Doing::of(&Call::new(Method::PUT, Some(key)));
        let several = Doing::of(&Call::new(Method::POST, None).query("delete", ""));
        let part = Doing::of(&Call::new(Method::PUT, Some(BATCH)).query("partNumber", "1"));
        assert_eq!((put(BATCH), part, put(MERGED)), (Doing::Batches, Doing::Batches, Doing::History));
        assert_eq!(several, Doing::of(&Call::new(Method::DELETE, Some(BATCH))));
        let down = Down::default();
        down.set(put(MERGED), true);
        down.set(several, true);
        down.set(put(BATCH), false);
        assert!(down.is(put(MERGED)) && down.is(several) && !down.is(put(BATCH)));
        down.set(put(MERGED), false);
        assert!(!down.is(put(MERGED)) && down.is(Doing::Deletes) && !down.is(Doing::Reads));
        down.set(put(BATCH), true);
        assert!(down.is(Doing::Reads) && down.is(Doing::History));
    }
}
