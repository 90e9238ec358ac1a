//! The directory store.

use std::fmt;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;

use super::inner::{Inner, level_path};
use super::write;
use crate::base::LtxId;
use crate::ltx::TimesId;
use crate::store::api::{BoxFuture, Part, PutOptions, Result, Scope, Store, Upload};
use crate::store::{Entry, Listed, Listing, SideId};

#[cfg(test)]
#[path = "tests.rs"]
mod tests;

/// A replica in a directory.
#[derive(Clone)]
pub struct FileStore(Arc<Inner>);

impl FileStore {
    /// Opens the replica in `root`, which need not exist yet. Only the owner may read its files.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> FileStore {
        FileStore::with_mode(root, 0o600)
    }

    /// Like [`FileStore::new`], with other mode bits for new files, such as those of the database.
    #[must_use]
    pub fn with_mode(root: impl Into<PathBuf>, mode: u32) -> FileStore {
        let root = root.into();
        let url = format!("file://{}", std::path::absolute(&root).unwrap_or_else(|_| root.clone()).display());
        FileStore(Arc::new(Inner { root, url, mode, swept: AtomicBool::new(false) }))
    }
}

/// Resolves links and `..` in the absolute path `path`. Parts that do not exist yet contain no
/// links.
fn real_path(mut path: PathBuf) -> PathBuf {
    loop {
        let real = path.ancestors().find_map(|above| {
            let rest = path.strip_prefix(above).ok()?;
            Some((std::fs::canonicalize(above).ok()?, rest.to_owned()))
        });
        let Some((mut folded, rest)) = real else { return path };
        let mut goes_up = false;
        for part in rest.components() {
            if part == Component::ParentDir {
                (goes_up, _) = (true, folded.pop());
            } else {
                folded.push(part);
            }
        }
        if !goes_up {
            return folded;
        }
        // The resulting path may exist, and may be a link.
        path = folded;
    }
}

impl fmt::Debug for FileStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileStore({})", self.0.url)
    }
}

impl Store for FileStore {
    fn url(&self) -> &str {
        &self.0.url
    }

    /// The path, with links resolved in the part that exists.
    fn identity(&self) -> String {
        let root = std::path::absolute(&self.0.root).unwrap_or_else(|_| self.0.root.clone());
        let mut name = format!("file://{}", real_path(root).display());
        name.truncate(name.trim_end_matches('/').len());
        name
    }

    fn place(&self) -> String {
        let identity = self.identity();
        identity.rsplit_once('/').map_or_else(|| identity.clone(), |(above, _)| above.to_owned())
    }

    fn is_local(&self) -> bool {
        true
    }

    fn list(&self, scope: Scope) -> BoxFuture<'_, Result<Vec<Entry>>> {
        self.0.blocking(move |inner| inner.list(scope))
    }

    fn put<'a>(&'a self, id: LtxId, body: Vec<Bytes>, options: PutOptions) -> BoxFuture<'a, Result<()>> {
        self.0.blocking(move |inner| inner.put(id, &body, options))
    }

    fn upload<'a>(
        &'a self,
        id: LtxId,
        _size_max: u64,
        options: PutOptions,
    ) -> BoxFuture<'a, Result<Box<dyn Upload>>> {
        Box::pin(write::begin(Arc::clone(&self.0), id, options))
    }

    fn get<'a>(&'a self, id: LtxId, range: Range<u64>) -> BoxFuture<'a, Result<Bytes>> {
        self.0.blocking(move |inner| inner.get(&level_path(id.level), &id.file_name(), &range))
    }

    fn head<'a>(&'a self, id: LtxId) -> BoxFuture<'a, Result<Option<Entry>>> {
        self.0.blocking(move |inner| inner.head(id))
    }

    fn delete<'a>(&'a self, ids: &'a [LtxId]) -> BoxFuture<'a, Result<()>> {
        let ids = ids.to_vec();
        self.0.blocking(move |inner| inner.delete(&ids))
    }

    fn copy<'a>(&'a self, from: LtxId, to: LtxId, options: PutOptions) -> BoxFuture<'a, Result<()>> {
        self.0.blocking(move |inner| inner.copy(from, to, options))
    }

    fn prewarm(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    fn list_all(&self) -> BoxFuture<'_, Result<Listing>> {
        self.0.blocking(|inner| Ok(Listing { files: inner.list(Scope::All)?, sides: inner.list_sides()? }))
    }

    fn list_part(&self, part: Part) -> BoxFuture<'_, Result<Option<Listed>>> {
        self.0.blocking(move |inner| inner.list_part(part).map(Some))
    }

    fn get_side<'a>(&'a self, id: SideId, range: Range<u64>) -> BoxFuture<'a, Result<Bytes>> {
        self.0.blocking(move |inner| {
            let path = id.path();
            let (below, name) = path.rsplit_once('/').unwrap_or(("", &path));
            inner.get(Path::new(below), name, &range)
        })
    }

    fn put_times<'a>(&'a self, id: TimesId, body: Bytes) -> BoxFuture<'a, Result<()>> {
        self.0.blocking(move |inner| inner.put_times(id, &body))
    }

    fn delete_times<'a>(&'a self, ids: &'a [TimesId]) -> BoxFuture<'a, Result<()>> {
        let ids = ids.to_vec();
        self.0.blocking(move |inner| inner.delete_times(&ids))
    }
}
