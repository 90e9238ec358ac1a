//! The request to stop, which drains the pipelines first.

use tokio::sync::watch;

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
