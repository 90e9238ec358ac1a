//! SQLite's own files, as a process that is not SQLite reads them.

mod arm;
pub mod database;
pub mod doctor;
pub mod guard;
pub mod header;
mod pace;
mod slots;
mod threads;
