//! Credential sources, shared by all clients of the process.

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

/// Sets up the source of keys for a replica without keys of its own. `answers` are addresses of
/// host names that are not looked up in DNS.
///
/// # Errors
/// If no source is set up: the error lists the sources and what to set. If a shared file is
/// invalid.
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

/// Region, whether the endpoint is an AWS one, and the CA file.
type Key = (String, bool, Option<PathBuf>);

/// The chains of a process. Replicas with the same settings share one chain and its keys.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    env: Env,
    answers: Vec<HostAnswer>,
    made: Arc<Mutex<HashMap<Key, CredentialSource>>>,
}

impl Sources {
    /// Sources for this environment. `answers` are addresses of host names that are not looked up
    /// in DNS.
    #[must_use]
    pub fn new(env: Env, answers: &[HostAnswer]) -> Sources {
        Sources { env, answers: answers.to_vec(), made: Arc::default() }
    }

    /// Gives `location` a chain if it has no keys of its own. Makes no request.
    ///
    /// # Errors
    /// Those of [`chain()`].
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

    /// The state of each source for `location`, for `explain` and `doctor`. Makes no request.
    ///
    /// # Errors
    /// An invalid shared file.
    pub fn look(&self, location: &S3Location) -> Result<Vec<Looked>, CredentialError> {
        Chain::new(&self.env, &location.region.value, is_aws(location), &location.tls, &self.answers).look()
    }
}

/// Whether the endpoint belongs to AWS, also if a URL names the host, such as that of an access
/// point or a VPC.
fn is_aws(location: &S3Location) -> bool {
    match &location.endpoint.value {
        Endpoint::Aws { .. } => true,
        Endpoint::At(url) => url.host.trim_end_matches(".cn").ends_with(".amazonaws.com"),
    }
}

/// Fetches keys.
pub(super) trait Fetch: Send + Sync + fmt::Debug {
    /// Fetches new keys at each call, within a bounded time.
    fn fetch(&self) -> BoxFuture<'_, Result<Fetched, CredentialError>>;
}

/// Keys as the source returned them.
#[derive(Debug, Clone)]
pub(super) struct Fetched {
    pub(super) credentials: Credentials,
    /// How far the source's clock is ahead of this host's, in milliseconds.
    pub(super) ahead_ms: i64,
    /// Stamps of the files that the keys came from.
    pub(super) stamps: Vec<Stamp>,
    /// Whether expired keys are still worth a try: during an outage the metadata service returns no
    /// better ones.
    pub(super) stable: bool,
}

impl Fetched {
    pub(super) fn new(credentials: Credentials) -> Fetched {
        Fetched { credentials, ahead_ms: 0, stamps: Vec::new(), stable: false }
    }

    /// Marks that the expiry is a time by the responding server's clock.
    pub(super) fn by_clock(mut self, date: Option<SystemTime>) -> Fetched {
        if let Some(date) = date {
            let ahead = Millis::from_system(date).0 - Millis::now().0;
            // A date has whole seconds, so a smaller difference counts as none.
            self.ahead_ms = if ahead.abs() < 2000 { 0 } else { ahead };
        }
        self
    }

    pub(super) fn stable(mut self) -> Fetched {
        self.stable = true;
        self
    }
}

/// The version of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp {
    path: PathBuf,
    /// Device, inode, size and time of the last modification; `None` if there is no such file.
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
