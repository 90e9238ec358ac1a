//! The loop of one replica's history, and the bounds on what all histories of the process do at
//! once.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

use super::cache::Cache;
use super::clock::Timeline;
use super::executor::Executor;
use super::handover::Feed;
use super::plan::{Job, Next};
use super::ticks::{earlier, later};
use crate::base::limits;
use crate::replicate::vitals::HistoryStatus;

/// Wait before the next look at a store that has failed to answer a request, which is retried.
const FAILING_AGAIN: Duration = Duration::from_secs(5);

/// What all histories of the process share.
#[derive(Debug, Clone)]
pub struct Common {
    /// Recent files in memory.
    pub cache: Cache,
    jobs: Arc<Semaphore>,
    large: Arc<Semaphore>,
}

impl Default for Common {
    fn default() -> Self {
        Common {
            cache: Cache::default(),
            jobs: Arc::new(Semaphore::new(limits::HISTORY_JOBS)),
            large: Arc::new(Semaphore::new(limits::HISTORY_LARGE_JOBS)),
        }
    }
}

impl Common {
    /// Waits until the bounds allow one more job.
    async fn place(&self, large: bool) -> (Option<SemaphorePermit<'_>>, Option<SemaphorePermit<'_>>) {
        // A large job first waits for other large ones, so that it does not take a place from a
        // small one meanwhile. The semaphores are never closed.
        let only = if large { self.large.acquire().await.ok() } else { None };
        (only, self.jobs.acquire().await.ok())
    }
}

/// Receives each new status.
pub type Tell = Box<dyn Fn(&HistoryStatus)>;

/// Keeps the history until it is dropped. Dropping it at any moment is like a crash, which does no
/// harm.
pub async fn keep(
    mut executor: Executor,
    feed: std::rc::Rc<Feed>,
    common: Common,
    clock: Arc<dyn Timeline>,
    tell: Tell,
) {
    // Whether the last status that was passed on says when the next image is due.
    let mut told: Option<bool> = None;
    let tell = |status: &HistoryStatus| {
        tell(status);
        Some(status.next_snapshot.is_some())
    };
    loop {
        let now = clock.now();
        let news = match told {
            None => feed.is_ready(),
            // The first change since the last image makes the next one due.
            Some(due) => !due && executor.next_snapshot(now).is_some(),
        };
        if news {
            told = tell(executor.status(now));
        }
        match executor.next(now) {
            // The pipeline finds out when the store works again.
            Next::Job(_) if executor.store_is_out() => {
                clock.until(later(now, limits::BACKOFF_UNREACHABLE)).await;
            }
            // It may be the beginning of an outage, in which each attempt counts.
            Next::Job(_) if executor.store_is_failing() => clock.until(later(now, FAILING_AGAIN)).await,
            Next::Job(job) => {
                let large = executor.is_large(&job);
                let _place = common.place(large).await;
                // The plan may have changed during the wait.
                let now = clock.now();
                if let Some(job) = same_size(executor.next(now), &executor, large) {
                    executor.run(job, now).await;
                }
                told = tell(executor.status(clock.now()));
            }
            Next::Wait(at) => match earlier(at, executor.removed.log(now)) {
                None => feed.changed().await,
                Some(at) => tokio::select! {
                    () = clock.until(at) => {}
                    () = feed.changed() => {}
                },
            },
        }
    }
}

fn same_size(next: Next, executor: &Executor, large: bool) -> Option<Job> {
    match next {
        Next::Job(job) if !executor.is_large(&job) || large => Some(job),
        _ => None,
    }
}
