//! The mark of log lines about regular work.

/// Target of log lines about regular work, which each database has at a time of its own. The log of
/// many databases counts them for hours, and not for seconds.
pub const ROUTINE: &str = "lsfast::routine";
