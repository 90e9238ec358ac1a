//! What all operations on a replica in a bucket share.

use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use super::client::Client;
use super::extras::Extras;
use super::options::ClientOptions;
use super::sign::SigningKey;
use super::written::Written;
use crate::base::LtxId;
use crate::config::S3Location;

/// A replica in a bucket, with its client and what is known of it.
pub(super) struct Inner {
    pub(super) url: String,
    pub(super) location: S3Location,
    pub(super) options: ClientOptions,
    pub(super) extras: Extras,
    pub(super) client: Arc<Client>,
    pub(super) signing_key: SigningKey,
    /// Whether a listing has shown an object of this replica under its own name.
    pub(super) listed: AtomicBool,
    /// An object that the last listing has named.
    pub(super) listed_last: Mutex<Option<LtxId>>,
    /// Whether a listing has shown that the store does not begin where it is told to.
    pub(super) lists_whole: AtomicBool,
    pub(super) written: Mutex<Option<Written>>,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3").field("url", &self.url).field("endpoint", &self.location.endpoint.value).finish()
    }
}
