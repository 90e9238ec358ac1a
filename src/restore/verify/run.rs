//! Reads a replica end to end and reports what is damaged.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use tokio::task::JoinSet;

use super::coverage::{holes, states};
use super::database::Compared;
use super::file::Pages;
use super::histories::Mixed;
use super::report::{Health, Newest, VerifyOptions, VerifyReport};
use super::stream::{Meter, Pace};
use super::{chain, database, file, forks, histories, old};
use crate::base::clock::Millis;
use crate::base::{DatabaseChecksum, LtxId, Pgno, Salts, Txid, limits};
use crate::ltx::Header;
use crate::restore::bases;
use crate::restore::blocking::{blocking, join_error};
use crate::restore::choose::{self, Files};
use crate::restore::claims::Claims;
use crate::restore::damage::{self, Damaged};
use crate::restore::doubt::Doubts;
use crate::restore::object::Object;
use crate::restore::options::Selection;
use crate::restore::plan::{self, Goal, PlanError};
use crate::restore::{RestoreError, Until, times};
use crate::store::{Entry, Listing, Store};

/// Verifies a replica, which may be in use: files that are removed or replaced meanwhile do not
/// count as damage, and the replica is read again.
///
/// # Errors
/// What prevents the verification: an error of the store, an empty replica, or a file of the newest
/// state that vanishes in each attempt. Damage of the replica is in the report instead.
pub async fn verify_replica(
    store: &Arc<dyn Store>,
    options: VerifyOptions,
) -> Result<VerifyReport, RestoreError> {
    let start = Instant::now();
    let pace = Arc::new(Pace::new(options.bytes_per_second, options.meter.clone()));
    let mut attempt = 1;
    // Files that are listed but cannot be read to their end.
    let mut gone = Damaged::default();
    let mut listing = store.list_all().await?;
    loop {
        let mut read = read(store, &listing, &options, &pace, &gone).await;
        let suspect = match &read {
            Err(e) => damage::moved(e).is_some(),
            Ok(report) => report.health() != Health::Sound,
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

/// Whether a second listing shows that a file which seemed damaged was replaced or removed
/// meanwhile. Drops holes that are gone: deleting old files one after the other opens holes for a
/// moment.
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

/// Reads the listed files.
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
    if options.sample_percent == 100 {
        options.planned.set(listing.files.iter().map(|f| f.size).sum());
    }
    let mut bad = gone.clone();
    bad.iter().for_each(|(id, why)| report.damage(Object::Ltx(*id), why.to_owned()));
    if !listing.files.is_empty() {
        let database = options.database.as_deref();
        let plan = newest_plan(store, listing, (pace, database), &mut report, &mut bad).await?;
        let percent = options.sample_percent;
        let batches = chain::batches(&listing.files, percent);
        others(store, &listing.files, &plan, (percent, pace), (&mut report, &mut bad)).await?;
        let mut broken =
            chain::follow(store, &listing.files, batches, (&plan, pace), (&mut report, &mut bad)).await?;
        two_histories(store, &listing.files, &mut report, &mut bad).await?;
        let odd = forks::odd_neighbours(store, &listing.files, &bad, &broken.first).await?;
        let is_odd = |id: &LtxId| odd.iter().any(|(odd, _)| odd == id);
        broken.first.retain(|(id, before)| !is_odd(id) && !before.as_ref().is_some_and(is_odd));
        for (id, why) in &odd {
            if bad.add(*id, why.clone()) {
                report.damage(Object::Ltx(*id), why.clone());
            }
        }
        for Mixed { txid, before, cause } in histories::mixed(&report.raw) {
            let id = LtxId::raw(txid);
            if is_odd(&LtxId::raw(before)) {
                continue;
            }
            if plan.contains(&id) && report.newest_lost.is_none() {
                report.newest = None;
                report.newest_lost = Some(format!("{id}: {cause}"));
            }
            if bad.add(id, cause.clone()) {
                report.damage(Object::Ltx(id), cause);
            }
        }
        report.bases.extend(bad.bases());
        // This makes many plans over many files. It does not run on the event loop, which may have
        // uploads to do.
        let (files, known) = (listing.files.clone(), bad.clone());
        let counted = blocking(move || Ok((holes(&files), states(&files, &known)))).await?;
        let (holes, (states, reachable)) = counted;
        // Only where checksums differ is a state refused that the names lead to.
        broken.first.iter().for_each(|first| report.conflict(chain::sentence(*first)));
        let (refused, unjudged) = match report.conflicts.is_empty() && !report.wants_image {
            true => Default::default(),
            false => forks::refused(store, &listing.files, &bad, (&reachable, &broken.states)).await?,
        };
        (report.holes, report.states) = (holes, states);
        report.restorable = (reachable.len() - refused.len() - unjudged.len()) as u64;
        let is_made = |txid: &Txid| !refused.contains(txid) && !unjudged.contains(txid);
        report.last_restorable = reachable.into_iter().find(is_made);
        report.refused = refused;
    }
    let lost = old::verify(store, &old, pace, &mut report).await?;
    // If both formats are there, the newest state may be one of Litestream 0.3.
    let mut damaged = Damaged::of_listing(&listing.files);
    let choice = choose::of_listing(&**store, listing, Selection::from(Until::Newest), &mut damaged).await;
    if let Ok(Files::Legacy(plan)) = choice.as_ref().map(|c| &c.files) {
        let bytes = lost.iter().find(|g| g.generation == plan.generation).and_then(|g| g.bytes);
        report.newest =
            bytes.map(|bytes| Newest { txid: Txid(0), created: plan.created(), bytes, checksum: None });
        report.newest_lost =
            report.newest.is_none().then(|| format!("generation {} is damaged", plan.generation));
    } else if let Err(e) = choice
        && report.newest_lost.is_none()
    {
        (report.newest, report.newest_lost) = (None, Some(e.to_string()));
    }
    Ok(report)
}

/// Reads the files of the newest state, newest first, and finds the file of each page. If a file is
/// damaged, reads others that cover it instead. Returns the names of all files that were read.
async fn newest_plan(
    store: &Arc<dyn Store>,
    listing: &Listing,
    (pace, database): (&Arc<Pace>, Option<&Path>),
    report: &mut VerifyReport,
    bad: &mut Damaged,
) -> Result<BTreeSet<LtxId>, RestoreError> {
    let files = listing.files.as_slice();
    let mut read: BTreeSet<LtxId> = bad.iter().map(|(id, _)| *id).collect();
    let (mut doubts, mut other) = (Doubts::default(), None);
    loop {
        let planned = other.take().map_or_else(|| bad.plan(files, Goal::Newest), Ok);
        let wanted = files.iter().map(|e| e.id.max).max().unwrap_or_default();
        let chain = match planned {
            Ok(chain) => chain,
            Err(cause) if cause.is_loss() && bases::find(&**store, files, bad, wanted).await? => continue,
            Err(cause) => {
                report.newest_lost = Some(cause.to_string());
                // The part before a gap is read as if it were the newest state.
                let PlanError::Gap { reached, .. } = cause else { return Ok(read) };
                plan::plan(files, Goal::Txid(reached)).unwrap_or_default()
            }
        };
        let mut pages = Pages { hashes: database.map(|_| Vec::new()), ..Pages::default() };
        let mut newest = None;
        for entry in chain.iter().rev() {
            let (checked, with) = file::check(store, *entry, pace, Some(pages)).await?;
            pages = with.unwrap_or_default();
            match checked {
                // Without a file of the plan nothing can be said about the state.
                Err(e) if damage::moved(&e).is_some() => return Err(e),
                checked => {
                    let header = checked.as_ref().ok().map(|c| c.header);
                    newest = newest.or(header.filter(|h| h.max == chain[chain.len() - 1].id.max));
                    if read.insert(entry.id) {
                        report.note(*entry, checked, bad)?;
                    } else if let Some((id, why)) = checked.as_ref().err().and_then(damage::fault) {
                        bad.add(id, why);
                    }
                }
            }
        }
        let missing = pages.claims.as_ref().and_then(Claims::missing);
        let wrong = wrong(store.url(), missing, newest.as_ref(), pages.sum);
        match (wrong, newest) {
            _ if report.newest_lost.is_some() => {}
            _ if chain.iter().any(|e| bad.has(e.id)) => continue,
            (Some(e), _) => match doubts.other_plan(e, &chain, files, bad) {
                Ok(plan) => {
                    other = Some(plan);
                    continue;
                }
                Err(e) => {
                    report.wants_image = true;
                    report.newest_lost = Some(match e {
                        RestoreError::MissingPage { missing, .. } => {
                            format!("page {missing} is in none of its files")
                        }
                        e => e.to_string(),
                    });
                }
            },
            (None, Some(h)) => {
                let bytes = u64::from(h.commit) * u64::from(h.page_size.get());
                let created = stored_at(store, listing, chain[chain.len() - 1].id, &h, bad).await?;
                report.newest = Some(Newest { txid: h.max, created, bytes, checksum: h.checksum });
                suspect(&doubts.suspects(&chain), report, bad);
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

/// Whether the newest state may be one of two histories, as a restore judges it.
async fn two_histories(
    store: &Arc<dyn Store>,
    files: &[Entry],
    report: &mut VerifyReport,
    bad: &mut Damaged,
) -> Result<(), RestoreError> {
    let Some(newest) = report.newest.map(|n| n.txid) else { return Ok(()) };
    match forks::odd_files(store, files, bad, newest).await {
        Ok(odd) => {
            for (id, why) in odd {
                if bad.add(id, why.clone()) {
                    report.damage(Object::Ltx(id), why);
                }
            }
        }
        Err(e @ RestoreError::TwoHistories { .. }) => {
            (report.newest, report.newest_lost) = (None, Some(e.to_string()));
            report.wants_image = true;
        }
        Err(e) => return Err(e),
    }
    Ok(())
}

/// Why the pages of a plan are not the state that its newest header names; `None` if they are.
fn wrong(
    url: &str,
    missing: Option<Pgno>,
    newest: Option<&Header>,
    found: DatabaseChecksum,
) -> Option<RestoreError> {
    let (url, newest) = (url.to_owned(), newest?);
    match (missing, newest.checksum) {
        (Some(missing), _) => Some(RestoreError::MissingPage { missing, commit: newest.commit, url }),
        (None, Some(expected)) if expected != found => {
            Some(RestoreError::Checksum { url, txid: newest.max, expected, found })
        }
        _ => None,
    }
}

/// Enters files that the newest state is right without, and wrong with.
fn suspect(suspects: &[(LtxId, String)], report: &mut VerifyReport, bad: &mut Damaged) {
    match suspects {
        [] => {}
        [(id, why)] => {
            bad.add(*id, why.clone());
            report.damage(Object::Ltx(*id), why.clone());
        }
        several => {
            report.wants_image = true;
            let names: Vec<String> = several.iter().map(|(id, _)| id.to_string()).collect();
            report.conflict(format!(
                "with these files the newest state has another checksum than the committed one, without them the right one: {}",
                names.join(", ")
            ));
        }
    }
}

/// When the newest state was stored, as the list of states prints it. Its last file may be an
/// image, which is later than the state, and a time in the future is corrected.
async fn stored_at(
    store: &Arc<dyn Store>,
    listing: &Listing,
    last: LtxId,
    header: &Header,
    bad: &mut Damaged,
) -> Result<Millis, RestoreError> {
    let mut times = times::Times::new(&**store, listing);
    if times.is_first(last) {
        if !times.is_future(header.timestamp) {
            return Ok(header.timestamp);
        }
        times.learn(header);
    }
    Ok(times.at(header.max, bad).await?.unwrap_or(header.timestamp))
}

/// Proves one file on its own.
///
/// # Errors
/// [`RestoreError`], for damage of the file or an error of the store.
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
    // Merged files have no WAL position. The newest level-0 file does, and it is never deleted
    // (I4).
    if newest.wal.salts == Salts::default()
        && let Some(raw) = files.iter().find(|e| e.id == LtxId::raw(newest.max))
    {
        newest.wal = times::header(&**store, raw).await?.wal;
    }
    blocking(move || Ok(database::compare(&path, &newest, &hashes)?)).await
}

/// Reads the other files, or a sample of them, several at the same time.
async fn others(
    store: &Arc<dyn Store>,
    files: &[Entry],
    plan: &BTreeSet<LtxId>,
    (percent, pace): (u8, &Arc<Pace>),
    (report, bad): (&mut VerifyReport, &mut Damaged),
) -> Result<(), RestoreError> {
    // Batches are chosen as a run.
    let wanted = |e: &&Entry| !chain::is_batch(e) && (percent >= 100 || fastrand::u8(0..100) < percent);
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
        report.note(entry, checked?.0, bad)?;
    }
}
