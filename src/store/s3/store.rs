//! The S3 store: maps each operation of [`Store`] to requests.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::body::Payload;
use super::inner::Inner;
use super::options::ClientOptions;
use super::sign::SigningKey;
use super::{copy, extras, list, multipart};
// The sources of credentials use these parts of the client.
use crate::base::clock::Millis;
use crate::base::{LtxId, Txid};
use crate::config::{Addressing, CredentialError, CredentialSource, S3Location};
use crate::ltx::TimesId;
use crate::store::api::{BoxFuture, CreateOnly, ListedPage, Part, PutOptions, Result, Scope, Store, Upload};
use crate::store::{Entry, ErrorKind, Listed, Listing, SideId, StoreError};

/// Most parts that are in flight at once, whatever the user sets: each is in memory.
const TRANSFERS_MAX: usize = 64;

/// A replica in a bucket. Cheap to clone.
#[derive(Clone)]
pub struct S3Store {
    pub(super) inner: Arc<Inner>,
}

impl fmt::Debug for S3Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl S3Store {
    /// Opens the replica without a request. `url` is its name in messages.
    ///
    /// # Errors
    /// [`ErrorKind::Credentials`] if there are no credentials, [`ErrorKind::Tls`] if the CA file
    /// cannot be used.
    pub fn open(url: &str, location: &S3Location, options: &ClientOptions) -> Result<S3Store> {
        if matches!(location.credentials, CredentialSource::Missing) {
            let message = format!("{url}: {}", CredentialError::Missing);
            return Err(StoreError::new(ErrorKind::Credentials, message));
        }
        let client = options.clients.get(location, &options.answers, options.spare, options.idle)?;
        let extras = extras::Extras::new(location)?;
        let mut options = options.clone();
        if let Some(wanted) = location.settings.concurrency {
            options.transfers = usize::try_from(wanted).map_or(TRANSFERS_MAX, |n| n.clamp(1, TRANSFERS_MAX));
        }
        let (url, location, signing_key) = (url.to_owned(), location.clone(), SigningKey::default());
        let inner = Inner {
            url,
            location,
            options,
            extras,
            client,
            signing_key,
            listed: AtomicBool::new(false),
            listed_last: Mutex::default(),
            lists_whole: AtomicBool::new(false),
            written: Mutex::default(),
        };
        Ok(S3Store { inner: Arc::new(inner) })
    }

    /// Checks whether the store keeps a create-only PUT from replacing an object, with two such
    /// PUTs to one scratch key. A store that silently ignores the condition is remembered like one
    /// that refuses it: a LIST then precedes each PUT. The check costs three requests and is made
    /// once for each unknown endpoint.
    ///
    /// # Errors
    /// Those of any PUT.
    #[cfg(feature = "internals")]
    pub async fn probe_create_only(&self) -> Result<bool> {
        let name = format!("probe-{:016x}", fastrand::u64(..));
        let key = self.inner.scratch_key(&name);
        let honoured = self.inner.probe_create_only(&key).await;
        let deleted = self.inner.delete_one(&key).await;
        let honoured = honoured?;
        deleted.map(|()| honoured)
    }
}

impl Inner {
    pub(super) fn key(&self, id: LtxId) -> String {
        format!("{}/{:04x}/{}", self.location.prefix, id.level.get(), id.file_name())
    }

    /// The key of a side file. Litestream 0.3 drops empty parts of its keys; other files take the
    /// prefix literally.
    fn side_key(&self, id: SideId) -> String {
        match id {
            SideId::Legacy(name) => list::clean(&self.location.prefix) + &name.path(),
            SideId::Times(_) => format!("{}/{}", self.location.prefix, id.path()),
        }
    }

    pub(super) fn scratch_key(&self, name: &str) -> String {
        format!("{}/lsfast-scratch/{name}", self.location.prefix)
    }

    async fn prewarm(&self) {
        let region = self.region();
        let mut url = self.location.endpoint.value.url(&region);
        if self.location.addressing.value == Addressing::VirtualHost {
            url.host = format!("{}.{}", self.location.bucket, url.host);
        }
        let warmed = match self.client.pool(url.scheme, &url.authority()) {
            Ok(pool) => pool.prewarm().await,
            Err(e) => Err(e),
        };
        if let Err(e) = warmed {
            tracing::debug!(replica = %self.url, error = %e, "no connection ahead of use");
        }
    }
}

impl Store for S3Store {
    fn url(&self) -> &str {
        &self.inner.url
    }

    fn identity(&self) -> String {
        self.inner.location.identity()
    }

    fn now(&self) -> Millis {
        Millis::from_system(self.inner.client.clock.now())
    }

    fn is_failing(&self) -> bool {
        self.inner.client.retrying.load(Ordering::Relaxed) > 0
    }

    fn place(&self) -> String {
        let location = &self.inner.location;
        format!("{}/{}", location.endpoint_url(), location.bucket)
    }

    fn list(&self, scope: Scope) -> BoxFuture<'_, Result<Vec<Entry>>> {
        Box::pin(self.inner.list(scope))
    }

    fn put<'a>(&'a self, id: LtxId, body: Vec<Bytes>, options: PutOptions) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let (key, payload) = (self.inner.key(id), Payload::new(body));
            let size = payload.len();
            self.inner.put(&key, payload, options).await?;
            self.inner.prove_first(&key, size).await
        })
    }

    fn upload<'a>(
        &'a self,
        id: LtxId,
        size_max: u64,
        options: PutOptions,
    ) -> BoxFuture<'a, Result<Box<dyn Upload>>> {
        let upload = multipart::Parts::new(Arc::clone(&self.inner), self.inner.key(id), size_max, options);
        Box::pin(async move { upload.map(|u| Box::new(u) as Box<dyn Upload>) })
    }

    fn get<'a>(&'a self, id: LtxId, range: Range<u64>) -> BoxFuture<'a, Result<Bytes>> {
        Box::pin(async move { self.inner.get(&self.inner.key(id), range).await })
    }

    fn head<'a>(&'a self, id: LtxId) -> BoxFuture<'a, Result<Option<Entry>>> {
        Box::pin(async move {
            let found = self.inner.head_of_stored(&self.inner.key(id)).await?;
            Ok(found.map(|f| Entry { id, size: f.size, modified: f.created.unwrap_or(f.modified) }))
        })
    }

    fn delete<'a>(&'a self, ids: &'a [LtxId]) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let keys: Vec<String> = ids.iter().map(|id| self.inner.key(*id)).collect();
            self.inner.delete(&keys).await
        })
    }

    fn copy<'a>(&'a self, from: LtxId, to: LtxId, options: PutOptions) -> BoxFuture<'a, Result<()>> {
        Box::pin(
            async move { copy::copy(&self.inner, &self.inner.key(from), &self.inner.key(to), options).await },
        )
    }

    fn prove_create_only<'a>(
        &'a self,
        id: LtxId,
        body: Bytes,
        options: PutOptions,
    ) -> BoxFuture<'a, Result<Option<CreateOnly>>> {
        Box::pin(async move {
            self.inner.prove_create_only(&self.inner.key(id), Payload::new(vec![body]), options).await
        })
    }

    fn know_create_only(&self, proof: CreateOnly) {
        self.inner.know_create_only(proof);
    }

    fn list_page_after(&self, after: Txid) -> BoxFuture<'_, Result<Option<ListedPage>>> {
        Box::pin(self.inner.list_page_after(after))
    }

    fn forget_written(&self) {
        self.inner.forget_written();
    }

    fn prewarm(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.inner.prewarm())
    }

    fn list_all(&self) -> BoxFuture<'_, Result<Listing>> {
        Box::pin(self.inner.list_all())
    }

    fn list_part(&self, part: Part) -> BoxFuture<'_, Result<Option<Listed>>> {
        Box::pin(self.inner.list_part(part))
    }

    fn get_side<'a>(&'a self, id: SideId, range: Range<u64>) -> BoxFuture<'a, Result<Bytes>> {
        Box::pin(async move { self.inner.get(&self.inner.side_key(id), range).await })
    }

    fn put_times<'a>(&'a self, id: TimesId, body: Bytes) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let options = PutOptions { created: Millis::now(), create_only: false };
            self.inner.put(&self.inner.side_key(SideId::Times(id)), Payload::new(vec![body]), options).await
        })
    }

    fn delete_times<'a>(&'a self, ids: &'a [TimesId]) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let keys: Vec<String> = ids.iter().map(|id| self.inner.side_key(SideId::Times(*id))).collect();
            self.inner.delete(&keys).await
        })
    }
}
