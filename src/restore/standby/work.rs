//! Downloads files and applies them.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::sync::watch::Receiver;

use super::FollowError;
use super::apply::{Applied, Piece, apply};
use super::look::News;
use super::replica::Replica;
use super::run::{Follower, blocking, stopped};
use super::status::Lag;
use crate::base::{LtxId, limits};
use crate::restore::fetch;
use crate::restore::object::Wanted;
use crate::restore::progress::Silent;
use crate::store::Entry;

impl Follower {
    /// Applies the news. True if there was something to apply.
    pub(super) async fn act(&mut self, news: News, stop: &Receiver<bool>) -> Result<bool, FollowError> {
        let files = match news {
            News::Nothing => {
                self.status.lag = Lag::none();
                // The store has nothing newer, so the files that could not be applied are gone.
                self.bad.clear();
                (self.doubted, self.one_by_one) = (false, false);
                self.trouble.over(&mut self.status, self.store.url());
                self.tell();
                return Ok(false);
            }
            News::Next(id, bytes) => {
                let piece = Piece { bytes, is_last: true, hold: None };
                let applied = self.with_replica(vec![id], std::iter::once(piece)).await?;
                self.note(1, applied);
                return Ok(true);
            }
            News::Chain(files) => files,
            News::Image(files, why) => {
                let to = files.last().map(|f| f.id.max).unwrap_or_default();
                tracing::warn!(
                    db = %self.status.output.display(), replica = self.store.url(), txid = %self.status.txid, %to,
                    "{why}: applying a whole image"
                );
                self.fetched(&files, stop).await?;
                self.status.reseeds += 1;
                self.tell();
                return Ok(true);
            }
        };
        let mut rest = &files[..];
        while !rest.is_empty() && !*stop.borrow() && !self.lock.stop_wanted() {
            let (batch, after) = rest.split_at(if self.one_by_one { 1 } else { batch_len(rest) });
            self.fetched(batch, stop).await?;
            rest = after;
        }
        Ok(true)
    }

    /// Downloads files and applies them in one transaction.
    async fn fetched(&mut self, files: &[Entry], stop: &Receiver<bool>) -> Result<(), FollowError> {
        let newest_first: Vec<Entry> = files.iter().rev().copied().collect();
        let wanted: Vec<Wanted> = newest_first.iter().map(Wanted::from).collect();
        let (sender, mut parts) = mpsc::channel(1);
        let pieces = std::iter::from_fn(move || parts.blocking_recv()).map(|p: fetch::Part| Piece {
            bytes: p.bytes,
            is_last: p.is_last,
            hold: Some(p.hold),
        });
        let ids = newest_first.iter().map(|f| f.id).collect();
        let (store, parallel, mut stop) = (Arc::clone(&self.store), self.options.parallel, stop.clone());
        let getting = async move {
            tokio::select! {
                got = fetch::fetch(&store, &wanted, parallel, sender, &Silent) => got.map_err(FollowError::from),
                // Without the other parts the transaction is rolled back.
                () = stopped(&mut stop) => Err(FollowError::Interrupted),
            }
        };
        let (got, applied) = tokio::join!(getting, self.with_replica(ids, pieces));
        match (got, applied) {
            // Without all parts the other thread can only report that it was cut off.
            (Err(e), Err(FollowError::Interrupted)) => Err(e),
            (_, applied) => {
                self.note(files.len() as u64, applied?);
                Ok(())
            }
        }
    }

    /// Applies files on another thread.
    async fn with_replica(
        &mut self,
        files: Vec<LtxId>,
        pieces: impl Iterator<Item = Piece> + Send + 'static,
    ) -> Result<Applied, FollowError> {
        let mut replica: Replica = self.replica.take().ok_or(FollowError::Interrupted)?;
        let url = self.store.url().to_owned();
        let (replica, applied) = blocking(move || {
            let applied = apply(&mut replica, &url, &files, pieces);
            (replica, applied)
        })
        .await?;
        self.status.txid = replica.txid();
        self.replica = Some(replica);
        applied
    }

    fn note(&mut self, files: u64, applied: Applied) {
        let Applied { header, made } = applied;
        self.made = Some(made);
        self.log_end = Some(header.wal);
        self.status.created = Some(made.at);
        self.status.files += files;
        self.status.states += 1;
        tracing::debug!(txid = %header.max, files, pages = header.commit, "applied");
        self.doubted = false;
        self.forget_bad();
        self.trouble.over(&mut self.status, self.store.url());
        self.tell();
    }
}

/// How many of these files go into one transaction; at least one.
fn batch_len(files: &[Entry]) -> usize {
    let mut bytes = 0;
    let fits = files.iter().take_while(|f| {
        bytes += f.size;
        bytes <= limits::FOLLOW_BATCH_BYTES
    });
    fits.count().max(1)
}
