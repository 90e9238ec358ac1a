//! Recognises the database as the newest state of its replica, without local state.
//!
//! # Overview
//!
//! A host that is new, has lost its state, or has restored the database knows nothing of the
//! replica. The header of the newest batch has the checksum of the whole database after it. All
//! pages are read once and hashed. If the checksum of the database is the same, then the database
//! is that state, replication goes on from there, and nothing is uploaded. Otherwise the replica
//! gets an image.
//!
//! Equal pages do not say who may write to the replica: that is decided before, see `writer`.

use tokio::time::Instant;

use super::error::ReplicaError;
use super::task::Replica;
use crate::base::{DatabaseChecksum, Txid};
use crate::ltx::Header;
use crate::replicate::handoff::Pin;
use crate::replicate::image::stream::{StreamError, hash_all};
use crate::replicate::pending::Mark;
use crate::replicate::state::page_hashes::PageHashes;
use crate::replicate::state::{Point, print_of};
use crate::replicate::vitals::ReplicaPhase;

impl Replica {
    /// Goes on after the batch with the header `newest` if the database is the state after it;
    /// otherwise stores an image. `reason` says why this is not known without reading it.
    pub(super) async fn recognise(
        &mut self,
        next: &mut Txid,
        newest: &Header,
        reason: &str,
    ) -> Result<(), ReplicaError> {
        let (txid, expected) = (newest.max, newest.checksum);
        tracing::info!(
            db = %self.db_name(), replica = self.store.url(), %txid, reason,
            "comparing the database with the checksum of the newest state of the replica"
        );
        loop {
            self.vitals().set_phase(ReplicaPhase::Comparing);
            let pin = self.pin().await?;
            let mark = self.take_over();
            let begun = Instant::now();
            let (size_pages, checksum, hashes) = match self.hash_database(mark, &pin).await {
                Ok(hashed) => hashed,
                Err(e) => {
                    self.retry_unpinned(pin, e, begun).await?;
                    continue;
                }
            };
            if !pin.held() {
                continue;
            }
            drop(pin);
            if size_pages != newest.commit || Some(checksum) != expected {
                let reason = format!("{reason}, and the database is not its newest state ({txid})");
                return self.image(next, &reason).await;
            }
            let point =
                Point { txid, pos: mark.pos, size_pages, print: print_of(newest), checksum: expected };
            self.local.note_stamp(self.handoff.stamp());
            let noted = self.local.acknowledge_image(point, hashes);
            self.noted(noted);
            self.report(&mark, txid, 0, 0, None);
            self.works();
            tracing::info!(
                db = %self.db_name(), replica = self.store.url(), %txid, %checksum,
                "the database is the newest state of the replica: nothing has to be stored"
            );
            return Ok(());
        }
    }

    /// Hashes all pages at `mark`. Returns how many there are, and their checksum.
    async fn hash_database(
        &self,
        mark: Mark,
        pin: &Pin,
    ) -> Result<(u32, DatabaseChecksum, PageHashes), StreamError> {
        let source = self.source(mark).await?;
        let hashes = self.local.begin_hashes()?;
        let checksum = hash_all(&source, &hashes, pin).await?;
        Ok((source.size_pages(), checksum, hashes))
    }
}
