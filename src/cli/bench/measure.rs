//! From commits and answers to latencies.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::sync::mpsc::UnboundedReceiver;

use super::timed::Stored;
use super::writer::{self, Commit};
use crate::base::clock::Millis;
use crate::base::{LtxId, Txid};
use crate::store::{PutOptions, Store};

/// What was measured.
#[derive(Debug, Default)]
pub(super) struct Measured {
    /// From COMMIT's return to the store's answer, for each commit.
    pub(super) latencies: Vec<Duration>,
    /// One PUT of the same bytes, right after each upload.
    pub(super) raw: Vec<Duration>,
    /// Bytes of the uploads.
    pub(super) upload_bytes: u64,
}

/// Follows commits and answers until the writer has ended and all its commits are stored.
///
/// # Errors
/// When commits stay unstored for `patience` after the last answer, or a raw PUT fails.
pub(super) async fn measure(
    commits: &mut UnboundedReceiver<Commit>,
    stored: &mut UnboundedReceiver<Stored>,
    raw: &dyn Store,
    patience: Duration,
) -> anyhow::Result<Measured> {
    let mut waiting: VecDeque<Commit> = VecDeque::new();
    let mut measured = Measured::default();
    let mut writing = true;
    while writing || !waiting.is_empty() {
        tokio::select! {
            // Commits first: an answer must find those that it holds.
            biased;
            commit = commits.recv(), if writing => match commit {
                Some(commit) => waiting.push_back(commit),
                None => writing = false,
            },
            answer = stored.recv() => {
                let answer = answer.context("the pipeline is gone")?;
                // The writer reports a commit just after it returned; the answer may overtake the report.
                let newest = writer::newest_commit(&answer.body)?.unwrap_or(0);
                while writing && waiting.back().is_none_or(|c| c.number < newest) && measured.seen(&waiting) < newest {
                    match commits.recv().await {
                        Some(commit) => waiting.push_back(commit),
                        None => writing = false,
                    }
                }
                while let Some(commit) = waiting.pop_front_if(|c| c.number <= newest) {
                    measured.latencies.push(answer.at.saturating_duration_since(commit.returned));
                }
                measured.raw_put(raw, answer).await?;
            }
            () = tokio::time::sleep(patience), if !writing => {
                anyhow::bail!("{} commits are not stored after {patience:?}", waiting.len());
            }
        }
    }
    Ok(measured)
}

impl Measured {
    /// The number of the newest commit that was reported.
    fn seen(&self, waiting: &VecDeque<Commit>) -> u64 {
        waiting.back().map_or(self.latencies.len() as u64, |c| c.number)
    }

    async fn raw_put(&mut self, raw: &dyn Store, stored: Stored) -> anyhow::Result<()> {
        self.upload_bytes += stored.body.iter().map(|b| b.len() as u64).sum::<u64>();
        let id = LtxId::raw(Txid(self.raw.len() as u64 + 1));
        let options = PutOptions { created: Millis::now(), create_only: true };
        let begun = Instant::now();
        raw.put(id, stored.body, options).await.context("raw PUT")?;
        self.raw.push(begun.elapsed());
        Ok(())
    }
}
