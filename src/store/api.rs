//! The [`Store`] trait, and the types that its methods take and return.

use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;

use bytes::Bytes;

use super::error::{ErrorKind, StoreError};
use super::listing::{Entry, Listed, Listing};
use super::side::SideId;
use crate::base::clock::Millis;
use crate::base::{Level, LtxId, Txid};
use crate::ltx::TimesId;

/// A boxed future that may move between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Result of a call to a store.
pub type Result<T> = std::result::Result<T, StoreError>;

/// The levels that a listing covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// All levels, with one listing (and its further pages).
    All,
    /// One level.
    Level(Level),
}

/// A part of a replica that can be listed without the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// What one request shows, in the order of the keys: level 0, the other levels, side files.
    Start,
    /// The levels above this one, and the side files.
    Above(Level),
    /// Files of one level whose minimum TXID is from `from` to `to`.
    Stretch {
        /// The level.
        level: Level,
        /// The first minimum TXID.
        from: Txid,
        /// The last minimum TXID.
        to: Txid,
        /// Ends with one request, whether or not that shows all.
        once: bool,
    },
}

impl Part {
    /// Whether a file belongs to this part.
    #[must_use]
    pub(super) fn has(&self, id: LtxId) -> bool {
        match *self {
            Part::Start => true,
            Part::Above(level) => id.level > level,
            Part::Stretch { level, from, to, .. } => id.level == level && (from..=to).contains(&id.min),
        }
    }
}

/// Objects that one page of a listing names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedPage {
    /// The objects, sorted.
    pub files: Vec<Entry>,
    /// The last object that the page reaches; `None` if it reaches the end.
    pub last: Option<LtxId>,
}

/// Options of a write.
#[derive(Debug, Clone, Copy)]
pub struct PutOptions {
    /// Timestamp of the LTX header. It becomes `x-amz-meta-litestream-timestamp`, or the file's
    /// modification time.
    pub created: Millis,
    /// Refuse to replace an object of the same name, where the store can. An identical object
    /// counts as success: an earlier attempt may have written it although its response was lost.
    pub create_only: bool,
}

/// The result of a check whether the store keeps a create-only PUT from replacing an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CreateOnly {
    /// When this was checked.
    pub proven: Millis,
    /// Whether the store keeps it from replacing.
    pub honoured: bool,
}

/// An object written in parts, for content too large to hold in memory.
///
/// Parts are uploaded in the background, a bounded number at once; [`Upload::write`] waits at the
/// bound. Dropping an unfinished upload aborts it, as a best effort.
pub trait Upload: Send {
    /// Announces, before the first [`Upload::write`], that [`Upload::replace_start`] may follow. An
    /// upload in parts then keeps its first part in memory.
    fn hold_start(&mut self);

    /// Replaces the first bytes of the object, at most once and only after [`Upload::hold_start`].
    /// That many bytes must have been written.
    fn replace_start<'a>(&'a mut self, start: Bytes) -> BoxFuture<'a, Result<()>>;

    /// Appends bytes, of any length. The implementation cuts them into parts.
    fn write<'a>(&'a mut self, bytes: Bytes) -> BoxFuture<'a, Result<()>>;

    /// Makes the whole object visible. Until then no object is visible under its name.
    fn finish(self: Box<Self>) -> BoxFuture<'static, Result<()>>;

    /// Aborts the upload and removes the parts that were sent.
    fn abort(self: Box<Self>) -> BoxFuture<'static, ()>;
}

/// One replica.
pub trait Store: Send + Sync + fmt::Debug {
    /// The URL for messages, without secrets.
    fn url(&self) -> &str;

    /// A stable name of the replica, for local state. Two configurations that mean the same replica
    /// have the same identity.
    fn identity(&self) -> String;

    /// The unit that fails together: the bucket, or the directory above the replica.
    fn place(&self) -> String {
        self.identity()
    }

    /// Whether the last attempt at a request that is under way has failed.
    fn is_failing(&self) -> bool {
        false
    }

    /// Whether a request costs next to nothing, as a call to a local file system does.
    fn is_local(&self) -> bool {
        false
    }

    /// Lists objects, sorted by level, then minimum, then maximum TXID. Names that are not LTX
    /// files are ignored.
    fn list(&self, scope: Scope) -> BoxFuture<'_, Result<Vec<Entry>>>;

    /// One page of a listing, of the objects after level-0 file `after`, in the order of levels and
    /// names. The second value is the last object that the page reaches; `None` if it reaches the
    /// end. One request at most; `Ok(None)` if the store cannot do with one.
    fn list_page_after(&self, _after: Txid) -> BoxFuture<'_, Result<Option<ListedPage>>> {
        Box::pin(async move {
            let files = self.list(Scope::All).await?;
            Ok(Some(ListedPage { files, last: None }))
        })
    }

    /// Writes one object from memory. The pieces of `body` are sent in order.
    fn put<'a>(&'a self, id: LtxId, body: Vec<Bytes>, options: PutOptions) -> BoxFuture<'a, Result<()>>;

    /// Begins an object of at most `size_max` bytes that is written in parts.
    fn upload<'a>(
        &'a self,
        id: LtxId,
        size_max: u64,
        options: PutOptions,
    ) -> BoxFuture<'a, Result<Box<dyn Upload>>>;

    /// Reads `range` of an object. The result is shorter only where the object ends before
    /// `range.end`. Its length is checked against the length that the store announced.
    fn get<'a>(&'a self, id: LtxId, range: Range<u64>) -> BoxFuture<'a, Result<Bytes>>;

    /// Size and creation time from the metadata; without metadata, the time of the upload. `None`
    /// if there is no such object.
    fn head<'a>(&'a self, id: LtxId) -> BoxFuture<'a, Result<Option<Entry>>>;

    /// Deletes objects. A missing object is not an error.
    fn delete<'a>(&'a self, ids: &'a [LtxId]) -> BoxFuture<'a, Result<()>>;

    /// Copies within the store; the bytes cross this host only if the store cannot copy.
    fn copy<'a>(&'a self, from: LtxId, to: LtxId, options: PutOptions) -> BoxFuture<'a, Result<()>>;

    /// Checks whether the store keeps a create-only PUT from replacing an object, with a second PUT
    /// of `body`, which this process has just written as `id`. Costs at most one small request.
    /// Returns `None` if the answer is known, or if the store always keeps it.
    fn prove_create_only<'a>(
        &'a self,
        _id: LtxId,
        _body: Bytes,
        _options: PutOptions,
    ) -> BoxFuture<'a, Result<Option<CreateOnly>>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    /// Takes over the result that an earlier process found.
    fn know_create_only(&self, _proof: CreateOnly) {}

    /// Forgets which object this process wrote last, because the replica may be another one now.
    fn forget_written(&self) {}

    /// Opens connections ahead of the first use. Never fails.
    fn prewarm(&self) -> BoxFuture<'_, ()>;

    /// The current time: by the store's clock if it is known, otherwise by the host's.
    fn now(&self) -> Millis {
        Millis::now()
    }

    /// Lists LTX files and side files, at the cost of [`Scope::All`] alone.
    fn list_all(&self) -> BoxFuture<'_, Result<Listing>> {
        Box::pin(async move { Ok(Listing { files: self.list(Scope::All).await?, sides: Vec::new() }) })
    }

    /// Lists a part of the replica, with a number of requests that does not grow with the rest.
    /// `None` if the store cannot do that, so that only a whole listing shows the part.
    fn list_part(&self, part: Part) -> BoxFuture<'_, Result<Option<Listed>>> {
        Box::pin(async move {
            let mut listing = self.list_all().await?;
            listing.files.retain(|e| part.has(e.id));
            if matches!(part, Part::Stretch { .. }) {
                listing.sides.clear();
            }
            Ok(Some(Listed { listing, more: false }))
        })
    }

    /// Reads `range` of a side file, by the rules of [`Store::get`].
    fn get_side<'a>(&'a self, id: SideId, _range: Range<u64>) -> BoxFuture<'a, Result<Bytes>> {
        let gone = StoreError::new(ErrorKind::NotFound, format!("there is no {id} at {}", self.url()));
        Box::pin(std::future::ready(Err(gone)))
    }

    /// Writes a list of times, or replaces one.
    fn put_times<'a>(&'a self, id: TimesId, _body: Bytes) -> BoxFuture<'a, Result<()>> {
        let message = format!("{} keeps no lists of times ({})", self.url(), SideId::Times(id));
        Box::pin(std::future::ready(Err(StoreError::new(ErrorKind::Fatal, message))))
    }

    /// Deletes lists of times. A missing one is not an error.
    fn delete_times<'a>(&'a self, _ids: &'a [TimesId]) -> BoxFuture<'a, Result<()>> {
        Box::pin(std::future::ready(Ok(())))
    }
}
