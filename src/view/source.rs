//! Which files lead to a state, found again when one of them cannot be used.

use super::{Replica, ViewError};
use crate::base::{Txid, limits};
use crate::restore::damage::{self, Damaged};
use crate::restore::{self, Choice, Files, RestoreError, Survey, Until};
use crate::store::Entry;

/// What is needed of a replica, and so is listed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Needed {
    /// The files that lead to a state.
    State(Until),
    /// All files between two states.
    Steps(Txid, Txid),
}

/// What is listed of a replica, and the files in it that cannot be used.
#[derive(Debug)]
pub(super) struct Source {
    needed: Needed,
    survey: Survey,
    damaged: Damaged,
    /// Listings made for the present answer.
    listings: u32,
}

impl Source {
    /// Lists what is needed of the replica.
    pub(super) fn list(replica: &Replica, needed: Needed) -> Result<Source, ViewError> {
        let survey = list(replica, needed)?;
        replica.retain(survey.listing());
        let damaged = Damaged::of_listing(&survey.listing().files);
        Ok(Source { needed, survey, damaged, listings: 1 })
    }

    /// The files that lead to a state, without those known to be damaged or of another history.
    ///
    /// # Errors
    /// As a restore of this state: also where the replica holds two histories.
    pub(super) fn choose(
        &mut self,
        replica: &Replica,
        until: Until,
    ) -> Result<(Choice, Vec<Entry>), ViewError> {
        let store = replica.store();
        let choice = restore::choose_sound(store, &mut self.survey, until.into(), &mut self.damaged);
        let choice = replica.driver().run(choice)?;
        match &choice.files {
            Files::Ltx(files) => {
                let files = files.clone();
                Ok((choice, files))
            }
            Files::Legacy(_) => Err(ViewError::Legacy { url: store.url().to_owned() }),
        }
    }

    /// The listed files that are not known to be damaged.
    pub(super) fn sound(&self) -> Vec<Entry> {
        self.damaged.sound(&self.survey.listing().files)
    }

    /// Begins another answer, with a new count of listings: a state that is open for days may see
    /// any number of merges.
    pub(super) fn begin(&mut self) {
        self.listings = 1;
    }

    /// Lists everything. False if that was done before.
    pub(super) fn complete(&mut self, replica: &Replica) -> Result<bool, ViewError> {
        if self.survey.is_whole() {
            return Ok(false);
        }
        let completed = self.survey.complete(&**replica.store());
        replica.driver().run(completed).map_err(RestoreError::from)?;
        self.note_damage();
        Ok(true)
    }

    fn note_damage(&mut self) {
        for (id, why) in Damaged::of_listing(&self.survey.listing().files).iter() {
            self.damaged.add(*id, why.to_owned());
        }
    }

    /// Notes why a file could not be used, and lists again where it was removed or replaced.
    ///
    /// # Errors
    /// The error itself, if it is not about one file, or if the file is known already.
    pub(super) fn around(&mut self, replica: &Replica, e: RestoreError) -> Result<(), ViewError> {
        if let Some((id, why)) = damage::fault(&e) {
            replica.forget(id);
            tracing::warn!(
                file = %id, replica = replica.store().url(), reason = why,
                "a file of the replica is damaged and is not used"
            );
            if !self.damaged.add(id, why) {
                return Err(e.into());
            }
            // The files below it may replace it.
            if !self.survey.is_whole() && id.min.0 > 1 {
                let covered = self.survey.cover(&**replica.store(), id.min, id.max);
                replica.driver().run(covered).map_err(RestoreError::from)?;
            }
            return Ok(());
        }
        let Some((id, why)) = damage::moved(&e) else { return Err(e.into()) };
        if self.listings == limits::RESTORE_LISTINGS {
            return Err(e.into());
        }
        self.listings += 1;
        replica.forget(id);
        let survey = list(replica, self.needed)?;
        let of = |survey: &Survey| survey.listing().files.iter().find(|f| f.id == id).copied();
        if of(&survey).is_some_and(|now| Some(now) == of(&self.survey)) {
            self.damaged.add(id, why.to_owned());
        }
        self.survey = survey;
        self.note_damage();
        Ok(())
    }
}

fn list(replica: &Replica, needed: Needed) -> Result<Survey, ViewError> {
    let store = &**replica.store();
    let listed = async {
        match needed {
            Needed::State(until) => restore::survey_for(store, until.into()).await,
            Needed::Steps(from, to) => {
                let mut survey = restore::survey_for(store, Until::Txid(to).into()).await?;
                survey.cover(store, from, to).await?;
                Ok(survey)
            }
        }
    };
    Ok(replica.driver().run(listed)?)
}
