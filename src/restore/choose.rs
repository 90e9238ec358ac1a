//! Chooses the state, its format and the files that it needs.
//!
//! One survey (`survey`) shows what is needed. If both formats are under one path, the newer state
//! wins. Without a time that is the format with the newest file; with a time, the format whose
//! state is nearer to it. A TXID selects LTX; a generation or an index selects Litestream 0.3.

use super::RestoreError;
use super::damage::Damaged;
use super::object::{Object, Wanted};
use super::options::Selection;
use super::plan::{Goal, PlanError, Until};
use super::survey::Survey;
use super::times::Times;
use super::{bases, fetch, levels};
use crate::base::clock::Millis;
use crate::base::{Level, Txid};
use crate::legacy::{self, LegacyError, LegacyFile, LegacyPlan, Want};
use crate::store::{Entry, Listing, SideId, Store};

/// The files that a restore reads, in the order in which they build on each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Files {
    /// LTX files.
    Ltx(Vec<Entry>),
    /// A snapshot of Litestream 0.3 and the WAL segments that follow it.
    Legacy(LegacyPlan),
}

/// A state and the files that it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The files to read.
    pub files: Files,
    /// Whether the replica holds no newer state.
    pub is_newest: bool,
    /// Requests made to find out when states were stored, not counting the listing.
    pub lookups: u64,
    /// When the state was stored; `None` if the header of its last file says so.
    pub(super) created: Option<Millis>,
    /// With `salvage`: the TXID that was wanted, if only an older state can be restored.
    pub instead_of: Option<Txid>,
}

impl Choice {
    /// The files in the order in which [`run`](super::run::run) fetches them: LTX files from the
    /// newest to the oldest, files of Litestream 0.3 from the oldest to the newest.
    pub(super) fn wanted(&self) -> Vec<Wanted> {
        match &self.files {
            Files::Ltx(files) => files.iter().rev().map(Wanted::from).collect(),
            Files::Legacy(plan) => plan.files().map(Wanted::from).collect(),
        }
    }

    /// Each file with its size in bytes, in the order in which the files build on each other.
    #[must_use]
    pub fn objects(&self) -> Vec<(Object, u64)> {
        let mut all: Vec<_> = self.wanted().iter().map(|w| (w.object, w.size)).collect();
        if matches!(self.files, Files::Ltx(_)) {
            all.reverse();
        }
        all
    }

    /// Total bytes of the files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.wanted().iter().map(|w| w.size).sum()
    }

    /// Number of GETs that reading the files takes.
    #[must_use]
    pub fn gets(&self) -> u64 {
        self.wanted().iter().map(|w| fetch::requests(w.size)).sum()
    }

    /// When the state was stored; `None` if the header of its last file says so.
    #[must_use]
    pub fn known_time(&self) -> Option<Millis> {
        self.created
    }

    /// The last TXID; `None` for files of Litestream 0.3.
    #[must_use]
    pub fn txid(&self) -> Option<Txid> {
        match &self.files {
            Files::Ltx(files) => files.last().map(|e| e.id.max),
            Files::Legacy(_) => None,
        }
    }
}

/// Lists what is needed of the replica and chooses.
///
/// # Errors
/// [`RestoreError`], if the state cannot be restored.
pub async fn choose(store: &dyn Store, selection: Selection) -> Result<Choice, RestoreError> {
    let mut survey = survey_for(store, selection).await?;
    let mut damaged = Damaged::of_listing(&survey.listing().files);
    let choice = of_survey(store, &mut survey, selection, &mut damaged).await?;
    for (id, why) in damaged.iter() {
        tracing::warn!(file = %id, replica = store.url(), reason = why, "a file is damaged and is not used");
    }
    let Some(txid) = choice.txid() else { return Ok(choice) };
    let lookups = choice.lookups + levels::warn_of_clash(store, &survey.listing().files, txid).await?;
    Ok(Choice { lookups, ..choice })
}

/// Chooses from a listing. Reads headers only where times decide, and notes files that turn out to
/// be damaged.
///
/// # Errors
/// [`RestoreError`], if the state cannot be restored.
pub(super) async fn of_listing(
    store: &dyn Store,
    listing: &Listing,
    selection: Selection,
    damaged: &mut Damaged,
) -> Result<Choice, RestoreError> {
    of_survey(store, &mut Survey::of_all(listing.clone()), selection, damaged).await
}

/// Lists what a state needs.
pub(crate) async fn survey_for(store: &dyn Store, selection: Selection) -> Result<Survey, RestoreError> {
    let Selection { until, generation, index, salvage } = selection;
    Ok(match until {
        _ if salvage || generation.is_some() || index.is_some() => Survey::whole(store).await?,
        Until::Newest => Survey::newest(store, 0).await?,
        Until::Txid(txid) => Survey::at(store, txid).await?,
        Until::Before(_) => Survey::levels(store).await?,
    })
}

/// Chooses from what is listed, and lists more where that is not enough: an error is always that of
/// a whole listing.
pub(super) async fn of_survey(
    store: &dyn Store,
    survey: &mut Survey,
    selection: Selection,
    damaged: &mut Damaged,
) -> Result<Choice, RestoreError> {
    if !survey.is_whole() {
        match of_part(store, survey, selection, damaged).await {
            Err(e) if !matches!(e, RestoreError::Store(_)) => survey.complete(store).await?,
            chosen => return chosen,
        }
        for (id, why) in Damaged::of_listing(&survey.listing().files).iter() {
            damaged.add(*id, why.to_owned());
        }
    }
    of_part(store, survey, selection, damaged).await
}

async fn of_part(
    store: &dyn Store,
    survey: &mut Survey,
    selection: Selection,
    damaged: &mut Damaged,
) -> Result<Choice, RestoreError> {
    let Selection { until, generation, index, salvage } = selection;
    let old = legacy_files(survey.listing());
    let has_files = !survey.listing().files.is_empty();
    let mut new = Ltx { store, survey, damaged, salvage };
    let of_old = |want| {
        let failed = |cause| legacy_error(store, cause);
        legacy::plan(&old, generation, want).map(legacy_choice).map_err(failed)
    };
    if let Some(index) = index {
        return checked(store, of_old(Want::Index(index))?);
    }
    if matches!(until, Until::Before(_)) {
        legacy::warn_of_lost_times(&old, store.url());
    }
    let has_old = !old.is_empty() || generation.is_some();
    let has_new = has_files && generation.is_none();
    let choice = match until {
        Until::Txid(_) if has_old && !has_new => {
            return Err(RestoreError::NoTxids { url: store.url().to_owned() });
        }
        Until::Newest if has_old && !(has_new && new.is_newer_than(&old)) => of_old(Want::Newest)?,
        Until::Before(time) if !has_new && has_old => of_old(Want::At(time))?,
        Until::Before(time) if has_old => nearer(new.before(time).await, of_old(Want::At(time)))?,
        Until::Txid(_) | Until::Newest => new.at(until).await?,
        Until::Before(time) => new.before(time).await?.0,
    };
    checked(store, choice)
}

/// Takes the format whose state is nearer to the wanted time.
fn nearer(
    new: Result<(Choice, Millis), RestoreError>,
    old: Result<Choice, RestoreError>,
) -> Result<Choice, RestoreError> {
    match (new, old) {
        (Ok((new, made)), Ok(old)) => {
            let Files::Legacy(plan) = &old.files else { unreachable!("a plan of Litestream 0.3") };
            let is_newest = new.is_newest && old.is_newest;
            let lookups = new.lookups;
            let chosen = if plan.created() > made { old } else { new };
            Ok(Choice { is_newest, lookups, ..chosen })
        }
        // A format that begins only after the wanted time holds newer states than the one that is
        // chosen.
        (Ok((new, _)), Err(RestoreError::TooEarly { .. })) => Ok(Choice { is_newest: false, ..new }),
        (Ok((new, _)), Err(_)) => Ok(new),
        (Err(RestoreError::TooEarly { .. }), Ok(old)) => Ok(Choice { is_newest: false, ..old }),
        (Err(e), Ok(_)) => Err(e),
        // Each format knows only its own earliest state.
        (
            Err(RestoreError::TooEarly { url, wanted, earliest }),
            Err(RestoreError::TooEarly { earliest: other, .. }),
        ) => Err(RestoreError::TooEarly { url, wanted, earliest: earliest.min(other) }),
        (Err(e), Err(_)) => Err(e),
    }
}

/// The LTX files of a survey.
struct Ltx<'a> {
    store: &'a dyn Store,
    survey: &'a mut Survey,
    damaged: &'a mut Damaged,
    salvage: bool,
}

impl Ltx<'_> {
    fn files(&self) -> &[Entry] {
        &self.survey.listing().files
    }

    /// Compares the upload times of both formats, as Litestream does.
    fn is_newer_than(&self, old: &[LegacyFile]) -> bool {
        let newest = self.files().iter().map(|e| e.modified).max();
        newest >= old.iter().map(|f| f.modified).max()
    }

    /// Makes a plan. Looks for files that it may begin with if there is no other way.
    async fn plan(&mut self, goal: Goal) -> Result<Choice, RestoreError> {
        if self.damaged.plan(self.files(), goal).is_err_and(|e| e.is_loss()) {
            let all = self.files().to_vec();
            let wanted = match goal {
                Goal::Newest => all.iter().map(|e| e.id.max).max().unwrap_or_default(),
                Goal::Txid(txid) | Goal::UpTo(txid) => txid,
            };
            bases::find(self.store, &all, self.damaged, wanted).await?;
        }
        self.planned(goal)
    }

    fn planned(&self, goal: Goal) -> Result<Choice, RestoreError> {
        let url = || self.store.url().to_owned();
        let all = self.files();
        let newest = all.iter().map(|e| e.id.max).max();
        let mut instead_of = None;
        let planned = match self.damaged.plan(all, goal) {
            Err(PlanError::Damaged { .. } | PlanError::Gap { .. }) if self.salvage => {
                let until = match goal {
                    Goal::Newest => newest.unwrap_or_default(),
                    Goal::Txid(txid) | Goal::UpTo(txid) => txid,
                };
                instead_of = Some(until);
                super::plan::plan(&self.damaged.sound(all), Goal::UpTo(until))
            }
            planned => planned,
        };
        let files = planned.map_err(|cause| match cause {
            PlanError::Empty => RestoreError::Empty { url: url() },
            cause => RestoreError::Plan { url: url(), cause },
        })?;
        let is_newest = files.last().map(|e| e.id.max) == newest;
        Ok(Choice { files: Files::Ltx(files), is_newest, lookups: 0, created: None, instead_of })
    }

    /// A state by TXID, or the newest one. Also finds out when it was stored, if the last file of
    /// the plan does not say so.
    async fn at(&mut self, until: Until) -> Result<Choice, RestoreError> {
        loop {
            let choice = self.plan(match until {
                Until::Txid(txid) => Goal::Txid(txid),
                _ => Goal::Newest,
            });
            let choice = choice.await?;
            let mut times = Times::new(self.store, self.survey.listing());
            let Files::Ltx(files) = &choice.files else { return Ok(choice) };
            // A compacted file has the time of the batch that it ends with; an image may be later
            // than its state.
            let is_image = |e: &&Entry| e.id.level == Level::SNAPSHOT && !times.is_first(e.id);
            let Some(last) = files.last().filter(is_image) else { return Ok(choice) };
            let created = times.at(last.id.max, self.damaged).await?;
            // Reading headers may have revealed damaged files; plan again without them.
            if !files.iter().any(|e| self.damaged.has(e.id)) {
                return Ok(Choice { created, lookups: times.requests(), ..choice });
            }
        }
    }

    /// The newest state stored strictly before `wanted`, and when it was stored.
    async fn before(&mut self, wanted: Millis) -> Result<(Choice, Millis), RestoreError> {
        if self.files().is_empty() {
            return Err(RestoreError::Empty { url: self.store.url().to_owned() });
        }
        let mut times = Times::new(self.store, self.survey.listing());
        // Before the first image ends nothing can be restored, whatever else is stored.
        let images = self.files().iter().filter(|e| e.id.min.0 == 1).map(|e| e.id.max);
        let Some(first) = images.min() else { return self.plan(Goal::Newest).await.map(|c| (c, wanted)) };
        let last = self.last_before(wanted, &mut times).await?.filter(|last| *last >= first);
        let Some(last) = last else {
            let earliest = times.at(first, self.damaged).await?.unwrap_or_default();
            let url = self.store.url().to_owned();
            return Err(RestoreError::TooEarly { url, wanted, earliest });
        };
        let choice = self.plan(Goal::UpTo(last)).await?;
        let reached = choice.txid().unwrap_or_default();
        if !self.survey.is_whole() && reached != last {
            let (url, wanted) = (self.store.url().to_owned(), last);
            let nearest = format!("what is listed leads to {reached}");
            return Err(RestoreError::Plan { url, cause: PlanError::Txid { wanted, nearest } });
        }
        // An older state must not pass for the wanted one.
        if !self.salvage
            && let Some(next) = super::plan::lost_after(self.files(), reached, last)
        {
            let url = self.store.url().to_owned();
            return Err(RestoreError::Plan { url, cause: PlanError::Gap { reached, next } });
        }
        let made = times.at(choice.txid().unwrap_or_default(), self.damaged).await?;
        let choice = Choice { lookups: times.requests(), created: made, ..choice };
        Ok((choice, made.unwrap_or_default()))
    }

    /// The last TXID before `wanted` at which a file ends. Lists the stretch of level 0 around it.
    async fn last_before(
        &mut self,
        wanted: Millis,
        times: &mut Times<'_>,
    ) -> Result<Option<Txid>, RestoreError> {
        loop {
            let last = times.last_before(wanted, self.damaged).await?;
            let low = last.unwrap_or_default();
            let high = times.end_after(low).unwrap_or(Txid(u64::MAX));
            if self.survey.covers(low, high) {
                return Ok(last);
            }
            // Which states have a time that is known to be right depends on all of them.
            if times.had_future() || !self.damaged.is_empty() {
                self.survey.complete(self.store).await?;
                // Without a readable header the time of an upload had to do.
                times.forget();
            } else if high == Txid(u64::MAX) {
                self.survey.tail(self.store, low, false).await?;
            } else {
                self.survey.cover(self.store, low, high).await?;
            }
            times.relist(self.survey.listing());
        }
    }
}

fn legacy_choice(plan: LegacyPlan) -> Choice {
    let created = Some(plan.created());
    Choice { is_newest: plan.is_newest, files: Files::Legacy(plan), lookups: 0, created, instead_of: None }
}

fn legacy_error(store: &dyn Store, cause: LegacyError) -> RestoreError {
    let url = store.url().to_owned();
    match cause {
        LegacyError::Empty => RestoreError::Empty { url },
        LegacyError::TooEarly { wanted, earliest } => RestoreError::TooEarly { url, wanted, earliest },
        cause => RestoreError::Legacy { url, cause },
    }
}

/// The files of Litestream 0.3 in a listing.
pub(super) fn legacy_files(listing: &Listing) -> Vec<LegacyFile> {
    let of = |side: &crate::store::SideEntry| match side.id {
        SideId::Legacy(name) => Some(LegacyFile { name, size: side.size, modified: side.modified }),
        SideId::Times(_) => None,
    };
    listing.sides.iter().filter_map(of).collect()
}

/// Refuses an empty file of Litestream 0.3 before anything is written.
fn checked(store: &dyn Store, choice: Choice) -> Result<Choice, RestoreError> {
    if let Files::Legacy(plan) = &choice.files
        && let Some(empty) = plan.files().find(|f| f.size == 0)
    {
        let cause = legacy::ApplyError::Damaged("it is empty".into());
        return Err(RestoreError::LegacyFile { object: empty.name, url: store.url().to_owned(), cause });
    }
    Ok(choice)
}
