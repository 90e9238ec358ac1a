//! The retry loop around an attempt: which failures are retried, when, and for how long.
//!
//! # Classes of failure
//!
//! - A stale connection: at once, on a new connection.
//! - A wrong clock, another region or a redirect: at once, with a changed plan, up to
//!   [`limits::REPLANS`] times.
//! - A transient failure: with backoff, until the total time of the policy is over.
//! - An unreachable store: with backoff, for the shorter time that the policy has for it.
//! - Any other failure is final.
//!
//! The time and the backoff start again after a part of a ranged GET has arrived.
//!
//! # Logs
//!
//! A retry that succeeds leaves one debug line for each failed attempt, and nothing at a higher
//! level.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::call::{Call, Plan, Reply};
use super::classify::apart;
use super::down::Doing;
use super::failure::{Class, Failure};
use super::inner::Inner;
use super::streak::Streak;
use crate::base::backoff::Backoff;
use crate::base::limits;
use crate::config::{Addressing, EndpointUrl};
use crate::store::{ErrorKind, StoreError, requests};

/// Longest `Retry-After` of a server that is honoured.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);

/// Failures for which one false success response counts: the attempt, and the requests that have
/// shown that nothing is stored. So an outage of this kind costs no more requests than another.
const DOUBT_COUNTS: u32 = 3;

/// Clocks that differ by no more than this count as equal.
const SKEW_SAME: Duration = Duration::from_secs(1);

/// The attempts at one call.
#[derive(Debug)]
pub(super) struct Retry<'a> {
    inner: &'a Inner,
    subject: String,
    doing: Doing,
    started: Instant,
    attempts: u32,
    backoff: Backoff,
    replans: u32,
    patience: Option<Duration>,
    streak: Option<Arc<Streak>>,
    /// Whether this call is among those that the client counts as retrying.
    is_counted: bool,
    pub(super) plan: Plan,
}

impl Drop for Retry<'_> {
    fn drop(&mut self) {
        if self.is_counted {
            self.inner.client.retrying.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl<'a> Retry<'a> {
    pub(super) fn new(inner: &'a Inner, call: &Call<'_>) -> Retry<'a> {
        let policy = &inner.options.retry;
        Retry {
            inner,
            subject: inner.subject(call),
            doing: Doing::of(call),
            started: Instant::now(),
            attempts: 0,
            backoff: policy.backoff(),
            replans: 0,
            patience: call.patience,
            streak: call.streak.clone(),
            is_counted: false,
            plan: Plan::default(),
        }
    }

    /// Part of the response has arrived: the time budget and the backoff start again.
    pub(super) fn progress(&mut self) {
        self.started = Instant::now();
        self.backoff.reset();
    }

    /// Waits and returns `Ok` if the call is to be retried; otherwise returns the failure as final.
    pub(super) async fn after(&mut self, failure: Failure) -> Result<(), Failure> {
        self.after_requests(failure, 1).await
    }

    /// Like [`after`](Retry::after), where a success response has turned out to be false, which
    /// took further requests.
    pub(super) async fn after_doubt(&mut self, failure: Failure) -> Result<(), Failure> {
        self.after_requests(failure, DOUBT_COUNTS).await
    }

    async fn after_requests(&mut self, failure: Failure, requests: u32) -> Result<(), Failure> {
        self.attempts += 1;
        let fresh = std::mem::take(&mut self.plan.fresh);
        let is_stale = matches!(failure.class, Class::Stale);
        let policy = &self.inner.options.retry;
        let total = self.patience.map_or(policy.total, |p| p.min(policy.total));
        let budget = match failure.class {
            // A new connection cannot be stale; this is an ordinary break.
            Class::Stale if !fresh => {
                self.plan.fresh = true;
                // The next attempt follows at once. If it fails, two requests have failed.
                _ = self.wait(None, 1);
                self.note(&failure, Duration::ZERO);
                return Ok(());
            }
            Class::Skewed | Class::OtherRegion | Class::Redirect => return self.replan(failure),
            Class::Stale | Class::Transient => total,
            Class::Unreachable => policy.unreachable,
            Class::Credentials | Class::Precondition | Class::Unsupported | Class::Final(_) => {
                self.inner.client.down.set(self.doing, false);
                return Err(failure);
            }
        };
        let down = policy.rest_when_down && self.inner.client.down.is(self.doing);
        let wait = self.wait(failure.detail.retry_after, requests);
        if down || self.started.elapsed() + wait >= budget {
            self.inner.client.down.set(self.doing, true);
            return Err(self.give_up(failure));
        }
        self.note(&failure, wait);
        if !std::mem::replace(&mut self.is_counted, true) {
            self.inner.client.retrying.fetch_add(1, Ordering::Relaxed);
        }
        self.plan.fresh = is_stale;
        // Where requests share their failures, the next attempt waits for its turn.
        if self.streak.is_none() {
            tokio::time::sleep(wait).await;
        }
        Ok(())
    }

    /// The wait before the next attempt: at least what the server asks for, up to
    /// [`RETRY_AFTER_MAX`].
    fn wait(&mut self, asked: Option<Duration>, requests: u32) -> Duration {
        let wait = match &self.streak {
            Some(streak) => streak.fail(requests),
            None => self.backoff.fail_times(requests),
        };
        let wait = asked.map_or(wait, |a| wait.max(a.min(RETRY_AFTER_MAX)));
        if let Some(streak) = &self.streak {
            streak.rest(wait);
        }
        wait
    }

    fn note(&self, failure: &Failure, wait: Duration) {
        requests::repeated();
        tracing::debug!(
            request = %self.subject,
            attempt = self.attempts,
            wait_ms = wait.as_millis() as u64,
            error = %failure,
            "trying again"
        );
    }

    fn give_up(&self, mut failure: Failure) -> Failure {
        let made = self.streak.as_ref().map_or(0, |streak| streak.failures());
        failure.detail.attempts = made.max(self.backoff.failures()).max(self.attempts);
        if self.attempts > 1 {
            let seconds = self.started.elapsed().as_secs_f32();
            failure.message =
                format!("{} attempts in {seconds:.1}s failed, the last: {}", self.attempts, failure.message);
        }
        failure
    }

    /// Changes what made the attempt fail, if that can be changed.
    fn replan(&mut self, failure: Failure) -> Result<(), Failure> {
        self.replans += 1;
        if self.replans > limits::REPLANS {
            return Err(failure);
        }
        let changed = match failure.class {
            Class::Skewed => self.correct_clock(&failure),
            Class::OtherRegion => self.change_region(&failure),
            Class::Redirect => self.redirect(&failure),
            _ => false,
        };
        if !changed {
            return Err(failure);
        }
        self.note(&failure, Duration::ZERO);
        Ok(())
    }

    /// Takes over the server's time, if the signature had another one.
    fn correct_clock(&mut self, failure: &Failure) -> bool {
        let (Some(date), Some(signed_at)) = (failure.detail.date, failure.detail.signed_at) else {
            return false;
        };
        let (skew, url) = (apart(date, std::time::SystemTime::now()), self.inner.url.as_str());
        // A signature dated another day would be useful to an attacker.
        if skew > limits::CLOCK_CORRECTION {
            return false;
        }
        if skew > limits::CLOCK_AHEAD && self.inner.client.clock.say(skew) {
            tracing::warn!(
                replica = url,
                seconds = skew.as_secs(),
                "this machine's clock and that of the store differ; requests are signed by the store's clock (set this machine's)"
            );
        }
        self.inner.client.correct_clock(date);
        apart(date, signed_at) > SKEW_SAME
    }

    /// Takes over the region that the store named. A region that the user wrote is kept: the user
    /// may mean another bucket of that name elsewhere.
    fn change_region(&mut self, failure: &Failure) -> bool {
        let location = &self.inner.location;
        match &failure.detail.region {
            // Compares with the region that was signed, because another request may have learned
            // the new one already.
            Some(region) if !location.region.origin.is_explicit() && *region != failure.detail.signed_for => {
                self.inner.client.remember_region(&location.bucket, region.clone());
                true
            }
            _ => false,
        }
    }

    /// Follows a redirect from one address of Amazon's S3 to another that serves the same bucket
    /// over the same scheme, for this call only. The redirected request is signed for the new host
    /// and carries the content. Other servers therefore may not redirect: an impostor could send
    /// the database anywhere.
    fn redirect(&mut self, failure: &Failure) -> bool {
        let location = &self.inner.location;
        if !location.endpoint_url().is_aws_storage() {
            return false;
        }
        let Some(to) = failure.detail.location.as_deref() else { return false };
        let to = to.split(['?', '#']).next().unwrap_or(to);
        let Ok(mut url) = EndpointUrl::parse(to, "redirect") else { return false };
        let path = std::mem::take(&mut url.path);
        let same_bucket = match location.addressing.value {
            Addressing::VirtualHost => url.host.starts_with(&format!("{}.", location.bucket)),
            Addressing::Path => {
                let base = location.endpoint_url().path;
                url.path.clone_from(&base);
                let rest = path.strip_prefix(&base).and_then(|p| p.strip_prefix('/')).unwrap_or_default();
                rest.split('/').next() == Some(location.bucket.as_str())
            }
        };
        let configured = location.endpoint_url();
        let same_partition = url.host.ends_with(".cn") == configured.host.ends_with(".cn");
        if !same_bucket || !same_partition || !url.is_aws_storage() || url.scheme != configured.scheme {
            return false;
        }
        self.plan.redirect = Some(url);
        true
    }
}

impl Inner {
    /// Attempts `call` until it succeeds or finally fails.
    pub(super) async fn run(&self, call: &Call<'_>) -> Result<Reply, Failure> {
        self.run_bounded(call, limits::ERROR_BYTES).await
    }

    /// Like `run`, with a limit on the bytes of the response.
    pub(super) async fn run_bounded(&self, call: &Call<'_>, max: usize) -> Result<Reply, Failure> {
        let mut retry = Retry::new(self, call);
        loop {
            let _turn = match &call.streak {
                Some(streak) => Some(streak.turn().await),
                None => None,
            };
            let attempt = || self.attempt_whole(call, &retry.plan, max);
            let done = match self.client.hedge(call) {
                Some(hedge) => hedge.run(attempt).await,
                None => attempt().await,
            };
            match done {
                Ok(reply) => return Ok(reply),
                // Does not wait while it holds the turn.
                Err(failure) => retry.after(failure).await?,
            }
        }
    }

    /// The operation for messages, such as `PUT s3://bucket/key`.
    pub(super) fn subject(&self, call: &Call<'_>) -> String {
        match call.key {
            Some(key) => format!("{} {}", call.method, self.object(key)),
            None => format!("{} s3://{}", call.method, self.location.bucket),
        }
    }

    /// The object for messages, such as `s3://bucket/key`.
    pub(super) fn object(&self, key: &str) -> String {
        format!("s3://{}/{key}", self.location.bucket)
    }

    /// Turns a failure into the error of the store's interface.
    pub(super) fn error(&self, call: &Call<'_>, failure: Failure) -> StoreError {
        let kind = match failure.class {
            Class::Stale | Class::Transient | Class::Unreachable => ErrorKind::Transient,
            Class::OtherRegion => ErrorKind::WrongRegion,
            Class::Credentials => ErrorKind::Credentials,
            Class::Precondition => ErrorKind::Conflict,
            Class::Final(kind) => kind,
            Class::Skewed | Class::Redirect | Class::Unsupported => ErrorKind::Fatal,
        };
        let detail = *failure.detail;
        let error = StoreError::new(kind, format!("{}: {}", self.subject(call), failure.message))
            .with_retry_after(detail.retry_after)
            .with_attempts(detail.attempts)
            .when_unreachable(failure.class == Class::Unreachable);
        match detail.source {
            Some(source) => error.with_source(source),
            None => error,
        }
    }
}
