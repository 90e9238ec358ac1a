//! The objects that a restore reads.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;

use crate::base::LtxId;
use crate::legacy::{LegacyFile, LegacyName};
use crate::ltx::TimesId;
use crate::store::{BoxFuture, Entry, SideId, Store};

/// An object that a restore reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Object {
    /// An LTX file.
    Ltx(LtxId),
    /// A file of Litestream 0.3.
    Legacy(LegacyName),
    /// A list of times.
    Times(TimesId),
}

impl Object {
    /// Reads a byte range of the object.
    pub(super) fn get<'a>(
        &self,
        store: &'a dyn Store,
        range: Range<u64>,
    ) -> BoxFuture<'a, crate::store::Result<Bytes>> {
        match *self {
            Object::Ltx(id) => store.get(id, range),
            Object::Legacy(name) => store.get_side(SideId::Legacy(name), range),
            Object::Times(id) => store.get_side(SideId::Times(id), range),
        }
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Object::Ltx(id) => id.fmt(f),
            Object::Legacy(name) => name.fmt(f),
            Object::Times(id) => SideId::Times(id).fmt(f),
        }
    }
}

/// An object to be read whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) object: Object,
    /// Size in the listing, in bytes.
    pub(super) size: u64,
}

impl From<&Entry> for Wanted {
    fn from(entry: &Entry) -> Wanted {
        Wanted { object: Object::Ltx(entry.id), size: entry.size }
    }
}

impl From<&LegacyFile> for Wanted {
    fn from(file: &LegacyFile) -> Wanted {
        Wanted { object: Object::Legacy(file.name), size: file.size }
    }
}
