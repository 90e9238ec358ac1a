//! Reads one object part by part, at a limited rate, for a thread that proves it.

use std::io::{self, Read};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use tokio::sync::mpsc;

use crate::base::limits;
use crate::restore::blocking::join_error;
use crate::restore::object::Wanted;
use crate::restore::{RestoreError, damage};
use crate::store::Store;

/// Counts bytes as they arrive. Clones share one count.
#[derive(Debug, Clone, Default)]
pub struct Meter(Arc<AtomicU64>);

impl Meter {
    /// Sets the count.
    pub(super) fn set(&self, bytes: u64) {
        self.0.store(bytes, Relaxed);
    }

    /// Number of bytes counted.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Limits the read rate.
pub(super) struct Pace {
    per_second: Option<u64>,
    meter: Meter,
    /// Time at which the bytes requested so far are within the rate.
    due: Mutex<Instant>,
}

impl Pace {
    pub(super) fn new(per_second: Option<u64>, meter: Meter) -> Pace {
        Pace { per_second: per_second.map(|n| n.max(1)), meter, due: Mutex::new(Instant::now()) }
    }

    /// Waits until another `bytes` bytes may be requested.
    async fn wait(&self, bytes: u64) {
        let Some(per_second) = self.per_second else { return };
        let until = {
            let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
            let begin = (*due).max(Instant::now());
            let bytes = bytes.max(limits::VERIFY_REQUEST_BYTES);
            *due = begin + Duration::from_secs_f64(bytes as f64 / per_second as f64);
            begin
        };
        tokio::time::sleep_until(until.into()).await;
    }
}

/// Runs `work` on a blocking thread with the parts of an object.
///
/// The inner error is that of reading the object. If there is one, the value of `work` means
/// nothing.
pub(super) async fn through<T: Send + 'static>(
    store: &dyn Store,
    Wanted { object, size }: Wanted,
    pace: &Pace,
    work: impl FnOnce(Parts) -> T + Send + 'static,
) -> Result<(T, Result<(), RestoreError>), RestoreError> {
    let (sender, parts) = mpsc::channel(1);
    let done = tokio::task::spawn_blocking(move || work(Parts { parts, bytes: Bytes::new() }));
    let url = || store.url().to_owned();
    let feed = async {
        let mut at = 0;
        while at < size {
            let end = size.min(at + limits::RESTORE_PART_BYTES);
            pace.wait(end - at).await;
            let bytes = object.get(store, at..end).await.map_err(|e| damage::of_read(store, object, e))?;
            pace.meter.0.fetch_add(bytes.len() as u64, Relaxed);
            let found = at + bytes.len() as u64;
            if found != end {
                return Err(RestoreError::Short { object, url: url(), expected: size, found });
            }
            at = end;
            // `work` has ended early, because the content is damaged.
            if sender.send(bytes).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    };
    let fed = feed.await;
    drop(sender);
    Ok((done.await.map_err(join_error)?, fed))
}

/// The parts of an object, for a blocking thread.
pub(super) struct Parts {
    parts: mpsc::Receiver<Bytes>,
    bytes: Bytes,
}

impl Parts {
    /// The next part; `None` at the end of the object or after an error.
    pub(super) fn next(&mut self) -> Option<Bytes> {
        self.parts.blocking_recv()
    }
}

impl Read for Parts {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.bytes.is_empty() && !buf.is_empty() {
            match self.next() {
                Some(bytes) => self.bytes = bytes,
                None => return Ok(0),
            }
        }
        let n = buf.len().min(self.bytes.len());
        self.bytes.copy_to_slice(&mut buf[..n]);
        Ok(n)
    }
}
