//! The request to stop, which drains the pipelines first, and the time by which it ends.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// What is wanted of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Wish {
    GoOn,
    /// Store what is committed, and end.
    End,
    /// End now.
    GiveUp,
}

/// Receives the request to end [`run`](fn@super::run). Everything committed by then is stored,
/// within the timeout.
#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<Wish>);

/// Requests the stop. Dropping it requests the stop, too.
#[derive(Debug)]
pub struct Stopper(watch::Sender<Wish>);

/// Makes a connected pair.
#[must_use]
pub fn stop() -> (Stopper, Stop) {
    let (send, receive) = watch::channel(Wish::GoOn);
    (Stopper(send), Stop(receive))
}

impl Stopper {
    /// Requests the stop.
    pub fn ask(&self) {
        self.0.send_modify(|wish| *wish = (*wish).max(Wish::End));
    }

    /// Ends the wait for what is not stored yet.
    pub(super) fn give_up(&self) {
        self.0.send_replace(Wish::GiveUp);
    }
}

impl Stop {
    /// Waits until the stop is requested.
    pub async fn asked(&self) {
        let _ = self.0.clone().wait_for(|wish| *wish >= Wish::End).await;
    }

    /// Waits until the stop takes too long.
    pub(super) async fn given_up(&self) {
        if self.0.clone().wait_for(|wish| *wish == Wish::GiveUp).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Whether the stop was requested.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        *self.0.borrow() >= Wish::End || self.0.has_changed().is_err()
    }
}

/// When the shutdown ends, once that is known. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Deadline(Rc<Cell<Option<Instant>>>);

impl Deadline {
    /// Sets the end of the shutdown.
    pub fn set(&self, at: Instant) {
        self.0.set(Some(at));
    }

    /// Time left, `most` at most.
    #[must_use]
    pub fn time_left(&self, most: Duration) -> Duration {
        let left = self.0.get().map(|at| at.saturating_duration_since(Instant::now()));
        left.map_or(most, |left| left.min(most))
    }
}
