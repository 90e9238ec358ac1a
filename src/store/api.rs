//! The trait of a store, and what its methods take and return.

use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;

use bytes::Bytes;

use super::error::{ErrorKind, StoreError};
use super::side::{Listing, SideId};
use crate::base::clock::Millis;
use crate::base::{Level, LtxId};
use crate::ltx::TimesId;

/// A boxed future that may move between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Result of a call to a store.
pub type Result<T> = std::result::Result<T, StoreError>;

/// One object of a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Name.
    pub id: LtxId,
    /// Length in bytes.
    pub size: u64,
    /// When the store says it was written: LastModified, or the file's modification time. For a
    /// directory this is the creation time of the header; for S3 it is the time of the upload.
    pub modified: Millis,
}

/// What a listing covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// All levels, by one listing (and its further pages).
    All,
    /// One level.
    Level(Level),
}

/// How to put an object.
#[derive(Debug, Clone, Copy)]
pub struct PutOptions {
    /// Timestamp of the LTX header; becomes `x-amz-meta-litestream-timestamp`, or the file's
    /// modification time.
    pub created: Millis,
    /// Refuse to replace an object of that name, where the store can. An object that is byte for
    /// byte the one to be put (an earlier attempt of ours that was answered by a reset) counts
    /// as success.
    pub create_only: bool,
}

/// Whether a store keeps a create-only PUT from replacing an object, as far as that was proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CreateOnly {
    /// When.
    pub proven: Millis,
    /// Whether it does.
    pub honoured: bool,
}

/// An object written in parts, for content too large to hold.
///
/// Parts are uploaded in the background, a bounded number at once; [`Upload::write`] waits when the
/// bound is reached. Dropping an unfinished upload aborts it as well as it can.
pub trait Upload: Send {
    /// Adds bytes at the end. Any length; the implementation cuts parts.
    fn write<'a>(&'a mut self, bytes: Bytes) -> BoxFuture<'a, Result<()>>;

    /// Makes the object visible, whole. Until then nothing can be seen under its name.
    fn finish(self: Box<Self>) -> BoxFuture<'static, Result<()>>;

    /// Gives up and removes what was sent.
    fn abort(self: Box<Self>) -> BoxFuture<'static, ()>;
}

/// One replica.
pub trait Store: Send + Sync + fmt::Debug {
    /// The URL for messages, without secrets.
    fn url(&self) -> &str;

    /// A stable name of the place, for local state: equal for two configurations that mean the same
    /// replica.
    fn identity(&self) -> String;

    /// What fails together with this replica when the store does: the bucket, or the directory
    /// above.
    fn place(&self) -> String {
        self.identity()
    }

    /// Lists objects, in order of level, then minimum, then maximum TXID. Names that are not LTX
    /// files are ignored.
    fn list(&self, scope: Scope) -> BoxFuture<'_, Result<Vec<Entry>>>;

    /// Writes one object from memory. `body` is sent in order, as one object.
    fn put<'a>(&'a self, id: LtxId, body: Vec<Bytes>, options: PutOptions) -> BoxFuture<'a, Result<()>>;

    /// Begins an object of at most `size_max` bytes that will be written in parts.
    fn upload<'a>(
        &'a self,
        id: LtxId,
        size_max: u64,
        options: PutOptions,
    ) -> BoxFuture<'a, Result<Box<dyn Upload>>>;

    /// Reads `range` of an object. Short only where the object ends before `range.end`; the length
    /// of the answer has been checked against what the store announced.
    fn get<'a>(&'a self, id: LtxId, range: Range<u64>) -> BoxFuture<'a, Result<Bytes>>;

    /// Size and creation time by metadata (falls back to the time of the upload). `None` if there
    /// is no such object.
    fn head<'a>(&'a self, id: LtxId) -> BoxFuture<'a, Result<Option<Entry>>>;

    /// Removes objects; those that are not there are no error.
    fn delete<'a>(&'a self, ids: &'a [LtxId]) -> BoxFuture<'a, Result<()>>;

    /// Copies within the store without moving the bytes through this host, where it can.
    fn copy<'a>(&'a self, from: LtxId, to: LtxId, options: PutOptions) -> BoxFuture<'a, Result<()>>;

    /// Finds out whether the store keeps a create-only PUT from replacing an object: by putting
    /// `body`, which this process has just written as `id`, once more. At most one small
    /// request; `None` if it is known or cannot fail.
    fn prove_create_only<'a>(
        &'a self,
        _id: LtxId,
        _body: Bytes,
        _options: PutOptions,
    ) -> BoxFuture<'a, Result<Option<CreateOnly>>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    /// Takes over what an earlier process has proven.
    fn know_create_only(&self, _proof: CreateOnly) {}

    /// Opens connections ahead of the first use. Never fails.
    fn prewarm(&self) -> BoxFuture<'_, ()>;

    /// The present moment by the clock of the store, as far as that is known; else by that of this
    /// host.
    fn now(&self) -> Millis {
        Millis::now()
    }

    /// Lists LTX files and what lies beside them, at the price of [`Scope::All`] alone.
    fn list_all(&self) -> BoxFuture<'_, Result<Listing>> {
        Box::pin(async move { Ok(Listing { files: self.list(Scope::All).await?, sides: Vec::new() }) })
    }

    /// Reads `range` of an object that is no LTX file, by the rules of [`Store::get`].
    fn get_side<'a>(&'a self, id: SideId, _range: Range<u64>) -> BoxFuture<'a, Result<Bytes>> {
        let gone = StoreError::new(ErrorKind::NotFound, format!("there is no {id} at {}", self.url()));
        Box::pin(std::future::ready(Err(gone)))
    }

    /// Writes a list of times, or replaces one.
    fn put_times<'a>(&'a self, id: TimesId, _body: Bytes) -> BoxFuture<'a, Result<()>> {
        let message = format!("{} keeps no lists of times ({})", self.url(), SideId::Times(id));
        Box::pin(std::future::ready(Err(StoreError::new(ErrorKind::Fatal, message))))
    }

    /// Removes lists of times; those that are not there are no error.
    fn delete_times<'a>(&'a self, _ids: &'a [TimesId]) -> BoxFuture<'a, Result<()>> {
        Box::pin(std::future::ready(Ok(())))
    }
}
