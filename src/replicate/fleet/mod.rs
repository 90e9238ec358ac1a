//! All databases of the process: named ones, and those in watched directories.
//!
//! | module | what it does |
//! |---|---|
//! | `supervisor` | runs a task for each database, and retries those that fail |
//! | `directories` | finds databases in watched directories |

pub(crate) mod directories;
pub(crate) mod supervisor;
