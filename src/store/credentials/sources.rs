//! Where credentials come from, shared by all clients of the process.

use std::collections::HashMap;
use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use super::chain::{Chain, Looked, missing};
use super::refreshing::Refreshing;
use crate::base::clock::Millis;
use crate::config::{
    CredentialError, CredentialSource, Credentials, Endpoint, Env, Kind, Location, S3Location, TlsOptions,
};
use crate::store::HostAnswer;
use crate::store::api::BoxFuture;

/// The source of keys that are not written down for a replica.
///
/// # Errors
/// When nothing is set up and nobody can be asked, at once: what was looked at and what to set.
/// Shared files that make no sense.
///
/// `answers` are addresses of names that the name service is not asked for.
pub fn chain(
    env: &Env,
    region: &str,
    endpoint_is_aws: bool,
    tls: &TlsOptions,
    answers: &[HostAnswer],
) -> Result<CredentialSource, CredentialError> {
    let chain = Chain::new(env, region, endpoint_is_aws, tls, answers);
    let looked = chain.look()?;
    if !looked.iter().any(|l| l.used) {
        return Err(missing(&looked));
    }
    Ok(CredentialSource::Provider(Arc::new(Refreshing::new(Box::new(chain)))))
}

/// Region, whether the endpoint is one of AWS, and how certificates are checked.
type Key = (String, bool, Option<PathBuf>);

/// The chains of a process: replicas that would ask the same share one, and its keys.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    env: Env,
    answers: Vec<HostAnswer>,
    made: Arc<Mutex<HashMap<Key, CredentialSource>>>,
}

impl Sources {
    /// For this environment; `answers` are addresses of names that the name service is not asked
    /// for.
    #[must_use]
    pub fn new(env: Env, answers: &[HostAnswer]) -> Sources {
        Sources { env, answers: answers.to_vec(), made: Arc::default() }
    }

    /// Gives `location` a chain if it has no keys of its own. Asks nobody.
    ///
    /// # Errors
    /// As [`chain()`].
    pub fn complete(&self, location: &mut Location) -> Result<(), CredentialError> {
        let Kind::S3(s3) = &mut location.kind else { return Ok(()) };
        if !matches!(s3.credentials, CredentialSource::Missing) {
            return Ok(());
        }
        let key = (s3.region.value.clone(), is_aws(s3), s3.tls.ca_cert.clone());
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        s3.credentials = match made.get(&key) {
            Some(source) => source.clone(),
            None => {
                let source = chain(&self.env, &key.0, key.1, &s3.tls, &self.answers)?;
                made.insert(key, source.clone());
                source
            }
        };
        Ok(())
    }

    /// What each source has for `location`, for `explain` and `doctor`. Asks nobody.
    ///
    /// # Errors
    /// Shared files that make no sense.
    pub fn look(&self, location: &S3Location) -> Result<Vec<Looked>, CredentialError> {
        Chain::new(&self.env, &location.region.value, is_aws(location), &location.tls, &self.answers).look()
    }
}

/// Also where the host is named by itself, as that of an access point or of a VPC.
fn is_aws(location: &S3Location) -> bool {
    match &location.endpoint.value {
        Endpoint::Aws { .. } => true,
        Endpoint::At(url) => url.host.trim_end_matches(".cn").ends_with(".amazonaws.com"),
    }
}

/// What gives keys when asked.
pub(super) trait Fetch: Send + Sync + fmt::Debug {
    /// Asks, anew each time, within a bounded time.
    fn fetch(&self) -> BoxFuture<'_, Result<Fetched, CredentialError>>;
}

/// Keys as they came.
#[derive(Debug, Clone)]
pub(super) struct Fetched {
    pub(super) credentials: Credentials,
    /// So far is the clock of who gave them ahead of ours, in milliseconds.
    pub(super) ahead_ms: i64,
    /// The files they came from.
    pub(super) stamps: Vec<Stamp>,
    /// Whether keys that have expired are worth a try: the metadata service gives none better while
    /// it is in trouble.
    pub(super) stable: bool,
}

impl Fetched {
    pub(super) fn new(credentials: Credentials) -> Fetched {
        Fetched { credentials, ahead_ms: 0, stamps: Vec::new(), stable: false }
    }

    /// The expiry is a time by the clock of who answered.
    pub(super) fn by_clock(mut self, date: Option<SystemTime>) -> Fetched {
        if let Some(date) = date {
            let ahead = Millis::from_system(date).0 - Millis::now().0;
            // A date has whole seconds: what is nearer is the same.
            self.ahead_ms = if ahead.abs() < 2000 { 0 } else { ahead };
        }
        self
    }

    pub(super) fn stable(mut self) -> Fetched {
        self.stable = true;
        self
    }
}

/// Which version of a file it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp {
    path: PathBuf,
    /// Device, inode, size and time of the last change; `None` if there is no such file.
    is: Option<(u64, u64, u64, i64, i64)>,
}

impl Stamp {
    pub(super) fn of(path: &Path) -> Stamp {
        let is =
            std::fs::metadata(path).ok().map(|m| (m.dev(), m.ino(), m.size(), m.mtime(), m.mtime_nsec()));
        Stamp { path: path.to_owned(), is }
    }

    pub(super) fn has_changed(&self) -> bool {
        Stamp::of(&self.path) != *self
    }
}
