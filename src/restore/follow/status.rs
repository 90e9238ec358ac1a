//! Where a follower is, for those who ask.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::base::Txid;
use crate::base::clock::Millis;

/// Where a follower is.
#[derive(Debug, Clone)]
pub struct FollowStatus {
    /// The database.
    pub output: PathBuf,
    /// The replica, without secrets.
    pub replica: String,
    /// Its position.
    pub txid: Txid,
    /// When that state was made, by the header of the file that ends with it; `None` if that is not
    /// known.
    pub created: Option<Millis>,
    /// Since when it may lag behind.
    pub lag: Lag,
    /// Files applied since the start.
    pub files: u64,
    /// Transactions, that is states that readers could see.
    pub states: u64,
    /// How often a whole image had to be applied.
    pub reseeds: u64,
    /// Why nothing can be applied now.
    pub trouble: Option<String>,
    /// How often something failed since the start.
    pub errors: u64,
    /// What failed last, and when.
    pub last_error: Option<(Millis, String)>,
}

impl FollowStatus {
    pub(super) fn new(output: PathBuf, replica: String) -> FollowStatus {
        FollowStatus {
            output,
            replica,
            txid: Txid(0),
            created: None,
            lag: Lag::none(),
            files: 0,
            states: 0,
            reseeds: 0,
            trouble: None,
            errors: 0,
            last_error: None,
        }
    }
}

/// How far behind a database may be: the time since its store last said that there is nothing
/// newer. While all is well that is no more than the interval of asking.
#[derive(Debug, Clone, Copy)]
pub struct Lag {
    since: Instant,
    /// What it was then.
    before: Duration,
}

impl Lag {
    /// Nothing newer is there now.
    pub(super) fn none() -> Lag {
        Lag { since: Instant::now(), before: Duration::ZERO }
    }

    /// Nobody has been asked yet about what came after a state.
    pub(super) fn of(created: Option<Millis>) -> Lag {
        let age = created.map_or(0, |made| Millis::now().0.saturating_sub(made.0));
        let before = Duration::from_millis(u64::try_from(age).unwrap_or(0));
        Lag { since: Instant::now(), before }
    }

    /// Since this process has known of nothing newer, or has begun.
    pub(super) fn waited(&self) -> Duration {
        self.since.elapsed()
    }

    /// As of now.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.before.saturating_add(self.since.elapsed())
    }
}
