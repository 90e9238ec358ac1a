//! The time by which a history is kept: the system's, or one that a test moves.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crate::base::clock::Millis;

/// A sleep is cut into pieces of this length, so that a clock that was set is noticed.
const PIECE: Duration = Duration::from_secs(60);

/// A clock that can be waited on.
pub trait Timeline: Send + Sync {
    /// The present moment.
    fn now(&self) -> Millis;

    /// Waits until then at the latest; may end earlier.
    fn until(&self, then: Millis) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

/// The system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemTimeline;

impl Timeline for SystemTimeline {
    fn now(&self) -> Millis {
        Millis::now()
    }

    fn until(&self, then: Millis) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        let ms = then.0.saturating_sub(Millis::now().0).max(1).unsigned_abs();
        Box::pin(tokio::time::sleep(Duration::from_millis(ms).min(PIECE)))
    }
}
