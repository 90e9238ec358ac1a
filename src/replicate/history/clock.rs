//! The clock by which a history is kept: the system's, or one that a test moves.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::base::clock::Millis;
use crate::base::limits;
use crate::store::Store;

/// A sleep is cut into pieces of this length, so that a change of the clock is noticed.
const PIECE: Duration = Duration::from_secs(60);

/// A clock that can be waited on.
pub trait Timeline: Send + Sync {
    /// The present time.
    fn now(&self) -> Millis;

    /// Waits until `then` at the latest; may return earlier.
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

/// A clock that follows the store's if this host's is known to differ from it by minutes. A restore
/// compares the times of states with the store's clock.
pub struct StoreTimeline {
    clock: Arc<dyn Timeline>,
    store: Arc<dyn Store>,
}

impl StoreTimeline {
    /// Follows `clock` for as long as it agrees with the store's clock.
    pub fn new(clock: Arc<dyn Timeline>, store: Arc<dyn Store>) -> StoreTimeline {
        StoreTimeline { clock, store }
    }

    /// Milliseconds by which the store's clock is ahead; 0 if the difference is small.
    fn ahead(&self) -> i64 {
        let ahead = self.store.now().0.saturating_sub(Millis::now().0);
        let counts = u128::from(ahead.unsigned_abs()) > limits::CLOCK_AHEAD.as_millis();
        if counts { ahead } else { 0 }
    }
}

impl Timeline for StoreTimeline {
    fn now(&self) -> Millis {
        Millis(self.clock.now().0.saturating_add(self.ahead()))
    }

    fn until(&self, then: Millis) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        self.clock.until(Millis(then.0.saturating_sub(self.ahead())))
    }
}
