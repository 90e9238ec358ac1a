//! How far a restore is.

/// The stage that a restore is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Downloading and writing pages.
    Pages,
    /// Flushing to the disk, and SQLite's check of the result.
    Verify,
    /// Renaming the temporary file to the output.
    Install,
}

/// Receives the progress of a restore. Its methods are called often and must not block.
pub trait Progress: Sync {
    /// The plan is made: it reads `files` files of `bytes` bytes in all.
    fn planned(&self, files: usize, bytes: u64);
    /// Another `bytes` bytes have arrived.
    fn fetched(&self, bytes: u64);
    /// The restore enters `stage`.
    fn stage(&self, stage: Stage);
}

/// A [`Progress`] that ignores everything.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Progress for Silent {
    fn planned(&self, _files: usize, _bytes: u64) {}
    fn fetched(&self, _bytes: u64) {}
    fn stage(&self, _stage: Stage) {}
}
