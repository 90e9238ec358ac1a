//! All databases of the process: named ones, and those in watched directories.
//!
//! | module | what it does |
//! |---|---|
//! | `supervisor` | runs a task for each database, and retries those that fail |
//! | `members` | the databases that have a task, and those that were stopped |
//! | `control`, `commands` | requests from other threads: a reload, databases that come and go |
//! | `directories`, `files` | finds databases in watched directories |

mod commands;
pub(crate) mod control;
pub(crate) mod directories;
pub(crate) mod files;
mod members;
pub(crate) mod supervisor;
