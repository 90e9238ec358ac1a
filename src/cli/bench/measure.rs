//! Turns commits and store responses into latencies.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::sync::mpsc::UnboundedReceiver;

use super::child::Child;
use super::stats::Samples;
use super::timed::Stored;
use super::watch::Turns;
use super::writer::{self, Commit, Event, Turn, Turned, Which};
use crate::base::clock::Millis;
use crate::base::{LtxId, Txid};
use crate::io::{monotonic, processor_time};
use crate::store::{PutOptions, Store};

/// How often the size of the WAL is read.
const LOOK: Duration = Duration::from_millis(50);

/// How many uploads of a turn are repeated as raw PUTs after it, if the writer alone is measured
/// too.
const RAW_AFTER: usize = 16;

/// Number of turns of each kind, if the writer alone is measured too.
const PAIRS: u32 = 4;

/// The measured values.
#[derive(Debug, Default)]
pub(super) struct Measured {
    /// The writer on the replicated database.
    pub(super) replicated: Side,
    /// The writer on a database that lsfast does not replicate.
    pub(super) alone: Side,
    /// Times from COMMIT's return to the store's response.
    pub(super) stored: Samples,
    /// Time of each response since the beginning, with that latency.
    pub(super) lags: Vec<(Duration, Duration)>,
    /// Size of the WAL over time.
    pub(super) log: Vec<(Duration, u64)>,
    /// Times of raw PUTs of the same bytes.
    pub(super) raw: Samples,
    pub(super) uploads: u64,
    pub(super) upload_bytes: u64,
    /// Processor time of this process during the replicated turns and until all was stored. The
    /// writer is a separate process. `None` if raw PUTs ran in that time.
    pub(super) cpu: Option<Duration>,
}

/// The writer on one of the databases, over all turns.
#[derive(Debug, Default)]
pub(super) struct Side {
    pub(super) commits: Samples,
    pub(super) time: Duration,
    /// Commits a second of each turn.
    pub(super) rates: Vec<f64>,
    /// The largest size of the WAL, in bytes.
    pub(super) log_bytes_max: u64,
}

impl Side {
    fn take(&mut self, turned: &Turned) {
        self.commits.append(&turned.latencies);
        self.time += turned.time;
        self.rates.push(turned.latencies.count() as f64 / turned.time.as_secs_f64());
    }

    /// Commits a second over all turns.
    pub(super) fn rate(&self) -> f64 {
        self.commits.count() as f64 / self.time.as_secs_f64()
    }
}

/// What to measure in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    /// How long the writer writes with lsfast.
    pub(super) time: Duration,
    /// Whether it also writes alone for the same time, in alternating turns. Raw PUTs then follow
    /// each turn, so that they do not disturb the comparison.
    pub(super) compare: bool,
    /// Pause between a response and the raw PUT after it, if raw PUTs do not follow each turn.
    pub(super) raw_pause: Duration,
}

impl Plan {
    /// Time of all turns.
    pub(super) fn all(self) -> Duration {
        self.turns().iter().map(|turn| turn.time).sum()
    }

    fn turns(self) -> Vec<Turn> {
        if !self.compare {
            return vec![Turn { which: Which::Replicated, time: self.time }];
        }
        let turn = |which| Turn { which, time: self.time / PAIRS };
        let pair = |n: u32| {
            let pair = [turn(Which::Alone), turn(Which::Replicated)];
            // Each kind comes first equally often.
            if n.is_multiple_of(2) { pair } else { [pair[1], pair[0]] }
        };
        (0..PAIRS).flat_map(pair).collect()
    }
}

/// Sends the writer its turns and measures the effects.
pub(super) struct Meter<'a> {
    pub(super) plan: Plan,
    pub(super) writer: &'a mut Child,
    pub(super) stored: &'a mut UnboundedReceiver<Stored>,
    pub(super) raw: &'a dyn Store,
    /// The WAL of the replicated database, and of the other one.
    pub(super) logs: [PathBuf; 2],
    /// How long the last commits of a turn may take to be stored.
    pub(super) patience: Duration,
    /// Is told how far the measurement is.
    pub(super) turns: &'a Turns,
}

impl Meter<'_> {
    /// Measures all turns.
    ///
    /// # Errors
    /// If commits are still not stored `patience` after the last response, or if a raw PUT fails.
    pub(super) async fn measure(mut self) -> anyhow::Result<Measured> {
        let mut run =
            Run { measured: Measured::default(), begun: monotonic(), waiting: VecDeque::new(), seen: 0 };
        let mut cpu = self.plan.compare.then_some(Duration::ZERO);
        for turn in self.plan.turns() {
            let before = processor_time();
            self.writer.take(turn)?;
            self.turns.begin(turn);
            match turn.which {
                Which::Alone => self.alone(&mut run).await?,
                Which::Replicated => {
                    let kept = self.replicated(&mut run).await?;
                    cpu = cpu.map(|sum| sum + processor_time().saturating_sub(before));
                    for stored in kept {
                        run.raw_put(self.raw, stored).await?;
                    }
                }
            }
        }
        self.turns.end();
        Ok(Measured { cpu, ..run.measured })
    }

    async fn alone(&mut self, run: &mut Run) -> anyhow::Result<()> {
        let mut look = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                event = self.writer.event() => match event? {
                    Event::Commit(_) | Event::Failed(_) => {}
                    Event::Ended(turned) => {
                        run.measured.alone.take(&turned);
                        let size = size_of(&self.logs[1]);
                        run.measured.alone.log_bytes_max = run.measured.alone.log_bytes_max.max(size);
                        return Ok(());
                    }
                },
                _ = look.tick() => {
                    let size = size_of(&self.logs[1]);
                    run.measured.alone.log_bytes_max = run.measured.alone.log_bytes_max.max(size);
                }
            }
        }
    }

    /// One turn on the replicated database, until all is stored. Returns the uploads to repeat.
    async fn replicated(&mut self, run: &mut Run) -> anyhow::Result<Vec<Stored>> {
        let mut look = tokio::time::interval(LOOK);
        let mut ended: Option<Turned> = None;
        let mut kept = Vec::new();
        let mut answers = 0;
        let mut quiet_since = tokio::time::Instant::now();
        let mut raw: Option<(tokio::time::Instant, Stored)> = None;
        while ended.is_none() || !run.waiting.is_empty() {
            tokio::select! {
                // Commits come first: a response must find the commits it contains.
                biased;
                event = self.writer.event(), if ended.is_none() => {
                    quiet_since = tokio::time::Instant::now();
                    run.event(event?, &mut ended);
                    self.turns.committed(run.seen, run.measured.replicated.time);
                }
                answer = self.stored.recv() => {
                    let answer = answer.context("the pipeline is gone")?;
                    quiet_since = tokio::time::Instant::now();
                    let newest = writer::newest_commit(&answer.body)?.unwrap_or(0);
                    // The writer reports a commit just after it returned, and the response may
                    // overtake the report.
                    while ended.is_none() && run.seen < newest {
                        run.event(self.writer.event().await?, &mut ended);
                    }
                    run.answered(&answer, newest);
                    if self.plan.compare {
                        answers += 1;
                        keep(&mut kept, answer, answers);
                    } else {
                        // Waits first: an idle store, as before most commits, responds more slowly
                        // than a busy one.
                        raw = Some((quiet_since + self.plan.raw_pause, answer));
                    }
                }
                _ = look.tick() => run.look(size_of(&self.logs[0])),
                () = tokio::time::sleep_until(raw.as_ref().map_or(quiet_since, |r| r.0)), if raw.is_some() => {
                    // Nothing else is sent in this moment. A store that is behind is left alone.
                    if let Some((_, stored)) = raw.take().filter(|_| run.waiting.is_empty()) {
                        run.raw_put(self.raw, stored).await?;
                    }
                }
                () = tokio::time::sleep_until(quiet_since + self.patience), if ended.is_some() => {
                    anyhow::bail!("{} commits are not stored after {:?}", run.waiting.len(), self.patience);
                }
            }
        }
        run.look(size_of(&self.logs[0]));
        // The pending raw PUT, if it would be the only one.
        if run.measured.raw.count() == 0
            && let Some((_, stored)) = raw
        {
            run.raw_put(self.raw, stored).await?;
        }
        let turned = ended.context("a turn without an end")?;
        run.measured.replicated.take(&turned);
        Ok(kept)
    }
}

/// Keeps a random sample of all responses (reservoir sampling).
fn keep(kept: &mut Vec<Stored>, answer: Stored, answers: usize) {
    if !answer.whole {
        return;
    }
    if kept.len() < RAW_AFTER {
        kept.push(answer);
    } else if let Some(place) = kept.get_mut(fastrand::usize(..answers)) {
        *place = answer;
    }
}

fn size_of(log: &std::path::Path) -> u64 {
    // The file does not exist while nothing was written.
    std::fs::metadata(log).map_or(0, |m| m.len())
}

struct Run {
    measured: Measured,
    begun: Duration,
    /// Commits that are not stored yet.
    waiting: VecDeque<Commit>,
    /// The number of the newest reported commit.
    seen: u64,
}

impl Run {
    fn event(&mut self, event: Event, ended: &mut Option<Turned>) {
        match event {
            Event::Commit(commit) => {
                self.seen = commit.number;
                self.waiting.push_back(commit);
            }
            Event::Ended(turned) => *ended = Some(turned),
            // `Child` turns it into an error.
            Event::Failed(_) => {}
        }
    }

    fn answered(&mut self, answer: &Stored, newest: u64) {
        self.measured.uploads += 1;
        self.measured.upload_bytes += answer.bytes;
        while let Some(commit) = self.waiting.pop_front_if(|c| c.number <= newest) {
            let lag = answer.at.saturating_sub(commit.returned);
            self.measured.stored.push(lag);
            self.measured.lags.push((answer.at.saturating_sub(self.begun), lag));
        }
    }

    fn look(&mut self, size: u64) {
        self.measured.log.push((monotonic().saturating_sub(self.begun), size));
        self.measured.replicated.log_bytes_max = self.measured.replicated.log_bytes_max.max(size);
    }

    async fn raw_put(&mut self, raw: &dyn Store, stored: Stored) -> anyhow::Result<()> {
        if !stored.whole {
            return Ok(());
        }
        let id = LtxId::raw(Txid(self.measured.raw.count() + 1));
        let options = PutOptions { created: Millis::now(), create_only: true };
        let begun = Instant::now();
        raw.put(id, stored.body, options).await.context("raw PUT")?;
        self.measured.raw.push(begun.elapsed());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_turn_is_first_as_often_and_has_the_whole_time() {
        let time = Duration::from_secs(8);
        let turns = Plan { time, compare: true, raw_pause: Duration::ZERO }.turns();
        for which in [Which::Alone, Which::Replicated] {
            let sum: Duration = turns.iter().filter(|t| t.which == which).map(|t| t.time).sum();
            assert_eq!(sum, time);
            assert_eq!(turns.chunks(2).filter(|pair| pair[0].which == which).count(), 2);
        }
        let alone = Plan { time, compare: false, raw_pause: Duration::ZERO }.turns();
        assert_eq!(alone, [Turn { which: Which::Replicated, time }]);
    }
}
