//! The store's clock, from the `Date` header of its responses.
//!
//! Only a difference too large for network delay counts: clocks that differ by less than
//! [`limits::CLOCK_AHEAD`] are taken as equal. If they differ by more than
//! [`limits::CLOCK_CORRECTION`], the server's clock is not believed: nothing is written with its
//! time. The time of signatures is separate: only a refused signature corrects it, and only within
//! bounds.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::header::{AGE, DATE};

use super::classify::apart;
use super::http_date::http_date;
use crate::base::limits;
use crate::io::since_boot;

/// The store's clock, as last seen.
#[derive(Debug, Default)]
pub(super) struct StoreClock {
    /// The newest `Date`, and when it arrived by the monotonic clock since boot.
    last: Mutex<Option<(SystemTime, Duration)>>,
    /// Whether a difference of the clocks was logged, and whether one of more than a day was.
    said: [AtomicBool; 2],
}

impl StoreClock {
    /// Takes the time of a response. Returns the difference of the clocks, if they differ.
    pub(super) fn learn(&self, headers: &HeaderMap) -> Option<Duration> {
        // A response from a cache has an old time.
        if headers.contains_key(AGE) {
            return None;
        }
        let date = headers.get(DATE).and_then(|v| v.to_str().ok()).and_then(http_date);
        let date = date?;
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((date, since_boot()));
        Some(apart(date, SystemTime::now())).filter(|by| *by > limits::CLOCK_AHEAD)
    }

    /// Returns true at the first call with a difference of this kind, up to a day or more: the
    /// caller then logs that the clocks differ.
    pub(super) fn say(&self, by: Duration) -> bool {
        !self.said[usize::from(by > limits::CLOCK_CORRECTION)].swap(true, Ordering::Relaxed)
    }

    /// The current time: by the store's clock if it is known and differs, otherwise by the host's.
    /// A store's clock that is more than a day off is ignored.
    pub(super) fn now(&self) -> SystemTime {
        let host = SystemTime::now();
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((date, at)) = last else { return host };
        let store = date.checked_add(since_boot().saturating_sub(at)).unwrap_or(date);
        let by = apart(store, host);
        if by > limits::CLOCK_AHEAD && by <= limits::CLOCK_CORRECTION { store } else { host }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(ahead: i64, age: bool) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let now = jiff::Timestamp::now().as_second() + ahead;
        let date = jiff::Timestamp::from_second(now).unwrap();
        let text = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&date).unwrap();
        headers.insert(DATE, text.parse().unwrap());
        if age {
            headers.insert(AGE, "0".parse().unwrap());
        }
        headers
    }

    #[test]
    fn only_a_great_difference_counts_and_is_logged_once() {
        let clock = StoreClock::default();
        let ahead = || clock.now().duration_since(SystemTime::now()).unwrap_or_default().as_secs();
        assert_eq!(ahead(), 0);
        assert!(clock.learn(&headers(100, false)).is_none() && ahead() == 0);
        assert!(clock.learn(&headers(80_000, true)).is_none() && ahead() == 0, "an answer of a cache");
        let less = clock.learn(&headers(80_000, false)).expect("the clocks differ");
        assert!(clock.say(less) && !clock.say(less));
        assert!((79_990..=80_000).contains(&ahead()), "{}", ahead());
        assert!(
            clock.learn(&HeaderMap::new()).is_none() && ahead() > 0,
            "an answer without a time says nothing"
        );
        let days = clock.learn(&headers(400_000, false)).expect("the clocks differ");
        assert!(days > limits::CLOCK_CORRECTION && ahead() == 0, "{days:?}");
        assert!(clock.say(days) && !clock.say(days), "one line for each kind");
        assert!(clock.learn(&headers(-400_000, false)).is_some());
        assert!(clock.now() >= SystemTime::now() - Duration::from_secs(1), "days behind");
        assert!(clock.learn(&headers(-400, false)).is_some());
        assert!(SystemTime::now().duration_since(clock.now()).unwrap().as_secs() >= 399);
    }
}
