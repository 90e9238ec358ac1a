//! A replica, and what its readers share.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::task::JoinSet;

use super::driver::Driver;
use super::folder::KeepingStore;
use super::lru::{PageKey, RecentPages};
use super::page_index::Lookup;
use super::stored_file::StoredFile;
use super::{ViewError, stored_file};
use crate::base::{LtxId, limits};
use crate::ltx::IndexEntry;
use crate::restore::RestoreError;
use crate::store::{Entry, Listing, Store};

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

/// A replica that is there as long as others use it.
#[derive(Debug)]
pub(super) struct WeakReplica(Weak<Shared>);

impl WeakReplica {
    pub(super) fn upgrade(&self) -> Option<Replica> {
        self.0.upgrade().map(Replica)
    }
}

impl Replica {
    /// For a map of replicas that does not keep them.
    pub(super) fn downgrade(&self) -> WeakReplica {
        WeakReplica(Arc::downgrade(&self.0))
    }

    /// Reads from `store`, on threads of its own.
    ///
    /// # Errors
    /// [`ViewError::Driver`].
    pub fn new(store: Arc<dyn Store>) -> Result<Replica, ViewError> {
        Replica::keeping(store, None)
    }

    /// Reads from `store`, and keeps what was read in a folder for later runs.
    ///
    /// # Errors
    /// [`ViewError::Driver`], and [`ViewError::Folder`] if the folder cannot be created.
    pub fn keeping(store: Arc<dyn Store>, folder: Option<&Path>) -> Result<Replica, ViewError> {
        let pages = Mutex::new(RecentPages::new(limits::VIEW_PAGE_BYTES));
        let files = Mutex::new(HashMap::new());
        let store = match folder {
            Some(dir) => {
                let failed = |cause| ViewError::Folder { dir: dir.to_owned(), cause };
                Arc::new(KeepingStore::new(store, dir).map_err(failed)?)
            }
            None => store,
        };
        Ok(Replica(Arc::new(Shared { store, driver: Driver::new()?, files, pages })))
    }

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
            let held: usize = lock(&self.0.files).values().map(|file| file.held_bytes()).sum();
            let file = Arc::new(if held > limits::VIEW_FILE_BYTES { file.without_content() } else { file });
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

    /// Forgets files that are neither listed nor in use. What is listed may be a part of the
    /// replica.
    pub(super) fn retain(&self, listing: &Listing) {
        let listed: HashSet<LtxId> = listing.files.iter().map(|entry| entry.id).collect();
        lock(&self.0.files).retain(|id, file| listed.contains(id) || Arc::strong_count(file) > 1);
    }

    /// Forgets a file, because it is damaged or not there.
    pub(super) fn forget(&self, id: LtxId) {
        lock(&self.0.files).remove(&id);
    }

    /// Where the frame of a page is in a file.
    pub(super) fn locate(&self, file: &StoredFile, number: u32) -> Result<Option<IndexEntry>, RestoreError> {
        match file.index().look(number) {
            Lookup::Found(entry) => Ok(Some(entry)),
            Lookup::Absent => Ok(None),
            Lookup::Unknown(..) => self.driver().run(file.locate(&**self.store(), number)),
        }
    }

    /// One page of a file, from memory or by a request, which also reads the frames after it.
    pub(super) fn page(&self, file: &Arc<StoredFile>, entry: IndexEntry) -> Result<Arc<[u8]>, RestoreError> {
        let key = (file.entry().id, entry.pgno.get());
        if let Some(page) = self.pages().get(key) {
            return Ok(page);
        }
        let frames = file.index().run(entry, limits::VIEW_AHEAD_BYTES);
        self.read(vec![(Arc::clone(file), frames)], key)
    }

    /// Reads frames of several files at the same time, and returns the page `wanted`.
    pub(super) fn read(
        &self,
        frames: Vec<(Arc<StoredFile>, Vec<IndexEntry>)>,
        wanted: PageKey,
    ) -> Result<Arc<[u8]>, RestoreError> {
        let store = self.store();
        let cut = |(file, frames): (Arc<StoredFile>, Vec<IndexEntry>)| {
            stored_file::reads(&frames).into_iter().map(move |read| (Arc::clone(&file), read))
        };
        let requests: Vec<_> = frames.into_iter().flat_map(cut).collect();
        let read = self.driver().run(async {
            let mut under_way = JoinSet::new();
            let (mut waiting, mut read) = (requests.into_iter(), Vec::new());
            loop {
                while under_way.len() < limits::VIEW_TRANSFERS
                    && let Some((file, frames)) = waiting.next()
                {
                    let store = Arc::clone(store);
                    under_way.spawn(async move { (file.entry().id, file.read(&*store, &frames).await) });
                }
                let Some(done) = under_way.join_next().await else { return Ok::<_, RestoreError>(read) };
                let (id, pages) = done.map_err(|_| RestoreError::Interrupted)?;
                read.push((id, pages?));
            }
        })?;
        let mut recent = self.pages();
        let mut found = None;
        for (key, page) in
            read.into_iter().flat_map(|(id, pages)| pages.into_iter().map(move |(n, p)| ((id, n), p)))
        {
            if key == wanted {
                found = Some(Arc::clone(&page));
            }
            recent.insert(key, page);
        }
        found.ok_or(RestoreError::Interrupted)
    }
}
