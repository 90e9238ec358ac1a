//! A database whose page size was changed while no lsfast followed it.
//!
//! # Order of writes
//!
//! 1. The wish for an image is left in the state folder, so that a crash in any later step ends
//!    with an image at the next start.
//! 2. Every level gets files up to the last batch of the old size
//!    ([`Executor::close_levels`](crate::replicate::history::Executor::close_levels)), so that no
//!    later merge reads pages of both sizes.
//! 3. The next batch is an image of the whole database, and the full image on level 9 is made of it
//!    before anything else is stored. A restore begins there.
//! 4. The wish is withdrawn.
//!
//! Between the two writes of the third step Litestream cannot restore the newest state; lsfast can,
//! because it finds the batch with all pages. Older states stay as they are.

use tokio::time::Instant;

use super::background::Background;
use super::error::ReplicaError;
use super::task::Replica;
use crate::base::{LtxId, Txid};
use crate::replicate::history::Once;
use crate::store::{ErrorKind, StoreError};

impl Replica {
    /// Ends what is stored with the old page size.
    ///
    /// # Errors
    /// [`ReplicaError`], if that is not possible.
    pub(super) async fn end_page_size(
        &mut self,
        reason: &str,
        executor: &mut Background,
    ) -> Result<(), ReplicaError> {
        tracing::warn!(
            db = %self.db_name(), replica = self.store.url(), reason,
            "the replica goes on with the new page size: older states stay, and the newest one begins with a new image"
        );
        *executor = Background::none();
        let wished = self.local.wish_for_image();
        self.say_local(wished);
        loop {
            let begun = Instant::now();
            match self.close_levels().await {
                Ok(()) => return Ok(()),
                Err(e) if e.store_error().is_some_and(StoreError::is_transient) => {
                    let e = StoreError::new(ErrorKind::Transient, e.to_string()).with_source(e);
                    self.wait_out(e, begun).await?;
                }
                Err(e) => return Err(ReplicaError::PageSize(e)),
            }
        }
    }

    /// Makes the full image of the new size, of the batch with all pages that was just stored.
    pub(super) async fn begin_page_size(&mut self, executor: &mut Background) {
        let position = self.local.state().durable.txid;
        self.history.want_image();
        match self.finish_history(Once::default()).await {
            Ok(()) => {
                self.local.take_wish_for_image();
                self.forget_first(position).await;
            }
            // The wish stays, and the executor goes on trying.
            Err(e) => tracing::warn!(
                db = %self.db_name(), replica = self.store.url(), error = %e,
                "the full image with the new page size is not stored yet; trying again"
            ),
        }
        *executor = self.keep_history();
    }

    /// Where the batch before is the first, which is on level 9 too, level 1 of Litestream would
    /// begin with it. So it is removed from level 0.
    async fn forget_first(&self, position: Txid) {
        let first = LtxId::raw(Txid(1));
        if position != Txid(2) || !self.history.has_first_image() || !self.history.has(first) {
            return;
        }
        if let Err(e) = self.history.without(&[first], self.store.delete(&[first])).await {
            tracing::debug!(db = %self.db_name(), error = %e, "cannot remove the first batch");
        }
    }
}
