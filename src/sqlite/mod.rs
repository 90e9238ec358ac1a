//! SQLite's own files, as a process that is not SQLite reads them.

pub mod database;
pub mod doctor;
pub mod guard;
pub mod header;
