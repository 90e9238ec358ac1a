//! SQLite's own files, as another process sees them.

pub mod checksum;
pub mod database;
pub mod doctor;
pub mod header;
pub mod shm;
pub mod walindex;
