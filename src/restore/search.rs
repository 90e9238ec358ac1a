//! Finds files that lead to the wanted state and avoids damaged ones.
//!
//! The first plan is used without a check, because a restore reads and proves each file anyway.
//! After a file has failed, the files of the next plan are proven before they are used, each once.
//! So a replica with much damage is read at most twice, not once per damaged file.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::blocking::join_error;
use super::choose::{self, Choice, Files};
use super::damage::{self, Damaged};
use super::doubt::Doubts;
use super::options::Selection;
use super::plan::Until;
use super::survey::Survey;
use super::times::Times;
use super::{RestoreError, verify};
use crate::base::clock::Millis;
use crate::base::{LtxId, Txid, limits};
use crate::store::{Entry, Store};

/// What is known during the search for a state.
pub(super) struct Search<'a> {
    store: &'a Arc<dyn Store>,
    state: Selection,
    survey: Survey,
    damaged: Damaged,
    /// Files that were read and proven.
    proven: BTreeSet<LtxId>,
    /// Plans whose files are whole, but do not make the state that was committed.
    doubts: Doubts,
    /// The choice to try next, made in spite of a doubt.
    other: Option<Choice>,
    /// The last state for which the replica was found to have one history.
    judged: Option<Txid>,
    /// Damage was found, so files are proven before they are used.
    careful: bool,
    /// Damaged files that have been logged.
    said: BTreeSet<LtxId>,
    /// Number of listings made. A file that was removed or replaced after a listing causes another
    /// one.
    listings: u32,
}

impl<'a> Search<'a> {
    /// Lists the replica.
    pub(super) async fn begin(
        store: &'a Arc<dyn Store>,
        state: Selection,
    ) -> Result<Search<'a>, RestoreError> {
        let survey = choose::survey_for(&**store, state).await?;
        let damaged = Damaged::of_listing(&survey.listing().files);
        let (proven, said) = (BTreeSet::new(), BTreeSet::new());
        let (doubts, other) = (Doubts::default(), None);
        Ok(Search {
            store,
            state,
            survey,
            damaged,
            proven,
            doubts,
            other,
            judged: None,
            careful: false,
            said,
            listings: 1,
        })
    }

    /// Chooses files without those known to be damaged. Once damage was found, proves them first.
    pub(super) async fn next(&mut self) -> Result<Choice, RestoreError> {
        if let Some(other) = self.other.take() {
            return Ok(other);
        }
        loop {
            let choice =
                choose::of_survey(&**self.store, &mut self.survey, self.state, &mut self.damaged).await;
            self.say();
            let choice = choice?;
            let Files::Ltx(files) = &choice.files else { return Ok(choice) };
            if !self.careful || self.prove(files).await? {
                if let Some(newest) = choice.instead_of {
                    tracing::warn!(
                        replica = self.store.url(),
                        wanted = %newest,
                        txid = %choice.txid().unwrap_or_default(),
                        "the wanted state cannot be restored; this is the newest one before it that can"
                    );
                }
                return Ok(choice);
            }
        }
    }

    fn say(&mut self) {
        for (id, why) in self.damaged.iter() {
            if self.said.insert(*id) {
                tracing::warn!(
                    file = %id, replica = self.store.url(), reason = why,
                    "a file of the replica is damaged and is not used"
                );
            }
        }
    }

    /// Reads the files that are not proven yet, several at the same time. False if one of them
    /// cannot be used.
    async fn prove(&mut self, files: &[Entry]) -> Result<bool, RestoreError> {
        let mut waiting = files.iter().filter(|e| !self.proven.contains(&e.id)).copied().collect::<Vec<_>>();
        let mut under_way = JoinSet::new();
        let mut sound = true;
        loop {
            while under_way.len() < limits::VERIFY_FILES
                && let Some(entry) = waiting.pop()
            {
                let store = Arc::clone(self.store);
                under_way.spawn(async move { (entry.id, verify::one(&store, entry).await) });
            }
            let Some(done) = under_way.join_next().await else { return Ok(sound) };
            let (id, checked) = done.map_err(join_error)?;
            match checked {
                Ok(()) => {
                    self.proven.insert(id);
                }
                Err(e) => {
                    sound = false;
                    self.around_file(e).await?;
                }
            }
        }
    }

    /// Files that must not be used for the state of `choice`, because they are of another history.
    ///
    /// # Errors
    /// [`RestoreError::TwoHistories`], or an error of the store.
    pub(super) async fn odd_files(&self, choice: &Choice) -> Result<Vec<(LtxId, String)>, RestoreError> {
        match (&choice.files, choice.txid()) {
            (Files::Ltx(_), Some(wanted)) if self.judged != Some(wanted) => {
                verify::odd_files(self.store, &self.survey.listing().files, &self.damaged, wanted).await
            }
            _ => Ok(Vec::new()),
        }
    }

    /// Takes the result of [`odd_files`](Self::odd_files). False if another choice is needed.
    ///
    /// # Errors
    /// The error of `odd`, unless an older state is wanted instead.
    pub(super) fn is_of_one_history(
        &mut self,
        odd: Result<Vec<(LtxId, String)>, RestoreError>,
        choice: &Choice,
    ) -> Result<bool, RestoreError> {
        let odd = match odd {
            Err(e @ RestoreError::TwoHistories { agree: Some(txid), .. }) if self.state.salvage => {
                let reason = e.to_string();
                tracing::warn!(
                    replica = self.store.url(), reason, %txid,
                    "the wanted state may be one of two histories; this is the newest one that both have"
                );
                self.state = Selection { until: Until::Txid(txid), ..self.state };
                self.other = None;
                return Ok(false);
            }
            odd => odd?,
        };
        self.judged = choice.txid();
        let Files::Ltx(files) = &choice.files else { return Ok(true) };
        let is_used = odd.iter().any(|(id, _)| files.iter().any(|e| e.id == *id));
        odd.into_iter().for_each(|(id, why)| _ = self.damaged.add(id, why));
        Ok(!is_used)
    }

    /// Notes why the files of `choice` could not be used. The next choice is another one.
    ///
    /// # Errors
    /// The error itself, if there is no other choice.
    pub(super) async fn around(&mut self, e: RestoreError, choice: &Choice) -> Result<(), RestoreError> {
        let Files::Ltx(failed) = &choice.files else { return self.around_file(e).await };
        if !matches!(e, RestoreError::Checksum { .. } | RestoreError::MissingPage { .. }) {
            return self.around_file(e).await;
        }
        // Any file may have to replace another one.
        self.survey.complete(&**self.store).await?;
        let (url, reason) = (self.store.url(), e.to_string());
        let plan = self.doubts.other_plan(e, failed, &self.survey.listing().files, &self.damaged)?;
        tracing::warn!(
            replica = url,
            reason,
            files = plan.len(),
            "the files of this state do not fit together; trying others that cover the same TXIDs"
        );
        self.other = Some(Choice { files: Files::Ltx(plan), ..choice.clone() });
        Ok(())
    }

    /// Notes a file that could not be used.
    ///
    /// # Errors
    /// The error itself, if it is not about one file, concerns a file that is already known to be
    /// damaged, or follows [`limits::RESTORE_LISTINGS`] listings.
    async fn around_file(&mut self, e: RestoreError) -> Result<(), RestoreError> {
        self.careful = true;
        if let Some((id, why)) = damage::fault(&e) {
            if !self.damaged.add(id, why) {
                return Err(e);
            }
            // The files below it may replace it.
            if !self.survey.is_whole() && id.min.0 > 1 {
                self.survey.cover(&**self.store, id.min, id.max).await?;
            }
            return Ok(());
        }
        let Some((id, why)) = damage::moved(&e) else { return Err(e) };
        // The file was removed or replaced since the listing, as happens when old files are merged;
        // or the listing is wrong.
        if self.listings == limits::RESTORE_LISTINGS {
            return Err(e);
        }
        self.listings += 1;
        let survey = choose::survey_for(&**self.store, self.state).await?;
        let of = |survey: &Survey| survey.listing().files.iter().find(|f| f.id == id).copied();
        if of(&survey).is_some_and(|now| Some(now) == of(&self.survey)) {
            self.damaged.add(id, why.to_owned());
        }
        for (id, why) in Damaged::of_listing(&survey.listing().files).iter() {
            self.damaged.add(*id, why.to_owned());
        }
        self.survey = survey;
        Ok(())
    }

    /// When the state of `choice` was stored. `by_header` is the time in the header of its last
    /// file.
    pub(super) async fn created(
        &mut self,
        choice: &Choice,
        by_header: Millis,
    ) -> Result<Millis, RestoreError> {
        let mut times = Times::new(&**self.store, self.survey.listing());
        match (choice.created, choice.txid()) {
            (Some(created), _) => Ok(created),
            (None, Some(txid)) if times.is_future(by_header) => {
                Ok(times.at(txid, &mut self.damaged).await?.unwrap_or(by_header))
            }
            _ => Ok(by_header),
        }
    }

    /// The files that could not be used for `choice`, each with the reason.
    pub(super) fn into_damaged(self, choice: &Choice) -> Vec<(LtxId, String)> {
        let mut all: Vec<_> = self.damaged.iter().map(|(id, why)| (*id, why.to_owned())).collect();
        if let Files::Ltx(files) = &choice.files {
            all.extend(self.doubts.suspects(files));
        }
        all
    }
}

/// Chooses from what is listed, without damaged files and those of another history, and lists more
/// where that is not enough.
///
/// # Errors
/// As a restore of this state.
pub(crate) async fn choose_sound(
    store: &Arc<dyn Store>,
    survey: &mut Survey,
    state: Selection,
    damaged: &mut Damaged,
) -> Result<Choice, RestoreError> {
    loop {
        let choice = choose::of_survey(&**store, survey, state, damaged).await?;
        let (Files::Ltx(files), Some(txid)) = (&choice.files, choice.txid()) else { return Ok(choice) };
        let odd = verify::odd_files(store, &survey.listing().files, damaged, txid).await?;
        let mut again = false;
        for (id, why) in odd {
            again |= files.iter().any(|f| f.id == id) && damaged.add(id, why);
        }
        if !again {
            return Ok(choice);
        }
    }
}
