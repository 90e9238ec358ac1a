//! How far the bench is, for the bar on a terminal.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::load::round;
use super::writer::Turn;
use crate::cli::progress::Look;
use crate::restore::{Progress, Stage};

/// How far the turns of the writer are.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Time of the turns that are over.
    over: Cell<Duration>,
    /// When the present turn began, and its length.
    now: Cell<Option<(Instant, Duration)>>,
    /// Commits to the replicated database.
    commits: Cell<u64>,
    /// Time that the writer took for them.
    writing: Cell<Duration>,
}

impl Turns {
    pub(super) fn begin(&self, turn: Turn) {
        self.end();
        self.now.set(Some((Instant::now(), turn.time)));
    }

    pub(super) fn end(&self) {
        if let Some((_, time)) = self.now.take() {
            self.over.set(self.over.get() + time);
        }
    }

    /// Notes the number of the newest commit to the replicated database, in the present turn.
    /// `before` is the time that earlier turns wrote to it.
    pub(super) fn committed(&self, number: u64, before: Duration) {
        self.commits.set(number);
        self.writing.set(before + self.in_turn());
    }

    fn in_turn(&self) -> Duration {
        self.now.get().map_or(Duration::ZERO, |(begun, time)| begun.elapsed().min(time))
    }

    /// What the bar shows of a measurement that takes `all`.
    pub(super) fn look(&self, all: Duration) -> Look {
        let rate = self.commits.get() as f64 / self.writing.get().as_secs_f64();
        let rate =
            if rate.is_finite() { format!(", {} commits a second", round(rate)) } else { String::new() };
        let done = self.over.get() + self.in_turn();
        Look::Time { what: format!("measuring{rate}"), done, of: all }
    }
}

/// Counts the bytes that are done, and those that there are in all.
#[derive(Debug, Default)]
pub(super) struct Bytes {
    done: AtomicU64,
    of: AtomicU64,
}

impl Bytes {
    pub(super) fn plan(&self, bytes: u64) {
        self.of.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn add(&self, bytes: usize) {
        self.done.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> (u64, u64) {
        (self.done.load(Ordering::Relaxed), self.of.load(Ordering::Relaxed))
    }
}

impl Progress for Bytes {
    fn planned(&self, _files: usize, bytes: u64) {
        self.plan(bytes);
    }

    fn fetched(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
    }

    fn stage(&self, _stage: Stage) {}
}

#[cfg(test)]
mod tests {
    use super::super::writer::Which;
    use super::*;

    #[test]
    fn turns_add_up() {
        let (turns, second) = (Turns::default(), Duration::from_secs(1));
        let of = |look| match look {
            Look::Time { what, done, of } => (what, done, of),
            Look::Bytes { .. } => panic!("of time"),
        };
        assert_eq!(of(turns.look(8 * second)), ("measuring".to_owned(), Duration::ZERO, 8 * second));
        turns.begin(Turn { which: Which::Alone, time: Duration::ZERO });
        turns.begin(Turn { which: Which::Replicated, time: 2 * second });
        turns.begin(Turn { which: Which::Replicated, time: 3600 * second });
        turns.committed(100, 2 * second);
        let (what, done, _) = of(turns.look(8 * second));
        assert!(done >= 2 * second && what.ends_with(" commits a second"), "{what}, {done:?}");
        turns.end();
        turns.end();
        assert_eq!(of(turns.look(8 * second)).1, 3602 * second);
    }
}
