//! The status of a standby.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::base::Txid;
use crate::base::clock::Millis;

/// The status of a standby.
#[derive(Debug, Clone)]
pub struct FollowStatus {
    /// Path of the database.
    pub output: PathBuf,
    /// URL of the replica, without secrets.
    pub replica: String,
    /// Position of the database.
    pub txid: Txid,
    /// When the current state was made, by the header of the file that ends with it; `None` if
    /// unknown.
    pub created: Option<Millis>,
    /// How far the database may lag.
    pub lag: Lag,
    /// Number of files applied since the start.
    pub files: u64,
    /// Number of transactions since the start; each is a state that readers could see.
    pub states: u64,
    /// How often a whole image had to be applied.
    pub reseeds: u64,
    /// Why nothing can be applied at the moment; `None` while all is well.
    pub trouble: Option<String>,
    /// Number of failures since the start.
    pub errors: u64,
    /// Time and message of the last failure.
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

/// How far the database may lag: the time since the store last said that nothing newer is there.
/// While all is well that is at most one polling interval.
#[derive(Debug, Clone, Copy)]
pub struct Lag {
    since: Instant,
    /// The lag at `since`.
    before: Duration,
}

impl Lag {
    /// The lag when nothing newer is stored.
    pub(super) fn none() -> Lag {
        Lag { since: Instant::now(), before: Duration::ZERO }
    }

    /// The lag before the store has been asked: the age of the state.
    pub(super) fn of(created: Option<Millis>) -> Lag {
        let age = created.map_or(0, |made| Millis::now().0.saturating_sub(made.0));
        let before = Duration::from_millis(u64::try_from(age).unwrap_or(0));
        Lag { since: Instant::now(), before }
    }

    /// Time since the store last had nothing newer, or since the start of this process.
    pub(super) fn waited(&self) -> Duration {
        self.since.elapsed()
    }

    /// The current lag.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.before.saturating_add(self.since.elapsed())
    }
}
