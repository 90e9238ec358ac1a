//! A second attempt at a small request whose answer is late (a hedged request).
//!
//! # Overview
//!
//! Stores answer most requests soon, and a few much later or never: a server is restarted, a packet
//! is lost, a disk is busy. When a small PUT or GET has taken longer than 95% of the recent ones,
//! the same request is sent once more, on another connection. The first success counts, and the
//! other attempt is dropped with its connection.
//!
//! # Costs
//!
//! At most one request in twenty is sent twice ([`ONE_IN`]), so a store that becomes
//! slow as a whole gets no more than 5% more requests. Nothing is sent at rest.
//!
//! # Failure and crash
//!
//! Both attempts carry the same bytes for the same key, and the store may carry out both. With a
//! create-only PUT the later one is refused with 412, which `put` settles by the content. Otherwise
//! it writes the same bytes again.

use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::failure::{Class, Failure};

/// Number of recent requests that the quantile is taken of.
const RECENT: usize = 64;

/// No second attempt is made before this many requests were answered.
const RECENT_MIN: usize = 16;

/// One request out of this many may be sent twice, on average.
const ONE_IN: u32 = 20;

/// Least time without an answer before the second attempt. Below it, ordinary scatter would cause
/// them.
const AFTER_MIN: Duration = Duration::from_millis(50);

/// Most bytes of a request and its answer together. Larger ones take their time.
pub(super) const HEDGE_BYTES: u64 = 1 << 20;

/// Times of recent requests of one kind, and how many second attempts they allow.
#[derive(Debug)]
pub(super) struct Hedge(Mutex<Times>);

#[derive(Debug)]
struct Times {
    /// A ring, in microseconds.
    recent: [u32; RECENT],
    /// Requests answered so far.
    answered: usize,
    /// Requests since the last second attempt, up to the number that allows two.
    saved: u32,
}

impl Default for Hedge {
    fn default() -> Hedge {
        Hedge(Mutex::new(Times { recent: [0; RECENT], answered: 0, saved: ONE_IN }))
    }
}

impl Hedge {
    fn with<T>(&self, f: impl FnOnce(&mut Times) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How long to wait for an answer before the second attempt; `None` while too little is known.
    fn patience(&self) -> Option<Duration> {
        self.with(|times| {
            let known = times.answered.min(RECENT);
            if known < RECENT_MIN {
                return None;
            }
            let mut sorted = times.recent;
            let (_, quantile, _) = sorted[..known].select_nth_unstable(known * 95 / 100);
            Some(Duration::from_micros(u64::from(*quantile)).max(AFTER_MIN))
        })
    }

    fn answered(&self, after: Duration) {
        self.with(|times| {
            times.recent[times.answered % RECENT] = u32::try_from(after.as_micros()).unwrap_or(u32::MAX);
            times.answered += 1;
            times.saved = (times.saved + 1).min(2 * ONE_IN);
        });
    }

    /// Whether a second attempt is allowed now. It counts as made.
    fn spend(&self) -> bool {
        self.with(|times| {
            let left = times.saved.checked_sub(ONE_IN);
            times.saved = left.unwrap_or(times.saved);
            left.is_some()
        })
    }

    /// Runs `attempt`, and once more if it is late.
    pub(super) async fn run<T, F>(&self, attempt: impl Fn() -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let begun = Instant::now();
        let mut first = std::pin::pin!(attempt());
        let in_time = match self.patience() {
            Some(patience) => tokio::time::timeout(patience, first.as_mut()).await.ok(),
            None => Some(first.as_mut().await),
        };
        let done = match in_time {
            Some(done) => done,
            None if self.spend() => {
                tracing::debug!(
                    after_ms = begun.elapsed().as_millis() as u64,
                    "no answer yet: sending the request once more"
                );
                // Rare and large, so it is not part of every call's memory.
                let mut second = Box::pin(attempt());
                tokio::select! {
                    done = first.as_mut() => match done {
                        Err(failure) if may_still_succeed(&failure) => second.await.map_err(|_| failure),
                        done => done,
                    },
                    done = second.as_mut() => match done {
                        Err(failure) if may_still_succeed(&failure) => first.await,
                        done => done,
                    },
                }
            }
            None => first.await,
        };
        if done.is_ok() {
            self.answered(begun.elapsed());
        }
        done
    }
}

/// Whether the other attempt may succeed although this one has failed.
fn may_still_succeed(failure: &Failure) -> bool {
    matches!(failure.class, Class::Stale | Class::Transient | Class::Unreachable)
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::pin::Pin;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Notify;

    use super::*;
    use crate::store::ErrorKind;

    type Attempt<'a> = Pin<Box<dyn Future<Output = Result<u32, Failure>> + 'a>>;

    fn warm() -> Hedge {
        let hedge = Hedge::default();
        (0..RECENT).for_each(|_| hedge.answered(Duration::from_millis(20)));
        hedge
    }

    fn failed(class: Class) -> Result<u32, Failure> {
        Err(Failure::new(class, "as told"))
    }

    /// Runs these attempts. Returns the result, and how many of them were made.
    async fn run(hedge: &Hedge, attempts: [Attempt<'_>; 2]) -> (Result<u32, Class>, usize) {
        let (made, attempts) = (AtomicUsize::new(0), Mutex::new(attempts.into_iter()));
        let done = hedge
            .run(|| {
                made.fetch_add(1, Ordering::Relaxed);
                attempts.lock().unwrap().next().expect("at most two attempts")
            })
            .await;
        (done.map_err(|f| f.class), made.into_inner())
    }

    #[tokio::test]
    async fn a_late_request_is_sent_once_more_and_the_first_success_counts() {
        assert_eq!(run(&warm(), [Box::pin(pending()), Box::pin(ready(Ok(2)))]).await, (Ok(2), 2));
        let second_began = Notify::new();
        let first = Box::pin(async {
            second_began.notified().await;
            Ok(1)
        });
        let second = Box::pin(async {
            second_began.notify_one();
            pending().await
        });
        assert_eq!(run(&warm(), [first, second]).await, (Ok(1), 2));
        assert_eq!(
            run(&warm(), [Box::pin(ready(Ok(1))), Box::pin(pending())]).await,
            (Ok(1), 1),
            "it is not late"
        );
        let late = Box::pin(async {
            tokio::time::sleep(2 * AFTER_MIN).await;
            Ok(1)
        });
        assert_eq!(
            run(&Hedge::default(), [late, Box::pin(pending())]).await,
            (Ok(1), 1),
            "too little is known"
        );
    }

    #[tokio::test]
    async fn a_failure_counts_when_both_have_failed_or_it_is_final() {
        for class in [Class::Transient, Class::Stale, Class::Unreachable] {
            let (told, tell) = (Notify::new(), Notify::new());
            let first = Box::pin(async {
                told.notified().await;
                tell.notify_one();
                failed(class)
            });
            let second = Box::pin(async {
                told.notify_one();
                tell.notified().await;
                Ok(2)
            });
            assert_eq!(run(&warm(), [first, second]).await, (Ok(2), 2), "{class:?}");
            let first = Box::pin(async {
                told.notified().await;
                Ok(1)
            });
            let second = Box::pin(async {
                told.notify_one();
                failed(class)
            });
            assert_eq!(run(&warm(), [first, second]).await, (Ok(1), 2), "{class:?}");
            let second = Box::pin(async {
                told.notify_one();
                failed(Class::Final(ErrorKind::Fatal))
            });
            let first = Box::pin(async {
                told.notified().await;
                failed(class)
            });
            assert!(run(&warm(), [first, second]).await.0.is_err());
        }
        // The first attempt was carried out, and the second is refused because of that.
        let taken = Box::pin(ready(failed(Class::Precondition)));
        assert_eq!(run(&warm(), [Box::pin(pending()), taken]).await, (Err(Class::Precondition), 2));
    }

    #[test]
    fn a_store_that_is_slow_as_a_whole_gets_few_more_requests() {
        let hedge = warm();
        let mut second = 0;
        for _ in 0..1000 {
            second += u32::from(hedge.spend());
            hedge.answered(Duration::from_secs(10));
        }
        assert!(second <= 1000 / ONE_IN + 2, "{second}");
        assert_eq!(hedge.patience(), Some(Duration::from_secs(10)), "what is usual is not late");
    }
}
