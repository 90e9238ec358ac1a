//! The cache in front of a credential source.
//!
//! # Overview
//!
//! Keys come from memory, the next ones are fetched ahead of expiry, and at most one fetch runs at
//! a time. While the keys are valid, no request waits. The next ones are fetched in the background
//! [`limits::CREDENTIAL_LEAD`] before the end (or a third of a shorter life), and at once when a
//! file they came from has changed.
//!
//! # Failure
//!
//! A failed fetch leaves the old keys in place and is repeated with backoff. A request waits only
//! without valid keys, and then for the one running fetch. If that fails, all requests receive its
//! error until the backoff is over.
//!
//! # Cancellation
//!
//! A fetch runs in a separate task, so it continues if the waiting request is cancelled.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::fetch::{Fetch, Fetched, Stamp};
use crate::base::backoff::Backoff;
use crate::base::clock::Millis;
use crate::base::limits;
use crate::config::{CredentialError, CredentialFuture, Credentials, ProvideCredentials};

/// Expired keys of the metadata service are used for this long while it returns no better ones.
const STABLE: Duration = Duration::from_secs(600);

/// How many fetches one call waits for: its own, and one that runs for other calls.
const WAITS_MAX: u32 = 3;

/// The keys of a source, cached.
pub(super) struct Refreshing(Arc<Shared>);

struct Shared {
    source: Box<dyn Fetch>,
    state: Mutex<State>,
    /// Number of fetches that have ended.
    ended: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    held: Option<Held>,
    fetching: bool,
    failed: Option<Failed>,
    /// When a refusal by the store last caused a new fetch.
    refused: Option<Instant>,
    /// The store has refused the held keys; a fetch must come first.
    doubted: bool,
}

struct Held {
    credentials: Arc<Credentials>,
    until: Option<Millis>,
    refresh_at: Option<Millis>,
    stamps: Vec<Stamp>,
}

struct Failed {
    error: CredentialError,
    backoff: Backoff,
    not_before: Instant,
}

/// The result of a look at the state.
enum Now {
    Keys(Arc<Credentials>),
    None(CredentialError),
    Wait(watch::Receiver<u64>),
}

impl Refreshing {
    pub(super) fn new(source: Box<dyn Fetch>) -> Refreshing {
        let shared = Shared { source, state: Mutex::default(), ended: watch::Sender::new(0) };
        Refreshing(Arc::new(shared))
    }
}

impl fmt::Debug for Refreshing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Refreshing").field(&self.0.source).finish()
    }
}

impl ProvideCredentials for Refreshing {
    fn credentials(&self) -> CredentialFuture<'_> {
        Box::pin(async move {
            for _ in 0..WAITS_MAX {
                match self.0.look() {
                    Now::Keys(keys) => return Ok(keys),
                    Now::None(error) => return Err(error),
                    // `self` holds the sender, so the channel cannot be closed.
                    Now::Wait(mut ended) => _ = ended.changed().await,
                }
            }
            let message = "the credentials expire faster than they can be fetched".to_owned();
            Err(CredentialError::Source { message, transient: true })
        })
    }

    fn refused(&self, used: &Credentials) -> bool {
        let mut state = self.0.state();
        match &state.held {
            Some(held) if *held.credentials == *used => {}
            // Newer keys have arrived in between.
            _ => return true,
        }
        if state.doubted || state.fetching {
            // A fetch is already due or running; callers wait for it.
            state.doubted = true;
            return true;
        }
        if state.refused.is_some_and(|at| at.elapsed() < limits::CREDENTIAL_REASK) {
            return false;
        }
        state.refused = Some(Instant::now());
        state.doubted = true;
        state.failed = None;
        true
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The current keys or error. Starts a fetch if one is due.
    fn look(self: &Arc<Self>) -> Now {
        let mut state = self.state();
        let now = Millis::now();
        let may_try = state.failed.as_ref().is_none_or(|f| Instant::now() >= f.not_before);
        if !state.doubted
            && let Some(held) = &state.held
            && held.until.is_none_or(|until| now < until)
        {
            let keys = Arc::clone(&held.credentials);
            if !state.fetching && may_try && held.is_due(now) {
                self.start(&mut state);
            }
            return Now::Keys(keys);
        }
        if !state.fetching {
            match &state.failed {
                Some(failed) if !may_try => return Now::None(failed.error.clone()),
                _ => {}
            }
        }
        let ended = self.ended.subscribe();
        self.start(&mut state);
        Now::Wait(ended)
    }

    /// Fetches in a separate task, so that the fetch continues if the caller is cancelled.
    fn start(self: &Arc<Self>, state: &mut State) {
        if std::mem::replace(&mut state.fetching, true) {
            return;
        }
        let fetch = Fetching(Arc::clone(self));
        tokio::spawn(async move {
            let fetched = fetch.0.source.fetch().await;
            fetch.0.take(fetched);
            drop(fetch);
        });
    }

    fn take(&self, fetched: Result<Fetched, CredentialError>) {
        let mut state = self.state();
        state.doubted = false;
        let held = fetched.and_then(|f| Held::of(f, Millis::now()));
        match held {
            Ok(held) => {
                tracing::debug!(
                    access_key = %held.credentials.abbreviated_id(),
                    from = %held.credentials.origin,
                    until = held.until.map_or_else(|| "unlimited".to_owned(), Millis::to_rfc3339),
                    "credentials available"
                );
                state.held = Some(held);
                state.failed = None;
            }
            Err(error) => state.note(error),
        }
    }
}

/// A running fetch. On drop, also with its runtime, the next one may begin.
struct Fetching(Arc<Shared>);

impl Drop for Fetching {
    fn drop(&mut self) {
        self.0.state().fetching = false;
        self.0.ended.send_modify(|n| *n += 1);
    }
}

impl State {
    fn note(&mut self, error: CredentialError) {
        let fresh = Backoff::new(limits::CREDENTIAL_WAIT_FIRST, limits::CREDENTIAL_WAIT_MAX);
        let mut backoff = self.failed.as_ref().map_or(fresh, |f| f.backoff);
        if let Some(held) = &self.held
            && backoff.failures() == 0
        {
            let until = held.until.map_or_else(|| "the store refuses them".to_owned(), Millis::to_rfc3339);
            tracing::warn!(error = %error, "refreshing credentials failed; the old ones are used until {until}");
        }
        let not_before = Instant::now() + backoff.fail();
        self.failed = Some(Failed { error, backoff, not_before });
    }
}

impl Held {
    /// Converts the times to this host's clock.
    fn of(fetched: Fetched, now: Millis) -> Result<Held, CredentialError> {
        let Fetched { mut credentials, ahead_ms, stamps, stable } = fetched;
        let Some(expires) = credentials.expires else {
            return Ok(Held { credentials: Arc::new(credentials), until: None, refresh_at: None, stamps });
        };
        let mut end = Millis::from_system(expires).0.saturating_sub(ahead_ms);
        if end <= now.0 {
            if !stable {
                let message = format!(
                    "{} gave credentials that expired at {}; this machine's clock says {now}",
                    credentials.origin,
                    Millis::from_system(expires)
                );
                return Err(CredentialError::Source { message, transient: true });
            }
            tracing::warn!(from = %credentials.origin, "the credentials have expired and are tried all the same");
            end = now.0 + millis(STABLE);
        }
        let life = Duration::from_millis(u64::try_from(end - now.0).unwrap_or(0));
        // Part of the lead is random, so that replicas that started together do not ask together.
        let lead = limits::CREDENTIAL_LEAD.min(life / 3).mul_f64(0.9 + fastrand::f64() / 10.0);
        let margin = limits::CREDENTIAL_MARGIN.min(life / 10);
        credentials.expires = Some(Millis(end).to_system());
        Ok(Held {
            credentials: Arc::new(credentials),
            until: Some(Millis(end - millis(margin))),
            refresh_at: Some(Millis(end - millis(lead))),
            stamps,
        })
    }

    fn is_due(&self, now: Millis) -> bool {
        self.refresh_at.is_some_and(|at| now >= at) || self.stamps.iter().any(Stamp::has_changed)
    }
}

fn millis(d: Duration) -> i64 {
    i64::try_from(d.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::SystemTime;

    use super::*;
    use crate::config::Secret;
    use crate::store::api::BoxFuture;

    type Answer = Result<Fetched, CredentialError>;

    /// A source that returns what the test sets, and counts. A fetch waits for its turn.
    #[derive(Clone)]
    struct Source {
        answer: Arc<Mutex<Answer>>,
        asked: Arc<AtomicU32>,
        turn: Arc<tokio::sync::Semaphore>,
    }

    impl fmt::Debug for Source {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Source")
        }
    }

    impl Fetch for Source {
        fn fetch(&self) -> BoxFuture<'_, Answer> {
            Box::pin(async move {
                self.asked.fetch_add(1, Ordering::SeqCst);
                self.turn.acquire().await.unwrap().forget();
                self.answer.lock().unwrap().clone()
            })
        }
    }

    fn keys(id: &str, life: Option<Duration>) -> Fetched {
        Fetched::new(Credentials {
            access_key_id: id.into(),
            secret_access_key: Secret::new("hush"),
            session_token: None,
            origin: "a test".into(),
            expires: life.map(|l| SystemTime::now() + l),
        })
    }

    fn down() -> CredentialError {
        CredentialError::Source { message: "down".into(), transient: true }
    }

    fn start(answer: Answer, turns: usize) -> (Refreshing, Source) {
        let source = Source {
            answer: Arc::new(Mutex::new(answer)),
            asked: Arc::default(),
            turn: Arc::new(tokio::sync::Semaphore::new(turns)),
        };
        (Refreshing::new(Box::new(source.clone())), source)
    }

    async fn id(from: &Refreshing) -> Result<String, CredentialError> {
        from.credentials().await.map(|c| c.access_key_id.clone())
    }

    /// Waits until the running fetch has ended.
    async fn settled(from: &Refreshing) {
        let mut ended = from.0.ended.subscribe();
        while from.0.state().fetching {
            ended.changed().await.unwrap();
        }
    }

    fn make_due(from: &Refreshing) {
        from.0.state().held.as_mut().unwrap().refresh_at = Some(Millis(0));
    }

    const HOUR: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn many_ask_and_one_fetch_answers() {
        let (from, source) = start(Ok(keys("A", Some(HOUR))), 0);
        let from = Arc::new(from);
        let asking: Vec<_> = (0..20)
            .map(|_| {
                let from = Arc::clone(&from);
                tokio::spawn(async move { id(&from).await })
            })
            .collect();
        tokio::task::yield_now().await;
        source.turn.add_permits(1);
        for one in asking {
            assert_eq!(one.await.unwrap(), Ok("A".into()));
        }
        assert_eq!(source.asked.load(Ordering::SeqCst), 1);
        assert!(!format!("{from:?}").contains("hush"));
    }

    #[tokio::test]
    async fn nobody_waits_while_the_old_keys_are_valid() {
        let (from, source) = start(Ok(keys("A", Some(HOUR))), 1);
        assert_eq!(id(&from).await, Ok("A".into()));
        make_due(&from);
        *source.answer.lock().unwrap() = Ok(keys("B", Some(HOUR)));
        // While the fetch hangs, every call returns the old keys.
        for _ in 0..3 {
            assert_eq!(id(&from).await, Ok("A".into()));
        }
        source.turn.add_permits(1);
        settled(&from).await;
        assert_eq!(id(&from).await, Ok("B".into()));
        assert_eq!(source.asked.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_failure_keeps_the_old_keys_and_is_not_repeated_at_once() {
        let (from, source) = start(Ok(keys("A", Some(HOUR))), 9);
        id(&from).await.unwrap();
        make_due(&from);
        *source.answer.lock().unwrap() = Err(down());
        id(&from).await.unwrap();
        settled(&from).await;
        for _ in 0..5 {
            assert_eq!(id(&from).await, Ok("A".into()));
        }
        assert_eq!(source.asked.load(Ordering::SeqCst), 2);
        // Expired keys are not used any more.
        from.0.state().held.as_mut().unwrap().until = Some(Millis(0));
        assert_eq!(id(&from).await, Err(down()));
        assert_eq!(source.asked.load(Ordering::SeqCst), 2);
        from.0.state().failed.as_mut().unwrap().not_before = Instant::now();
        *source.answer.lock().unwrap() = Ok(keys("B", None));
        assert_eq!(id(&from).await, Ok("B".into()));
    }

    #[tokio::test]
    async fn refused_keys_are_asked_for_anew_once() {
        let (from, source) = start(Ok(keys("A", None)), 9);
        let old = from.credentials().await.unwrap();
        assert!(from.refused(&old));
        *source.answer.lock().unwrap() = Ok(keys("B", None));
        let new = from.credentials().await.unwrap();
        assert_eq!(new.access_key_id, "B");
        // A late refusal of the old keys, then one of the new keys: the second is final.
        assert!(from.refused(&old));
        assert!(!from.refused(&new));
        assert_eq!(id(&from).await, Ok("B".into()));
        assert_eq!(source.asked.load(Ordering::SeqCst), 2);
    }

    /// A file was replaced twice within half a minute. The second refusal came while the new keys
    /// were being read, and was taken as final.
    #[tokio::test]
    async fn a_refusal_while_others_are_on_their_way_waits_for_them() {
        let (from, source) = start(Ok(keys("A", None)), 1);
        let old = from.credentials().await.unwrap();
        from.0.state().refused = Some(Instant::now());
        assert!(!from.refused(&old));
        make_due(&from);
        *source.answer.lock().unwrap() = Ok(keys("B", None));
        assert_eq!(id(&from).await, Ok("A".into()));
        assert!(from.refused(&old));
        source.turn.add_permits(1);
        assert_eq!(id(&from).await, Ok("B".into()));
    }

    #[tokio::test]
    async fn refused_keys_stay_when_nobody_has_others() {
        let (from, source) = start(Ok(keys("A", None)), 9);
        let old = from.credentials().await.unwrap();
        *source.answer.lock().unwrap() = Err(down());
        assert!(from.refused(&old));
        assert_eq!(id(&from).await, Ok("A".into()));
        assert!(!from.refused(&old));
    }

    #[tokio::test]
    async fn a_changed_file_is_read_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("credentials");
        let mut first = keys("A", None);
        first.stamps = vec![Stamp::of(&path)];
        let (from, source) = start(Ok(first), 9);
        id(&from).await.unwrap();
        std::fs::write(&path, "new").unwrap();
        let mut second = keys("B", None);
        second.stamps = vec![Stamp::of(&path)];
        *source.answer.lock().unwrap() = Ok(second);
        id(&from).await.unwrap();
        settled(&from).await;
        assert_eq!(id(&from).await, Ok("B".into()));
        assert_eq!(source.asked.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn times_are_by_our_clock_and_fractions_of_a_short_life() {
        let now = Millis::now();
        let lives = |f: Fetched| {
            let held = Held::of(f, now).unwrap();
            (held.refresh_at.unwrap().0 - now.0, held.until.unwrap().0 - now.0)
        };
        let (refresh, until) = lives(keys("A", Some(HOUR)));
        assert!(
            (3_298_000..3_332_000).contains(&refresh) && (3_589_000..3_592_000).contains(&until),
            "{refresh} {until}"
        );
        let (refresh, until) = lives(keys("A", Some(Duration::from_secs(3))));
        assert!((1_990..2_200).contains(&refresh) && (2_690..2_800).contains(&until), "{refresh} {until}");
        // The host's clock is two hours late; an hour remains an hour.
        let mut late = keys("A", Some(HOUR * 3));
        late.ahead_ms = 7_200_000;
        assert!((3_589_000..3_592_000).contains(&lives(late).1));
        let mut old = keys("A", Some(Duration::ZERO));
        assert!(Held::of(old.clone(), Millis(now.0 + 1000)).is_err());
        old.stable = true;
        assert!(Held::of(old, Millis(now.0 + 1000)).is_ok());
    }
}
