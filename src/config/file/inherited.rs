//! Settings that a replica takes from its database, and a database from the file, where it has none
//! of its own.

use std::time::Duration;

use crate::config::Sourced;

/// Interval and retention of snapshots.
#[derive(Debug, Clone, Default)]
pub struct Snapshots {
    /// `interval`
    pub interval: Option<Sourced<Duration>>,
    /// `retention`
    pub retention: Option<Sourced<Duration>>,
}

/// How finely a point in time can be chosen for a restore.
#[derive(Debug, Clone, Default)]
pub struct Precisions {
    /// `precision`: shortest time between two states that can be told apart
    pub grain: Option<Sourced<Duration>>,
    /// `precision-window`: how far back this precision is kept
    pub window: Option<Sourced<Duration>>,
}

impl Precisions {
    /// Takes missing values from the enclosing section.
    pub(super) fn or(self, outer: &Precisions) -> Precisions {
        Precisions {
            grain: self.grain.or_else(|| outer.grain.clone()),
            window: self.window.or_else(|| outer.window.clone()),
        }
    }
}

/// Verification in the background.
#[derive(Debug, Clone, Default)]
pub struct Verifications {
    /// `verify-interval`; 0 disables verification
    pub interval: Option<Sourced<Duration>>,
    /// `verify-rate`, in bytes per second
    pub rate: Option<Sourced<u64>>,
}

impl Verifications {
    /// Takes missing values from the enclosing section.
    pub(super) fn or(self, outer: &Verifications) -> Verifications {
        Verifications {
            interval: self.interval.or_else(|| outer.interval.clone()),
            rate: self.rate.or_else(|| outer.rate.clone()),
        }
    }
}
