//! A source of keys, and the keys that it returns.

use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::base::clock::Millis;
use crate::config::{CredentialError, Credentials};
use crate::store::api::BoxFuture;

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
