//! Reading a replica end to end: what is damaged, and what can be restored all the same.
//!
//! Proven for each LTX file that is read: its header against its name, the order of its pages,
//! every page by the file's CRC, its length, its page index. For the newest state: each page of the
//! database is in one of the files of its plan; a restore takes the same images by the same rules,
//! so it succeeds. For Litestream 0.3: the checksum of each file, each frame of each log by its
//! chain, and that the pieces join. *Not* proven is what SQLite would say of the pages: that takes
//! the database itself (`restore --integrity-check full`).
//!
//! Memory: [`limits::VERIFY_FILES`] files at once with two parts of [`limits::RESTORE_PART_BYTES`]
//! each, and one bit for each page of the database.

mod coverage;
mod file;
mod histories;
mod local;
mod old;
mod stream;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::choose::{self, Files};
use super::claims::Claims;
use super::damage::{self, Damaged};
use super::fetch::Object;
use super::plan::{self, Goal, PlanError};
use super::{RestoreError, Selection, Until, blocking, join_error, times};
use crate::base::clock::Millis;
use crate::base::{Level, LtxId, Salts, Txid, limits};
use crate::ltx::{Header, WalRange};
use crate::store::{Entry, Listing, Store};
pub use coverage::lost_states;
use coverage::{holes, states};
use file::{Checked, Pages};
pub use local::{CompareError, Compared};
pub use stream::Meter;
use stream::Pace;

/// What is to be read.
#[derive(Debug, Clone)]
pub struct VerifyOptions {
    /// Of the files that the newest state does not need, how many of a hundred are read, chosen at
    /// random.
    pub sample_percent: u8,
    /// Bytes a second on average; `None` for as many as come.
    pub bytes_per_second: Option<u64>,
    /// The database that it is a replica of, to be compared with the newest state; it may be in
    /// use.
    pub database: Option<PathBuf>,
    /// Counts what is read, also by an attempt that fails.
    pub meter: Meter,
}

impl Default for VerifyOptions {
    fn default() -> VerifyOptions {
        VerifyOptions { sample_percent: 100, bytes_per_second: None, database: None, meter: Meter::default() }
    }
}

/// What is wrong with one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Which.
    pub object: Object,
    /// In what way.
    pub cause: String,
}

/// How a replica is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Nothing is wrong with what was read.
    Sound,
    /// Something is, but the newest state can be restored.
    Damaged,
    /// The newest state can be restored, and is not that of the database.
    Differs,
    /// The newest state cannot be restored.
    NewestLost,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VerifyReport {
    /// LTX files and files of Litestream 0.3 that are there.
    pub objects: u64,
    /// How many of them were read.
    pub read: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// What is damaged, at most [`limits::VERIFY_FINDINGS`] of it.
    pub damaged: Vec<Damage>,
    /// How many objects are.
    pub damaged_count: u64,
    /// Files whose page index is not that of their frames. They restore.
    pub wrong_indexes: Vec<LtxId>,
    /// TXIDs that a level lacks between its files, as first and last.
    pub holes: Vec<(Level, Txid, Txid)>,
    /// Files that were removed while this ran.
    pub vanished: u64,
    /// The newest state, when it can be restored.
    pub newest: Option<Newest>,
    /// Why it cannot.
    pub newest_lost: Option<String>,
    /// States that files end at, and how many of them can be restored without a file that is
    /// damaged.
    pub states: u64,
    /// See `states`.
    pub restorable: u64,
    /// The last of those, of LTX files.
    pub last_restorable: Option<Txid>,
    /// What the comparison with the database gave, if there was one.
    pub compared: Option<Compared>,
    /// Why there was none, if one was wanted and could not be made.
    pub not_compared: Option<String>,
    /// Time that it took.
    pub time: Duration,
    /// Where the level-0 files that were read end in the WAL.
    raw: BTreeMap<Txid, WalRange>,
}

/// The newest state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Newest {
    /// Its TXID; 0 for one of Litestream 0.3.
    pub txid: Txid,
    /// When it was stored.
    pub created: Millis,
    /// Bytes of the database.
    pub bytes: u64,
}

impl VerifyReport {
    /// The verdict.
    #[must_use]
    pub fn health(&self) -> Health {
        match self {
            _ if self.newest.is_none() => Health::NewestLost,
            _ if self.compared.as_ref().is_some_and(|c| c.differ_count > 0) => Health::Differs,
            _ if self.damaged_count > 0 || !self.holes.is_empty() || !self.wrong_indexes.is_empty() => {
                Health::Damaged
            }
            _ => Health::Sound,
        }
    }

    fn damage(&mut self, object: Object, cause: String) {
        self.damaged_count += 1;
        if self.damaged.len() < limits::VERIFY_FINDINGS {
            self.damaged.push(Damage { object, cause });
        }
    }
}

/// Reads a replica, which may be in use: what was removed or replaced meanwhile is no fault, and it
/// is read again.
///
/// # Errors
/// What keeps it from being read: the store, an empty place, a file of the newest state that
/// vanishes each time. What is wrong with the replica is in the report.
pub async fn verify_replica(
    store: &Arc<dyn Store>,
    options: VerifyOptions,
) -> Result<VerifyReport, RestoreError> {
    let start = Instant::now();
    let pace = Arc::new(Pace::new(options.bytes_per_second, options.meter.clone()));
    let mut attempt = 1;
    // Files that are listed and cannot be read to their end, whatever the listing says.
    let mut gone = Damaged::default();
    let mut listing = store.list_all().await?;
    loop {
        let mut read = read(store, &listing, &options, &pace, &gone).await;
        let suspect = match &read {
            Err(e) => damage::moved(e).is_some(),
            Ok(report) => report.damaged_count > 0 || !report.holes.is_empty(),
        };
        if !suspect {
            return read.map(|report| VerifyReport { time: start.elapsed(), ..report });
        }
        let now = store.list_all().await?;
        let moved = match &mut read {
            Ok(report) => has_moved(&listing.files, &now.files, report),
            Err(e) => {
                let of = |files: &[Entry], id| files.iter().find(|f| f.id == id).copied();
                if let Some((id, why)) = damage::moved(e)
                    && of(&now.files, id).is_some_and(|entry| Some(entry) == of(&listing.files, id))
                {
                    gone.add(id, why.to_owned());
                }
                true
            }
        };
        if !moved || attempt == limits::VERIFY_ATTEMPTS {
            return read.map(|report| VerifyReport { time: start.elapsed(), ..report });
        }
        listing = now;
        attempt += 1;
    }
}

/// Whether a file that seemed damaged was replaced or removed meanwhile, by a second listing. Holes
/// that are not there any more are dropped: where old files are deleted one after the other there
/// are some for a moment.
fn has_moved(before: &[Entry], after: &[Entry], report: &mut VerifyReport) -> bool {
    let lasting = holes(after);
    report.holes.retain(|(level, from, to)| {
        lasting.iter().any(|(other, first, last)| level == other && from <= last && first <= to)
    });
    let entry = |files: &[Entry], id| files.iter().find(|e| e.id == id).map(|e| (e.size, e.modified));
    report.damaged.iter().any(|d| match d.object {
        Object::Ltx(id) => entry(before, id) != entry(after, id),
        Object::Legacy(_) | Object::Times(_) => false,
    })
}

/// Reads what was listed.
async fn read(
    store: &Arc<dyn Store>,
    listing: &Listing,
    options: &VerifyOptions,
    pace: &Arc<Pace>,
    gone: &Damaged,
) -> Result<VerifyReport, RestoreError> {
    let old = choose::legacy_files(listing);
    if listing.files.is_empty() && old.is_empty() {
        return Err(RestoreError::Empty { url: store.url().to_owned() });
    }
    let mut report =
        VerifyReport { objects: (listing.files.len() + old.len()) as u64, ..VerifyReport::default() };
    let mut bad = gone.clone();
    bad.iter().for_each(|(id, why)| report.damage(Object::Ltx(*id), why.to_owned()));
    if !listing.files.is_empty() {
        let database = options.database.as_deref();
        let plan = newest_plan(store, &listing.files, (pace, database), &mut report, &mut bad).await?;
        others(store, &listing.files, &plan, (options.sample_percent, pace), (&mut report, &mut bad)).await?;
        for (txid, cause) in histories::mixed(&report.raw) {
            let id = LtxId::raw(txid);
            if plan.contains(&id) && report.newest_lost.is_none() {
                report.newest = None;
                report.newest_lost = Some(format!("{id}: {cause}"));
            }
            if bad.add(id, cause.clone()) {
                report.damage(Object::Ltx(id), cause);
            }
        }
        // Many plans over many files: not on the loop, which may have uploads to see to.
        let files = listing.files.clone();
        let counted = blocking(move || Ok((holes(&files), states(&files, &bad)))).await?;
        (report.holes, (report.states, report.restorable, report.last_restorable)) = counted;
    }
    let lost = old::verify(store, &old, pace, &mut report).await?;
    // Where both formats are, the newest state may be one of Litestream 0.3.
    let mut damaged = Damaged::of_listing(&listing.files);
    let choice = choose::of_listing(&**store, listing, Selection::from(Until::Newest), &mut damaged).await;
    if let Ok(Files::Legacy(plan)) = choice.as_ref().map(|c| &c.files) {
        let bytes = lost.iter().find(|g| g.generation == plan.generation).and_then(|g| g.bytes);
        report.newest = bytes.map(|bytes| Newest { txid: Txid(0), created: plan.created(), bytes });
        report.newest_lost =
            report.newest.is_none().then(|| format!("generation {} is damaged", plan.generation));
    } else if let Err(e) = choice
        && report.newest_lost.is_none()
    {
        (report.newest, report.newest_lost) = (None, Some(e.to_string()));
    }
    Ok(report)
}

/// Reads the files of the newest state, newest first, and finds the file of each page. Where one is
/// damaged, others that cover it are read in its place. Gives the names of all that were read.
async fn newest_plan(
    store: &Arc<dyn Store>,
    files: &[Entry],
    (pace, database): (&Arc<Pace>, Option<&Path>),
    report: &mut VerifyReport,
    bad: &mut Damaged,
) -> Result<BTreeSet<LtxId>, RestoreError> {
    let mut read: BTreeSet<LtxId> = bad.iter().map(|(id, _)| *id).collect();
    loop {
        let chain = match bad.plan(files, Goal::Newest) {
            Ok(chain) => chain,
            Err(cause) => {
                report.newest_lost = Some(cause.to_string());
                // What comes before a gap is read as if it were the newest.
                let PlanError::Gap { reached, .. } = cause else { return Ok(read) };
                plan::plan(files, Goal::Txid(reached)).unwrap_or_default()
            }
        };
        let mut pages = Pages { claims: None, hashes: database.map(|_| Vec::new()) };
        let mut newest = None;
        for entry in chain.iter().rev() {
            let (checked, with) = file::check(store, *entry, pace, Some(pages)).await?;
            pages = with.unwrap_or_default();
            match checked {
                // Without a file of the plan there is nothing to say about the state.
                Err(e) if damage::moved(&e).is_some() => return Err(e),
                checked => {
                    let header = checked.as_ref().ok().map(|c| c.header);
                    newest = newest.or(header.filter(|h| h.max == chain[chain.len() - 1].id.max));
                    if read.insert(entry.id) {
                        note(*entry, checked, report, bad)?;
                    } else if let Some((id, why)) = checked.as_ref().err().and_then(damage::fault) {
                        bad.add(id, why);
                    }
                }
            }
        }
        let missing = pages.claims.as_ref().and_then(Claims::missing);
        match (missing, newest) {
            _ if report.newest_lost.is_some() => {}
            _ if chain.iter().any(|e| bad.has(e.id)) => continue,
            (Some(page), _) => report.newest_lost = Some(format!("page {page} is in none of its files")),
            (None, Some(h)) => {
                let bytes = u64::from(h.commit) * u64::from(h.page_size.get());
                report.newest = Some(Newest { txid: h.max, created: h.timestamp, bytes });
                if let (Some(path), Some(hashes)) = (database, pages.hashes) {
                    match compare(store, files, h, path.to_owned(), hashes).await {
                        Ok(compared) => report.compared = Some(compared),
                        Err(RestoreError::Compare(e)) => report.not_compared = Some(e.to_string()),
                        Err(e) => return Err(e),
                    }
                }
            }
            (None, None) => report.newest_lost = Some("it has no files".into()),
        }
        return Ok(read);
    }
}

/// Proves one file by itself.
///
/// # Errors
/// What is wrong with it, or with the store.
pub async fn one(store: &Arc<dyn Store>, entry: Entry) -> Result<(), RestoreError> {
    let pace = Pace::new(None, Meter::default());
    file::check(store, entry, &pace, None).await?.0.map(|_| ())
}

/// Compares the newest state, which `newest` ends, with the database.
async fn compare(
    store: &Arc<dyn Store>,
    files: &[Entry],
    mut newest: Header,
    path: PathBuf,
    hashes: Vec<u64>,
) -> Result<Compared, RestoreError> {
    // Merged files have lost the position in the log; the level-0 file is never the first to go.
    if newest.wal.salts == Salts::default()
        && let Some(raw) = files.iter().find(|e| e.id == LtxId::raw(newest.max))
    {
        newest.wal = times::header(&**store, raw).await?.wal;
    }
    blocking(move || Ok(local::compare(&path, &newest, &hashes)?)).await
}

/// Reads the rest, or a sample of it, several files at once.
async fn others(
    store: &Arc<dyn Store>,
    files: &[Entry],
    plan: &BTreeSet<LtxId>,
    (percent, pace): (u8, &Arc<Pace>),
    (report, bad): (&mut VerifyReport, &mut Damaged),
) -> Result<(), RestoreError> {
    let wanted = |_: &&Entry| percent >= 100 || fastrand::u8(0..100) < percent;
    let mut waiting = files.iter().filter(|e| !plan.contains(&e.id)).filter(wanted);
    let mut under_way = JoinSet::new();
    loop {
        while under_way.len() < limits::VERIFY_FILES
            && let Some(&entry) = waiting.next()
        {
            let (store, pace) = (Arc::clone(store), Arc::clone(pace));
            under_way.spawn(async move { (entry, file::check(&store, entry, &pace, None).await) });
        }
        let Some(done) = under_way.join_next().await else { return Ok(()) };
        let (entry, checked) = done.map_err(join_error)?;
        note(entry, checked?.0, report, bad)?;
    }
}

/// Enters what came of one file.
fn note(
    entry: Entry,
    checked: Result<Checked, RestoreError>,
    report: &mut VerifyReport,
    bad: &mut Damaged,
) -> Result<(), RestoreError> {
    match checked {
        Ok(checked) => {
            if entry.id.level == Level::RAW {
                report.raw.insert(entry.id.max, checked.header.wal);
            }
            if !checked.index_is_right && report.wrong_indexes.len() < limits::VERIFY_FINDINGS {
                report.wrong_indexes.push(entry.id);
            }
        }
        Err(RestoreError::Vanished { .. }) => {
            report.vanished += 1;
            return Ok(());
        }
        Err(e @ (RestoreError::Store(_) | RestoreError::Interrupted)) => return Err(e),
        Err(e) => {
            bad.add(entry.id, damage::fault(&e).map_or_else(|| e.to_string(), |(_, why)| why));
            report.damage(Object::Ltx(entry.id), e.to_string());
        }
    }
    report.read += 1;
    report.bytes += entry.size;
    Ok(())
}
