//! When the one event of each interval is due.
//!
//! Intervals are aligned to the clock, as Litestream's are: a level of 5 minutes is written at
//! 12:00, 12:05, ... But each database is late by a delay of its own, which is always the same, so
//! that a fleet does not do everything at the same moment.

use std::time::Duration;

use crate::base::clock::Millis;

/// Databases are spread over 1/`SPREAD_PART` of an interval.
const SPREAD_PART: i64 = 4;

/// Databases are spread over at most this time.
const SPREAD_MAX: Duration = Duration::from_secs(15 * 60);

/// The delay of one database, as a share of the spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticks(u16);

impl Ticks {
    /// The delay for this name; equal names have equal delays.
    #[must_use]
    pub fn of(name: &str) -> Ticks {
        Ticks(xxhash_rust::xxh3::xxh3_64(name.as_bytes()) as u16)
    }

    /// No delay.
    #[cfg(test)]
    pub(super) fn on_time() -> Ticks {
        Ticks(0)
    }

    fn lateness(self, interval: i64) -> i64 {
        let spread = (interval / SPREAD_PART).min(ms(SPREAD_MAX));
        spread * i64::from(self.0) / (i64::from(u16::MAX) + 1)
    }

    /// The first tick after `t`.
    #[must_use]
    pub fn after(self, interval: Duration, t: Millis) -> Millis {
        let interval = ms(interval).max(1);
        let late = self.lateness(interval);
        let begun = t.0.saturating_sub(late).div_euclid(interval);
        Millis(begun.saturating_add(1).saturating_mul(interval).saturating_add(late))
    }
}

/// A duration in milliseconds, the unit of timestamps.
pub(super) fn ms(d: Duration) -> i64 {
    i64::try_from(d.as_millis()).unwrap_or(i64::MAX)
}

/// `t` plus a duration.
pub fn later(t: Millis, d: Duration) -> Millis {
    Millis(t.0.saturating_add(ms(d)))
}

/// The earlier of two times, either of which may never come.
pub(super) fn earlier(a: Option<Millis>, b: Option<Millis>) -> Option<Millis> {
    a.into_iter().chain(b).min()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn on_the_clock() {
        let t = |s: i64| Millis(s * 1000);
        assert_eq!(Ticks(0).after(MINUTE, t(61)), t(120));
        assert_eq!(Ticks(0).after(MINUTE, t(119)), t(120));
        assert_eq!(Ticks(0).after(MINUTE, t(120)), t(180), "strictly after");
        assert_eq!(Ticks(0).after(MINUTE, t(-1)), t(0));
    }

    proptest! {
        #[test]
        fn one_tick_in_each_interval_and_late_by_a_quarter_at_most(
            name in "[a-z]{1,8}", interval in 1_000i64..100_000_000, t in -1_000_000i64..2_000_000_000_000,
        ) {
            let (ticks, d) = (Ticks::of(&name), Duration::from_millis(interval as u64));
            let next = ticks.after(d, Millis(t));
            prop_assert!(next.0 > t && next.0 <= t + interval);
            prop_assert_eq!(ticks.after(d, next).0, next.0 + interval);
            prop_assert!(next.0.rem_euclid(interval) <= interval / 4);
        }
    }

    #[test]
    fn a_fleet_is_spread() {
        let at = |i: u32| Ticks::of(&format!("db{i}")).after(MINUTE, Millis(0)).0;
        let early = (0..1000).filter(|i| at(*i) < 7_500).count();
        assert!((400..600).contains(&early), "{early} of 1000 in the first half");
    }
}
