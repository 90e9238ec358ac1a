//! Failures in succession that the requests of one upload share.
//!
//! The parts of an upload are under way at the same time, so an outage meets several of them. If
//! each part counted its own failures, each would make all the attempts of a single request.
//! Instead each failure makes the next wait of any of them longer. After a failure one request at a
//! time is tried, once all that were under way have been answered, until one succeeds.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::time::Instant;

use crate::base::backoff::Backoff;

/// Failures since the last success of any of the requests.
#[derive(Debug)]
pub(super) struct Streak {
    state: Mutex<State>,
    /// Held by each request that is under way; alone by one after a failure.
    turns: RwLock<()>,
}

#[derive(Debug)]
struct State {
    backoff: Backoff,
    /// No request begins before.
    until: Option<Instant>,
}

/// The right to make one request.
#[derive(Debug)]
pub(super) enum Turn<'a> {
    WithOthers { _held: RwLockReadGuard<'a, ()> },
    Alone { _held: RwLockWriteGuard<'a, ()> },
}

impl Streak {
    pub(super) fn new(backoff: Backoff) -> Streak {
        Streak { state: Mutex::new(State { backoff, until: None }), turns: RwLock::new(()) }
    }

    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counts `requests` failed ones, and returns the wait before the next attempt.
    pub(super) fn fail(&self, requests: u32) -> Duration {
        self.with(|s| s.backoff.fail_times(requests))
    }

    pub(super) fn failures(&self) -> u32 {
        self.with(|s| s.backoff.failures())
    }

    /// No request begins before this time has passed.
    pub(super) fn rest(&self, wait: Duration) {
        let until = Instant::now() + wait;
        self.with(|s| s.until = s.until.max(Some(until)));
    }

    /// A request has succeeded.
    pub(super) fn reset(&self) {
        self.with(|s| {
            s.backoff.reset();
            s.until = None;
        });
    }

    /// Waits until a request may begin. It ends when the turn is dropped.
    pub(super) async fn turn(&self) -> Turn<'_> {
        loop {
            let held = self.turns.read().await;
            if self.failures() == 0 {
                return Turn::WithOthers { _held: held };
            }
            drop(held);
            let held = self.turns.write().await;
            if self.failures() > 0 {
                if let Some(until) = self.with(|s| s.until) {
                    tokio::time::sleep_until(until).await;
                }
                return Turn::Alone { _held: held };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::task::JoinSet;

    use super::*;

    /// A tenth of the usual waits.
    const FIRST: Duration = Duration::from_millis(10);

    /// Whatever the moment at which each of them fails, also where a failure is followed by another
    /// attempt at once.
    #[tokio::test]
    async fn requests_that_meet_an_outage_make_five_attempts_together() {
        let outage = async |delays: [u64; 4]| {
            let streak = Arc::new(Streak::new(Backoff::new(FIRST, Duration::from_secs(60))));
            let attempts = Arc::new(AtomicU32::new(0));
            let mut parts = JoinSet::new();
            for delay in delays {
                let (streak, attempts) = (Arc::clone(&streak), Arc::clone(&attempts));
                parts.spawn(async move {
                    loop {
                        let turn = streak.turn().await;
                        attempts.fetch_add(1, Ordering::Relaxed);
                        tokio::time::sleep(Duration::from_millis(delay)).await;
                        streak.rest(streak.fail(1));
                        drop(turn);
                    }
                });
            }
            tokio::time::sleep(Duration::from_secs(6)).await;
            attempts.load(Ordering::Relaxed)
        };
        let found = tokio::join!(
            outage([0, 0, 0, 0]),
            outage([0, 60, 190, 190]),
            outage([1, 5, 400, 900]),
            outage([900, 1, 1, 1])
        );
        assert_eq!(found, (5, 5, 5, 5));
    }

    #[tokio::test]
    async fn after_a_success_all_go_on_at_once() {
        let streak = Streak::new(Backoff::new(FIRST, Duration::from_secs(60)));
        streak.rest(streak.fail(2));
        let begun = Instant::now();
        assert!(matches!(streak.turn().await, Turn::Alone { .. }));
        assert!(begun.elapsed() >= FIRST);
        streak.reset();
        let (a, b) = tokio::join!(streak.turn(), streak.turn());
        assert!(matches!((a, b), (Turn::WithOthers { .. }, Turn::WithOthers { .. })));
    }
}
