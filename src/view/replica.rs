//! A replica, and what its readers share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::driver::Driver;
use super::lru::RecentPages;
use super::stored_file::StoredFile;
use super::{ViewError, stored_file};
use crate::base::{LtxId, limits};
use crate::ltx::IndexEntry;
use crate::restore::RestoreError;
use crate::store::{Entry, Store};

/// A replica whose pages are read on demand. Clones share page indexes and recent pages.
#[derive(Debug, Clone)]
pub struct Replica(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    store: Arc<dyn Store>,
    driver: Driver,
    files: Mutex<HashMap<LtxId, Arc<StoredFile>>>,
    pages: Mutex<RecentPages>,
}

/// The content, also after a panic of another thread: every state of these maps is a right one.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Replica {
    /// Reads from `store`, on threads of its own.
    ///
    /// # Errors
    /// [`ViewError::Driver`].
    pub fn new(store: Arc<dyn Store>) -> Result<Replica, ViewError> {
        let pages = Mutex::new(RecentPages::new(limits::VIEW_PAGE_BYTES));
        let files = Mutex::new(HashMap::new());
        Ok(Replica(Arc::new(Shared { store, driver: Driver::new()?, files, pages })))
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.0.store
    }

    pub(super) fn driver(&self) -> &Driver {
        &self.0.driver
    }

    pub(super) fn pages(&self) -> MutexGuard<'_, RecentPages> {
        lock(&self.0.pages)
    }

    /// Opens the files that are not open yet, several at the same time.
    pub(super) fn files(&self, entries: &[Entry]) -> Result<Vec<Arc<StoredFile>>, RestoreError> {
        let known =
            |entry: &Entry| lock(&self.0.files).get(&entry.id).filter(|f| f.entry() == *entry).cloned();
        let missing: Vec<Entry> = entries.iter().filter(|e| known(e).is_none()).copied().collect();
        for file in self.driver().run(stored_file::open(self.store(), &missing))? {
            let file = Arc::new(file);
            let id = file.entry().id;
            if lock(&self.0.files).insert(id, Arc::clone(&file)).is_some() {
                self.pages().forget(id);
            }
            self.keep_pages(&file);
        }
        let find = |entry: &Entry| known(entry).ok_or(RestoreError::Interrupted);
        entries.iter().map(find).collect()
    }

    fn keep_pages(&self, file: &StoredFile) {
        for (number, page) in file.take_first_pages() {
            self.pages().insert((file.entry().id, number), page);
        }
    }

    /// Forgets a file, because it is damaged or not there.
    pub(super) fn forget(&self, id: LtxId) {
        lock(&self.0.files).remove(&id);
    }

    /// One page of a file, from memory or by one request.
    pub(super) fn read(&self, file: &StoredFile, entry: IndexEntry) -> Result<Arc<[u8]>, RestoreError> {
        let key = (file.entry().id, entry.pgno.get());
        if let Some(page) = self.pages().get(key) {
            return Ok(page);
        }
        let frames = file.run(entry, limits::VIEW_AHEAD_BYTES);
        let read = self.driver().run(file.read(&**self.store(), &frames))?;
        let mut recent = self.pages();
        let mut wanted = None;
        for (number, page) in read {
            if number == key.1 {
                wanted = Some(Arc::clone(&page));
            }
            recent.insert((key.0, number), page);
        }
        wanted.ok_or(RestoreError::Interrupted)
    }
}
