//! Opens the store that a URL names.

use std::sync::Arc;

use super::api::{Result, Store};
use super::file::FileStore;
use super::s3::{ClientOptions, S3Store};
use crate::config::{Kind, Location};

/// Opens the replica at `location`, without a request.
///
/// # Errors
/// [`StoreError`](crate::store::StoreError) for missing credentials, or for a CA file that cannot
/// be used.
pub fn open(location: &Location, options: &ClientOptions) -> Result<Arc<dyn Store>> {
    match &location.kind {
        Kind::S3(s3) => Ok(Arc::new(S3Store::open(&location.url, s3, options)?)),
        Kind::File(path) => Ok(Arc::new(FileStore::new(path))),
    }
}
