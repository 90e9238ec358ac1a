//! SQLite's own files, as another process sees them.

pub mod checksum;
pub mod header;
pub mod walindex;
