//! Damaged files of a replica that nobody replicates to, written again from its other files.

use std::rc::Rc;
use std::sync::Arc;

use super::cache::Cache;
use super::error::HistoryError;
use super::executor::Keeper;
use super::handover::Feed;
use super::inventory::Shelf;
use super::options::HistoryOptions;
use crate::base::LtxId;
use crate::base::clock::Millis;
use crate::restore::damage::Damaged;
use crate::store::{Entry, Listing, Store};

/// Writes the damaged files of a replica again as far as its other files have their content; gives
/// their names. Each then has what it had before, so nothing that others do there meanwhile is
/// harmed.
///
/// # Errors
/// [`HistoryError`].
pub async fn mend(
    store: Arc<dyn Store>,
    listing: &Listing,
    damaged: Damaged,
    now: Millis,
) -> Result<Vec<LtxId>, HistoryError> {
    let feed = Rc::new(Feed::new(Cache::default().shelf()));
    feed.listed(listing, now);
    feed.damaged(damaged.iter().map(|(id, why)| (*id, why.to_owned())));
    let name = store.url().to_owned();
    Keeper::new(store, HistoryOptions::off(), feed, name).mend(now).await
}

/// Of the damaged files of a listing, those that others have the content of.
#[must_use]
pub fn mendable(files: &[Entry], damaged: &Damaged) -> Vec<LtxId> {
    let shelf = Shelf::without(files, damaged, Millis::now());
    let has = |id: &LtxId| !shelf.replacement(*id).is_empty();
    damaged.iter().map(|(id, _)| *id).filter(has).collect()
}
