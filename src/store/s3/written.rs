//! The newest object of this process, for comparison with a listing.

/// The newest object that this process has written create-only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) key: String,
    /// ETag without quotes; empty if the store sent none.
    pub(super) etag: String,
    pub(super) size: u64,
}

/// An ETag without quotes, in lower case.
pub(super) fn bare(etag: &str) -> String {
    etag.trim_start_matches("W/").trim_matches('"').to_ascii_lowercase()
}

impl Written {
    /// Whether an object with this ETag and size may be this one.
    pub(super) fn is(&self, etag: &str, size: u64) -> bool {
        let etag = bare(etag);
        size == self.size && (etag.is_empty() || self.etag.is_empty() || etag == self.etag)
    }
}
