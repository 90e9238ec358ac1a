//! The request to stop, which drains the pipelines first, and the time by which it ends.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// Receives the request to end [`run`](fn@super::run). Everything committed by then is stored,
/// within the timeout.
#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<bool>);

/// Requests the stop. Dropping it requests the stop, too.
#[derive(Debug)]
pub struct Stopper(watch::Sender<bool>);

/// Makes a connected pair.
#[must_use]
pub fn stop() -> (Stopper, Stop) {
    let (send, receive) = watch::channel(false);
    (Stopper(send), Stop(receive))
}

impl Stopper {
    /// Requests the stop.
    pub fn ask(&self) {
        self.0.send_replace(true);
    }
}

impl Stop {
    /// Waits until the stop is requested.
    pub async fn asked(&self) {
        let _ = self.0.clone().wait_for(|asked| *asked).await;
    }

    /// Whether the stop was requested.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
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
