//! Credential sources, shared by all clients of the process.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::chain::{Chain, Looked, missing};
use super::refreshing::Refreshing;
use crate::config::{
    CredentialError, CredentialSource, Endpoint, Env, Kind, Location, S3Location, TlsOptions,
};
use crate::store::HostAnswer;

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
