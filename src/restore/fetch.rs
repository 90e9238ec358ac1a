//! Getting the files of a plan, in order, several requests at once.
//!
//! Parts arrive in the order of the plan's files and within them in the order of their bytes,
//! whatever the order of the answers. Bytes that have been asked for and are not decoded yet are
//! bounded by [`limits::RESTORE_BYTES`].

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;

use super::{Progress, RestoreError, damage};
use crate::base::LtxId;
use crate::base::limits;
use crate::legacy::{LegacyFile, LegacyName};
use crate::ltx::TimesId;
use crate::store::{BoxFuture, Entry, SideId, Store};

/// The budget is counted in pieces of this size.
const GRAIN: u64 = 4096;

/// Something that a restore reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Object {
    /// An LTX file.
    Ltx(LtxId),
    /// A file of Litestream 0.3.
    Legacy(LegacyName),
    /// A list of times.
    Times(TimesId),
}

impl Object {
    /// Reads a range of it.
    pub(super) fn get<'a>(
        &self,
        store: &'a dyn Store,
        range: Range<u64>,
    ) -> BoxFuture<'a, crate::store::Result<Bytes>> {
        match *self {
            Object::Ltx(id) => store.get(id, range),
            Object::Legacy(name) => store.get_side(SideId::Legacy(name), range),
            Object::Times(id) => store.get_side(SideId::Times(id), range),
        }
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Object::Ltx(id) => id.fmt(f),
            Object::Legacy(name) => name.fmt(f),
            Object::Times(id) => SideId::Times(id).fmt(f),
        }
    }
}

/// An object that is read whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) object: Object,
    /// Bytes, by the listing.
    pub(super) size: u64,
}

impl From<&Entry> for Wanted {
    fn from(entry: &Entry) -> Wanted {
        Wanted { object: Object::Ltx(entry.id), size: entry.size }
    }
}

impl From<&LegacyFile> for Wanted {
    fn from(file: &LegacyFile) -> Wanted {
        Wanted { object: Object::Legacy(file.name), size: file.size }
    }
}

/// A range of a file.
#[derive(Debug)]
pub(super) struct Part {
    /// Its place in the order of reading.
    pub(super) file: usize,
    /// The bytes.
    pub(super) bytes: Bytes,
    /// It ends where the file ends.
    pub(super) is_last: bool,
    /// Gives the memory back to the budget when the last holder is done with the bytes.
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

/// A task that does not outlive its owner's interest in it.
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

/// Gets `files` one after the other with up to `parallel` requests at once and sends their parts
/// on.
///
/// Ends early, without an error, when nobody takes the parts any more.
pub(super) async fn fetch(
    store: &Arc<dyn Store>,
    files: &[Wanted],
    parallel: usize,
    parts: mpsc::Sender<Part>,
    progress: &dyn Progress,
) -> Result<(), RestoreError> {
    let budget = Arc::new(Semaphore::new(grains(limits::RESTORE_BYTES) as usize));
    let mut flying: VecDeque<Flying> = VecDeque::new();
    for cut in cuts(files) {
        let need = grains(cut.range.end - cut.range.start);
        let permit = loop {
            // Whoever holds the budget may be an answer that waits to be passed on: those go first.
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

/// Waits for one answer and sends it on; false if nobody takes it.
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

/// Requests that it takes to get a file of that size.
#[must_use]
pub const fn requests(size: u64) -> u64 {
    size.div_ceil(limits::RESTORE_PART_BYTES)
}
