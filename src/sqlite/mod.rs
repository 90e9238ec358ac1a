//! SQLite's own files, as a process that is not SQLite reads them.

pub mod checksum;
pub mod database;
pub mod doctor;
pub mod header;
pub mod shm;
pub mod walindex;
