//! Outages: a repeated failure, logged once for all databases that it concerns.
//!
//! An activity that fails again and again joins the outage of its *place* (a bucket, a directory,
//! the limit of open files), and leaves it when it works.
//!
//! - The first to join logs the outage. Each further kind of failure is logged once.
//! - After 1, 10 and 60 minutes a reminder is logged, with the backlog of all members.
//! - The last to leave logs the end. Members without a backlog do not hold up the end: an outage
//!   is over when the last member with a backlog leaves. What still fails joins a new outage.
//!
//! A member that leaves wakes the others: a store that answers one database most likely answers
//! all.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::handoff::Handoff;
use crate::base::backoff::Reminders;
use crate::store::{ErrorKind, StoreError};

/// All outages of the process.
#[derive(Debug, Clone, Default)]
pub struct Outages(Rc<RefCell<HashMap<String, Rc<Outage>>>>);

/// The outage of one place.
#[derive(Debug)]
struct Outage {
    began: Instant,
    state: RefCell<State>,
    /// Notified when a member has succeeded.
    works: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Kinds of failures that were logged.
    kinds: Vec<ErrorKind>,
    reminders: Reminders,
    members: Vec<Waiting>,
    /// Text of the newest failure.
    error: String,
    next: u64,
    /// Its end was logged.
    ended: bool,
}

/// A member of an outage.
struct Waiting {
    id: u64,
    /// Handoff and index of the replica whose backlog is counted; `None` if the activity has none.
    backlog: Option<(Rc<Handoff>, usize)>,
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.id)
    }
}

/// The place of the limit of open files: it concerns the process, whichever file met it.
const FILES: &str = "open files";

/// Prefix of a database's place.
const DATABASE: &str = "database ";

/// The place of failures at a database or at the state folder next to it.
#[must_use]
pub fn place_of_database(db: &Path) -> String {
    format!("{DATABASE}{}", db.display())
}

/// The place to which an error of a replica at `place` belongs.
fn place_of<'a>(place: &'a str, e: &StoreError) -> &'a str {
    if e.is_file_limit() { FILES } else { place }
}

impl Outages {
    /// Whether a pipeline waits for the end of an outage of `place`.
    #[must_use]
    pub fn is_out(&self, place: &str) -> bool {
        let outages = self.0.borrow();
        let of_pipelines = |o: &Rc<Outage>| o.state.borrow().members.iter().any(|m| m.backlog.is_some());
        [place, FILES].iter().filter_map(|p| outages.get(*p)).any(of_pipelines)
    }

    /// Joins the outage of a place; begins it if there is none.
    fn join(&self, place: &str, backlog: Option<(Rc<Handoff>, usize)>) -> Member {
        let fresh =
            || Rc::new(Outage { began: Instant::now(), state: RefCell::default(), works: Notify::new() });
        let outage = Rc::clone(self.0.borrow_mut().entry(place.to_owned()).or_insert_with(fresh));
        let id = {
            let mut state = outage.state.borrow_mut();
            state.next += 1;
            let id = state.next;
            state.members.push(Waiting { id, backlog });
            id
        };
        Member { outages: self.clone(), outage, place: place.to_owned(), id }
    }
}

/// Membership in an outage; ends when dropped.
#[derive(Debug)]
struct Member {
    outages: Outages,
    outage: Rc<Outage>,
    place: String,
    id: u64,
}

impl Member {
    /// Leaves the outage. Returns its duration if that ends it.
    fn leave(&self) -> Option<Duration> {
        let ends = {
            let mut state = self.outage.state.borrow_mut();
            let at = state.members.iter().position(|m| m.id == self.id)?;
            let had_backlog = state.members.swap_remove(at).backlog.is_some();
            let others = state.members.iter().any(|m| !had_backlog || m.backlog.is_some());
            !others && !std::mem::replace(&mut state.ended, true)
        };
        if ends {
            self.outages.0.borrow_mut().remove(&self.place);
        }
        ends.then(|| self.outage.began.elapsed())
    }

    fn has_ended(&self) -> bool {
        self.outage.state.borrow().ended
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.leave();
    }
}

/// The names that are logged with an outage.
#[derive(Debug, Clone, Copy)]
pub struct Name<'a> {
    /// Path of the database.
    pub db: &'a str,
    /// URL of the replica.
    pub replica: &'a str,
}

/// The outage that one activity is in; it is in one at most.
#[derive(Debug, Default)]
pub struct Trouble(Option<Member>);

impl Trouble {
    /// Notes that the activity has failed. Logs the failure unless its kind is already known.
    pub fn failed(
        &mut self,
        outages: &Outages,
        place: &str,
        backlog: Option<(Rc<Handoff>, usize)>,
        name: Name<'_>,
        e: &StoreError,
    ) {
        let place = place_of(place, e);
        if self.0.as_ref().is_none_or(|m| m.place != place || m.has_ended()) {
            // The old membership is dropped first: it may be the last in its outage.
            self.0 = None;
            self.0 = Some(outages.join(place, backlog));
        }
        let Some(member) = &self.0 else { return };
        let error = e.to_string();
        let fresh = {
            let mut state = member.outage.state.borrow_mut();
            state.error.clone_from(&error);
            let fresh = !state.kinds.contains(&e.kind());
            if fresh {
                state.kinds.push(e.kind());
            }
            fresh
        };
        let Name { db, replica } = name;
        match fresh {
            false => tracing::debug!(db, replica, error, "still failing"),
            true if place == FILES => {
                tracing::warn!(
                    db,
                    replica,
                    error,
                    "the limit of open files is reached: raise it (ulimit -Hn, LimitNOFILE= of a systemd unit); trying again"
                );
            }
            true if place.starts_with(DATABASE) => {
                tracing::warn!(db, replica, error, "trying again at growing intervals");
            }
            true if e.is_transient() => {
                tracing::warn!(
                    db,
                    replica,
                    error,
                    "the store is not working; trying again at growing intervals"
                );
            }
            true => tracing::error!(db, replica, error, "the store refuses; trying again every few minutes"),
        }
        self.remind(name);
    }

    /// Notes that the activity works. Logs the end of the outage if it was the last member.
    pub fn over(&mut self, name: Name<'_>) {
        let Some(member) = self.0.take() else { return };
        member.outage.works.notify_waiters();
        let Name { db, replica } = name;
        if let Some(age) = member.leave() {
            let store = !member.place.starts_with(DATABASE);
            let message = if store { "the store works again" } else { "it works again" };
            tracing::info!(db, replica, down = %down(age), "{message}");
        }
    }

    /// Waits for `wait`, or until another member of the same place has succeeded. Logs the
    /// reminders that become due.
    pub async fn wait(&self, wait: Duration, name: Name<'_>) {
        let until = Instant::now() + wait;
        let Some(member) = &self.0 else { return tokio::time::sleep_until(until).await };
        loop {
            let due = member.outage.began + member.outage.state.borrow().reminders.due();
            tokio::select! {
                () = tokio::time::sleep_until(until.min(due)) => {
                    self.remind(name);
                    if Instant::now() >= until {
                        return;
                    }
                }
                () = member.outage.works.notified() => {
                    // Random, so that not all members retry at the same moment.
                    let pause = Duration::from_millis(fastrand::u64(10..500));
                    tokio::time::sleep_until(until.min(Instant::now() + pause)).await;
                    return;
                }
            }
        }
    }

    fn remind(&self, name: Name<'_>) {
        let Some(member) = &self.0 else { return };
        let age = member.outage.began.elapsed();
        let mut state = member.outage.state.borrow_mut();
        if !state.reminders.take(age) {
            return;
        }
        let lags = || {
            let with_backlog = state.members.iter().filter_map(|m| m.backlog.as_ref());
            with_backlog.map(|(handoff, replica)| handoff.vitals(*replica).lag())
        };
        let (commits, bytes): (u64, u64) = (lags().map(|l| l.commits).sum(), lags().map(|l| l.bytes).sum());
        let (replicas, error) = (lags().count(), &state.error);
        let Name { db, replica } = name;
        let store = !member.place.starts_with(DATABASE);
        let message = if store { "the store is still not working" } else { "still failing" };
        tracing::warn!(
            db, replica, replicas, down = %down(age), commits_behind = commits, bytes_behind = bytes, error,
            "{message}; trying again"
        );
    }
}

/// A duration for people: seconds, minutes and seconds, or hours and minutes.
pub(super) fn down(age: Duration) -> String {
    let s = age.as_secs();
    match (s / 3600, s / 60 % 60, s % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m{s}s"),
        (h, m, _) => format!("{h}h{m}m"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    const NAME: Name<'static> = Name { db: "a.db", replica: "s3://b/p" };

    /// Collects what is logged at info or above.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<String>>>);

    impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Lines {
        fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
            struct Text(String);
            impl tracing::field::Visit for Text {
                fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                    use std::fmt::Write as _;
                    let _ = write!(self.0, "{field}={value:?} ");
                }
            }
            if *event.metadata().level() <= tracing::Level::INFO {
                let mut text = Text(String::new());
                event.record(&mut text);
                self.0.lock().unwrap().push(text.0);
            }
        }
    }

    impl Lines {
        fn take(&self) -> Vec<String> {
            std::mem::take(&mut self.0.lock().unwrap())
        }
    }

    fn error(kind: ErrorKind, text: &str) -> StoreError {
        StoreError::new(kind, text)
    }

    #[tokio::test]
    async fn an_outage_of_a_hundred_replicas_is_logged_once_and_reminded_of() {
        let lines = Lines::default();
        let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(lines.clone()));
        let outages = Outages::default();
        let began = Instant::now() - Duration::from_secs(61);
        let old = Outage { began, state: RefCell::default(), works: Notify::new() };
        outages.0.borrow_mut().insert("s3://b".into(), Rc::new(old));
        let mut all: Vec<Trouble> = (0..100).map(|_| Trouble::default()).collect();
        for round in 0..5 {
            for (i, trouble) in all.iter_mut().enumerate() {
                let e = error(ErrorKind::Transient, &format!("{i}{round} attempts failed"));
                trouble.failed(&outages, "s3://b", None, NAME, &e);
            }
        }
        let logged = lines.take();
        assert_eq!(logged.len(), 2, "{logged:?}");
        assert!(logged[1].contains("down=1m1s") && logged[1].contains("commits_behind=0"), "{logged:?}");
        all[7].failed(&outages, "s3://b", None, NAME, &error(ErrorKind::Credentials, "403"));
        assert_eq!(lines.take().len(), 1, "another kind of failure");
        all.iter_mut().for_each(|t| t.over(NAME));
        let end = lines.take();
        assert!(end.len() == 1 && end[0].contains("down=1m"), "{end:?}");
        assert!(outages.0.borrow().is_empty());
    }

    #[tokio::test]
    async fn a_replica_that_works_wakes_the_others() {
        let outages = Outages::default();
        let (mut one, mut two) = (Trouble::default(), Trouble::default());
        for trouble in [&mut one, &mut two] {
            trouble.failed(&outages, "s3://b", None, NAME, &error(ErrorKind::Transient, "503"));
        }
        let begun = Instant::now();
        let first = async {
            tokio::task::yield_now().await;
            one.over(NAME);
        };
        tokio::join!(two.wait(Duration::from_secs(300), NAME), first);
        assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    }

    /// An executor of the history that meets an outage first has no line of its own, and does not
    /// hold up the end.
    #[tokio::test]
    async fn an_executor_is_in_the_outage_of_the_pipelines() {
        let lines = Lines::default();
        let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(lines.clone()));
        let outages = Outages::default();
        let handoff = Rc::new(Handoff::new(1, Rc::default()));
        let (mut executor, mut pipeline) = (Trouble::default(), Trouble::default());
        let fail = |trouble: &mut Trouble, backlog| {
            trouble.failed(&outages, "s3://b", backlog, NAME, &error(ErrorKind::Transient, "503"));
        };
        fail(&mut executor, None);
        assert!(!outages.is_out("s3://b"), "the executor itself tries again");
        fail(&mut pipeline, Some((Rc::clone(&handoff), 0)));
        assert!(outages.is_out("s3://b"));
        assert_eq!(lines.take().len(), 1);
        pipeline.over(NAME);
        assert_eq!(lines.take().len(), 1, "the end");
        assert!(outages.0.borrow().is_empty());
        fail(&mut executor, None);
        assert_eq!(lines.take().len(), 1, "it still fails: another outage");
        executor.over(NAME);
        pipeline.over(NAME);
        assert_eq!(lines.take().len(), 1);
    }

    #[tokio::test]
    async fn the_limit_of_open_files_is_one_outage_wherever_it_is_met() {
        let lines = Lines::default();
        let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(lines.clone()));
        let outages = Outages::default();
        let limit =
            || error(ErrorKind::Transient, "x").with_source(std::io::Error::from_raw_os_error(libc::EMFILE));
        let mut all: Vec<Trouble> = (0..10).map(|_| Trouble::default()).collect();
        for (i, trouble) in all.iter_mut().enumerate() {
            trouble.failed(&outages, &format!("place {i}"), None, NAME, &limit());
        }
        assert_eq!(lines.take().len(), 1);
    }
}
