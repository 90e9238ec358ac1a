//! Steps that list: the replica, and times.

use super::HistoryError;
use super::executor::Executor;
use crate::base::clock::Millis;
use crate::base::limits;
use crate::ltx::{TimesId, times};
use crate::store::Part;

impl Executor {
    /// Lists everything again: a file is missing where it should be.
    pub(super) async fn list_again(&self, now: Millis) {
        match self.store.list_all().await {
            Ok(listing) => self.feed.listed(&listing, now),
            Err(e) => tracing::debug!(db = self.name, error = %e, "cannot list the replica again"),
        }
    }

    /// Lists level-0 files that are not known yet.
    pub(super) async fn list(&self, part: Part, now: Millis) -> Result<(), HistoryError> {
        match self.store.list_part(part).await? {
            // A page with no file of this replica does not tell where the next one begins.
            Some(found) if !found.more || !found.listing.files.is_empty() => {
                let files = &found.listing.files;
                tracing::debug!(
                    db = self.name,
                    replica = self.store.url(),
                    files = files.len(),
                    "listed older files"
                );
                self.feed.inventory(|s| s.fill(files, found.more, now));
            }
            _ => self.feed.listed(&self.store.list_all().await?, now),
        }
        Ok(())
    }

    /// Writes a list of times.
    pub(super) async fn times(&self) -> Result<(), HistoryError> {
        let (entries, position) =
            self.feed.inventory(|s| (s.unlisted_times(limits::TIMES_ENTRIES), s.position()));
        let all = entries.len() < limits::TIMES_ENTRIES;
        let mut through = entries.last().map_or(position, |(txid, _)| *txid);
        if all {
            through = through.max(position);
        }
        if !entries.is_empty() {
            let (id, bytes): (TimesId, Vec<u8>) = times::encode(&entries)?;
            self.store.put_times(id, bytes.into()).await?;
            self.feed.inventory(|s| s.put_times(id));
        }
        self.feed.inventory(|s| s.times_through = s.times_through.max(through));
        Ok(())
    }

    /// Deletes lists of times.
    pub(super) async fn drop_times(&self, ids: &[TimesId]) -> Result<(), HistoryError> {
        self.store.delete_times(ids).await?;
        self.feed.inventory(|s| s.remove_times(ids));
        Ok(())
    }
}
