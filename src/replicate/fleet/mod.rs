//! All databases of the process: named ones, and those in watched directories.
//!
//! | module | what it does |
//! |---|---|
//! | `supervisor` | runs a task for each database, and retries those that fail |
//! | `directories` | finds databases in watched directories |
//! | `open_files` | keeps a file from being followed twice, and a replica from having two databases |
//! | `sweep` | looks at all wal-indexes from time to time, in case a hint was lost |

pub(crate) mod directories;
pub(crate) mod open_files;
pub(crate) mod supervisor;
pub(crate) mod sweep;
