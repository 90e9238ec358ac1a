//! Which pages are needed, and where they are.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::base::{self, Base, Hint};
use super::local::{Local, Opened};
use super::metered::Metered;
use crate::base::clock::Millis;
use crate::base::pages::PageSet;
use crate::base::{DatabaseChecksum, Level, LtxId, Pgno, Txid, limits};
use crate::ltx::{Header, IndexEntry};
use crate::restore::damage::Damaged;
use crate::restore::{self, Files, Integrity, RestoreError, Survey, Target, Until, blocking, damage};
use crate::store::{Entry, Store};
use crate::view::page_index::PageIndex;
use crate::view::stored_file::{self, StoredFile};

/// What to make of which file.
#[derive(Debug, Clone)]
pub struct DeltaOptions {
    /// Path of the existing database.
    pub path: PathBuf,
    /// The state that it becomes.
    pub until: Until,
    /// How thoroughly SQLite checks the result.
    pub integrity: Integrity,
    /// How many requests may be in flight at the same time.
    pub parallel: usize,
    /// What is known of the database as of some state.
    pub hint: Option<Hint>,
}

/// The way to the wanted state.
#[derive(Debug)]
pub enum Planned {
    /// By the pages that differ.
    Pages(Box<DeltaPlan>),
    /// By a restore of the whole database, for this reason, which is a clause.
    Whole(String),
}

/// The pages that a database file needs to become the wanted state.
pub struct DeltaPlan {
    pub(super) store: Arc<dyn Store>,
    pub(super) meter: Arc<Metered>,
    pub(super) local: Local,
    pub(super) options: DeltaOptions,
    pub(super) found: Delta,
}

/// The difference between a database file and the wanted state.
pub(super) struct Delta {
    /// Header of the file that ends with the wanted state.
    pub(super) header: Header,
    /// Checksum of the database in that state.
    pub(super) sum: DatabaseChecksum,
    /// When the state was stored.
    pub(super) created: Millis,
    /// Whether the replica holds no newer state.
    pub(super) is_newest: bool,
    /// The file that ends with the state.
    pub(super) newest_file: LtxId,
    pub(super) base: Base,
    /// Pages to fetch.
    pub(super) wanted: PageSet,
    /// The frames of these pages, in the order of each file.
    pub(super) frames: Vec<(Arc<StoredFile>, Vec<IndexEntry>)>,
}

impl fmt::Debug for DeltaPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeltaPlan").field("path", &self.local.path).finish_non_exhaustive()
    }
}

impl DeltaPlan {
    /// Path of the database, with links resolved.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.local.path
    }

    /// The last TXID of the wanted state.
    #[must_use]
    pub fn txid(&self) -> Txid {
        self.found.header.max
    }

    /// When the wanted state was stored.
    #[must_use]
    pub fn created(&self) -> Millis {
        self.found.created
    }

    /// Whether the replica holds no newer state.
    #[must_use]
    pub fn is_newest(&self) -> bool {
        self.found.is_newest
    }

    /// The state of the replica that the file is, and how many of its pages differ from it.
    #[must_use]
    pub fn base(&self) -> (Txid, usize) {
        (self.found.base.txid, self.found.base.changed.len())
    }

    /// Pages to fetch.
    #[must_use]
    pub fn pages(&self) -> usize {
        self.found.wanted.len()
    }

    /// Bytes of the frames of these pages.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.found.frames.iter().flat_map(|(_, frames)| frames).map(|frame| u64::from(frame.len)).sum()
    }

    /// Pages of the wanted state.
    #[must_use]
    pub fn page_count(&self) -> u32 {
        self.found.header.commit
    }

    /// Length of the wanted state in bytes.
    pub(super) fn length(&self) -> u64 {
        u64::from(self.found.header.commit) * u64::from(self.found.header.page_size.get())
    }

    /// Pages of the present file that are overwritten or cut off, in ascending order.
    pub(super) fn replaced(&self) -> impl Iterator<Item = Pgno> + '_ {
        let (pages, commit, lock) =
            (self.local.pages, self.found.header.commit, self.found.header.page_size.lock_page());
        let cut = (commit.saturating_add(1)..=pages).filter_map(Pgno::new).filter(move |pgno| *pgno != lock);
        self.found.wanted.iter().filter(move |pgno| pgno.get() <= pages).chain(cut)
    }

    /// Fails if the file system has less room than the new pages, the journal and the growth take.
    fn has_room(&self) -> Result<(), RestoreError> {
        let size = u64::from(self.found.header.page_size.get());
        let grown = u64::from(self.found.header.commit.saturating_sub(self.local.pages));
        let pages = self.found.wanted.len() as u64 + self.replaced().count() as u64 + grown;
        let need = pages * (size + 8);
        match self.local.file.free_space().filter(|free| *free < need) {
            Some(free) => Err(RestoreError::NoRoom { path: self.local.path.clone(), need, free }),
            None => Ok(()),
        }
    }
}

/// Reads the database and finds the pages that it needs. The file is locked until the plan is
/// dropped.
///
/// # Errors
/// [`RestoreError`]: the file cannot be used, or the wanted state cannot be reached at all.
pub async fn plan(store: Arc<dyn Store>, options: DeltaOptions) -> Result<Planned, RestoreError> {
    let path = options.path.clone();
    let target = blocking(move || Target::examine(&path, true)).await?;
    let local = match blocking(move || Local::open(&target)).await? {
        Opened::Ready(local) => *local,
        Opened::Odd(why) => return Ok(Planned::Whole(why)),
    };
    let meter = Metered::new(store);
    let store: Arc<dyn Store> = meter.clone();
    let mut listings = 0;
    loop {
        listings += 1;
        match found(&store, &local, &options).await {
            Ok(Found::Whole(why)) => return Ok(Planned::Whole(why)),
            Ok(Found::Pages(found)) => {
                let plan = DeltaPlan { store, meter, local, options, found: *found };
                plan.has_room()?;
                return Ok(Planned::Pages(Box::new(plan)));
            }
            // Old files were merged meanwhile.
            Err(e) if damage::moved(&e).is_some() && listings < limits::RESTORE_LISTINGS => {}
            Err(e) if is_about_files(&e) => return Ok(Planned::Whole(e.to_string())),
            Err(e) => return Err(e),
        }
    }
}

/// Whether files of the replica are damaged or gone: a restore of the whole database finds others,
/// or says that there are none.
#[must_use]
pub fn is_about_files(e: &RestoreError) -> bool {
    damage::moved(e).is_some() || e.is_loss()
}

enum Found {
    Whole(String),
    Pages(Box<Delta>),
}

async fn found(store: &Arc<dyn Store>, local: &Local, options: &DeltaOptions) -> Result<Found, RestoreError> {
    let state = options.until.into();
    let mut survey = restore::survey_for(&**store, state).await?;
    let mut damaged = Damaged::of_listing(&survey.listing().files);
    let choice = restore::choose_sound(store, &mut survey, state, &mut damaged).await?;
    let Files::Ltx(files) = &choice.files else {
        return Ok(Found::Whole("the state is one of Litestream 0.3, whose files have no page index".into()));
    };
    let newest_first: Vec<Entry> = files.iter().rev().copied().collect();
    let Some(last) = newest_first.first() else { return Err(RestoreError::Interrupted) };
    let header = restore::read_header(&**store, last).await?;
    if header.page_size != local.page_size {
        let (of, found) = (header.page_size, local.page_size);
        return Ok(Found::Whole(format!("it has pages of {found} bytes, the wanted state pages of {of}")));
    }
    let Some(sum) = header.checksum.filter(|_| header.commit > 0) else {
        return Ok(Found::Whole("the replica has no checksum of the wanted state".to_owned()));
    };
    let hint = options.hint.as_ref();
    let found = base::find(store, &mut survey, &mut damaged, local, header.max, hint).await?;
    let Some(base) = found else {
        return Ok(Found::Whole("it is not one of the states of the replica".to_owned()));
    };
    let created = choice.known_time().unwrap_or(header.timestamp);
    let (from, to) = (base.txid.min(header.max), base.txid.max(header.max));
    let Some(between) = between(store, &mut survey, &damaged, from, to).await? else {
        let why = format!("the replica no longer has the files between TXID {from} and TXID {to}");
        return Ok(Found::Whole(why));
    };
    // Both ways may need the same files.
    let mut opened: HashMap<LtxId, Arc<StoredFile>> = HashMap::new();
    let mut wanted = base.changed.clone();
    let mut shortest = local.pages.min(header.commit);
    for file in open(store, &between, &mut opened).await? {
        shortest = shortest.min(file.header().commit);
        let numbers = file.numbers(&**store).await?;
        numbers.into_iter().filter_map(Pgno::new).for_each(|pgno| wanted.insert(pgno));
    }
    // A page that was cut off in between and came back is in none of the files that cut it off.
    (shortest + 1..=header.commit).filter_map(Pgno::new).for_each(|pgno| wanted.insert(pgno));
    let beyond: Vec<Pgno> = wanted.iter().filter(|pgno| pgno.get() > header.commit).collect();
    beyond.into_iter().chain([header.page_size.lock_page()]).for_each(|pgno| wanted.remove(pgno));
    let frames = locate(store, &newest_first, &mut opened, &header, &wanted).await?;
    let (is_newest, newest_file) = (choice.is_newest, last.id);
    Ok(Found::Pages(Box::new(Delta { header, sum, created, is_newest, newest_file, base, wanted, frames })))
}

/// Files that have all pages that changed after `from` and up to `to`. Lists more of the replica
/// where that is not enough.
async fn between(
    store: &Arc<dyn Store>,
    survey: &mut Survey,
    damaged: &Damaged,
    from: Txid,
    to: Txid,
) -> Result<Option<Vec<Entry>>, RestoreError> {
    survey.cover_ends(&**store, from, to).await?;
    let found = cover(&damaged.sound(&survey.listing().files), from, to);
    if found.is_some() || survey.is_whole() {
        return Ok(found);
    }
    survey.complete(&**store).await?;
    Ok(cover(&damaged.sound(&survey.listing().files), from, to))
}

/// Files that have all pages that changed after `from` and up to `to`, as few as possible. They may
/// have others as well.
fn cover(files: &[Entry], from: Txid, to: Txid) -> Option<Vec<Entry>> {
    let mut fitting: BTreeMap<Txid, Vec<Entry>> = BTreeMap::new();
    for entry in files.iter().filter(|e| e.id.level != Level::SNAPSHOT && e.id.max > from) {
        fitting.entry(entry.id.min).or_default().push(*entry);
    }
    let (mut reached, mut cover) = (from, Vec::new());
    while reached < to {
        let begun = fitting.range(..=reached.next()).flat_map(|(_, all)| all);
        let next = begun.filter(|e| e.id.max > reached);
        // The furthest that does not go too far; else the one that goes least too far.
        let rank = |e: &&Entry| {
            let (max, min) = (e.id.max.0, e.id.min.0);
            if e.id.max <= to { (1, max, min) } else { (0, u64::MAX - max, min) }
        };
        let next = next.max_by_key(rank)?;
        reached = next.id.max;
        cover.push(*next);
    }
    Some(cover)
}

/// Opens files that are not open yet.
async fn open(
    store: &Arc<dyn Store>,
    entries: &[Entry],
    opened: &mut HashMap<LtxId, Arc<StoredFile>>,
) -> Result<Vec<Arc<StoredFile>>, RestoreError> {
    let missing: Vec<Entry> = entries.iter().filter(|e| !opened.contains_key(&e.id)).copied().collect();
    for file in stored_file::open(store, &missing).await? {
        // The pages that came with the header are read again where they are wanted.
        drop(file.take_first_pages());
        opened.insert(file.entry().id, Arc::new(file));
    }
    Ok(entries.iter().filter_map(|e| opened.get(&e.id).cloned()).collect())
}

/// Finds the frames of the wanted pages: each in the newest file that has it. Files are opened from
/// the newest on, until no page is left.
async fn locate(
    store: &Arc<dyn Store>,
    newest_first: &[Entry],
    opened: &mut HashMap<LtxId, Arc<StoredFile>>,
    header: &Header,
    wanted: &PageSet,
) -> Result<Vec<(Arc<StoredFile>, Vec<IndexEntry>)>, RestoreError> {
    let mut left = wanted.clone();
    // Older images of pages above this do not count: the database was shorter in between.
    let mut limit = header.commit;
    let mut frames = Vec::new();
    let (mut rest, mut at_once) = (newest_first, 1);
    while !left.is_empty() && !rest.is_empty() {
        // Most pages are in the first ones, and those are open already.
        let (now, after) = rest.split_at(rest.len().min(at_once));
        (rest, at_once) = (after, limits::VIEW_TRANSFERS.min(2 * at_once));
        for file in open(store, now, opened).await? {
            if left.is_empty() {
                break;
            }
            limit = limit.min(file.header().commit);
            let mut found = frames_of(store, &file, &left).await?;
            found.retain(|frame| frame.pgno.get() <= limit);
            found.iter().for_each(|frame| left.remove(frame.pgno));
            found.sort_unstable_by_key(|frame| frame.offset);
            if !found.is_empty() {
                frames.push((file, found));
            }
        }
    }
    match left.iter().next() {
        Some(missing) => {
            let url = store.url().to_owned();
            Err(RestoreError::MissingPage { missing, commit: header.commit, url })
        }
        None => Ok(frames),
    }
}

/// The frames of these pages in a file.
async fn frames_of(
    store: &Arc<dyn Store>,
    file: &StoredFile,
    pages: &PageSet,
) -> Result<Vec<IndexEntry>, RestoreError> {
    if let PageIndex::Parts(_) = file.index()
        && pages.len() <= limits::DELTA_LOOKUPS
    {
        let mut found = Vec::new();
        for pgno in pages.iter() {
            found.extend(file.locate(&**store, pgno.get()).await?);
        }
        return Ok(found);
    }
    let all = file.entries(&**store).await?;
    Ok(all.iter().filter(|entry| pages.contains(entry.pgno)).copied().collect())
}
