//! Rewrites damaged files of a replica that no process replicates to, from the other files.

use std::rc::Rc;
use std::sync::Arc;

use super::cache::Cache;
use super::error::HistoryError;
use super::executor::Executor;
use super::handover::Feed;
use super::inventory::Inventory;
use super::options::HistoryOptions;
use crate::base::LtxId;
use crate::base::clock::Millis;
use crate::restore::damage::Damaged;
use crate::store::{Entry, Listing, Store};

/// Rewrites damaged files of a replica whose content its other files have; returns their names.
/// Each file then has the content that it had before, so this harms nothing that other programs do
/// to the replica meanwhile.
///
/// # Errors
/// [`HistoryError`] of the first file that cannot be rewritten.
pub async fn mend(
    store: Arc<dyn Store>,
    listing: &Listing,
    damaged: Damaged,
    now: Millis,
) -> Result<Vec<LtxId>, HistoryError> {
    let feed = Rc::new(Feed::new(Cache::default().inventory()));
    feed.listed(listing, now);
    feed.damaged(damaged.iter().map(|(id, why)| (*id, why.to_owned())));
    let name = store.url().to_owned();
    Executor::new(store, HistoryOptions::off(), feed, name).mend(now).await
}

/// The damaged files of a listing whose content other files have.
#[must_use]
pub fn mendable(files: &[Entry], damaged: &Damaged) -> Vec<LtxId> {
    let inventory = Inventory::without(files, damaged, Millis::now());
    let has = |id: &LtxId| !inventory.replacement(*id).is_empty();
    damaged.iter().map(|(id, _)| *id).filter(has).collect()
}
