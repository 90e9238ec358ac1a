//! One state of a replica.

use std::collections::HashMap;
use std::sync::Arc;

use super::ahead::Ahead;
use super::page_index::PageIndex;
use super::source::{Needed, Source};
use super::stored_file::StoredFile;
use super::{At, Pages, Replica, ViewError};
use crate::base::clock::Millis;
use crate::base::{PageSize, Pgno, Txid, limits};
use crate::ltx::{Header, IndexEntry};
use crate::restore::{RestoreError, Until};
use crate::store::Entry;

/// One state of a replica, whose pages are read on demand.
#[derive(Debug)]
pub struct Snapshot {
    replica: Replica,
    source: Source,
    /// The files of the plan, newest first.
    files: Vec<Arc<StoredFile>>,
    owners: Owners,
    ahead: Ahead,
    /// Header of the newest file.
    header: Header,
    created: Millis,
    is_newest: bool,
}

/// Opens a state. Lists the replica once, and reads the small files of the plan and the page
/// indexes of the others.
///
/// # Errors
/// [`ViewError`], if the state cannot be reached.
pub fn open(replica: &Replica, at: At) -> Result<Snapshot, ViewError> {
    Snapshot::open(replica, at)
}

impl Snapshot {
    fn open(replica: &Replica, at: At) -> Result<Snapshot, ViewError> {
        let mut source = Source::list(replica, Needed::State(at.into()))?;
        loop {
            let (choice, plan) = source.choose(replica, at.into())?;
            match files(replica, &plan) {
                Ok(files) => {
                    let header = *files.first().ok_or(RestoreError::Interrupted)?.header();
                    let created = choice.known_time().unwrap_or(header.timestamp);
                    let (replica, is_newest) = (replica.clone(), choice.is_newest);
                    let (owners, ahead) = (Owners::new(&files), Ahead::default());
                    return Ok(Snapshot {
                        replica,
                        source,
                        files,
                        owners,
                        ahead,
                        header,
                        created,
                        is_newest,
                    });
                }
                Err(e) => source.around(replica, e)?,
            }
        }
    }

    /// The last TXID of the state.
    #[must_use]
    pub fn txid(&self) -> Txid {
        self.header.max
    }

    /// When the state was stored.
    #[must_use]
    pub fn time(&self) -> Millis {
        self.created
    }

    /// Whether the replica held no newer state when this one was opened.
    #[must_use]
    pub fn is_newest(&self) -> bool {
        self.is_newest
    }

    /// Whether files of the replica end before this state. Lists the whole replica if that was not
    /// done yet.
    ///
    /// # Errors
    /// [`ViewError`], if the replica cannot be listed.
    pub fn has_older(&mut self) -> Result<bool, ViewError> {
        self.source.complete(&self.replica)?;
        Ok(self.source.sound().iter().any(|e| e.id.max < self.txid()))
    }

    /// The files of the plan, in the order in which they build on each other.
    #[must_use]
    pub fn files(&self) -> Vec<Entry> {
        self.files.iter().rev().map(|file| file.entry()).collect()
    }

    /// The newest file that has a page, and where.
    fn locate(&self, number: u32) -> Result<(Arc<StoredFile>, IndexEntry), RestoreError> {
        // Files whose index is not in memory as a whole are asked one by one.
        let owner = self.owners.pages.get(&number).copied();
        let parts = self.owners.parts.iter().copied().filter(|at| owner.is_none_or(|owner| *at < owner));
        for at in parts.chain(owner) {
            let file = &self.files[at];
            if let Some(entry) = self.replica.locate(file, number)? {
                return Ok((Arc::clone(file), entry));
            }
        }
        Err(RestoreError::MissingPage {
            missing: Pgno::new(number).unwrap_or(Pgno::FIRST),
            commit: self.header.commit,
            url: self.replica.store().url().to_owned(),
        })
    }

    fn try_page(&mut self, number: u32) -> Result<Arc<[u8]>, RestoreError> {
        let (file, entry) = self.locate(number)?;
        let key = (file.entry().id, number);
        let known = self.replica.pages().get(key);
        if let Some(page) = known {
            self.ahead.note(number, &page);
            return Ok(page);
        }
        let mut groups = vec![(Arc::clone(&file), file.index().run(entry, limits::VIEW_AHEAD_BYTES))];
        let ahead = self.ahead.wanted(number).to_vec();
        for number in ahead {
            self.add_ahead(&mut groups, number)?;
        }
        for (_, frames) in &mut groups {
            frames.sort_unstable_by_key(|frame| frame.offset);
        }
        let page = self.replica.read(groups, key)?;
        self.ahead.note(number, &page);
        Ok(page)
    }

    /// Adds a page that is read ahead, unless it is in memory.
    fn add_ahead(
        &self,
        groups: &mut Vec<(Arc<StoredFile>, Vec<IndexEntry>)>,
        number: u32,
    ) -> Result<(), RestoreError> {
        // A damaged interior page may name any page.
        if number == 0 || number > self.header.commit || number == self.header.page_size.lock_page().get() {
            return Ok(());
        }
        let (file, entry) = self.locate(number)?;
        if self.replica.pages().has((file.entry().id, number)) {
            return Ok(());
        }
        match groups.iter_mut().find(|(of, _)| Arc::ptr_eq(of, &file)) {
            Some((_, frames)) if frames.contains(&entry) => {}
            Some((_, frames)) => frames.push(entry),
            None => groups.push((file, vec![entry])),
        }
        Ok(())
    }
}

/// Which file has a page.
#[derive(Debug, Default)]
struct Owners {
    /// By page number, the newest of the files whose index is in memory as a whole.
    pages: HashMap<u32, usize>,
    /// The other files, newest first.
    parts: Vec<usize>,
}

impl Owners {
    fn new(files: &[Arc<StoredFile>]) -> Owners {
        let mut owners = Owners::default();
        for (at, file) in files.iter().enumerate() {
            match file.index() {
                PageIndex::Whole(all) => {
                    all.iter().for_each(|e| _ = owners.pages.entry(e.pgno.get()).or_insert(at));
                }
                PageIndex::Parts(_) => owners.parts.push(at),
            }
        }
        owners
    }
}

impl Pages for Snapshot {
    fn page_size(&self) -> u32 {
        self.header.page_size.get()
    }

    fn page_count(&self) -> u32 {
        self.header.commit
    }

    fn page(&mut self, number: u32) -> Result<Arc<[u8]>, ViewError> {
        let (count, txid) = (self.header.commit, self.header.max);
        if number == 0 || number > count {
            return Err(ViewError::NoPage { number, count, txid });
        }
        if number == self.header.page_size.lock_page().get() {
            return Ok(vec![0; self.header.page_size.bytes()].into());
        }
        self.source.begin();
        loop {
            match self.try_page(number) {
                Ok(page) => return Ok(page),
                Err(e) => self.source.around(&self.replica, e)?,
            }
            // The same state by other files.
            loop {
                let (_, plan) = self.source.choose(&self.replica, Until::Txid(txid))?;
                match files(&self.replica, &plan) {
                    Ok(files) => {
                        self.owners = Owners::new(&files);
                        self.files = files;
                        break;
                    }
                    Err(e) => self.source.around(&self.replica, e)?,
                }
            }
        }
    }
}

/// Opens the files of a plan, newest first. All have the page size of the newest.
pub(super) fn files(replica: &Replica, plan: &[Entry]) -> Result<Vec<Arc<StoredFile>>, RestoreError> {
    let newest_first: Vec<Entry> = plan.iter().rev().copied().collect();
    let files = replica.files(&newest_first)?;
    let size: Option<PageSize> = files.first().map(|f| f.header().page_size);
    for file in &files {
        let found = file.header().page_size;
        if let Some(expected) = size.filter(|size| *size != found) {
            let (object, url) = (file.entry().id, replica.store().url().to_owned());
            return Err(RestoreError::PageSize { object, url, found, expected });
        }
    }
    Ok(files)
}
