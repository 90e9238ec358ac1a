//! Which kinds of jobs wait after a failure, for how long, and what was logged of it.
//!
//! A failure that is not about one file, such as an outage of the store or a missing right, is
//! likely to meet all jobs that make the same requests. They are a *group*: they wait together, at
//! growing intervals, and the failure is logged once. As soon as another kind of the group works,
//! the failure is one of its kind alone.

use std::collections::HashMap;
use std::mem::Discriminant;
use std::time::Duration;

use super::HistoryError;
use super::plan::Kind;
use super::ticks::later;
use crate::base::backoff::{Backoff, Reminders};
use crate::base::clock::Millis;
use crate::store::{ErrorKind, StoreError};

/// A kind of failure: request ids and counts in its text do not matter.
type Cause = (Discriminant<HistoryError>, Option<ErrorKind>);

/// Kinds of jobs that make the same requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Group {
    Writes,
    Deletes,
    Lists,
}

impl Group {
    fn of(kind: Kind) -> Group {
        match kind {
            Kind::Write(_) | Kind::Times | Kind::Heal => Group::Writes,
            Kind::Retain | Kind::RetainRaw => Group::Deletes,
            Kind::List => Group::Lists,
        }
    }
}

/// Jobs that have failed, and wait.
#[derive(Debug, Clone)]
struct Rest {
    backoff: Backoff,
    until: Millis,
    /// Kinds of failures that were logged.
    said: Vec<Cause>,
    since: Millis,
    reminders: Reminders,
    /// The last failure was a transient one of the store.
    outage: bool,
    /// Others of the group work.
    alone: bool,
}

impl Rest {
    fn new(now: Millis) -> Rest {
        Rest {
            backoff: Backoff::default(),
            until: Millis(0),
            said: Vec::new(),
            since: now,
            reminders: Reminders::default(),
            outage: false,
            alone: false,
        }
    }

    fn wait(&mut self, e: &HistoryError) -> Duration {
        match e.store_error() {
            Some(e) => e.wait(&mut self.backoff),
            None => self.backoff.fail(),
        }
    }
}

/// What a success has ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ended {
    /// Nothing meets an outage any more.
    pub(super) outage: bool,
    /// A failure was logged, and nothing has it any more.
    pub(super) said: bool,
}

/// All that wait after a failure.
#[derive(Debug, Default)]
pub(super) struct Rests {
    kinds: HashMap<Kind, Rest>,
    groups: HashMap<Group, Rest>,
}

impl Rests {
    /// Until when a kind of jobs rests.
    pub(super) fn until(&self, kind: Kind) -> Option<Millis> {
        let own = self.kinds.get(&kind).map(|r| r.until);
        own.max(self.groups.get(&Group::of(kind)).map(|r| r.until))
    }

    /// Failures of a kind since it worked.
    pub(super) fn failures(&self, kind: Kind) -> u32 {
        self.kinds.get(&kind).map_or(0, |r| r.backoff.failures())
    }

    /// Notes that a job has worked; `None` if that ends nothing.
    pub(super) fn works(&mut self, kind: Kind) -> Option<Ended> {
        let own = self.kinds.remove(&kind);
        let group = Group::of(kind);
        let shared = self.groups.remove(&group);
        let (mut outage, mut said) = (false, false);
        for rest in own.iter().chain(&shared) {
            (outage, said) = (outage || rest.outage, said || !rest.said.is_empty());
        }
        let mut others = self.kinds.iter_mut().filter(|(k, _)| Group::of(**k) == group).peekable();
        if others.peek().is_some() {
            said = false;
        }
        for (_, rest) in others {
            rest.alone = true;
            if let Some(shared) = &shared {
                rest.said.clone_from(&shared.said);
                (rest.since, rest.reminders) = (shared.since, shared.reminders);
            }
        }
        outage &= !self.kinds.values().chain(self.groups.values()).any(|r| r.outage);
        (own.is_some() || shared.is_some()).then_some(Ended { outage, said })
    }

    /// Notes that a job has failed: its kind waits, and the group if the failure is likely to meet
    /// all of it. `least` is the shortest wait.
    pub(super) fn failed(&mut self, kind: Kind, e: &HistoryError, now: Millis, least: Duration) {
        let outage = e.store_error().is_some_and(StoreError::is_transient);
        let own = self.kinds.entry(kind).or_insert_with(|| Rest::new(now));
        own.outage = outage;
        let mut wait = own.wait(e).max(least);
        if meets_all(e) && !own.alone {
            let shared = self.groups.entry(Group::of(kind)).or_insert_with(|| Rest::new(now));
            shared.outage = outage;
            wait = shared.wait(e).max(least);
            shared.until = later(now, wait);
            // The others of the group have their turn first, so that a kind which always fails does
            // not keep them from working.
            wait += wait / 4;
        }
        own.until = later(now, wait);
    }

    /// Whether the last failure of a kind has to be logged, and how long it has lasted.
    pub(super) fn is_news(&mut self, kind: Kind, e: &HistoryError, now: Millis) -> Option<Duration> {
        let cause = (std::mem::discriminant(e), e.store_error().map(StoreError::kind));
        let own = self.kinds.get_mut(&kind)?;
        let rest = match self.groups.get_mut(&Group::of(kind)) {
            Some(shared) if meets_all(e) && !own.alone => shared,
            _ => own,
        };
        let age = Duration::from_millis(u64::try_from(now.0 - rest.since.0).unwrap_or(0));
        let is_new = !rest.said.contains(&cause);
        if is_new {
            rest.said.push(cause);
        }
        (is_new || rest.reminders.take(age)).then_some(age)
    }
}

/// Whether a failure is likely to meet all jobs that make such requests.
fn meets_all(e: &HistoryError) -> bool {
    let kind = e.store_error().map(StoreError::kind);
    matches!(
        kind,
        Some(
            ErrorKind::Transient
                | ErrorKind::NoBucket
                | ErrorKind::Credentials
                | ErrorKind::WrongRegion
                | ErrorKind::Tls
                | ErrorKind::Full
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Level, limits};

    fn level(n: u32) -> Kind {
        Kind::Write(Level::new(n).unwrap())
    }

    fn error(kind: ErrorKind) -> HistoryError {
        HistoryError::Store(StoreError::new(kind, "x"))
    }

    /// Attempts in the first minute, and lines in the log, if all kinds are due and fail.
    fn first_minute(e: &HistoryError) -> (u32, u32) {
        let (mut rests, mut attempts, mut lines) = (Rests::default(), 0, 0);
        for now in (0..60_000).step_by(10).map(Millis) {
            for kind in [level(1), level(2), Kind::Times, level(9)] {
                if rests.until(kind).is_none_or(|until| until <= now) {
                    attempts += 1;
                    rests.failed(kind, e, now, Duration::ZERO);
                    lines += u32::from(rests.is_news(kind, e, now).is_some());
                }
            }
        }
        (attempts, lines)
    }

    #[test]
    fn what_meets_all_levels_is_one_outage() {
        for _ in 0..100 {
            assert_eq!(first_minute(&error(ErrorKind::Transient)), (5, 1));
            assert_eq!(first_minute(&error(ErrorKind::Credentials)), (1, 1));
        }
    }

    /// A level that always fails does not keep the others from working.
    #[test]
    fn what_fails_alone_rests_alone() {
        for kind in [ErrorKind::Transient, ErrorKind::Credentials] {
            let (mut rests, mut worked, mut lines) = (Rests::default(), 0, 0);
            for now in (0..3_600_000).step_by(1000).map(Millis) {
                let is_due = |rests: &Rests, kind| rests.until(kind).is_none_or(|until| until <= now);
                if is_due(&rests, level(1)) {
                    rests.failed(level(1), &error(kind), now, Duration::ZERO);
                    lines += u32::from(rests.is_news(level(1), &error(kind), now).is_some());
                }
                if is_due(&rests, level(2)) {
                    worked += 1;
                    rests.works(level(2));
                }
            }
            assert!(worked > 3000, "{worked} of 3600");
            assert!((1..=4).contains(&lines), "{lines}: at once, and after 1, 10 and 60 minutes");
        }
    }

    #[test]
    fn the_end_is_said_once_and_when_nothing_fails_any_more() {
        let (mut rests, now, e) = (Rests::default(), Millis(5), error(ErrorKind::Credentials));
        assert_eq!(rests.works(level(1)), None);
        for kind in [level(1), level(2)] {
            rests.failed(kind, &e, now, Duration::ZERO);
        }
        rests.is_news(level(1), &e, now);
        assert_eq!(rests.works(level(2)), Some(Ended { outage: false, said: false }));
        assert_eq!(rests.works(level(1)), Some(Ended { outage: false, said: true }));
        assert_eq!(rests.works(level(1)), None);
        rests.failed(Kind::Retain, &error(ErrorKind::Transient), now, Duration::ZERO);
        rests.failed(Kind::List, &error(ErrorKind::Transient), now, Duration::ZERO);
        assert_eq!(rests.works(Kind::Retain), Some(Ended { outage: false, said: false }));
        assert_eq!(rests.works(Kind::List), Some(Ended { outage: true, said: false }));
    }

    #[test]
    fn what_is_about_one_file_stops_no_other_level() {
        let mut rests = Rests::default();
        for kind in [ErrorKind::NotFound, ErrorKind::Fatal, ErrorKind::Corrupt] {
            rests.failed(level(1), &error(kind), Millis(5), Duration::ZERO);
            assert_eq!(rests.until(level(2)), None, "{kind:?}");
        }
        assert!(rests.until(level(1)) >= Some(later(Millis(5), limits::BACKOFF_REFUSED)));
    }
}
