//! Downloads the files of a plan in order, with several requests in flight.
//!
//! Parts arrive in the order of the plan's files, and within a file in byte order, whatever the
//! order of the responses. At most [`limits::RESTORE_BYTES`] are requested and not decoded yet,
//! less from a local directory ([`limits::RESTORE_LOCAL_BYTES`]).

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;

use super::object::Wanted;
use super::progress::Progress;
use super::{RestoreError, damage};
use crate::base::limits;
use crate::store::Store;

/// Unit of the memory budget, in bytes.
const GRAIN: u64 = 4096;

/// A byte range of a file.
#[derive(Debug)]
pub(super) struct Part {
    /// Index of the file in the order of reading.
    pub(super) file: usize,
    pub(super) bytes: Bytes,
    /// Whether the part ends where the file ends.
    pub(super) is_last: bool,
    /// Returns the memory to the budget when its last holder has dropped it.
    pub(super) hold: Arc<OwnedSemaphorePermit>,
}

struct Cut {
    file: usize,
    range: Range<u64>,
    is_last: bool,
}

struct Flying {
    cut: Cut,
    permit: OwnedSemaphorePermit,
    answer: Task,
}

/// A task that is aborted when it is dropped.
struct Task(JoinHandle<crate::store::Result<Bytes>>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn cuts(files: &[Wanted]) -> impl Iterator<Item = Cut> {
    files.iter().enumerate().flat_map(|(file, entry)| {
        let size = entry.size;
        (0..size.div_ceil(limits::RESTORE_PART_BYTES)).map(move |n| {
            let start = n * limits::RESTORE_PART_BYTES;
            let end = size.min(start + limits::RESTORE_PART_BYTES);
            Cut { file, range: start..end, is_last: end == size }
        })
    })
}

/// Number of threads that decode what is fetched.
pub(super) fn decoders() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(limits::RESTORE_THREADS)
}

/// Bytes that are requested and not decoded yet, at most. Two parts at least, so that one is read
/// while the other is decoded.
fn budget(is_local: bool, threads: usize) -> u64 {
    if is_local {
        (threads.max(2) as u64 * limits::RESTORE_LOCAL_BYTES).min(limits::RESTORE_BYTES)
    } else {
        limits::RESTORE_BYTES
    }
}

/// Downloads `files` one after the other with up to `parallel` requests in flight, and sends their
/// parts to `parts`.
///
/// Ends early, without an error, when the receiver is dropped.
pub(super) async fn fetch(
    store: &Arc<dyn Store>,
    files: &[Wanted],
    parallel: usize,
    parts: mpsc::Sender<Part>,
    progress: &dyn Progress,
) -> Result<(), RestoreError> {
    let budget = Arc::new(Semaphore::new(grains(budget(store.is_local(), decoders())) as usize));
    let mut flying: VecDeque<Flying> = VecDeque::new();
    for cut in cuts(files) {
        let need = grains(cut.range.end - cut.range.start);
        let permit = loop {
            // The budget may be held by responses that wait to be delivered, so those go first.
            let full = flying.len() >= parallel;
            match Arc::clone(&budget).try_acquire_many_owned(need) {
                Ok(permit) if !full => break permit,
                _ => {}
            }
            let Some(first) = flying.pop_front() else {
                break Arc::clone(&budget)
                    .acquire_many_owned(need)
                    .await
                    .map_err(|_| RestoreError::Interrupted)?;
            };
            if !deliver(store, files, first, &parts, progress).await? {
                return Ok(());
            }
        };
        let (object, range, store) = (files[cut.file].object, cut.range.clone(), Arc::clone(store));
        let answer = Task(tokio::spawn(async move { object.get(&*store, range).await }));
        flying.push_back(Flying { cut, permit, answer });
    }
    for next in flying {
        if !deliver(store, files, next, &parts, progress).await? {
            return Ok(());
        }
    }
    Ok(())
}

/// Waits for one response and sends it on. False if the receiver is dropped.
async fn deliver(
    store: &Arc<dyn Store>,
    files: &[Wanted],
    Flying { cut, permit, mut answer }: Flying,
    parts: &mpsc::Sender<Part>,
    progress: &dyn Progress,
) -> Result<bool, RestoreError> {
    let Wanted { object, size } = files[cut.file];
    let url = || store.url().to_owned();
    let answer = tokio::select! {
        answer = &mut answer.0 => answer.map_err(|_| RestoreError::Interrupted)?,
        () = parts.closed() => return Ok(false),
    };
    let bytes = answer.map_err(|e| damage::of_read(&**store, object, e))?;
    let found = cut.range.start + bytes.len() as u64;
    if found != cut.range.end {
        return Err(RestoreError::Short { object, url: url(), expected: size, found });
    }
    progress.fetched(bytes.len() as u64);
    let part = Part { file: cut.file, bytes, is_last: cut.is_last, hold: Arc::new(permit) };
    Ok(parts.send(part).await.is_ok())
}

fn grains(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(GRAIN)).unwrap_or(u32::MAX)
}

/// Number of requests that downloading a file of `size` bytes takes.
#[must_use]
pub const fn requests(size: u64) -> u64 {
    size.div_ceil(limits::RESTORE_PART_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_near_is_not_read_long_before_it_is_decoded() {
        const PART: u64 = limits::RESTORE_PART_BYTES;
        for threads in [1, 2, 3, 8, 16] {
            let local = budget(true, threads);
            assert!(local >= 2 * PART, "one part is read while another is decoded");
            assert!(local >= PART * threads.min(8) as u64, "each thread has its part");
            assert!(local <= limits::RESTORE_BYTES, "the bound of the memory holds");
            assert_eq!(
                budget(false, threads),
                limits::RESTORE_BYTES,
                "a store far away has to be asked ahead"
            );
        }
        assert_eq!(budget(true, 2), 2 * PART);
    }
}
