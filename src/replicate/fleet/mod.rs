//! All databases of the process: those that are named, and those in watched directories.

pub(crate) mod directories;
pub(crate) mod open_files;
pub(crate) mod supervisor;
pub(crate) mod sweep;
