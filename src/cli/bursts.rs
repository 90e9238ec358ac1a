//! Bursts of one message: what many databases log at once is logged for the first of them, and
//! counted for the others.
//!
//! A start of a thousand databases, or a full disk under all of them, is one event for who reads
//! the log. The first [`SHOWN`] databases have their lines. The others are in one line
//! with their number and some names, once the burst is over, and every few seconds while it lasts.
//! A message that one database repeats is not a burst. With `--log-level debug` each line is shown.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata};
use tracing_subscriber::layer::{Context, Filter};

/// Databases that have a line of their own for a message that many log at once. The others are
/// counted.
const SHOWN: usize = 3;

/// Names of databases in the line that counts the others.
const NAMES: usize = 10;

/// Time after the last database of a burst until the line that counts them.
const QUIET: Duration = Duration::from_secs(2);

/// A message that no database has logged for this long is no longer part of a burst. While a burst
/// lasts, its databases are counted in a line each time this has passed.
const PAUSE: Duration = Duration::from_secs(10);
const _: () = assert!(QUIET.as_secs() < PAUSE.as_secs(), "a burst is told of before it is over");

static BURSTS: OnceLock<Mutex<State>> = OnceLock::new();

/// The filter that keeps back what is counted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bursts;

#[derive(Debug, Default)]
struct State {
    bursts: HashMap<(Level, String), Burst>,
    /// Whether a thread waits for the end of bursts.
    watched: bool,
}

/// The databases that have logged a message.
#[derive(Debug)]
struct Burst {
    shown: BTreeSet<String>,
    hidden: BTreeSet<String>,
    /// When the first of `hidden` came, if there are any.
    since: Instant,
    last: Instant,
}

/// What a line says of the databases without lines of their own.
#[derive(Debug, PartialEq)]
struct Summary {
    level: Level,
    message: String,
    databases: usize,
    names: String,
}

fn lock() -> MutexGuard<'static, State> {
    BURSTS.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

impl<S> Filter<S> for Bursts {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        let mut words = Words::default();
        event.record(&mut words);
        let (Some(db), Some(message)) = (words.db, words.message) else { return true };
        let mut state = lock();
        if state.admits(*event.metadata().level(), message, db, Instant::now()) {
            return true;
        }
        if !std::mem::replace(&mut state.watched, true) {
            drop(state);
            let watch = std::thread::Builder::new().name("lsfast-log".into()).spawn(watch);
            // Without a thread the line comes at the end of the process.
            drop(watch);
        }
        false
    }
}

impl State {
    /// Whether the line of this database is shown.
    fn admits(&mut self, level: Level, message: String, db: String, now: Instant) -> bool {
        let fresh = || Burst { shown: BTreeSet::new(), hidden: BTreeSet::new(), since: now, last: now };
        let burst = self.bursts.entry((level, message)).or_insert_with(fresh);
        if burst.hidden.is_empty() && now.duration_since(burst.last) > PAUSE {
            burst.shown.clear();
        }
        burst.last = now;
        if burst.shown.contains(&db) {
            return true;
        }
        if burst.shown.len() < SHOWN {
            burst.shown.insert(db);
            return true;
        }
        if burst.hidden.is_empty() {
            burst.since = now;
        }
        burst.hidden.insert(db);
        false
    }

    /// What is due: bursts that are over, and those that have lasted long; with `all` each of them.
    fn take(&mut self, now: Instant, all: bool) -> Vec<Summary> {
        let mut due = Vec::new();
        for ((level, message), burst) in &mut self.bursts {
            let over = now.duration_since(burst.last) >= QUIET;
            let long = now.duration_since(burst.since) >= PAUSE;
            if burst.hidden.is_empty() || !(all || over || long) {
                continue;
            }
            let hidden = std::mem::take(&mut burst.hidden);
            let names: Vec<&str> = hidden.iter().take(NAMES).map(String::as_str).collect();
            let more = if hidden.len() > names.len() { ", ..." } else { "" };
            let (databases, names) = (hidden.len(), names.join(", ") + more);
            due.push(Summary { level: *level, message: message.clone(), databases, names });
        }
        self.bursts.retain(|_, b| !b.hidden.is_empty() || now.duration_since(b.last) <= PAUSE);
        due
    }

    fn waits(&self) -> bool {
        self.bursts.values().any(|burst| !burst.hidden.is_empty())
    }
}

/// Logs what is due, until nothing waits.
fn watch() {
    loop {
        std::thread::sleep(QUIET / 2);
        let due = lock().take(Instant::now(), false);
        due.iter().for_each(log);
        let mut state = lock();
        if !state.waits() {
            state.watched = false;
            return;
        }
    }
}

/// Logs what was counted so far. For the end of the process, and before its last lines.
pub(super) fn settle() {
    let due = lock().take(Instant::now(), true);
    due.iter().for_each(log);
}

fn log(summary: &Summary) {
    let Summary { level, message, databases, names } = summary;
    // Without the field `db`, which makes a line part of a burst.
    match *level {
        Level::ERROR => tracing::error!(databases, among = names, "{message}: more databases"),
        Level::WARN => tracing::warn!(databases, among = names, "{message}: more databases"),
        _ => tracing::info!(databases, among = names, "{message}: more databases"),
    }
}

/// The fields that matter here.
#[derive(Debug, Default)]
struct Words {
    db: Option<String>,
    message: Option<String>,
}

impl Visit for Words {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "db" {
            self.db = Some(value.to_owned());
        } else if field.name() == "message" {
            self.message = Some(value.to_owned());
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if matches!(field.name(), "db" | "message") {
            self.record_str(field, &format!("{value:?}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_databases_are_a_few_lines_and_one_database_has_all_of_its_own() {
        let (mut state, begun) = (State::default(), Instant::now());
        let at = |ms: u64| begun + Duration::from_millis(ms);
        let admits = |state: &mut State, db: usize, ms: u64| {
            state.admits(Level::INFO, "image stored".into(), format!("/{db:03}.db"), at(ms))
        };
        let shown = (0..100).filter(|n| admits(&mut state, *n, *n as u64)).count();
        assert_eq!(shown, SHOWN);
        assert!(admits(&mut state, 0, 101), "a database that has lines goes on to have them");
        assert!(state.take(at(500), false).is_empty(), "it may go on");
        let due = state.take(at(101) + QUIET, false);
        assert_eq!((due.len(), due[0].databases), (1, 100 - SHOWN));
        assert!(due[0].names.starts_with("/003.db, /004.db") && due[0].names.ends_with(", ..."), "{due:?}");
        assert!(!state.waits());
        // After a pause each database has its lines again.
        let later = 200 + u64::try_from(PAUSE.as_millis()).unwrap();
        assert!(admits(&mut state, 99, later));
        // One that repeats itself is not a burst.
        assert!((0..1_000).all(|n| admits(&mut state, 99, later + n)));
        assert!(state.take(at(later + 60_000), true).is_empty());
    }

    #[test]
    fn a_burst_without_end_is_told_of_meanwhile() {
        let (mut state, begun) = (State::default(), Instant::now());
        let mut told = 0;
        for n in 0..1_000u32 {
            let now = begun + Duration::from_millis(100) * n;
            let _ = state.admits(Level::WARN, "slow".into(), format!("/{n}.db"), now);
            told += state.take(now, false).iter().map(|s| s.databases).sum::<usize>();
        }
        assert!(told > 800 && told + SHOWN <= 1_000, "{told}");
        told += state.take(begun, true).iter().map(|s| s.databases).sum::<usize>();
        assert_eq!(told + SHOWN, 1_000);
    }
}
