//! Stores batches whose pages are all in memory: one file, one PUT.

use tokio::time::Instant;

use super::batch::{Batch, INLINE_PAGES, Prepared, encode, sorted};
use super::error::ReplicaError;
use super::task::Replica;
use crate::base::{FrameNo, Salts, Txid};
use crate::ltx::{Header, WalRange};
use crate::replicate::pending::{Mark, Pending};
use crate::replicate::state::Point;
use crate::replicate::state::next_checksum::NextChecksum;
use crate::store::{ErrorKind, PutOptions};
use crate::wal::format;

impl Replica {
    /// The range of the WAL between the durable point and `mark`.
    pub(super) fn wal_range(&self, mark: &Mark) -> WalRange {
        let size = self.db.page_size();
        let before = self.local.state().durable.pos;
        let same = before.salts == mark.pos.salts
            && before.salts != Salts::default()
            && before.frame <= mark.pos.frame;
        let offset = format::frame_end(size, if same { before.frame } else { FrameNo(0) });
        WalRange { offset, size: format::frame_end(size, mark.pos.frame) - offset, salts: mark.pos.salts }
    }

    /// Stores the pending pages as the next batch.
    pub(super) async fn store_pending(&mut self, next: &mut Txid) -> Result<(), ReplicaError> {
        if self.handoff.slot(self.index, |s| s.pending.has_numbers_only()) {
            return self.store_numbers(next).await;
        }
        let mark = self.handoff.mark();
        let pending = self.handoff.slot(self.index, |s| std::mem::take(&mut s.pending));
        self.vitals().take();
        let batch = match self.prepared.take() {
            // I3: exactly the transaction that this batch was prepared from has been published.
            Some(p)
                if p.batch.mark == mark
                    && p.batch.id.max == *next
                    && p.durable == self.local.state().durable
                    && pending.commits() == 1 =>
            {
                p.batch
            }
            _ => match self.encode(*next, mark, pending).await? {
                Some(batch) => batch,
                None => {
                    self.vitals().answered(0, None);
                    return Ok(());
                }
            },
        };
        self.pace.spend(Instant::now());
        self.intend(batch.point);
        self.put(&batch).await?;
        let (pages, body) = (batch.hashes.len(), Some((batch.created, &batch.bytes)));
        self.local.note_stamp(self.handoff.stamp());
        // I1: the position moves only now that the store has answered the PUT.
        let noted = self.local.acknowledge(batch.point, batch.hashes);
        self.noted(noted);
        self.report(&batch.mark, batch.point.txid, batch.bytes.len() as u64, pages, body);
        // I4: the next TXID is used only now that this one is stored.
        *next = next.next();
        self.prove_create_only(batch.id, batch.created, &batch.bytes).await;
        Ok(())
    }

    /// Prepares the next batch from a transaction whose commit is near, while its writer waits for
    /// the disk. It is sent once the wal-index publishes the transaction (I3).
    pub(super) fn prepare(&mut self, txid: Txid) -> Result<(), ReplicaError> {
        let before = self.handoff.mark();
        let Some(near) = self.handoff.near() else { return Ok(()) };
        let known = self.prepared.as_ref().is_some_and(|p| p.batch.mark == near.mark && p.before == before);
        if known || near.mark.change != before.change.wrapping_add(1) || near.pages.len() > INLINE_PAGES {
            return Ok(());
        }
        let checksum = self.local.next_checksum(near.mark.size_pages);
        if checksum.as_ref().is_some_and(NextChecksum::is_long) {
            return Ok(());
        }
        let mut pending = Pending::new();
        near.pages.iter().for_each(|(p, page)| pending.insert(*p, page));
        let header = self.header(txid, &near.mark);
        let pages = sorted(pending, &near.mark);
        let batch = Batch::new(near.mark, encode(header, &pages, self.local.seed(), checksum)?);
        self.prepared = Some(Prepared { before, durable: self.local.state().durable, batch });
        Ok(())
    }

    fn header(&mut self, txid: Txid, mark: &Mark) -> Header {
        let created = self.local.next_timestamp(self.history_options.clock.now());
        Header::new(self.db.page_size(), mark.size_pages, (txid, txid), created, self.wal_range(mark))
    }

    async fn encode(
        &mut self,
        txid: Txid,
        mark: Mark,
        pending: Pending,
    ) -> Result<Option<Batch>, ReplicaError> {
        if mark.size_pages == 0 {
            return Ok(None);
        }
        let header = self.header(txid, &mark);
        let (pages, seed) = (sorted(pending, &mark), self.local.seed());
        let checksum = self.local.next_checksum(mark.size_pages);
        let is_long = checksum.as_ref().is_some_and(NextChecksum::is_long);
        if pages.len() <= INLINE_PAGES && !is_long {
            return Ok(Some(Batch::new(mark, encode(header, &pages, seed, checksum)?)));
        }
        let encoded = tokio::task::spawn_blocking(move || encode(header, &pages, seed, checksum));
        let encoded = encoded.await.map_err(|e| ReplicaError::Worker(e.to_string()))??;
        Ok(Some(Batch::new(mark, encoded)))
    }

    /// Notes the point of an upload that is about to begin.
    pub(super) fn intend(&mut self, point: Point) {
        let said = self.local.intend(point);
        self.say_local(said);
    }

    /// Uploads the same bytes under the same name until the store answers.
    async fn put(&mut self, batch: &Batch) -> Result<(), ReplicaError> {
        let options = PutOptions { created: batch.created, create_only: true };
        self.handoff.begin_upload();
        let result = loop {
            if let Err(e) = self.still_ours().await {
                // The pages of this batch are no longer pending.
                self.handoff.slot(self.index, |s| s.gap = Some(e.to_string()));
                break Err(e);
            }
            let begun = Instant::now();
            match self.store.put(batch.id, vec![batch.bytes.clone()], options).await {
                // It may be on top of another history: the check was before the pause.
                Ok(()) if self.vigil.was_paused() => {
                    let ours = self.still_ours().await;
                    if let Err(e) = &ours {
                        self.handoff.slot(self.index, |s| s.gap = Some(e.to_string()));
                    }
                    break ours;
                }
                Ok(()) => break Ok(()),
                Err(e) if e.kind() == ErrorKind::Conflict => {
                    if let Err(e) = self.taken(e).await {
                        break Err(e);
                    }
                }
                Err(e) => {
                    self.vigil.outage();
                    if let Err(e) = self.wait_out(e, begun).await {
                        break Err(e);
                    }
                }
            }
        };
        self.handoff.end_upload();
        if result.is_ok() {
            self.works();
        }
        result
    }
}
