//! Ends every level at one TXID, before the first batch with pages of another size.
//!
//! Files with pages of two sizes cannot be merged. A compactor, this one or Litestream's, reads
//! those files of a level that are beyond the last one of the next level. So once every level ends
//! at the same TXID, no merge reads files from both sides of it. That has to hold for levels that
//! are not in use, too, because a Litestream with other levels may take over.

use super::error::HistoryError;
use super::executor::Executor;
use super::inventory::{Inventory, Stored};
use crate::base::clock::Millis;
use crate::base::{Level, LtxId, Txid, limits};

impl Executor {
    /// Writes what the levels lack up to the newest batch.
    ///
    /// # Errors
    /// [`HistoryError`] of the first file that cannot be written. What was written until then
    /// belongs to the replica.
    pub async fn close_levels(&mut self, now: Millis) -> Result<(), HistoryError> {
        for level in Level::all().filter(|l| *l != Level::RAW && *l != Level::SNAPSHOT) {
            while let Some((inputs, to)) = self.feed.inventory(|s| s.to_close(level))? {
                match inputs[..] {
                    [only] => self.copy(only, to, now).await?,
                    _ => self.merge(&inputs, to, None, now).await.map(|_| ())?,
                }
            }
        }
        Ok(())
    }
}

impl Inventory {
    /// The next file that a level lacks up to the newest batch, and the files that it is made of.
    fn to_close(&self, level: Level) -> Result<Option<(Vec<Stored>, LtxId)>, HistoryError> {
        let (end, reached) = (self.position(), self.max(level));
        // The first image is on level 9, and the levels begin after it.
        if reached >= end || end <= Txid(1) {
            return Ok(None);
        }
        let lower = || Level::all().filter(move |l| *l < level).flat_map(|l| self.level(l));
        let begin = match reached {
            Txid(0) => lower().map(|s| s.id.min).filter(|min| *min > Txid(1)).min().unwrap_or(end),
            reached => reached.next(),
        };
        let (mut inputs, mut next): (Vec<Stored>, Txid) = (Vec::new(), begin);
        while next <= end && inputs.len() < limits::MERGE_INPUTS {
            let fits = |s: &&Stored| s.id.min == next && s.id.max <= end;
            let Some(longest) = lower().filter(fits).max_by_key(|s| s.id.max) else { break };
            inputs.push(*longest);
            next = longest.id.max.next();
        }
        let to = inputs.last().and_then(|last| LtxId::new(level, begin, last.id.max).ok());
        match to {
            Some(to) => Ok(Some((inputs, to))),
            None => Err(HistoryError::Unclosed { level, next }),
        }
    }
}
