//! Which files lead to a state, found again when one of them cannot be used.

use super::{Replica, ViewError};
use crate::base::limits;
use crate::restore::damage::{self, Damaged};
use crate::restore::{self, Choice, Files, RestoreError, Until};
use crate::store::{Entry, Listing};

/// A listing, and the files in it that cannot be used.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) listing: Listing,
    damaged: Damaged,
    /// Listings made.
    listings: u32,
}

impl Source {
    /// Lists the replica.
    pub(super) fn list(replica: &Replica) -> Result<Source, ViewError> {
        let listing = replica.driver().run(replica.store().list_all()).map_err(RestoreError::from)?;
        replica.retain(&listing);
        let damaged = Damaged::of_listing(&listing.files);
        Ok(Source { listing, damaged, listings: 1 })
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
        loop {
            let store = replica.store();
            let choice = restore::of_listing(&**store, &self.listing, until.into(), &mut self.damaged);
            let choice = replica.driver().run(choice)?;
            let Files::Ltx(files) = &choice.files else {
                return Err(ViewError::Legacy { url: store.url().to_owned() });
            };
            let odd = match choice.txid() {
                Some(txid) => {
                    let odd = restore::odd_files(store, &self.listing.files, &self.damaged, txid);
                    replica.driver().run(odd)?
                }
                None => Vec::new(),
            };
            let mut again = false;
            for (id, why) in odd {
                again |= files.iter().any(|f| f.id == id) && self.damaged.add(id, why);
            }
            if !again {
                let files = files.clone();
                return Ok((choice, files));
            }
        }
    }

    /// The files that are not known to be damaged.
    pub(super) fn sound(&self) -> Vec<Entry> {
        self.damaged.sound(&self.listing.files)
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
            return if self.damaged.add(id, why) { Ok(()) } else { Err(e.into()) };
        }
        let Some((id, why)) = damage::moved(&e) else { return Err(e.into()) };
        if self.listings == limits::RESTORE_LISTINGS {
            return Err(e.into());
        }
        self.listings += 1;
        replica.forget(id);
        let listing = replica.driver().run(replica.store().list_all()).map_err(RestoreError::from)?;
        let of = |files: &[Entry]| files.iter().find(|f| f.id == id).copied();
        if of(&listing.files).is_some_and(|now| Some(now) == of(&self.listing.files)) {
            self.damaged.add(id, why.to_owned());
        }
        for (id, why) in Damaged::of_listing(&listing.files).iter() {
            self.damaged.add(*id, why.to_owned());
        }
        self.listing = listing;
        Ok(())
    }
}
